"""Between slices, which tomography works on, and views, which alignment works on, over all ranks.

Of all views rank r holds ``shares(count, ranks)[r]``. Slices are shared in twos, on which convolutions work:
another number of ranks does not round differently.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from manyviews.parallel.world import World, shares, shares_in_twos


@dataclass(frozen=True)
class Transpose:
    """How projections ``(views, rows, columns)`` of a job lie among the ranks of ``world``."""

    world: World
    views: int
    rows: int
    columns: int

    @property
    def own_views(self) -> slice:
        """The views of this rank."""
        return shares(self.views, self.world.size)[self.world.rank]

    @property
    def own_rows(self) -> slice:
        """The rows, and slices, of this rank."""
        return self.slabs[self.world.rank]

    @property
    def slabs(self) -> list[slice]:
        """The rows of every rank."""
        return shares_in_twos(self.rows, self.world.size)

    def to_views(self, images: torch.Tensor) -> torch.Tensor:
        """Own rows of all views, ``(views, own rows, columns)``, to all rows of own views."""
        if self.world.size == 1:
            return images
        own = self.own_views
        parts = [images[part].contiguous() for part in shares(self.views, self.world.size)]
        shapes = [(own.stop - own.start, part.stop - part.start, self.columns) for part in self.slabs]
        return torch.cat(self.world.all_to_all(parts, shapes), dim=1)

    def to_rows(self, images: torch.Tensor) -> torch.Tensor:
        """All rows of own views, ``(own views, rows, columns)``, to own rows of all views."""
        if self.world.size == 1:
            return images
        own = self.own_rows
        parts = [images[:, part].contiguous() for part in self.slabs]
        shapes = [
            (part.stop - part.start, own.stop - own.start, self.columns)
            for part in shares(self.views, self.world.size)
        ]
        return torch.cat(self.world.all_to_all(parts, shapes), dim=0)

    def gather_views(self, values: torch.Tensor) -> torch.Tensor:
        """What each rank has of its own views, of all views, known to all ranks."""
        counts = [part.stop - part.start for part in shares(self.views, self.world.size)]
        return self.world.all_gather(values.contiguous(), counts)

    def gather_rows(self, values: torch.Tensor) -> torch.Tensor:
        """What each rank has of its own slices, of all slices, known to all ranks."""
        counts = [part.stop - part.start for part in self.slabs]
        return self.world.all_gather(values.contiguous(), counts)
