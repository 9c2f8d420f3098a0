"""Some images beside what the volume would have given, and what is left.

``fitted_images.mrc`` holds each image and then its reprojection, at most 192 pixels a side; where noise hides
what an image shows, the image, the same low-passed, and the reprojection low-passed alike.
``fitted_images.csv`` tells which they are, and the finest detail that was let through.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.io.mrc import MrcStack, write_mrc
from manyviews.io.tables import read_table, write_table
from manyviews.report.sections import Picture, Section

Float32 = NDArray[np.float32]

IMAGES_FILE, WORDS_FILE = "fitted_images.mrc", "fitted_images.csv"
FILES = (IMAGES_FILE, WORDS_FILE)
PICTURE = "fitted_images"
SHOWN = 8
_WORDS, _DETAIL = "image", "low_pass_angstrom"
_MOST_PIXELS = 192


def chosen_images(count: int) -> NDArray[np.int64]:
    """Numbers of up to eight images among ``count``, evenly spread, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(SHOWN, count)).round().astype(np.int64))


def block_of(shape: Sequence[int]) -> int:
    """Side of the blocks of pixels whose means are shown, for images ``(rows, columns)``."""
    return -(-max(shape) // _MOST_PIXELS)


def shown_size(shape: Sequence[int]) -> tuple[int, int]:
    """Rows and columns that are shown of images ``(rows, columns)``."""
    rows, columns = (max(1, side // block_of(shape)) for side in shape)
    return rows, columns


def shown(images: torch.Tensor) -> torch.Tensor:
    """Images ``(k, rows, columns)`` as means of blocks, `shown_size`."""
    block = block_of(images.shape[1:])
    rows, columns = shown_size(images.shape[1:])
    high, wide = min(block, images.shape[1]), min(block, images.shape[2])
    kept = images[:, : rows * high, : columns * wide]
    return kept.reshape(len(images), rows, high, columns, wide).mean(dim=(2, 4))


def write_fitted(
    folder: Path, panels: Float32, words: Sequence[str], pixel_size: float, low_pass: float | None = None
) -> None:
    """Write images and reprojections ``(k, 2, rows, columns)``; ``words`` say which each is.

    With ``low_pass``, angstrom, they are images, low-passed images and low-passed reprojections ``(k, 3,
    rows, columns)``.
    """
    stack = panels.reshape(-1, *panels.shape[2:])
    write_mrc(folder / IMAGES_FILE, stack, pixel_size, overwrite=True, is_volume=False)
    detail = "" if low_pass is None else f"{low_pass:.4g}"
    write_table(folder / WORDS_FILE, (_WORDS, _DETAIL), ((one, detail) for one in words))


def fitted_section(folder: Path, headings: str) -> Iterator[Section]:
    """Images, reprojections and differences; nothing where there are none. `InputError` if damaged.

    ``headings`` say what the words about each image are.
    """
    from manyviews.report.plots import fitted_figure

    if not (folder / IMAGES_FILE).exists():
        return
    rows = read_table(folder / WORDS_FILE, (_WORDS,))
    words = [row[_WORDS] for row in rows]
    detail = rows[0].get(_DETAIL, "") if rows else ""
    each = 3 if detail else 2
    stack = MrcStack(folder / IMAGES_FILE)
    if stack.shape[0] != each * len(words) or not 0 < len(words) <= SHOWN:
        what = f"has {stack.shape[0]} images where {WORDS_FILE} has {len(words)} rows"
        raise InputError(what, path=folder / IMAGES_FILE)
    panels = stack.read().reshape(len(words), each, *stack.shape[1:])
    figure = fitted_figure(panels, words)
    picture = Picture(PICTURE, "Images, reprojections of the volume, differences", figure)
    caption = (
        f"Above: {headings}. Images and reprojections at the same grey levels, differences at their own. "
    )
    if detail:
        caption = (
            f"Above: {headings}. Images as they are, then low-passed at {detail} angstrom as their "
            "reprojections are, these at the grey levels of those and as strong as fits best; differences at "
            "their own. "
        )
    yield Section(
        "Images and what explains them",
        picture,
        caption + "Where they show the specimen, the volume does not explain it.",
    )
