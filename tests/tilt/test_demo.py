"""The demonstration, with data small enough for a test."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from manyviews.cli.main import main
from manyviews.errors import InputError
from manyviews.tilt import demo as demo_module
from manyviews.tilt.demo import DEMO_DATA, demo

pytestmark = pytest.mark.usefixtures("blank_pictures")

TINY = replace(DEMO_DATA, size=(32, 32), thickness=20, tilt_step=20.0)


@pytest.mark.pictures
def test_it_ends_with_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(demo_module, "demo", partial(demo, data_options=TINY))
    assert main(["demo", "--out", str(tmp_path), "--quiet"]) == 0
    report = Path(capsys.readouterr().out.splitlines()[-1])
    assert report.is_file()
    assert (report.parent / "volume.mrc").is_file()


def test_again_uses_the_same_data(tmp_path: Path):
    first = demo(tmp_path, data_options=TINY, quiet=True)
    made = (tmp_path / "data" / "axis-000.mrc").stat().st_mtime_ns
    second = demo(tmp_path, data_options=TINY, quiet=True)
    assert (tmp_path / "data" / "axis-000.mrc").stat().st_mtime_ns == made
    assert second.report == first.report


def test_overwrite_makes_everything_afresh(tmp_path: Path):
    demo(tmp_path, data_options=TINY, quiet=True)
    made = (tmp_path / "data" / "axis-000.mrc").stat().st_mtime_ns
    demo(tmp_path, data_options=replace(TINY, seed=2), overwrite=True, quiet=True)
    assert (tmp_path / "data" / "axis-000.mrc").stat().st_mtime_ns > made


def test_foreign_data_are_left_alone(tmp_path: Path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        demo(tmp_path, data_options=TINY, quiet=True)
    assert (tmp_path / "data" / "mine.txt").read_text() == "mine"
