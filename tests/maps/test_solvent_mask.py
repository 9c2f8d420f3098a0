"""The automatic mask lies around the particle, and is refused where it would hide nothing, or all."""

from __future__ import annotations

import math

import numpy as np
import pytest

from half_map_example import BOX, PIXEL, ball, distances, molecule, noise_halves, texture, with_noise
from manyviews.maps.solvent_mask import automatic_mask, halves_agree, soft_edge
from manyviews.metrics.fsc import fsc


def mask_of(halves):
    return automatic_mask(*halves, PIXEL, fsc(*halves, PIXEL))


def test_it_holds_the_particle_and_little_more():
    radius = 0.3 * BOX
    mask = mask_of(with_noise(molecule(), 1.0, 5))
    assert mask.kind == "automatic"
    assert mask.volume[distances() < radius - 1].min() > 0.95
    assert mask.volume[distances() > radius + 10].max() < 0.05
    assert 0.12 < mask.share < 0.45
    assert 0 <= mask.volume.min() <= mask.volume.max() == 1
    assert mask.warnings == ()


def test_its_effect_is_a_better_resolution():
    halves = with_noise(molecule(), 2.0, 6)
    mask = mask_of(halves)
    plain, masked = fsc(*halves, PIXEL), fsc(*halves, PIXEL, mask=mask.volume)
    assert masked.first_crossing(0.143) < 0.95 * plain.first_crossing(0.143)


def test_noise_of_the_solvent_does_not_make_it_coarse():
    """Without a mask the halves agree hardly further than the particle is large."""
    box = 72
    truth = ball(9, box=box) * (texture(1, box=box) + 2)
    halves = with_noise(truth, 3.0, 3)
    unmasked = fsc(*halves, 3.0)
    mask = automatic_mask(*halves, 3.0, unmasked)
    assert mask.low_pass_angstrom < 0.8 * unmasked.first_crossing(0.5)
    assert mask.volume[distances(box) < 8].min() > 0.9


def test_small_pieces_are_dropped():
    truth = molecule().copy()
    truth[3:5, 3:5, 3:5] += 40.0
    mask = mask_of(with_noise(truth, 0.5, 7))
    assert mask.dropped >= 1
    assert mask.volume[:8, :8, :8].max() == 0
    assert mask.volume[BOX // 2, BOX // 2, BOX // 2] == 1


def test_a_level_of_the_solvent_and_zeros_outside_change_little():
    plain = mask_of(with_noise(molecule(), 1.0, 8)).volume > 0.5
    lifted = mask_of(with_noise(molecule() + 5, 1.0, 8)).volume > 0.5
    assert np.mean(plain != lifted) < 0.01
    cut = [half * ball(0.47 * BOX).astype(np.float32) for half in with_noise(molecule(), 1.0, 8)]
    assert np.mean(plain != (mask_of(cut).volume > 0.5)) < 0.06


@pytest.mark.parametrize("seed", range(4))
def test_noise_has_no_mask(seed):
    mask = mask_of(noise_halves(seed))
    assert mask.kind == "sphere"
    assert "do not agree" in mask.warnings[0]


def test_what_fills_the_box_is_refused():
    mask = mask_of(with_noise(ball(0.57 * BOX) * (texture(1) + 3), 0.3, 0))
    assert mask.kind == "sphere"
    assert "nearly the whole map" in mask.warnings[0]


def test_what_is_nearly_empty_is_refused():
    truth = np.zeros((BOX,) * 3)
    truth[BOX // 2, BOX // 2, BOX // 2] = 800.0
    mask = mask_of(with_noise(truth, 1.0, 1))
    assert mask.kind == "sphere"
    assert "nearly empty" in mask.warnings[0]


def test_dark_particles_are_told():
    assert "seems to be dark" in " ".join(mask_of(with_noise(-3 * molecule(), 1.0, 2)).warnings)


def test_the_edge_is_half_a_cosine():
    core = np.zeros((30, 30, 30), bool)
    core[15, 15, 15] = True
    mask = soft_edge(core, 3.0, 6.0)
    away = np.abs(np.arange(30) - 15)
    expected = np.where(away <= 3, 1, np.where(away >= 9, 0, 0.5 + 0.5 * np.cos(np.pi * (away - 3) / 6)))
    np.testing.assert_allclose(mask[15, 15], expected, atol=1e-6)


def test_agreement_of_noise_is_rare_and_of_maps_sure():
    curves = [fsc(*noise_halves(seed, 20), 1.0) for seed in range(200)]
    assert not any(map(halves_agree, curves))
    assert halves_agree(fsc(*with_noise(molecule(), 3.0, 1), 1.0))
    assert not halves_agree(fsc(*with_noise(molecule(), 0.01, 1), 1.0), share=1e-9)
    # a small mask leaves few samples in the first shells
    assert halves_agree(fsc(*with_noise(molecule(), 0.3, 1), 1.0), share=0.03)
    rare = [fsc(*noise_halves(seed, 32), 1.0, mask=ball(6, 3, 32)) for seed in range(100)]
    assert not any(halves_agree(curve, float(ball(6, 3, 32).mean())) for curve in rare)
    assert math.isinf(curves[0].first_crossing(0.9))
