"""What a reconstruction will take, counted before it starts: bytes in each process, and seconds of a core.

The rates were measured on one core of a shared machine (64 and 128 pixels); another may be twice as fast.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from manyviews.errors import InputError
from manyviews.io.sizes import format_bytes
from manyviews.jobs.memory import room_for_data
from manyviews.nano.motion.reconstruct import SPLIT_STEPS, VOLUME_STEPS, MotionOptions
from manyviews.nano.plan import Plan
from manyviews.nano.reconstruct_options import ReconstructOptions
from manyviews.parallel.world import World

# Nanoseconds of one core, of a pixel of all projections, or of a voxel, in an outer iteration.
_FLOW = {"grid": 80.0, "farneback": 220.0, "dis": 60.0, "shifts": 150.0}
_WARP, _PROJECT = 60.0, 40.0
_STEP, _VARIATION, _PRINTED_STEP = 55.0, 120.0, 130.0
_START_SECONDS, _READ = 13.0, 40.0
_BEGUN = 17  # iterations at the coarsest level for guesses of shifts and whole views

# Of motion in space: a warp and projection of an interval, beside its voxels', in nanoseconds; of the volume
# alone, and of volume and motion; and how many such an iteration takes.
_EACH_INTERVAL, _SPACE_WARP, _SPACE_BOTH = 8e5, 80.0, 150.0
_JOINT_OPERATIONS, _FIRST_OPERATIONS = 19, 17
_MASS_FACTOR = 2.0
_TRIED_ITERATIONS = 12

_PROGRAM_BYTES = 465 << 20
_FLOAT = 4
_TABLE_BYTES = 70  # of a point of the Radon transform's lines, a view
_FLOW_IMAGES, _STILL_IMAGES, _PRINTED_IMAGES = 16, 6, 18
_VOLUMES, _VARIATION_VOLUMES = 9, 20
_SPACE_IMAGES, _SPACE_VOLUMES, _SPACE_VARIATION_VOLUMES = 8, 26, 44
_THREAD_VOLUMES, _SLOPES, _MASS_SLOPES = 8, 6, 16  # of a thread; kept of an interval where motion is fitted


@dataclass(frozen=True)
class Cost:
    """Memory and time of a run.

    ``data_bytes`` are of projections, which may lie in files, ``working_bytes`` of the rest of a process, its
    program included; ``core_seconds`` are of one core for all of it, and ``by_method`` those of each method
    where one of them will be chosen.
    """

    data_bytes: int
    working_bytes: int
    core_seconds: float
    ranks: int
    by_method: tuple[tuple[str, float], ...] = ()

    def lines(self) -> list[str]:
        """In words."""
        total = format_bytes(self.data_bytes + self.working_bytes)
        each = " in each rank" if self.ranks > 1 else ""
        return [
            f"memory: about {total}{each}, of it {format_bytes(self.data_bytes)} for projections",
            f"time: about {self._time()} of one core",
        ]

    def _time(self) -> str:
        if not self.by_method:
            return _words(self.core_seconds)
        return ", or ".join(f"{_words(seconds)} with {method}" for method, seconds in self.by_method)


def estimate_cost(plan: Plan, ranks: int, data_bytes: int) -> Cost:
    """Count a run whose projections take ``data_bytes``."""
    if plan.choosing:
        return _either(plan, ranks, data_bytes)
    if plan.space:
        return _space_cost(plan, ranks, data_bytes)
    views, rows, columns = plan.shape
    pixels, voxels = views * rows * columns, rows * columns**2
    variation, method = plan.variation, plan.options.method
    images = _PRINTED_IMAGES if plan.printed else _FLOW_IMAGES if plan.moving else _STILL_IMAGES
    volumes = _VARIATION_VOLUMES if variation else _VOLUMES
    if method == "fbp":
        images, volumes = 2, 1
    own = _FLOAT * (images * pixels + volumes * voxels) // ranks
    shared = _FLOAT * (6 * pixels if plan.moving and ranks > 1 else 0) + _FLOAT * 3 * voxels
    tables = _TABLE_BYTES * views * columns * 3 // 2
    seconds = _START_SECONDS + 1e-9 * _READ * pixels
    if method != "fbp":
        each = [_iteration(plan, pixels, voxels) / 8**level for level in range(len(plan.iterations))]
        whole = sum(one * count for one, count in zip(each, reversed(plan.iterations), strict=True))
        if plan.moving and not plan.printed and plan.options.prealign:
            whole += _BEGUN * each[-1]
        halves = 2.0 if plan.options.halves else 1.0
        seconds += whole * halves + 4 * _still(plan, pixels, voxels)
    return Cost(data_bytes, _PROGRAM_BYTES + own + shared + tables, seconds, ranks)


def _either(plan: Plan, ranks: int, data_bytes: int) -> Cost:
    """Of the two methods that one is chosen from; flows are counted with the trial of the other."""
    flows = estimate_cost(plan.chosen("oftv"), ranks, data_bytes)
    try:
        in_space = plan.chosen("spacetv")
    except InputError:  # it will not be tried
        return flows
    space = estimate_cost(in_space, ranks, data_bytes)
    coarsest = in_space.levels(0.0)[0]
    pixels, columns = coarsest.shape[0] * coarsest.shape[1] * coarsest.shape[2], coarsest.shape[2]
    still = _still(in_space, pixels, coarsest.shape[1] * columns**2)
    tried = (_TRIED_ITERATIONS + _BEGUN) * (still + 1e-9 * pixels * (_FLOW["grid"] + _WARP))
    both = {"oftv": flows.core_seconds + tried, "spacetv": space.core_seconds + tried}
    both["oftv"] += _level_seconds(in_space, 1)
    working = max(flows.working_bytes, space.working_bytes)
    return Cost(data_bytes, working, max(both.values()), ranks, tuple(both.items()))


def _space_cost(plan: Plan, ranks: int, data_bytes: int) -> Cost:
    """Volumes and images are whole in every rank; intervals of time are shared."""
    views, rows, columns = plan.shape
    pixels, voxels = views * rows * columns, rows * columns**2
    volumes = _SPACE_VARIATION_VOLUMES if plan.variation else _SPACE_VOLUMES
    threads = plan.options.threads or max(1, len(os.sched_getaffinity(0)) // ranks)
    kept = (_MASS_SLOPES if plan.mass else _SLOPES) * MotionOptions().intervals / ranks
    fitted = min(binning for binning in plan.binnings[:-1])
    most = max(volumes + _THREAD_VOLUMES * threads, kept / fitted**3)
    working = (
        _FLOAT * (_SPACE_IMAGES * pixels + int(most * voxels)) + 2 * _TABLE_BYTES * views * columns * 3 // 2
    )
    whole = sum(_level_seconds(plan, number) for number in range(1, len(plan.binnings) + 1))
    halves = 2.0 if plan.options.halves else 1.0
    seconds = _START_SECONDS + 1e-9 * _READ * pixels + whole * halves + 4 * _still(plan, pixels, voxels)
    return Cost(data_bytes, _PROGRAM_BYTES + working, seconds, ranks)


def _level_seconds(plan: Plan, number: int) -> float:
    """Seconds of one core, of a level of a motion in space."""
    level = plan.levels(0.0)[number - 1]
    voxels = level.shape[1] * level.shape[2] ** 2
    together = number < len(plan.binnings)
    if together:
        operations = _FIRST_OPERATIONS + _JOINT_OPERATIONS * level.iterations
    else:
        operations = level.iterations * (2 + 2 * (SPLIT_STEPS if plan.variation else VOLUME_STEPS))
    each = _EACH_INTERVAL + voxels * (_SPACE_BOTH if together else _SPACE_WARP)
    return 1e-9 * operations * MotionOptions().intervals * each * (_MASS_FACTOR if plan.mass else 1.0)


def _iteration(plan: Plan, pixels: int, voxels: int) -> float:
    """Seconds of one core, of an outer iteration at the finest level."""
    if not plan.moving:
        return _still(plan, pixels, voxels)
    steps = plan.options.inner_iterations
    engine = "shifts" if plan.options.method == "shifts" else plan.options.flow
    if plan.printed:
        align = 2 * _WARP / 4 * steps
        return 1e-9 * (pixels * (_FLOW["farneback"] + align + 2 * _PROJECT) + voxels * _PRINTED_STEP * steps)
    return 1e-9 * pixels * (_FLOW[engine] + _WARP) + _still(plan, pixels, voxels)


def _still(plan: Plan, pixels: int, voxels: int) -> float:
    steps = plan.options.inner_iterations
    each = steps * _STEP + (_VARIATION if plan.variation else 0.0)
    return 1e-9 * (3 * _PROJECT * pixels + voxels * each)


def room_for_choice(plan: Plan, world: World, data_bytes: int) -> str:
    """Why motion in space is not tried, where memory has room for flows alone; empty: it has for both."""
    room = room_for_data(plan.options.memory, world)
    both = estimate_cost(plan, world.size, data_bytes).working_bytes
    alone = estimate_cost(plan.chosen("oftv"), world.size, data_bytes).working_bytes
    if room is None or both <= room / 0.7 or alone > room / 0.7:
        return ""
    return (
        f"motion in space is not tried, as it would take about {format_bytes(both)} of memory in each "
        "process: going on with oftv"
    )


def require_room(cost: Cost, options: ReconstructOptions, world: World) -> bool:
    """Whether projections have to lie in files; `InputError` if the rest does not fit either."""
    room = room_for_data(options.memory, world)
    if room is None or cost.data_bytes + cost.working_bytes <= room / 0.7:
        return False
    if cost.working_bytes > room / 0.7:
        raise InputError(
            f"this takes about {format_bytes(cost.working_bytes)} of memory in each process, and "
            f"{format_bytes(int(room / 0.7))} may be used",
            where="--memory" if options.memory is not None else "memory",
            fix="give a larger --binning, fewer --rows, or more ranks",
        )
    return True


def _words(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
