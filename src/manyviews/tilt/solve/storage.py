"""Where volumes, kernels and stacks of a job live: in memory, or in files where memory is too small."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from manyviews.io.scratch import ScratchFolder
from manyviews.operators.axis_groups import AxisGroup
from manyviews.operators.tiling import Tiling, choose_tiling
from manyviews.operators.view_kernel import padded_shape
from manyviews.runs.checkpoint import KEPT

Shape3 = tuple[int, int, int]

# Ranks that share a volume give arrays of so many bytes back to the system as soon as they are freed: in a
# slab of three slices of 1024 x 1024 that leaves 30 to 45 MiB less with a rank, for some 5 % of its time.
GIVEN_BACK_BYTES = 8 * 2**20
# Checkpoints of a stage that stay where volumes take the disk, too.
STREAMED_CHECKPOINTS_KEPT = 1


@dataclass(frozen=True)
class Storage:
    """Memory, or files in ``scratch`` that are mapped into it.

    A convolution may work in ``work_bytes`` at most, where there is scratch.
    """

    scratch: ScratchFolder | None = None
    work_bytes: int = 0

    @property
    def checkpoints_kept(self) -> int:
        """How many of the last, beside what lies in files."""
        return KEPT if self.scratch is None else STREAMED_CHECKPOINTS_KEPT

    def allocate(self, shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
        """A new float32 tensor with any content."""
        if self.scratch is None:
            return torch.empty(shape, device=device)
        return torch.from_numpy(self.scratch.allocate(shape, "float32"))

    def keep(self, tensor: torch.Tensor) -> torch.Tensor:
        """The tensor where it may stay for the whole run."""
        return tensor if self.scratch is None else self.copy(tensor)

    def copy(self, tensor: torch.Tensor) -> torch.Tensor:
        """A new float32 tensor with the same content."""
        return self.allocate(tuple(tensor.shape), tensor.device).copy_(tensor)

    def tiling(self, groups: list[AxisGroup], volume_shape: Shape3, slabs: int, beyond: int = 0) -> Tiling:
        """How the lateral plane is divided for the convolution; `InputError` if small tiles do not fit.

        ``beyond`` voxels are how far a view reaches beyond its rod.
        """
        if self.scratch is None:
            return Tiling.whole(volume_shape, padded_shape(groups, volume_shape, beyond))
        return choose_tiling(groups, volume_shape, slabs, self.work_bytes, beyond=beyond)
