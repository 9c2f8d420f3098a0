"""R-weighting of images for weighted back-projection, right for any set of views.

Each Fourier sample of an image is on its central section of the specimen's transform; how far all views
together overlap there is the transform of the point-spread of projecting and back-projecting, and the sample
is divided by it (Harauz & van Heel 1986, Optik 73:146; Radermacher 1992). The images are weighted, not the
back-projection: that one is cut off at the faces of the volume, and what the cut puts where no view reaches
would be divided by almost nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft
import scipy.ndimage
import torch
from numpy.typing import NDArray


@dataclass(frozen=True)
class Overlap:
    """How much views overlap at every frequency of the specimen, on a grid of size ``padded (z, y, x)``.

    ``spectrum (z, y, x // 2 + 1)``, float32, is the circulant of
    `manyviews.operators.view_kernel.ViewKernel`.
    """

    spectrum: NDArray[np.float32]
    padded: tuple[int, int, int]

    def section(self, matrix: NDArray[np.float64], image_shape: tuple[int, int]) -> NDArray[np.float32]:
        """The central section ``(y, x // 2 + 1)`` of a view, float32, at the samples of an image's `rfft2`.

        Linear interpolation; frequencies beyond those of the volume take the value at its edge.
        """
        v = scipy.fft.fftfreq(image_shape[0])[:, None, None]
        u = scipy.fft.rfftfreq(image_shape[1])[None, :, None]
        frequency = u * matrix[0, :3] + v * matrix[1, :3]  # (x, y, z), cycles a voxel
        frequency *= np.where(frequency[..., :1] < 0.0, -1.0, 1.0)  # even, and x is a half-spectrum
        place = np.moveaxis(np.clip(frequency, -0.5, 0.5)[..., ::-1] * self.padded, -1, 0)
        place[2] = np.minimum(place[2], self.spectrum.shape[2] - 1)
        values = scipy.ndimage.map_coordinates(self.spectrum, place, order=1, mode="grid-wrap")
        return np.asarray(values, dtype=np.float32)


def weight_image(
    image: torch.Tensor, matrix: NDArray[np.float64], overlap: Overlap, floor: float
) -> torch.Tensor:
    """Divide the transform of one image ``(y, x)`` by the overlap of all views on its section.

    The image is taken as zero outside; ``matrix (4, 4)`` takes the specimen to it. The overlap counts as
    ``floor`` at least.
    """
    height, width = image.shape
    size = scipy.fft.next_fast_len(2 * height, real=True), scipy.fft.next_fast_len(2 * width, real=True)
    divisor = np.maximum(overlap.section(matrix, size), floor)
    spectrum = torch.fft.rfft2(image, s=size)
    spectrum /= torch.from_numpy(divisor).to(image)
    weighted: torch.Tensor = torch.fft.irfft2(spectrum, s=size)
    return weighted[:height, :width]
