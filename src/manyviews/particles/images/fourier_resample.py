"""The same map on fewer or more voxels of the same field of view, by its Fourier transform."""

from __future__ import annotations

import math

import torch

_VOXELS_PER_RADIUS = 2.5  # of a map's side; 2 is the least


def working_box(radius: int, box: int) -> int:
    """Voxels along a side of a map that holds frequencies up to a radius, even, at most ``box``."""
    return min(box, 2 * math.ceil(_VOXELS_PER_RADIUS * (radius + 1) / 2))


def regrid_volume(volume: torch.Tensor, box: int) -> torch.Tensor:
    """A map on ``(box, box, box)`` voxels that has the same unnormalised transform where both have one.

    The sum of the voxels is kept, so a voxel of the finer map holds less. To finer voxels and back changes
    nothing. Frequencies at the Nyquist frequency of an even coarser map are left out: they have no sign.
    """
    old = volume.shape[0]
    if box == old:
        return volume.clone()
    spectrum = torch.fft.fftn(torch.fft.ifftshift(volume))
    reach = (min(old, box) - 1) // 2
    kept = torch.arange(-reach, reach + 1, device=volume.device)
    moved = spectrum.new_zeros((box, box, box))
    z, y, x = torch.meshgrid(kept, kept, kept, indexing="ij")
    moved[z % box, y % box, x % box] = spectrum[z % old, y % old, x % old]
    found: torch.Tensor = torch.fft.fftshift(torch.fft.ifftn(moved).real).contiguous()
    return found


def regrid_gradient(gradient: torch.Tensor, box: int) -> torch.Tensor:
    """Slope of a function of the finer map, from its slope on a coarser one, and back.

    With U what `regrid_volume` does to a coarser map, ``U'U`` is ``old^3 / box^3``. The result g' is the one
    without new frequencies for which ``U' g' = g``: along directions that both can hold slopes agree.
    """
    return regrid_volume(gradient, box) * (box / gradient.shape[0]) ** 3


def regrid_curvature(curvature: float, old: int, box: int) -> float:
    """A second derivative along unit vectors of voxels, on another number of voxels."""
    return curvature * (box / old) ** 3
