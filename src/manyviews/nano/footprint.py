"""What a reconstruction has at once: arrays of the size of all projections or of a volume, and files.

Counted phase by phase, in units of all projections P and of a volume V, for methods other than the paper's as
printed. A step for the volume has four volumes beside the state; looking for flows has the new ones beside
the old ones. Halves are solved while the result of the whole is kept.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from manyviews.nano.halves import COMPARED_VOLUMES, comparison_binning
from manyviews.nano.plan import Plan
from manyviews.nano.refining import may_be_pitched

FLOAT = 4
_STEP_VOLUMES, _VARIATION_VOLUMES = 4, 3


@dataclass(frozen=True)
class Size:
    """So many times all projections, and so many volumes."""

    images: float
    volumes: float

    def __add__(self, other: Size) -> Size:
        """Both."""
        return Size(self.images + other.images, self.volumes + other.volumes)

    def times(self, factor: float) -> Size:
        """So many of them."""
        return Size(factor * self.images, factor * self.volumes)

    def bytes(self, plan: Plan) -> int:
        """Bytes as float32."""
        views, rows, columns = plan.shape
        return int(FLOAT * (self.images * views * rows * columns + self.volumes * rows * columns**2))


def has_flow(plan: Plan) -> bool:
    """Whether there is a motion of every view, found or from the pre-alignment."""
    return plan.moving or (plan.options.method in ("pcg", "pcgtv") and plan.options.prealign)


def kept_state(plan: Plan) -> Size:
    """What a stage keeps from one iteration to the next at the finest level."""
    return Size(2 if has_flow(plan) else 0, 4 if plan.variation else 1)


def _solving(plan: Plan, share: float) -> list[Size]:
    """Beside the projections, with a ``share`` of the views: a step for the volume, and looking for flows."""
    flow = 2 if has_flow(plan) else 0
    found = [Size((flow + 1) * share, 1 + _STEP_VOLUMES + (_VARIATION_VOLUMES if plan.variation else 0))]
    if plan.moving:
        images = 8 if plan.mass else 5  # with data of even mass, and flows the other way
        found.append(Size(images * share, 4 if plan.variation else 1))
    return found


def array_phases(plan: Plan) -> list[Size]:
    """Arrays at once beside the projections, by phase."""
    if plan.options.method == "fbp":
        return [Size(1, 1)]
    phases = _solving(plan, 1)
    if plan.options.halves:
        kept = Size(2 if has_flow(plan) else 0, 1) + Size(0.5, 1)  # the data of a half, and the first half
        phases += [kept + one for one in _solving(plan.without_variation(), 0.5)]
    return phases


def most_arrays(plan: Plan) -> int:
    """Bytes of arrays beside the projections, at most."""
    return max(one.bytes(plan) for one in array_phases(plan))


def compared_bytes(plan: Plan, *, bounded: bool) -> int:
    """Of comparing the halves, in memory in any case; ``bounded``: with voxels binned for that."""
    if not plan.options.halves or plan.options.method == "fbp":
        return 0
    volume = (plan.shape[1], plan.shape[2], plan.shape[2])
    binning = comparison_binning(volume) if bounded else 1
    return int(FLOAT * COMPARED_VOLUMES * math.prod(volume) / binning**3)


def raised_bytes(plan: Plan) -> int:
    """Of what projections are more without pitch, in the end, where views may be pitched."""
    return Size(1 if may_be_pitched(plan) else 0, 0).bytes(plan)


def results(plan: Plan) -> Size:
    """Files of the result, less the flows."""
    copies = int(plan.options.tiff) + int(plan.options.ome_zarr)
    if plan.options.method == "fbp":
        return Size(0, 1 + copies)
    return Size(1, 2 + (3 if plan.options.halves else 0) + copies)


def checkpoints_before(plan: Plan) -> Size:
    """Those of stages before the finest level, with the volume without alignment, and of halves."""
    if plan.options.method == "fbp":
        return Size(0, 0)
    found = Size(0, 4 if plan.variation else 1)
    coarse = 1 / 3 if len(plan.iterations) > 1 else 0.0
    found += Size(coarse * kept_state(plan).images, coarse / 2 * kept_state(plan).volumes)
    if plan.options.halves:
        half = kept_state(plan.without_variation())
        found += Size((1 + coarse) * half.images, 2 * (1 + coarse / 2) * half.volumes)
    return found


@dataclass(frozen=True)
class OnDisk:
    """Bytes: of arrays in files, of checkpoints and results, and of all of it at once, at most."""

    scratch: int
    saved: int
    together: int


def on_disk(plan: Plan, data_bytes: int, kept: int, *, in_files: bool) -> OnDisk:
    """What a run has on the disk at most; ``kept`` checkpoints stay of a stage."""
    state, earlier = kept_state(plan), checkpoints_before(plan)
    if plan.options.method == "fbp":
        state = Size(0, 0)
    several = len(plan.iterations) > 0 and plan.iterations[-1] > 1
    ready, before = state.times(kept if several else 1), Size(0, 0 if plan.options.method == "fbp" else 1)
    flow = Size(state.images, 0)
    during = (earlier + before + (ready if several else Size(0, 0))).bytes(plan)
    saving = (earlier + before + ready + (state if several else Size(0, 0))).bytes(plan)
    done = (earlier + ready + flow + results(plan)).bytes(plan)
    saved = max(saving, done)
    if not in_files:
        return OnDisk(0, saved, saved)
    scratch, resting = data_bytes + most_arrays(plan), data_bytes + (flow + Size(0, 1)).bytes(plan)
    # the flows' file is written first, and those of the arrays are given up then
    with_flow = (earlier + ready + before + flow).bytes(plan)
    ending = max(with_flow + resting, done + resting - flow.bytes(plan)) + raised_bytes(plan)
    return OnDisk(scratch, saved, max(during + scratch, saving + resting, ending))
