"""Parts of a page: status, volume, drawings for dark pages."""

import io
import json
import os
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from manyviews.errors import InputError
from manyviews.io.mrc import write_mrc
from manyviews.report.build import build_report, refresh_status
from manyviews.report.display_volume import read_display_volume
from manyviews.report.drawing import darkened
from manyviews.report.page_status import status_html, with_status
from manyviews.report.page_volume import volume_html
from manyviews.runs.folder import RunFolder
from manyviews.runs.status import STATUS_FILE, Status, parse_status, read_status, write_status
from page_reader import PageReader


def unpacked(volume):
    """The levels in the picture of a page, as its script takes them apart."""
    sheet = np.asarray(Image.open(io.BytesIO(volume.png())))
    depth, height, width = volume.levels.shape
    rows = len(sheet) // height
    blocks = sheet.reshape(rows, height, volume.columns, width).swapaxes(1, 2)
    return blocks.reshape(-1, height, width)[:depth]


@pytest.mark.parametrize("shape", [(7, 20, 30), (1, 40, 50), (40, 24, 8)])
def test_a_volume_on_the_page_is_that_of_the_file(tmp_path, shape):
    volume = np.random.Generator(np.random.PCG64(1)).normal(3.0, 2.0, shape).astype(np.float32)
    write_mrc(tmp_path / "v.mrc", volume, pixel_size=2.5)
    shown = read_display_volume(tmp_path / "v.mrc")
    assert (shown.shape, shown.block, shown.voxel_angstrom) == (shape, 1, 2.5)
    assert np.array_equal(unpacked(shown), shown.levels)
    again = shown.low + shown.levels / 255 * (shown.high - shown.low)
    inside = (volume >= shown.low) & (volume <= shown.high)
    assert inside.mean() > 0.97
    assert np.abs(again - volume)[inside].max() <= 0.51 * (shown.high - shown.low) / 255


def test_a_large_volume_is_shown_by_means_of_blocks(tmp_path):
    volume = np.arange(6 * 20 * 10, dtype=np.float32).reshape(6, 20, 10)
    write_mrc(tmp_path / "v.mrc", volume, pixel_size=2.5)
    shown = read_display_volume(tmp_path / "v.mrc", most_voxels=150)
    assert (shown.block, shown.levels.shape) == (2, (3, 10, 5))
    means = volume.reshape(3, 2, 10, 2, 5, 2).mean(axis=(1, 3, 5))
    again = shown.low + shown.levels / 255.0 * (shown.high - shown.low)
    assert np.abs(again - means.clip(shown.low, shown.high)).max() <= 0.51 * (shown.high - shown.low) / 255


def test_a_slab_thinner_than_a_block_and_a_flat_volume_are_shown(tmp_path):
    write_mrc(tmp_path / "v.mrc", np.full((1, 64, 64), 4.0, np.float32), pixel_size=2.5)
    shown = read_display_volume(tmp_path / "v.mrc", most_voxels=300)
    assert shown.levels.shape[0] == 1
    assert shown.low < 4.0 < shown.high
    assert "canvas" in PageReader(volume_html("v", shown)).tags


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_volume_that_is_not_finite_is_refused(tmp_path, value):
    write_mrc(tmp_path / "v.mrc", np.zeros((4, 8, 8), np.float32), pixel_size=2.5)
    with open(tmp_path / "v.mrc", "r+b") as handle:
        handle.seek(-4, 2)
        handle.write(np.float32(value).tobytes())
    with pytest.raises(InputError):
        read_display_volume(tmp_path / "v.mrc")


def test_a_dark_drawing_keeps_hues_and_images():
    pixels = np.array([[[255, 255, 255], [0, 114, 178], [255, 255, 255]]], np.uint8)
    dark = darkened(pixels, [(slice(0, 1), slice(2, 3))])
    assert tuple(dark[0, 0]) == (0x16, 0x1B, 0x22)  # white becomes the ground
    assert tuple(dark[0, 2]) == (255, 255, 255)  # data stay
    red, green, blue = map(int, dark[0, 1])
    assert red < green < blue
    assert red + blue > 178  # lighter than it was


def test_status_is_brought_to_a_page_and_nothing_else_changes():
    page = f"<p>before</p>{status_html(None)}<p>after</p>"
    hostile = "<!--end of status--><script>\\1"
    shown = with_status(page, Status("running", 1.8e9, task=hostile, done=2, total=5, task_seconds_left=90.0))
    assert shown.startswith("<p>before</p>")
    assert shown.endswith("<p>after</p>")
    assert "<script" not in shown
    for words in (hostile, "2 of 5", "1 min 30 s left"):
        assert words in PageReader(shown).text
    assert with_status(shown, Status("finished", 1.8e9)).count("data-state") == 1
    assert with_status("<p>older page</p>", Status("finished", 1.8e9)) == "<p>older page</p>"


def test_a_page_of_a_killed_run_tells_when_it_lived_last(tmp_path):
    with RunFolder.open(tmp_path / "run", job="toy", options={}, inputs={}, command=["toy"]) as run:
        run.event("iteration", iteration=1)
    refresh_status(tmp_path / "run", Status("running", 0.0))  # there is no page yet
    assert not (tmp_path / "run/report.html").exists()
    write_status(tmp_path / "run", Status("running", time.time() - 500, task="counting"))
    page = build_report(tmp_path / "run", lambda run: ()).read_text()
    assert "data-state='running'" in page
    assert "Running : counting" in " ".join(PageReader(page).text.split())
    refresh_status(tmp_path / "run", Status("failed", time.time(), task="no room"))
    assert "Failed : no room" in " ".join(PageReader((tmp_path / "run/report.html").read_text()).text.split())


def test_files_of_any_name_are_linked(tmp_path):
    with RunFolder.open(tmp_path / "run", job="toy", options={}, inputs={}, command=["toy"]):
        pass
    (tmp_path / "run" / "a'<b>.txt").write_text("1")
    (tmp_path / "run" / os.fsdecode(b"\xff.txt")).write_text("1")
    reader = PageReader(build_report(tmp_path / "run", lambda run: ()).read_text())
    assert {"a%27%3Cb%3E.txt", "%FF.txt"} <= set(reader.addresses)
    assert "b" not in reader.tags


def test_that_a_run_is_done_counts_more_than_what_it_said_last(tmp_path):
    with RunFolder.open(tmp_path / "run", job="toy", options={}, inputs={}, command=["toy"]) as run:
        run.event("done", results=[])
    write_status(tmp_path / "run", Status("running", time.time()))
    assert "data-state='finished'" in build_report(tmp_path / "run", lambda run: ()).read_text()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)
NAMES = ("state", "updated", "task", "done", "total", "note", "task_seconds_left", "seconds_left")


@given(st.dictionaries(st.sampled_from(NAMES), VALUES), st.sampled_from(("running", "failed", "x", None)))
def test_any_status_file_is_read_or_left_out(values, state):
    if state is not None:
        values = {**values, "state": state, "updated": values.get("updated", 1.0)}
    found = parse_status(json.dumps(values).encode())
    if found is not None:
        PageReader(status_html(found))


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"[" * 9000, b'{"state": "running", "updated": 1e999}']
)
def test_a_damaged_status_is_none(tmp_path, content):
    (tmp_path / STATUS_FILE).write_bytes(content)
    assert read_status(tmp_path) is None


def test_a_status_comes_back(tmp_path):
    status = Status("running", 1.8e9, "task", 1, 2, "note", 3.0, 4.0)
    write_status(tmp_path, status)
    assert read_status(tmp_path) == status
    assert [path.name for path in tmp_path.iterdir()] == [STATUS_FILE]
