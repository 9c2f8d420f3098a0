"""Images beside what explains them."""

import numpy as np
import pytest
import torch

from manyviews.errors import InputError
from manyviews.report.fitted_images import (
    IMAGES_FILE,
    WORDS_FILE,
    chosen_images,
    fitted_section,
    shown,
    shown_size,
    write_fitted,
)
from manyviews.report.sections import pictures_of


@pytest.mark.parametrize("count", [1, 3, 8, 9, 1000])
def test_images_are_spread_over_all(count):
    found = chosen_images(count)
    assert len(found) == min(count, 8)
    assert (found[0], found[-1]) == (0, count - 1)
    assert np.ptp(np.diff(found)) <= 1 if len(found) > 1 else True


@pytest.mark.parametrize("shape", [(5, 7), (192, 192), (193, 40), (1, 4000), (400, 300)])
def test_images_are_shown_as_means_of_blocks(shape):
    images = torch.arange(2.0)[:, None, None] + torch.zeros(2, *shape)
    small = shown(images)
    assert small.shape[1:] == shown_size(shape)
    assert max(small.shape) <= 192
    assert torch.equal(small.amax(dim=(1, 2)), torch.arange(2.0))


def test_what_is_written_is_shown(tmp_path):
    assert list(fitted_section(tmp_path, "number")) == []
    pairs = np.random.Generator(np.random.PCG64(1)).normal(size=(3, 2, 20, 30)).astype(np.float32)
    write_fitted(tmp_path, pairs, ["1", "2", "<b>"], 4.0)
    (picture,) = pictures_of(fitted_section(tmp_path, "number"))
    axes = picture.figure.axes
    assert [one.get_title() for one in axes if one.get_title()] == ["1", "2", "<b>"]
    np.testing.assert_array_equal(axes[2].images[0].get_array(), pairs[0, 0] - pairs[0, 1])


@pytest.mark.parametrize("words", ["image\n1\n", "image\n", "x\n1\n"])
def test_what_does_not_belong_together_is_refused(tmp_path, words):
    write_fitted(tmp_path, np.zeros((3, 2, 20, 30), np.float32), ["1", "2", "3"], 4.0)
    (tmp_path / WORDS_FILE).write_text(words)
    with pytest.raises(InputError):
        list(fitted_section(tmp_path, "number"))
    (tmp_path / IMAGES_FILE).write_bytes(b"torn")
    with pytest.raises(InputError):
        list(fitted_section(tmp_path, "number"))
