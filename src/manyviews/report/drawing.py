"""A picture as the page carries it: few colours, and once more for a dark page."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from manyviews.report import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CARD = (0x16, 0x1B, 0x22)  # of a dark page, see page.css
_COLOURS = 128

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Drawing:
    """PNG files: ``whole`` for the folder, ``light`` and ``dark`` with fewer colours for the page."""

    whole: bytes
    light: bytes
    dark: bytes


def draw(figure: Figure) -> Drawing:
    """Draw a figure; the same figure gives the same bytes."""
    from PIL import Image

    whole = style.figure_png(figure)
    with Image.open(io.BytesIO(whole)) as image:
        pixels = np.asarray(image.convert("RGB"))
    return Drawing(whole, _few_colours(pixels), _few_colours(darkened(pixels, _images(figure, pixels.shape))))


def darkened(pixels: Pixels, kept: list[tuple[slice, slice]]) -> Pixels:
    """``pixels`` ``(rows, columns, 3)`` with light and dark exchanged and hues as they were.

    What is in the places ``kept``, rows and columns, stays. White becomes the ground of a dark page.
    """
    values = pixels.astype(np.int16)
    lightness = values.max(axis=2, keepdims=True) + values.min(axis=2, keepdims=True)
    turned = (values + 255 - lightness).astype(np.float32) / 255  # HSL's lightness L becomes 1 - L
    ground = np.array(_CARD, np.float32)
    found: Pixels = np.rint(ground + turned * (255 - ground)).clip(0, 255).astype(np.uint8)
    for rows, columns in kept:
        found[rows, columns] = pixels[rows, columns]
    return found


def _images(figure: Figure, shape: tuple[int, ...]) -> list[tuple[slice, slice]]:
    """Where a figure shows images, whose grey levels are data."""
    found = []
    scale = shape[1] / figure.bbox.width
    for axes in figure.axes:
        if axes.images:
            box = axes.get_window_extent()
            left, right = round(box.x0 * scale), round(box.x1 * scale)
            top, bottom = round(shape[0] - box.y1 * scale), round(shape[0] - box.y0 * scale)
            found.append((slice(max(top, 0), max(bottom, 0)), slice(max(left, 0), max(right, 0))))
    return found


def _few_colours(pixels: Pixels) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    image = Image.fromarray(pixels).quantize(_COLOURS, dither=Image.Dither.NONE)
    image.save(buffer, format="png", optimize=False)
    return buffer.getvalue()
