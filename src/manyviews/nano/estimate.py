"""What a reconstruction will take, counted before it starts: bytes in each process and on the disk, and
seconds of a core.

Big arrays, of the size of all projections or of a volume, may lie in files; what a process has beside them is
counted apart. Most of them are there while the volume is solved for, or while flows are looked for.

The rates were measured with two threads (96, 160 and 256 pixels); another machine may be twice as fast.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

from manyviews.errors import InputError
from manyviews.io.sizes import format_bytes
from manyviews.jobs.memory import room_for_data
from manyviews.nano.footprint import Size, compared_bytes, has_flow, most_arrays, on_disk, raised_bytes
from manyviews.nano.motion.reconstruct import SPLIT_STEPS, VOLUME_STEPS, MotionOptions
from manyviews.nano.plan import Plan
from manyviews.nano.reconstruct_options import ReconstructOptions
from manyviews.nano.refining import is_refining, may_be_pitched, refining_factor
from manyviews.nano.stages import KEPT_IN_FILES
from manyviews.parallel.world import World
from manyviews.runs.checkpoint import KEPT
from manyviews.runs.memory import free_disk_bytes

# Nanoseconds of one core, of a pixel of all projections, or of a voxel, in an outer iteration.
_FLOW = {"grid": 29.0, "farneback": 80.0, "dis": 22.0, "shifts": 54.0}
_WARP, _PROJECT = 22.0, 14.0
_STEP, _VARIATION, _PRINTED_STEP = 20.0, 43.0, 47.0
START_SECONDS, READ = 6.0, 40.0
SETUP = 43.0  # of noise and a filtered back-projection, before a stage at the finest level
BEGUN = 17  # iterations at the coarsest level for guesses of shifts and whole views
_EACH_VIEW = 8e-4  # seconds of one thread: of an iteration with motion, whatever the binning
# Of what is aligned, compared and written: seconds, and nanoseconds of a pixel of all projections.
_RESULTS, _RESULTS_PIXEL = 0.5, 380.0
# Of angles, and of pitch, all steps of which may be gone: of a large pixel of the views and two of a slice
_REFINE = 1.2
_REFINED_VIEW = 0.01  # seconds: of a view, in either search

# Of motion in space: a warp and projection of an interval, beside its voxels', in nanoseconds; of the volume
# alone, and of volume and motion; and how many such an iteration takes.
_EACH_INTERVAL, _SPACE_WARP, _SPACE_BOTH = 8e5, 80.0, 150.0
_JOINT_OPERATIONS, _FIRST_OPERATIONS = 19, 17
_MASS_FACTOR = 2.0
TRIED_ITERATIONS = 12  # of flows that are tried

_PROGRAM_BYTES = 465 << 20
_FLOAT = 4
_TABLE_BYTES = 70  # of a point of the Radon transform's lines, a view
_SPACE_IMAGES, _SPACE_VOLUMES, _SPACE_VARIATION_VOLUMES = 8, 26, 44
_THREAD_VOLUMES, _SLOPES, _MASS_SLOPES = 8, 6, 16  # of a thread; kept of an interval where motion is fitted
_PRINTED_IMAGES = 18
_PRINTED_VOLUMES, _PRINTED_VARIATION_VOLUMES = 9, 20
_NORMAL_BYTES = 80  # of the convolution's multiplier, a pixel of a slice
_READ_BYTES = 300 << 20  # of blocks of views as they are read
_THREAD_IMAGES = 12
_SLICES = 16  # that a thread projects at once


@dataclass(frozen=True)
class Cost:
    """Memory, disk and time of a run.

    ``data_bytes`` are of projections, which may lie in files, ``working_bytes`` of the rest of a process, its
    program included. ``streamed_bytes`` are what a process has where all big arrays lie in files, None where
    they cannot; then ``scratch_bytes`` are of these files, ``files_bytes`` of checkpoints and results, and
    ``disk_bytes`` of all of it at once. ``saved_bytes`` are of checkpoints and results otherwise, 0 where
    they are not counted. ``core_seconds`` are of one core for all of it, and ``by_method`` those of each
    method where one of them will be chosen.
    """

    data_bytes: int
    working_bytes: int
    core_seconds: float
    ranks: int
    by_method: tuple[tuple[str, float], ...] = ()
    streamed_bytes: int | None = None
    scratch_bytes: int = 0
    files_bytes: int = 0
    disk_bytes: int = 0
    saved_bytes: int = 0

    @property
    def streams(self) -> bool:
        """Whether all big arrays can lie in files."""
        return self.streamed_bytes is not None

    def lines(self, in_files: bool = False) -> list[str]:
        """In words; ``in_files`` where memory is too small."""
        total = format_bytes(self.data_bytes + self.working_bytes)
        each = " in each rank" if self.ranks > 1 else ""
        memory = f"memory: about {total}{each}, of it {format_bytes(self.data_bytes)} for projections"
        if in_files and self.streamed_bytes is not None:
            memory = f"memory: about {format_bytes(self.streamed_bytes)}, as arrays lie in files"
        elif in_files:
            memory = f"memory: about {format_bytes(self.working_bytes)}{each}, as projections lie in files"
        disk = [f"disk: about {format_bytes(self.saved_bytes)} for checkpoints and results"]
        if in_files and self.streams:
            disk = [
                f"disk: up to {format_bytes(self.disk_bytes)}: {format_bytes(self.scratch_bytes)} for arrays "
                f"and, later, {format_bytes(self.files_bytes)} for checkpoints and results"
            ]
        told = disk if self.saved_bytes else []
        return [memory, *told, f"time: about {self._time()} of one core"]

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
    beside, seconds = _beside(plan, ranks), _seconds(plan, pixels, voxels)
    if plan.printed:
        volumes = _PRINTED_VARIATION_VOLUMES if plan.variation else _PRINTED_VOLUMES
        arrays = Size(_PRINTED_IMAGES, volumes).bytes(plan)
    else:
        arrays = most_arrays(plan)
    shared = Size(6 if plan.moving else 0, 3).bytes(plan) if ranks > 1 else 0
    ending = Size(2 if has_flow(plan) else 0, 3).bytes(plan) + compared_bytes(plan, bounded=False)
    ending += raised_bytes(plan)
    working = max(beside + arrays // ranks, _PROGRAM_BYTES + ending) + shared
    disk = on_disk(plan, data_bytes, KEPT, in_files=False)
    cost = Cost(data_bytes, working, seconds, ranks, saved_bytes=disk.saved)
    if plan.printed or ranks > 1:
        return cost
    if plan.moving and plan.options.method != "shifts" and plan.options.flow != "grid":
        beside += Size(2, 0).bytes(plan)  # these engines have flows in memory
    streamed = max(beside, _PROGRAM_BYTES + compared_bytes(plan, bounded=True))
    disk = on_disk(plan, data_bytes, KEPT_IN_FILES, in_files=True)
    return replace(
        cost, streamed_bytes=streamed, scratch_bytes=disk.scratch, files_bytes=disk.saved,
        disk_bytes=disk.together,
    )  # fmt: skip


def _beside(plan: Plan, ranks: int) -> int:
    """Bytes of a process beside big arrays: its program, tables, and work spaces of its threads."""
    views, rows, columns = plan.shape
    threads = plan.options.threads or max(1, len(os.sched_getaffinity(0)) // ranks)
    tables = 2 * (_TABLE_BYTES * views * columns * 3 // 2 + _NORMAL_BYTES * columns**2)
    planes = 2 * _FLOAT * rows // ranks * columns * (columns // 2 + 1)
    grid = _FLOAT * _SLICES * (5 * columns // 4) ** 2
    of_threads = threads * max(grid, 8 * (2 * columns) ** 2, _THREAD_IMAGES * _FLOAT * rows * columns)
    reading = min(_READ_BYTES, 5 * _FLOAT * views * rows * columns)
    return _PROGRAM_BYTES + tables + max(planes + of_threads, reading)


def _seconds(plan: Plan, pixels: int, voxels: int) -> float:
    """Of one core."""
    seconds = START_SECONDS + 1e-9 * READ * pixels
    if plan.options.method == "fbp":
        return seconds
    each = [iteration_seconds(plan, pixels, voxels) / 8.0**level for level in range(len(plan.iterations))]
    counts = tuple(reversed(plan.iterations))
    if plan.moving and not plan.printed and plan.options.prealign:
        counts = (*counts[:-1], counts[-1] + BEGUN)
    whole = sum((one + beside_seconds(plan)) * count for one, count in zip(each, counts, strict=True))
    halves = 2.0 if plan.options.halves else 1.0
    setup = 1e-9 * SETUP * pixels * (1.0 + halves)
    seconds += setup + whole * halves + 4 * still_seconds(plan, pixels, voxels)
    return seconds + refining_seconds(plan) + results_seconds(plan)


def refining_seconds(plan: Plan) -> float:
    """At most, of one core, to look for angles and pitch of views; less where noise explains what is left.

    Nearly all of it are products of the matrix of a slice with itself.
    """
    if not is_refining(plan):
        return 0.0
    columns = plan.shape[2] // refining_factor(plan)
    unknowns = 0.71 * columns**2  # pixels of a disk
    each = plan.shape[0] * (_REFINED_VIEW + 1e-9 * _REFINE * columns * unknowns**2)
    return each * (2.0 if may_be_pitched(plan) else 1.0)


def _either(plan: Plan, ranks: int, data_bytes: int) -> Cost:
    """Of the two methods that one is chosen from; flows are counted with the trial of the other."""
    flows = estimate_cost(plan.chosen("oftv"), ranks, data_bytes)
    try:
        in_space = plan.chosen("spacetv")
    except InputError:  # it will not be tried
        return flows
    space = estimate_cost(in_space, ranks, data_bytes)
    tried = (TRIED_ITERATIONS + BEGUN) * (tried_seconds(in_space) + beside_seconds(in_space))
    both = {"oftv": flows.core_seconds + tried, "spacetv": space.core_seconds + tried}
    both["oftv"] += level_seconds(in_space, 1)
    working = max(flows.working_bytes, space.working_bytes)
    return Cost(
        data_bytes, working, max(both.values()), ranks, tuple(both.items()),
        saved_bytes=max(flows.saved_bytes, space.saved_bytes),
    )  # fmt: skip


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
    whole = sum(level_seconds(plan, number) for number in range(1, len(plan.binnings) + 1))
    halves = 2.0 if plan.options.halves else 1.0
    seconds = START_SECONDS + 1e-9 * READ * pixels + whole * halves + 4 * still_seconds(plan, pixels, voxels)
    seconds += refining_seconds(plan) + results_seconds(plan)
    saved = Size(0, 4 if plan.variation else 1).bytes(plan) * KEPT + Size(1, 4).bytes(plan)
    return Cost(data_bytes, _PROGRAM_BYTES + working, seconds, ranks, saved_bytes=saved)


def tried_seconds(space: Plan) -> float:
    """Seconds of one core, of an iteration with flows at the coarsest level of a motion in space, with which
    it is compared; less what is beside its pixels, `beside_seconds`.
    """
    views, rows, columns = space.levels(0.0)[0].shape
    pixels = views * rows * columns
    return still_seconds(space, pixels, rows * columns**2) + 1e-9 * pixels * (_FLOW["grid"] + _WARP)


def level_seconds(plan: Plan, number: int) -> float:
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


def iteration_seconds(plan: Plan, pixels: int, voxels: int) -> float:
    """Seconds of one core, of an outer iteration at the finest level."""
    if not plan.moving:
        return still_seconds(plan, pixels, voxels)
    steps = plan.options.inner_iterations
    engine = "shifts" if plan.options.method == "shifts" else plan.options.flow
    if plan.printed:
        align = 2 * _WARP / 4 * steps
        return 1e-9 * (pixels * (_FLOW["farneback"] + align + 2 * _PROJECT) + voxels * _PRINTED_STEP * steps)
    return 1e-9 * pixels * (_FLOW[engine] + _WARP) + still_seconds(plan, pixels, voxels)


def beside_seconds(plan: Plan) -> float:
    """Of one core, of such an iteration at any level, beside what goes with its pixels."""
    return _EACH_VIEW * plan.shape[0] if plan.moving else 0.0


def results_seconds(plan: Plan) -> float:
    """Of one core, of what is made of a volume in the end."""
    return _RESULTS + 1e-9 * _RESULTS_PIXEL * prod(plan.shape)


def still_seconds(plan: Plan, pixels: int, voxels: int) -> float:
    """Of one core, of the volume in such an iteration."""
    steps = plan.options.inner_iterations
    each = steps * _STEP + (_VARIATION if plan.variation else 0.0)
    return 1e-9 * (3 * _PROJECT * pixels + voxels * each)


def room_for_choice(plan: Plan, world: World, data_bytes: int) -> str:
    """Why motion in space is not tried, where memory has room for flows alone; empty: it has for both, or
    another reason is told later.
    """
    try:
        plan.chosen("spacetv")
    except InputError:
        return ""
    room = room_for_data(plan.options.memory, world)
    both = estimate_cost(plan, world.size, data_bytes).working_bytes
    alone = estimate_cost(plan.chosen("oftv"), world.size, data_bytes)
    least = alone.working_bytes if alone.streamed_bytes is None else alone.streamed_bytes
    if room is None or both <= room / 0.7 or least > room / 0.7:
        return ""
    return (
        f"motion in space is not tried, as it would take about {format_bytes(both)} of memory in each "
        "process: going on with oftv"
    )


def require_room(cost: Cost, options: ReconstructOptions, world: World) -> bool:
    """Whether arrays, or projections alone, have to lie in files; `InputError` if not even that fits."""
    room = room_for_data(options.memory, world)
    if room is None or cost.data_bytes + cost.working_bytes <= room / 0.7:
        return False
    least = cost.working_bytes if cost.streamed_bytes is None else cost.streamed_bytes
    if least > room / 0.7:
        raise InputError(
            f"this takes about {format_bytes(least)} of memory in each process"
            f"{', with all arrays in files' if cost.streams else ''}, and "
            f"{format_bytes(int(room / 0.7))} may be used",
            where="--memory" if options.memory is not None else "memory",
            fix="give a larger --binning, fewer --rows, or more ranks",
        )
    return True


def require_disk_room(cost: Cost, scratch: Path, out: Path, *, resumed: bool) -> None:
    """`InputError` if disks have no room for arrays in files, checkpoints and results.

    A run that goes on has saved something already, and only its arrays are counted.
    """
    needed = {scratch: cost.scratch_bytes, out: 0 if resumed else cost.files_bytes}
    if _device(scratch) == _device(out):
        needed = {scratch: cost.scratch_bytes if resumed else cost.disk_bytes}
    for folder, size in needed.items():
        free = free_disk_bytes(folder)
        if free < size:
            raise InputError(
                f"this takes up to {format_bytes(size)} of the disk, as memory is small and arrays lie in "
                f"files, and {format_bytes(free)} are free",
                path=folder.parent if folder is scratch else folder,
                fix="make room, give a --scratch folder on another disk, more --memory, or more --binning",
            )


def _device(folder: Path) -> int:
    """The disk of a folder that need not be there yet."""
    places = (folder.absolute(), *folder.absolute().parents)
    return next(place for place in places if place.exists()).stat().st_dev


def _words(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
