from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from manyviews.errors import InputError
from manyviews.io.particle_table import OpticsGroup, table_of_stack

OPTICS = OpticsGroup("a", 300.0, 2.7, 0.1, 1.5, image_size=8)


def make_table(count=5):
    ramp = np.arange(count, dtype=float)
    return table_of_stack(
        Path("x/a.mrcs"),
        OPTICS,
        np.stack([ramp, ramp + 100], axis=1),
        angles=np.stack([ramp, ramp, ramp], axis=1),
        shifts=np.zeros((count, 2)),
        half=np.arange(count) % 2 + 1,
    )


def test_a_selection_keeps_rows_together():
    table = replace(make_table(), extra={"rlnX": list("abcde")})
    part = table.select([3, 0])
    assert len(part) == 2
    assert part.section.tolist() == [3, 0]
    assert part.defocus.tolist() == [[3, 103], [0, 100]]
    assert part.extra == {"rlnX": ["d", "a"]}
    assert part.half.tolist() == [2, 1]
    assert part.shifts.shape == (2, 2)
    assert table.select(table.half == 1).section.tolist() == [0, 2, 4]
    with pytest.raises(InputError, match="not among the 5"):
        table.select([7])
    with pytest.raises(InputError, match="empty"):
        table.select(np.zeros(5, dtype=bool))


def test_poses_replace_what_was_there():
    table = make_table(2)
    seen = table.with_poses(np.ones((2, 3)), np.ones((2, 2)), extra={"spread": ["1", "2"]})
    assert seen.angles.tolist() == [[1, 1, 1]] * 2
    assert seen.extra == {"spread": ["1", "2"]}
    assert seen.half is table.half
    assert table.extra == {}


def test_images_are_named_from_one():
    assert make_table().image_name(4) == "000005@a.mrcs"
    assert replace(make_table(), stack_names=()).image_name(0) == "000001@x/a.mrcs"


def test_optics_of_every_particle_and_sizes_that_differ():
    table = make_table(3)
    both = replace(
        table,
        optics=(OPTICS, replace(OPTICS, name="b", voltage_kv=200.0, pixel_size=2.0, image_size=6)),
        optics_index=np.array([1, 0, 1]),
    )
    assert both.per_particle("voltage_kv").tolist() == [200, 300, 200]
    with pytest.raises(InputError, match=r"different pixel sizes \(1.5 to 2 A\)"):
        _ = both.pixel_size
    with pytest.raises(InputError, match="different sizes"):
        _ = both.image_size
    # A group that no particle belongs to does not matter.
    one = both.select([1])
    assert (one.pixel_size, one.image_size) == (1.5, 8)
    with pytest.raises(InputError, match="does not tell"):
        _ = replace(table, optics=(replace(OPTICS, image_size=None),)).image_size


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"defocus": np.zeros((4, 2))}, "shape"),
        ({"defocus": np.full((5, 2), np.nan)}, "defocus of particle 1"),
        ({"angles": np.zeros((5, 2))}, "shape"),
        ({"stack_index": np.array([0, 0, 1, 0, 0])}, "stack_index of particle 3"),
        ({"section": np.array([0, 0, -1, 0, 0])}, "section of particle 3"),
        ({"section": np.zeros(5)}, "whole numbers"),
        ({"half": np.array([1, 2, 3, 1, 1])}, "half of particle 3"),
        ({"contrast_sign": np.array([1, 1, 0, 1, 1])}, "signs"),
        ({"extra": {"x": ["1"]}}, "column x"),
        ({"optics": ()}, "empty"),
        ({"stack_names": ("a", "b")}, "names"),
    ],
)
def test_impossible_tables_are_refused(changes, words):
    with pytest.raises(InputError, match=words):
        replace(make_table(), **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"voltage_kv": 0.0},
        {"pixel_size": 0.0},
        {"pixel_size": float("nan")},
        {"amplitude_contrast": 1.5},
        {"image_size": 0},
        {"beam_tilt_mrad": (float("inf"), 0.0)},
        {"magnification": ((float("nan"), 0.0), (0.0, 1.0))},
    ],
)
def test_impossible_optics_are_refused(changes):
    with pytest.raises(InputError, match="optics group 'a'"):
        replace(OPTICS, **changes)


def test_amplitude_contrast_one_without_aberration_or_defocus_means_no_ctf():
    frequency, phase = np.linspace(0, 0.5, 9), np.arcsin(1.0)
    chi = 0 * frequency**2 + 0 * frequency**4
    np.testing.assert_allclose(-np.sin(chi - phase), 1, atol=1e-15)
