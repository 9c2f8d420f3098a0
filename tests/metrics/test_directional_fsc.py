"""Resolution by direction: noise along one axis is seen in the cone about it, and in no other."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import fft

from manyviews.errors import InputError
from manyviews.metrics.directional_fsc import cone, directional_fsc, read_cones, write_cones
from manyviews.metrics.fsc import fsc

BOX, PIXEL = 48, 3.0


def noise(seed, shape=(BOX,) * 3):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def halves_noisy_along_z(half_angle, cut):
    """The same below shell ``cut`` about z and everywhere else; independent beyond it about z."""
    kz, ky, kx = np.meshgrid(fft.fftfreq(BOX), fft.fftfreq(BOX), fft.rfftfreq(BOX), indexing="ij")
    length = np.sqrt(kx**2 + ky**2 + kz**2)
    near_z = np.abs(kz) >= length * math.cos(math.radians(half_angle))
    common = fft.rfftn(noise(1))
    lost = near_z & (length * BOX >= cut)
    return tuple(
        fft.irfftn(np.where(lost, fft.rfftn(noise(seed)), common), (BOX,) * 3).astype(np.float32)
        for seed in (2, 3)
    )


def test_noise_only_along_z_is_found_along_z_only():
    cut = 10
    cones = directional_fsc(*halves_noisy_along_z(30.0, cut), PIXEL, half_angle_degrees=25)
    found = {one.name: one.curve.resolution(0.5) for one in cones}
    assert found == {"x": 2 * PIXEL, "y": 2 * PIXEL, "z": pytest.approx(BOX * PIXEL / (cut - 0.5), rel=0.05)}
    z = cones[2]
    assert z.direction == (0, 0, 1)
    assert z.half_angle_degrees == 25
    assert np.abs(z.curve.correlation[cut + 5 :]).max() < 0.35
    assert z.curve.correlation[1:cut].min() > 0.999


def test_any_axis_of_any_length():
    tilted = np.array([1.0, 1.0, 0.0])
    a, b = halves_noisy_along_z(30.0, 10)
    cones = directional_fsc(a, b, PIXEL, {"one": tilted, "two": [0, 0, -7.0]}, half_angle_degrees=25)
    assert cones[0].curve.resolution(0.5) == 2 * PIXEL
    np.testing.assert_allclose(cones[0].direction, tilted / math.sqrt(2))
    along_z = directional_fsc(a, b, PIXEL, half_angle_degrees=25)[2]
    np.testing.assert_array_equal(cones[1].curve.correlation, along_z.curve.correlation)


@pytest.mark.parametrize("shape", [(20, 20, 20), (9, 24, 30)])
def test_a_cone_of_90_degrees_is_the_whole(shape):
    a = noise(1, shape)
    b = a + noise(2, shape)
    whole, (one,) = fsc(a, b, 2.0), directional_fsc(a, b, 2.0, {"z": (0, 0, 1)}, half_angle_degrees=90)
    np.testing.assert_allclose(one.curve.correlation, whole.correlation)
    np.testing.assert_allclose(one.curve.samples, whole.samples)


def test_a_cone_holds_its_share_of_a_shell():
    inside = cone((64, 64, 64), np.array([0.0, 0.0, 1.0]), 20.0)
    assert inside[0, 0, 0]
    assert inside[5, 1, 1]
    assert inside[-5, -1, 1]
    assert not inside[1, 0, 5]
    a = noise(1, (64, 64, 64))
    (one,) = directional_fsc(a, a, 2.0, {"z": (0, 0, 1)})
    share = one.curve.samples[12:] / fsc(a, a, 2.0).samples[12:]
    np.testing.assert_allclose(share.mean(), 1 - math.cos(math.radians(20)), rtol=0.02)


def test_mask_and_weights_count():
    a, b = halves_noisy_along_z(30.0, 10)
    mask = np.zeros_like(a)
    mask[12:36, 12:36, 12:36] = 1
    masked = directional_fsc(a, b, PIXEL, mask=mask)
    assert not np.array_equal(masked[2].curve.correlation, directional_fsc(a, b, PIXEL)[2].curve.correlation)
    good = ~cone(a.shape, np.array([0.0, 0.0, 1.0]), 31.0)
    good[0, 0, 0] = True
    (one,) = directional_fsc(a, b, PIXEL, {"z": (0, 0, 1)}, half_angle_degrees=45, weights=good)
    np.testing.assert_allclose(one.curve.correlation[3:], 1, atol=1e-4)


def test_cones_are_written_and_read(tmp_path):
    path = tmp_path / "directional_fsc.csv"
    cones = directional_fsc(*halves_noisy_along_z(30.0, 10), PIXEL)
    write_cones(path, cones)
    assert path.read_text().splitlines()[0] == (
        "direction,x,y,z,half_angle_degrees,frequency_per_angstrom,fsc,samples"
    )
    read = read_cones(path)
    assert [one.name for one in read] == ["x", "y", "z"]
    for one, other in zip(read, cones, strict=True):
        np.testing.assert_allclose(one.curve.correlation, other.curve.correlation, atol=1e-6)
        assert one.direction == other.direction
        assert one.curve.resolution(0.143) == pytest.approx(other.curve.resolution(0.143), rel=1e-4)
    assert read_cones(tmp_path / "none.csv") == ()
    text = path.read_text().splitlines()
    for line, words in ((text[1].replace(",20,", ",nan,"), "missing"), (text[3], "do not rise")):
        path.write_text("\n".join([*text[:5], line, *text[5:]]))
        with pytest.raises(InputError, match=words):
            read_cones(path)
    path.write_text("\n".join(text[:-1]))
    with pytest.raises(
        InputError, match=rf"direction z has \d+ frequencies, not {len(read[0].curve.frequency)}"
    ):
        read_cones(path)


@pytest.mark.parametrize(
    ("directions", "angle", "words"),
    [({"z": (0, 0, 0)}, 20, "no direction"), ({"z": (1, 0)}, 20, "no direction"), ({}, 0, "half angle")],
)
def test_what_is_no_cone_is_refused(directions, angle, words):
    with pytest.raises(ValueError, match=words):
        directional_fsc(noise(1), noise(2), 1.0, directions, half_angle_degrees=angle)
