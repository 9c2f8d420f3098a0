"""A mask is read as it is, or refused in one sentence."""

from __future__ import annotations

import numpy as np
import pytest

from manyviews.errors import InputError
from manyviews.io.mrc import write_mrc
from manyviews.subtomo.maps import read_mask

BOX = 12


def ball():
    along = np.arange(BOX) - BOX // 2
    radius = np.sqrt(along[:, None, None] ** 2 + along[:, None] ** 2 + along**2)
    return np.clip(5 - radius, 0, 1).astype(np.float32)


def test_a_mask_is_read_and_what_rounding_added_is_cut_off(tmp_path):
    path = tmp_path / "mask.mrc"
    write_mrc(path, ball() + np.float32(1e-4), 6.02)
    mask = read_mask(path, BOX, 6.0)
    np.testing.assert_allclose(mask, np.clip(ball() + 1e-4, 0, 1), atol=1e-6)
    assert mask.max() == 1


@pytest.mark.parametrize(
    ("mask", "pixel", "words"),
    [
        (ball()[:-1], 6.0, "12 x 12 x 11 voxels, the particles have 12"),
        (ball(), 3.0, "voxels of 3 angstrom, the particles of 6"),
        (3 * ball(), 6.0, "from 0 to 3, not from 0 outside to 1 inside"),
        (ball() - 1, 6.0, "from -1 to 0"),
        (np.zeros_like(ball()), 6.0, "is empty"),
    ],
)
def test_what_is_no_mask_is_refused(tmp_path, mask, pixel, words):
    path = tmp_path / "mask.mrc"
    write_mrc(path, mask.astype(np.float32), pixel)
    with pytest.raises(InputError, match=words) as caught:
        read_mask(path, BOX, 6.0)
    assert caught.value.fix
