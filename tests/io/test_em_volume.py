"""EM files: byte orders and types, round trip, real files of other programs, and what is refused."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from manyviews.errors import InputError
from manyviews.io.em_volume import read_em_header, write_em
from manyviews.io.mrc import write_mrc
from manyviews.io.volume_files import read_volume, survey_volumes, voxel_fault

VOLUME = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


def an_em(
    machine: int = 6, kind: int = 5, shape: tuple[int, int, int] = (2, 3, 4), dtype: str = "f4"
) -> bytes:
    order = "<" if machine == 6 else ">"
    header = bytes([machine, 0, 0, kind]) + struct.pack(order + "3i", *shape[::-1])
    return header.ljust(512, b"\0") + VOLUME.astype(order + dtype).tobytes()


@pytest.mark.parametrize("machine", [0, 3, 5, 6])
@pytest.mark.parametrize(("kind", "dtype"), [(1, "i1"), (2, "i2"), (4, "i4"), (5, "f4"), (9, "f8")])
def test_every_type_in_both_byte_orders(tmp_path: Path, machine: int, kind: int, dtype: str):
    path = tmp_path / "a.em"
    path.write_bytes(an_em(machine, kind, dtype=dtype))
    volume, header = read_volume(path)
    assert header.shape == (2, 3, 4)
    assert header.pixel_size is None
    np.testing.assert_array_equal(volume, VOLUME)


def test_there_and_back(tmp_path: Path):
    write_em(tmp_path / "a.em", VOLUME)
    np.testing.assert_array_equal(read_volume(tmp_path / "a.em")[0], VOLUME)
    with pytest.raises(InputError, match="exists already"):
        write_em(tmp_path / "a.em", VOLUME)


def test_a_file_of_another_program(subtomogram_data: Path):
    volume, header = read_volume(subtomogram_data / "emd_1480.map.em_bin_4.em")
    assert header.shape == (42, 42, 42)
    assert (volume.min(), volume.max()) == (np.float32(-4.476488), np.float32(9.511019))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x06", "1 bytes but the header"),
        (an_em(machine=7), "machine number 7"),
        (an_em(kind=8), "complex numbers"),
        (an_em(kind=3), "type 3 is none"),
        (an_em(shape=(2, 0, 4)), "4 x 0 x 2 makes no sense"),
        (an_em()[:-1], "promises 608 bytes .4 x 3 x 2 voxels. but the file has 607"),
    ],
)
def test_what_is_refused(tmp_path: Path, data: bytes, words: str):
    (tmp_path / "a.em").write_bytes(data)
    with pytest.raises(InputError, match=words):
        read_em_header(tmp_path / "a.em")


def test_bad_volumes_are_told_and_the_others_go_on(tmp_path: Path):
    cube = np.random.Generator(np.random.PCG64(1)).normal(size=(6, 6, 6)).astype(np.float32)
    for name, volume in (("a", cube), ("b", cube[:4, :4, :4]), ("c", cube[:5]), ("d", cube)):
        write_mrc(tmp_path / f"{name}.mrc", volume, 2.5)
    write_em(tmp_path / "e.em", cube)
    paths = [tmp_path / name for name in ("a.mrc", "b.mrc", "c.mrc", "d.mrc", "e.em", "none.mrc")]
    survey = survey_volumes(paths)
    assert (survey.box, survey.good.tolist(), survey.pixel_sizes) == (6, [0, 3, 4], (2.5,))
    assert "a cube of 4 voxels but 3 others are of 6" in survey.faults[1]
    assert "6 x 6 x 5 voxels, not a cube" in survey.faults[2]
    assert "cannot be read (No such file" in survey.faults[5]
    assert survey_volumes([tmp_path / "none.mrc"]).box == 0


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.0, "is empty"), (2.5, "is constant (2.5 everywhere)"), (np.nan, "1 voxels are NaN or infinite")],
)
def test_volumes_without_a_picture_are_told(value: float, words: str):
    volume = np.full((4, 4, 4), 1.0 if np.isnan(value) else value, dtype=np.float32)
    volume[1, 1, 1] = value
    assert voxel_fault(volume) == words
    assert voxel_fault(VOLUME) == ""
