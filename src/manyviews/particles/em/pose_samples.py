"""Weighted poses of many images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class PoseSamples:
    """Poses with weights, any number an image.

    ``image (S,)`` int64 says whose pose it is. Rows of ``rotations (S, 3, 3)`` are the image's x, y and z
    axes in the volume; ``shifts (S, 2)``, pixels, are what centres the image; ``weights (S,)`` of an image
    sum to 1 where they are samples of its posterior; all float32.
    """

    image: NDArray[np.int64]
    rotations: Float32
    shifts: Float32
    weights: Float32

    def __len__(self) -> int:
        return len(self.image)

    @classmethod
    def concatenate(cls, parts: Sequence[PoseSamples]) -> PoseSamples:
        """All of them, in order."""
        return cls(
            np.concatenate([part.image for part in parts]),
            np.concatenate([part.rotations for part in parts]),
            np.concatenate([part.shifts for part in parts]),
            np.concatenate([part.weights for part in parts]),
        )

    def select(self, chosen: NDArray[np.integer] | NDArray[np.bool_] | slice) -> PoseSamples:
        """Some of them."""
        return PoseSamples(
            self.image[chosen], self.rotations[chosen], self.shifts[chosen], self.weights[chosen]
        )

    def sorted(self) -> PoseSamples:
        """By image, in the order given otherwise."""
        return self.select(np.argsort(self.image, kind="stable"))

    def renumbered(self, numbers: NDArray[np.integer]) -> PoseSamples:
        """Image i becomes ``numbers[i]``."""
        return PoseSamples(
            np.asarray(numbers[self.image], np.int64), self.rotations, self.shifts, self.weights
        )

    def among(self, numbers: NDArray[np.int64], count: int) -> PoseSamples:
        """Those of the particles ``numbers (n,)``, below ``count``, sorted and numbered by place in these."""
        place = np.full(count, -1)
        place[numbers] = np.arange(len(numbers))
        return self.select(place[self.image] >= 0).renumbered(place).sorted()

    @classmethod
    def of(cls, state: object) -> PoseSamples:
        """What a solver's state holds of them as tensors; see `tensors`."""
        return cls(*(getattr(state, field.name).numpy() for field in fields(cls)))

    def tensors(self) -> dict[str, Any]:
        """The fields by name, as tensors: so the state of a solver has them."""
        return {name: torch.from_numpy(part) for name, part in vars(self).items()}


NO_SAMPLES = PoseSamples(
    np.zeros(0, np.int64),
    np.zeros((0, 3, 3), np.float32),
    np.zeros((0, 2), np.float32),
    np.zeros(0, np.float32),
)
