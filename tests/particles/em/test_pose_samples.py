"""Weighted poses: choosing, sorting, numbering."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from manyviews.particles.em.pose_samples import NO_SAMPLES, PoseSamples


def samples(image: list[int]) -> PoseSamples:
    """Poses that can be told apart by their weight."""
    count = len(image)
    serial = np.arange(count, dtype=np.float32)
    return PoseSamples(
        np.array(image, np.int64),
        np.eye(3, dtype=np.float32) * serial[:, None, None],
        np.stack([serial, -serial], axis=1),
        serial,
    )


IMAGES = st.lists(st.integers(0, 9), max_size=30)


def assert_whole(made: PoseSamples) -> None:
    """Every pose still has its own rotation and shift."""
    np.testing.assert_array_equal(made.rotations[:, 0, 0], made.weights)
    np.testing.assert_array_equal(made.shifts[:, 0], made.weights)
    assert [part.dtype for part in (made.image, made.rotations, made.shifts, made.weights)] == [
        np.int64, np.float32, np.float32, np.float32,
    ]  # fmt: skip


@given(IMAGES)
def test_sorting_keeps_the_order_within_an_image(image):
    made = samples(image).sorted()
    assert_whole(made)
    order = sorted(range(len(image)), key=lambda place: image[place])
    assert list(made.weights) == order
    assert list(made.image) == sorted(image)


@given(IMAGES, IMAGES)
def test_concatenation_and_selection_undo_each_other(first, second):
    one, two = samples(first), samples(second)
    both = PoseSamples.concatenate([one, NO_SAMPLES, two])
    assert len(both) == len(first) + len(second)
    for part, expected in ((slice(0, len(one)), one), (slice(len(one), None), two)):
        again = both.select(part)
        assert_whole(again)
        np.testing.assert_array_equal(again.image, expected.image)


@given(IMAGES, st.permutations(range(10)))
def test_numbers_there_and_back(image, numbers):
    made = samples(image).renumbered(np.array(numbers))
    assert_whole(made)
    assert list(made.image) == [numbers[one] for one in image]
    np.testing.assert_array_equal(made.renumbered(np.argsort(numbers)).image, image)


def test_selection_by_mask_and_by_places():
    made = samples([3, 1, 3])
    assert list(made.select(made.image == 3).weights) == [0, 2]
    assert list(made.select(np.array([2, 1])).weights) == [2, 1]
