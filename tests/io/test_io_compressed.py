"""Compressed MRC files give what they hold, and what is no MRC file is called by its name."""

import bz2
import gzip
import struct
import time
import zipfile

import numpy as np
import pytest

from manyviews.errors import InputError
from manyviews.io import compressed
from manyviews.io.cryosparc import read_cryosparc_particles
from manyviews.io.mrc import MrcStack, read_header, read_mrc, write_mrc
from manyviews.io.text import read_text

PACKERS = {"gzip": gzip.compress, "bzip2": bz2.compress}
VALUES = np.arange(3 * 4 * 5, dtype=np.float32).reshape(3, 4, 5) - 10


@pytest.fixture
def plain(tmp_path):
    path = tmp_path / "plain.mrc"
    write_mrc(path, VALUES, 2.5, is_volume=False)
    return path


def packed(plain, name, how, *, data=None):
    path = plain.with_name(name)
    path.write_bytes(PACKERS[how](plain.read_bytes() if data is None else data))
    return path


@pytest.mark.parametrize("how", PACKERS)
@pytest.mark.parametrize("name", ["a.mrc.gz", "a.mrc.bz2", "a.mrc", "a.st", "no suffix \u00fc"])
def test_a_compressed_file_is_read_whatever_its_name(plain, name, how):
    path = packed(plain, name, how)
    values, header = read_mrc(path)
    assert np.array_equal(values, VALUES)
    assert header.pixel_size == pytest.approx((2.5, 2.5, 2.5))
    assert header.compression == how
    assert [text for text in header.warnings if f"compressed by {how}" in text and "TMPDIR" in text]
    stack = MrcStack(path)
    assert np.array_equal(stack.read([2, 0]), VALUES[[2, 0]])
    assert stack.stored_bytes == plain.stat().st_size
    assert not list(path.parent.glob(".manyviews*"))


@pytest.mark.parametrize("how", PACKERS)
def test_another_file_of_the_same_name_is_read_anew(plain, how):
    path = packed(plain, "a.gz", how)
    assert read_mrc(path)[0][0, 0, 0] == -10
    write_mrc(plain, VALUES + 1000, 2.5, overwrite=True)
    packed(plain, "a.gz", how)
    assert read_mrc(path)[0][0, 0, 0] == 990


def test_the_extended_header_of_a_compressed_file(plain):
    raw = bytearray(plain.read_bytes())
    angles = [-60.0, 0.25, 59.99]
    extended = b"".join(struct.pack("<h", round(a * 100)) for a in angles)
    struct.pack_into("<i", raw, 92, len(extended))
    raw[104:108] = b"SERI"
    struct.pack_into("<2h", raw, 128, 2, 1)
    path = packed(plain, "a.gz", "gzip", data=bytes(raw[:1024]) + extended + bytes(raw[1024:]))
    assert read_header(path).tilt_angles() == pytest.approx(angles)
    assert np.array_equal(read_mrc(path)[0], VALUES)


