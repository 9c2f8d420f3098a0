import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from manyviews.errors import InputError
from manyviews.io import text
from manyviews.io.text import read_number_table, read_shifts, split_line_range

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "tilt" / "openncem-haadf"
QUICK = settings(max_examples=60, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture])


def test_table_takes_comments_blank_lines_and_any_line_ending(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"# a comment\r\n 1 2\r\n\r\n3,4\n")
    assert read_number_table(path, 2, meaning="a pair").tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("1 2\n3\n", "line 2"),
        ("1 2\n3 x\n", "line 2"),
        ("1 nan\n", "finite"),
        ("1 inf\n", "finite"),
        ("1 1_0\n", "finite"),
        ("", "no numbers"),
        ("1\0002\n", "binary"),
    ],
)
def test_bad_tables_are_refused_with_the_line(tmp_path, content, words):
    path = tmp_path / "a.txt"
    path.write_text(content)
    with pytest.raises(InputError, match=words):
        read_number_table(path, 2, meaning="a pair")


def test_large_and_missing_files_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_text("1 2\n" * 100)
    monkeypatch.setattr(text, "MAXIMUM_BYTES", 100)
    with pytest.raises(InputError, match="larger"):
        read_number_table(path, 2, meaning="a pair")
    with pytest.raises(InputError, match="cannot be read"):
        read_number_table(tmp_path / "none.txt", 2, meaning="a pair")


def test_text_shifts_are_as_written_and_json_pairs_have_y_turned_over(tmp_path):
    plain, tomviz = tmp_path / "a.txt", tmp_path / "a.json"
    plain.write_text("1 2\n-3 4.5\n")
    tomviz.write_text(json.dumps([[1, 2], [-3, 4.5]]))
    assert read_shifts(plain).tolist() == [[1, 2], [-3, 4.5]]
    assert read_shifts(tomviz).tolist() == [[1, -2], [-3, -4.5]]


def test_a_range_of_lines_can_be_picked(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps([[i, 0] for i in range(21)]))
    assert read_shifts(Path(f"{path}:3-18"))[:, 0].tolist() == list(range(2, 18))
    with pytest.raises(InputError, match="there are 21"):
        read_shifts(Path(f"{path}:3-22"))
    with pytest.raises(InputError, match="empty"):
        split_line_range(Path(f"{path}:0-2"))
    with pytest.raises(InputError, match="empty"):
        split_line_range(Path(f"{path}:5-2"))
    odd = tmp_path / "b:1-2"
    assert split_line_range(odd) == (tmp_path / "b", slice(0, 2))
    odd.write_text("1 2\n")
    assert split_line_range(odd) == (odd, slice(None))


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", "[1, 2]", "[[1]]", '[["1", "2"]]', "[[NaN, 1]]", "[" * 9000]
)
def test_bad_json_is_refused(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(InputError):
        read_shifts(path)


@QUICK
@given(data=st.binary(max_size=200), suffix=st.sampled_from([".txt", ".json"]))
def test_any_bytes_give_only_input_errors(tmp_path, data, suffix):
    path = tmp_path / f"fuzz{suffix}"
    path.write_bytes(data)
    try:
        shifts = read_shifts(path)
    except InputError:
        return
    assert shifts.shape[1] == 2
    assert np.isfinite(shifts).all()


def shifted(image, dx, dy):
    frequencies = np.fft.fftfreq(image.shape[0])[:, None] * dy + np.fft.fftfreq(image.shape[1]) * dx
    return np.real(np.fft.ifft2(np.fft.fft2(image) * np.exp(-2j * np.pi * frequencies)))


def neighbour_correlation(images):
    inner = images[:, 40:-40, 40:-40].reshape(len(images), -1)
    return np.mean([np.corrcoef(a, b)[0, 1] for a, b in pairwise(inner)])


def test_published_shifts_align_the_haadf_series_only_with_the_documented_sign():
    if not SHARED.exists():
        pytest.skip("shared HAADF series not present")
    from manyviews.io.mrc import read_mrc

    images = read_mrc(SHARED / "L2083-K-4-1_haadf.mrc")[0]
    shifts = read_shifts(Path(f"{SHARED / 'TomVizAlignments.json'}:3-18"))

    def score(x_sign, y_sign):
        moved = [shifted(i, x_sign * dx, y_sign * dy) for i, (dx, dy) in zip(images, shifts, strict=True)]
        return neighbour_correlation(np.array(moved))

    assert score(1, 1) > 0.965
    assert score(0, 0) < 0.89
    assert score(1, -1) < 0.94
    assert score(-1, 1) < 0.85
