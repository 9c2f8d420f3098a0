"""Weight volumes: every layout comes back as the same transfer, and what does not fit is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from manyviews.errors import InputError
from manyviews.geometry.missing_wedge import TiltScheme
from manyviews.io.mrc import read_mrc, write_mrc
from manyviews.operators.contrast_transfer import Optics
from manyviews.subtomo.wedge.transfer import transfer
from manyviews.subtomo.wedge.weight_volumes import read_weights, whole_transfer, write_weights

BOX, PIXEL = 24, 6.0
OPTICS = Optics.make(300.0, 2.0, 0.1, [[30_000.0, 30_000.0]])
TRANSFERS = {
    "range": transfer(BOX, PIXEL, TiltScheme.of_range(-60, 60)),
    "asymmetric": transfer(BOX, PIXEL, TiltScheme.of_range(-40, 60, "x")),
    "narrow": transfer(BOX, PIXEL, TiltScheme.of_range(-30, 30)),
    "listed, in a ball": transfer(BOX, PIXEL, TiltScheme.of_tilts(range(-60, 61, 3)), radius=11),
    "with CTF": transfer(BOX, PIXEL, TiltScheme.of_tilts(range(-60, 61, 3)), ctf=OPTICS),
}


def layouts(values: np.ndarray) -> dict[str, np.ndarray]:
    whole = whole_transfer(values)
    return {
        "whole, middle": whole,
        "whole, corner": np.fft.ifftshift(whole),
        "half, corner": values,
        "half, middle": np.fft.fftshift(values, axes=(0, 1)),
    }


@pytest.mark.parametrize("name", TRANSFERS)
@pytest.mark.parametrize("layout", layouts(TRANSFERS["range"]))
def test_every_layout_is_the_same_transfer(tmp_path: Path, name: str, layout: str):
    values = TRANSFERS[name]
    write_mrc(tmp_path / "w.mrc", layouts(values)[layout], PIXEL)
    found = read_weights(tmp_path / "w.mrc", BOX)
    np.testing.assert_array_equal(found.transfer, values)
    assert found.origin == layout.split(", ")[1]
    assert found.is_unusual == (layout in ("whole, corner", "half, middle"))
    assert f"zero frequency in the {found.origin}" in found.note
    assert ("unlike RELION's" in found.note) == found.is_unusual


def test_the_whole_volume_is_the_transform_of_something_real():
    """The middle of the file is zero frequency, and both halves are there."""
    values = TRANSFERS["asymmetric"]
    whole = whole_transfer(values)
    real = np.fft.fftn(np.fft.ifftshift(whole))
    assert np.abs(real.imag).max() < 1e-9 * np.abs(real.real).max()
    assert whole[12 + 3, 12 - 5, 12 + 2] == values[3, -5, 2]
    assert whole[12 + 3, 12 - 5, 12 - 2] == values[-3, 5, 2]


def test_what_was_written_comes_back(tmp_path: Path):
    write_weights(tmp_path / "w.mrc", TRANSFERS["with CTF"], PIXEL)
    np.testing.assert_array_equal(read_weights(tmp_path / "w.mrc", BOX).transfer, TRANSFERS["with CTF"])
    assert read_mrc(tmp_path / "w.mrc")[1].pixel_size == pytest.approx((PIXEL,) * 3)


@pytest.mark.parametrize(
    ("stored", "squared", "premultiplied", "wanted"),
    [(1, False, False, 1), (1, False, True, 2), (2, True, True, 2), (2, True, False, 1)],
)
def test_ctf_or_its_square(tmp_path: Path, stored: int, squared: bool, premultiplied: bool, wanted: int):
    values = np.abs(TRANSFERS["with CTF"])
    write_mrc(tmp_path / "w.mrc", values**stored, PIXEL)
    found = read_weights(tmp_path / "w.mrc", BOX, squared=squared, premultiplied=premultiplied)
    np.testing.assert_allclose(found.transfer, values**wanted, atol=1e-6)


def test_counts_of_tilts_that_follow_are_passed_over(tmp_path: Path):
    values = TRANSFERS["with CTF"] ** 2
    write_mrc(tmp_path / "w.mrc", np.concatenate([values, 40 * np.ones_like(values)]), PIXEL)
    found = read_weights(tmp_path / "w.mrc", BOX, squared=True, premultiplied=True)
    np.testing.assert_array_equal(found.transfer, values)


def test_a_volume_that_looks_alike_from_both_is_read_as_relion_does(tmp_path: Path):
    write_mrc(tmp_path / "w.mrc", np.ones((BOX, BOX, BOX)), PIXEL)
    found = read_weights(tmp_path / "w.mrc", BOX)
    assert (found.origin, found.is_unusual) == ("middle", False)
    assert "alike from both" in found.note
    assert read_weights(tmp_path / "w.mrc", BOX, origin="corner").origin == "corner"


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.ones((BOX, BOX, 14)), "weights are 24 x 24 x 14, but the particles 24 x 24 x 24"),
        (np.ones((32, 32, 32)), "weights are 32 x 32 x 32, but"),
        (np.ones((BOX // 2 + 1, BOX, BOX)), "halved along z, not along x"),
        (np.ones((BOX, BOX // 2 + 1, BOX)), "halved along y, not along x"),
        (np.zeros((BOX, BOX, BOX)), "no weight above zero"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, array: np.ndarray, words: str):
    write_mrc(tmp_path / "w.mrc", array, PIXEL)
    with pytest.raises(InputError, match=words):
        read_weights(tmp_path / "w.mrc", BOX)


def test_nan_and_negative_squares_are_refused(tmp_path: Path):
    write_mrc(tmp_path / "w.mrc", -np.ones((BOX, BOX, BOX)), PIXEL)
    with pytest.raises(InputError, match="squares below zero"):
        read_weights(tmp_path / "w.mrc", BOX, squared=True)
    raw = bytearray((tmp_path / "w.mrc").read_bytes())
    raw[1024:1028] = np.float32(np.nan).tobytes()
    (tmp_path / "w.mrc").write_bytes(raw)
    with pytest.raises(InputError, match="NaN"):
        read_weights(tmp_path / "w.mrc", BOX)