@pytest.mark.parametrize("how", PACKERS)
def test_damage_and_cuts_give_one_sentence(plain, how):
    whole = packed(plain, "a", how).read_bytes()
    for cut in (len(whole) // 2, len(whole) - 3, 5):
        path = plain.with_name("cut")
        path.write_bytes(whole[:cut])
        with pytest.raises(InputError, match=r"damaged or cut off.*copy it again"):
            read_mrc(path)
    damaged = bytearray(whole)
    for place in range(12, len(damaged), 7):
        damaged[place] ^= 0xFF
    path.write_bytes(damaged)
    with pytest.raises(InputError):
        read_mrc(path)
    short = packed(plain, "short", how, data=plain.read_bytes()[:-8])
    with pytest.raises(InputError, match="truncated"):
        read_header(short)
    long = packed(plain, "long", how, data=plain.read_bytes() + b"more")
    assert any("after the last section" in text for text in read_header(long).warnings)


@pytest.mark.parametrize("how", PACKERS)
def test_what_would_grow_without_end_is_read_no_further_than_its_header_says(plain, how, monkeypatch):
    taken = []
    monkeypatch.setattr(compressed, "_BLOCK_BYTES", 256)
    blocks = compressed._blocks
    monkeypatch.setattr(compressed, "_blocks", lambda *words: (taken.append(b) or b for b in blocks(*words)))
    bomb = packed(plain, "bomb", how, data=plain.read_bytes() + bytes(50_000_000))
    start = time.perf_counter()
    assert np.array_equal(read_mrc(bomb)[0], VALUES)
    assert sum(map(len, taken)) == plain.stat().st_size + 1  # once, and no more
    assert time.perf_counter() - start < 5


def test_no_room_for_decompressing_is_said(plain, monkeypatch):
    path = packed(plain, "a.gz", "gzip")

    def full(*_words, **_more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(compressed.tempfile, "TemporaryFile", full)
    with pytest.raises(InputError, match=r"No space left.*TMPDIR"):
        read_header(path)


def test_compressed_text_is_called_so(tmp_path):
    path = tmp_path / "a.star"
    path.write_bytes(gzip.compress(b"data_\n"))
    with pytest.raises(InputError, match="compressed by gzip; decompress the text file first"):
        read_text(path)
    with pytest.raises(InputError, match="is compressed by gzip; decompress it first"):
        read_cryosparc_particles(path)
    with pytest.raises(InputError, match="is a folder; give the text file in it"):
        read_text(tmp_path)


def spider():
    header = np.zeros(256, "<f4")
    header[[0, 1, 4, 11, 12, 21, 22]] = 1, 64, 1, 64, 4, 1024, 256
    return header.tobytes() + bytes(64 * 64 * 4)


FOREIGN = {
    "TIFF": ("a.tif", b"II*\0" + bytes(range(256)) * 8, "tif2mrc"),
    "TIFF in big-endian": ("a.mrc", b"MM\0*" + bytes(range(256)) * 8, "tif2mrc"),
    "TIFF of the large kind": ("a.tif", b"II+\0" + bytes(2000), "tif2mrc"),
    "EER": ("a.eer", b"II+\0" + bytes(2000), "motion-corrected"),
    "HDF5": ("a.emd", b"\x89HDF\r\n\x1a\n" + bytes(2000), "e2proc2d"),
    "DM3": ("a.dm3", b"\0\0\0\3" + bytes(range(256)) * 8, "dm2mrc"),
    "DM4": ("a.dm4", b"\0\0\0\4" + bytes(7) + b"\x20\0\0\0\1" + bytes(range(256)) * 8, "dm2mrc"),
    "SPIDER": ("a.spi", spider(), "e2proc2d"),
    "SER": ("a.ser", b"II\x97\x01" + bytes(2000), "TIA"),
    "PNG": ("a.png", b"\x89PNG\r\n\x1a\n" + bytes(2000), "grey values"),
    "JPEG": ("a.jpg", b"\xff\xd8\xff\xe0" + bytes(2000), "grey values"),
    "zip": ("a.mrc.zip", b"PK\x03\x04" + bytes(2000), "unzip"),
    "xz": ("a.mrc.xz", b"\xfd7zXZ\0" + bytes(2000), "unxz"),
    "zstd": ("a.mrc.zst", b"\x28\xb5\x2f\xfd" + bytes(2000), "unzstd"),
    "tar": ("a.tar", b"a.mrc".ljust(257, b"\0") + b"ustar\0" + bytes(2000), "tar xf"),
    "TIFF in gzip": ("a.tif.gz", gzip.compress(b"II*\0" + bytes(2000)), "tif2mrc"),
    "Git LFS": ("a.mrc", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
    "web page": ("a.mrc", b"<!DOCTYPE html>\n<html><body>log in</body></html>\n", "download"),
    "text": ("a.mrc", b"-60.0\n-57.0\n", "the MRC file itself"),
    "numpy": ("a.npy", b"\x93NUMPY\x01\0" + bytes(2000), "write_mrc"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_other_formats_are_told_by_their_first_bytes(tmp_path, kind):
    name, data, fix = FOREIGN[kind]
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(InputError, match=fix) as caught:
        MrcStack(path)
    assert kind.split()[0].lower() in str(caught.value).lower()
    assert "not MRC" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_true_zip_is_told(tmp_path, plain):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(plain)
    with pytest.raises(InputError, match="zip archive"):
        read_header(tmp_path / "a.zip")


@pytest.mark.parametrize("columns", [3, 4])
@pytest.mark.parametrize("with_map", [True, False])
def test_a_big_endian_mrc_file_as_narrow_as_a_dm_file_begins_is_none(tmp_path, columns, with_map):
    values = np.arange(5 * 6 * columns, dtype=np.float32).reshape(5, 6, columns)
    path = tmp_path / "a.mrc"
    write_mrc(path, values, 2.0)
    raw = bytearray(path.read_bytes())
    raw[:224] = np.frombuffer(bytes(raw[:224]), "<i4").astype(">i4").tobytes()
    raw[208:216] = (b"MAP " if with_map else bytes(4)) + bytes((0x11, 0x11, 0, 0))
    path.write_bytes(bytes(raw[:1024]) + values.astype(">f4").tobytes())
    assert np.array_equal(read_mrc(path)[0], values)
