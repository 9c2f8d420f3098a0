"""SEC of .aln files: which section of the raw stack, by the versions of AreTomo."""

import numpy as np
import pytest

from manyviews.errors import InputError
from manyviews.io.aretomo import read_aln
from manyviews.io.imod import write_angles
from manyviews.io.mrc import write_mrc
from manyviews.tilt.options import SeriesOptions
from manyviews.tilt.series.resolve import resolve_series

COUNT = 9
DARK = {"none": [], "high": [7, 8], "low": [0, 1], "both": [0, 8], "middle": [4], "last": [8]}


def aln(path, dark, *, first=0, left_over=False, raw_size=True):
    """As AreTomo 2 (``first`` 0) or 3 (1) writes it, or as versions that count only what is left."""
    lines = ["# AreTomo Alignment / Priims bprmMn"]
    lines += [f"# RawSize = 8 8 {COUNT}"] if raw_size else []
    lines += [f"# DarkFrame = {d + 1 if left_over else d} {0 if left_over else d + first} 0.0" for d in dark]
    kept = [section for section in range(COUNT) if section not in dark]
    for place, section in enumerate(kept):
        lines.append(f"{place if left_over else section + first} 12 1 0 0 1 1 1 0 {10 * section - 40}")
    path.write_text("\n".join(lines) + "\n")
    return kept


@pytest.mark.parametrize("dark", DARK.values(), ids=DARK)
@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("raw_size", [True, False])
def test_raw_sections(tmp_path, dark, first, raw_size):
    kept = aln(tmp_path / "a.aln", dark, first=first, raw_size=raw_size)
    found = read_aln(tmp_path / "a.aln")
    assert found.sections.tolist() == kept
    assert found.dark_sections == tuple(dark)


@pytest.mark.parametrize("dark", [[0, 1], [0, 8], [0, 4]])
def test_sections_that_are_left(tmp_path, dark):
    kept = aln(tmp_path / "a.aln", dark, left_over=True)
    assert read_aln(tmp_path / "a.aln").sections.tolist() == kept


def test_other_angles_prove_the_other_reading(tmp_path):
    """Sections 0 and 1 are dark, and nothing in the file says whether SEC counts them."""
    lines = ["# AreTomo Alignment", "# RawSize = 8 8 9", "# DarkFrame = 7 8 50", "# DarkFrame = 8 9 60"]
    lines += [f"{i + 1} 12 1 0 0 1 1 1 0 {10 * i - 20}" for i in range(5)]
    (tmp_path / "a.aln").write_text("\n".join(lines) + "\n")
    write_mrc(tmp_path / "a.mrc", np.zeros((COUNT, 8, 8), np.int8), 2.0, is_volume=False)
    options = SeriesOptions(stacks=(tmp_path / "a.mrc",), tilt_angles=(tmp_path / "a.aln",))
    assert resolve_series(options).geometry.sections.tolist() == [0, 1, 2, 3, 4]
    tilts = np.array([-90, -20, -10, 0, 10, 20, 30, 50, 60.0])
    write_angles(tmp_path / "a.rawtlt", tilts)
    series = resolve_series(options)
    assert series.geometry.sections.tolist() == [1, 2, 3, 4, 5]
    assert any("a.rawtlt proves it" in text for text in series.warnings)


def test_what_fits_in_no_way_is_refused(tmp_path):
    aln(tmp_path / "a.aln", [])
    text = (tmp_path / "a.aln").read_text().replace("RawSize = 8 8 9", "RawSize = 8 8 5")
    (tmp_path / "a.aln").write_text(text)
    with pytest.raises(InputError, match="section 8 does not exist"):
        read_aln(tmp_path / "a.aln")
