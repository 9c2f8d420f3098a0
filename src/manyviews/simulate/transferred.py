"""Images of a specimen whose parts are out of focus by as much as they lie deep."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.geometry.views import TiltGeometry
from manyviews.operators.view_transfer import TransferGrid, ViewTransfer
from manyviews.simulate.phantoms import Phantom

Float32 = NDArray[np.float32]

# Layers are thinner by this factor than the levels that corrections use.
_FINER = 4.0


def transferred_views(
    phantom: Phantom,
    geometry: TiltGeometry,
    image_shape: tuple[int, int],
    pixel_size: float,
    transfer: ViewTransfer,
) -> Iterator[Float32]:
    """Projections ``(y, x)`` one after the other, each with the contrast transfer of its view.

    Along the beam of every view the parts of the phantom are sorted into thin layers by the depth of their
    middles; each layer is projected exactly, on a canvas larger than the image by what the CTF spreads, and
    filtered by the transfer at its own defocus. A part thicker than a layer has the defocus of its middle.
    """
    spread = transfer.spread_pixels(pixel_size)
    canvas = image_shape[0] + 2 * spread, image_shape[1] + 2 * spread
    grid = TransferGrid.of(canvas, pixel_size, 0)
    distance = transfer.level_distance(pixel_size) / _FINER
    for view, matrix in enumerate(geometry.matrices):
        change = transfer.gradient * (phantom.centre @ matrix[2, :3] + matrix[2, 3])
        layers = np.round(change / distance).astype(np.int64)
        total = torch.zeros(grid.spectrum_shape, dtype=torch.complex64)
        for layer in np.unique(layers):
            part = phantom.select(np.flatnonzero(layers == layer))
            image = part.project(geometry.select([view]), canvas, pixel_size)[0]
            values = transfer.at_defocus(view, np.array([layer * distance]), grid)[0]
            total += torch.fft.rfft2(torch.from_numpy(image), s=grid.padded) * values
        image = torch.fft.irfft2(total, s=grid.padded).numpy()
        yield image[spread : spread + image_shape[0], spread : spread + image_shape[1]].copy()
