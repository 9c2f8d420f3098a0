"""The contrast transfer function against its formula, number by number."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from manyviews.errors import InputError
from manyviews.operators.contrast_transfer import Optics, ctf_values, wavelength
from manyviews.operators.fourier_points import half_plane

BOX, PIXEL = 32, 1.7
POINTS = half_plane(BOX // 2, BOX)


def plain_ctf(kx, ky, voltage, cs, w, u, v, angle, phase, b, scale):
    """RELION's formula for one frequency, as it is printed."""
    volts = voltage * 1000
    length = 12.2643247 / math.sqrt(volts * (1 + 0.978466e-6 * volts))
    s2 = (kx**2 + ky**2) / (BOX * PIXEL) ** 2
    defocus = 0.5 * (u + v + (u - v) * math.cos(2 * (math.atan2(ky, kx) - math.radians(angle))))
    chi = -math.pi * length * defocus * s2 + math.pi / 2 * cs * 1e7 * length**3 * s2**2
    contrast = math.pi / 2 if w == 1 else math.atan(w / math.sqrt(1 - w**2))
    return -math.sin(chi - math.radians(phase) - contrast) * math.exp(-b * s2 / 4) * scale


def test_wavelengths_of_the_textbooks():
    np.testing.assert_allclose(wavelength([100, 200, 300]), [0.037014, 0.025079, 0.019687], rtol=2e-4)


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from([80.0, 200.0, 300.0]),
    st.floats(0, 3),
    st.floats(0, 1),
    st.tuples(st.floats(-5000, 40000), st.floats(-5000, 40000)),
    st.floats(-180, 180),
    st.floats(0, 180),
    st.floats(0, 300),
    st.floats(0.1, 2),
)
def test_every_value_is_the_formulas(voltage, cs, w, defocus, angle, phase, b, scale):
    optics = Optics.make(voltage, cs, w, [defocus], angle, phase, b, scale)
    values = ctf_values(optics, POINTS, BOX, PIXEL, dtype=torch.float64).numpy()[0]
    expected = [plain_ctf(*point, voltage, cs, w, *defocus, angle, phase, b, scale) for point in POINTS]
    np.testing.assert_allclose(values, expected, atol=1e-9)
    single = ctf_values(optics, POINTS, BOX, PIXEL).numpy()[0]
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, expected, atol=2e-6)


def test_protein_is_white_at_zero_frequency():
    optics = Optics.make(300, 2.7, [0.07, 0.1], np.full((2, 2), 12000.0))
    np.testing.assert_allclose(ctf_values(optics, POINTS, BOX, PIXEL)[:, 0], [0.07, 0.1], atol=1e-6)


def test_amplitude_contrast_of_one_is_no_ctf():
    optics = Optics.make(300, 0, 1, np.zeros((1, 2)))
    np.testing.assert_array_equal(ctf_values(optics, POINTS, BOX, PIXEL), 1)


def test_many_particles_in_pieces(monkeypatch):
    rng = np.random.default_rng(0)
    optics = Optics.make(
        300, 2.7, 0.1, rng.uniform(5000, 30000, (9, 2)), rng.uniform(0, 180, 9), 0, 50 * rng.random(9)
    )
    whole = ctf_values(optics, POINTS, BOX, PIXEL)
    monkeypatch.setattr("manyviews.operators.contrast_transfer._VALUES_AT_ONCE", 2 * len(POINTS))
    torch.testing.assert_close(ctf_values(optics, POINTS, BOX, PIXEL), whole)
    torch.testing.assert_close(ctf_values(optics.select(np.array([7, 2])), POINTS, BOX, PIXEL), whole[[7, 2]])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"voltage_kv": 0.0}, "voltage"),
        ({"amplitude_contrast": 1.2}, "amplitude contrast"),
        ({"defocus": [[np.nan, 1.0]]}, "defocus of a particle is not a number"),
    ],
)
def test_impossible_optics_are_refused(change, sentence):
    given_values = {"voltage_kv": 300.0, "spherical_aberration_mm": 2.7, "amplitude_contrast": 0.1}
    with pytest.raises(InputError, match=sentence):
        Optics.make(**{**given_values, "defocus": [[1e4, 1e4]], **change})
