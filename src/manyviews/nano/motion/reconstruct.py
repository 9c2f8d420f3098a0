"""A specimen and its motion in space from one scan, from coarse to fine.

`begin_moving` and `step_moving` take a state to the next, which is all there is to keep for going on;
`reconstruct_moving` takes all steps. On coarse levels volume and motion are fitted together; on the finest
the volume alone, along the motion found, optionally with its total variation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.nano.admm.tomography import Penalties, TomographyProblem
from manyviews.nano.flow.gauge import remove_shift_gauge
from manyviews.nano.motion.basis import MotionBasis, time_functions
from manyviews.nano.motion.intervals import split_views
from manyviews.nano.motion.moving_radon import MovingRadon
from manyviews.nano.motion.problem import Improved, MovingProblem
from manyviews.nano.motion.view_shifts import shift_step
from manyviews.nano.scan.binning import binned, binned_center
from manyviews.nano.solve.levels import finer_volume
from manyviews.operators.differences import differences
from manyviews.operators.radon import Radon
from manyviews.parallel.world import World
from manyviews.solvers.proximal_maps import shortened

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_COARSEST, _FINE_ENOUGH = 16, 32  # voxels a side, between which motion is fitted
_START_STEPS = 8  # of the volume where a level begins
VOLUME_STEPS = 5  # of the volume at once
SPLIT_STEPS = 2  # of the volume between two of the total variation


@dataclass(frozen=True)
class MotionOptions:
    """How volume and motion are fitted.

    Attributes
    ----------
    cells
        Of splines across the detector; a displacement has ``cells + 3`` knots along an axis.
    degree
        Of the polynomials of time.
    intervals
        Of time, within which the specimen is at rest.
    bending
        Stiffness of the motion, of `Stiffness`.
    joint_steps, inner_steps
        Of Gauss-Newton at each level, and of conjugate gradients in each.
    volume_steps
        Of the volume on the finest level.
    smoothness
        rho2 of the volume where projections have a norm of one.
    variation
        Total variation on the finest level: slopes of the volume up to this, in its units, are taken for
        noise; its weight is 2 rho2 times that. 0: none.
    order
        Of the interpolation: 1 linear, 3 cubic.
    mass
        What is in the specimen stays, in place of its grey levels.
    jitter
        Let each view be shifted as a whole besides.
    levels
        Factors of binning on which the motion is fitted, coarse to fine; None: chosen from the size.
    threads
        0: as many as torch uses.
    """

    cells: int = 2
    degree: int = 4
    intervals: int = 32
    bending: float = 1e-2
    joint_steps: int = 6
    inner_steps: int = 8
    volume_steps: int = 10
    smoothness: float = 3e-3
    variation: float = 0.0
    order: int = 3
    mass: bool = False
    jitter: bool = False
    levels: tuple[int, ...] | None = None
    threads: int = 0

    def factors(self, columns: int) -> tuple[int, ...]:
        """Of binning, coarse to fine; the last is 1 and is for the volume."""
        if self.levels is not None:
            return (*self.levels, 1)
        fine = 1
        while columns // (2 * fine) >= _FINE_ENOUGH:
            fine *= 2
        found = [fine]
        while columns // (2 * found[0]) >= _COARSEST:
            found.insert(0, 2 * found[0])
        return (*found, 1)


@dataclass(frozen=True)
class MovingScan:
    """``projections (view, z, x)``, ``theta_degrees (view,)`` in the order of acquisition, and ``center``."""

    projections: Float32
    theta_degrees: Float64
    center: float


@dataclass(frozen=True)
class MovingState:
    """Where a reconstruction is: all that is kept to go on.

    Attributes
    ----------
    level, steps
        Which level, the coarsest is 0, and how many of its steps are done.
    volume
        ``(z, y, x)`` of that level.
    knots
        ``(m, 3, kz, ky, kx)`` in pixels of the detector along z, y, x.
    misfit
        ``|A(u, c) - d| / |d|`` there.
    split
        ``(2, 3, z, y, x)`` slopes and dual of the total variation; None: not begun.
    intervals_knots
        The motion that the level's intervals of time were chosen by.
    shifts
        ``(view, 2)`` of whole views, in pixels of the detector along x and z, no motion of the specimen
        among them that would be the same in all views.
    """

    level: int
    steps: int
    volume: Float32
    knots: Float64
    misfit: float
    intervals_knots: Float64
    shifts: Float64
    split: Float32 | None = None


def begin_moving(scan: MovingScan, options: MotionOptions) -> MovingState:
    """The coarsest level, at rest; `InputError` if the scan is none that motion can be found in."""
    views, rows, columns = scan.projections.shape
    _require_usable(scan, options)
    factor = options.factors(columns)[0]
    shape = (rows // factor, columns // factor, columns // factor)
    basis = MotionBasis.of(shape, (rows, columns), options.cells, factor)
    knots = np.zeros((options.degree, 3, *basis.knots))
    return MovingState(0, 0, np.zeros(shape, np.float32), knots, 1.0, knots, np.zeros((views, 2)))


def _require_usable(scan: MovingScan, options: MotionOptions) -> None:
    views, rows, columns = scan.projections.shape
    if len(scan.theta_degrees) != views:
        raise InputError(f"{len(scan.theta_degrees)} angles are not those of {views} projections")
    if min(options.cells, options.degree, options.intervals) < 1:
        raise InputError(
            f"a motion of {options.cells} cells, degree {options.degree} and {options.intervals} intervals of"
            " time is none",
            fix="give numbers from 1 on",
        )
    if views <= options.degree:
        raise InputError(
            f"{views} views do not tell a motion of degree {options.degree} in time",
            fix="give more views or a lower degree",
        )
    factors = options.factors(columns)
    if min(factors) < 1 or list(factors) != sorted(factors, reverse=True):
        raise InputError(f"levels {factors[:-1]} do not go from coarse to fine", fix="give falling factors")
    if min(rows, columns) // factors[0] < 2:
        raise InputError(f"{rows} x {columns} pixels are too few to bin by {factors[0]}")
    if not np.isfinite(scan.projections).all():
        raise InputError("some pixels of the projections are no numbers", fix="exclude or fill them")


def is_done(state: MovingState, scan: MovingScan, options: MotionOptions) -> bool:
    """Whether no step is left."""
    last = len(options.factors(scan.projections.shape[2])) - 1
    return state.level == last and state.steps >= options.volume_steps


def step_moving(state: MovingState, scan: MovingScan, options: MotionOptions) -> MovingState:
    """The next state: a joint step, a step to the next level, or steps of the volume on the finest."""
    factors = options.factors(scan.projections.shape[2])
    last = len(factors) - 1
    if state.level < last and state.steps >= options.joint_steps:
        return _raised(state, scan, factors)
    problem = level_problem(state, scan, options, factors[state.level])
    steps = volume_steps if state.level == last else joint_steps
    return steps(state, problem, scan, options)[0]


def joint_steps(
    state: MovingState, problem: MovingProblem, scan: MovingScan, options: MotionOptions
) -> tuple[MovingState, Float32]:
    """A step of volume and motion together, and what it leaves; a level begins with some of the volume."""
    problem, volume = _shifted(problem, state, options), state.volume
    if state.steps == 0:
        volume = problem.fit_volume(volume, state.knots, _START_STEPS).volume
    found = problem.joint_step(volume, state.knots, options.inner_steps)
    return _next(state, found, 1, _shifts(state, problem, found, scan, options)), found.left


def reconstruct_moving(
    scan: MovingScan, options: MotionOptions, observe: Callable[[MovingState], None] | None = None
) -> MovingState:
    """All steps; ``observe`` is told every state."""
    state = begin_moving(scan, options)
    while not is_done(state, scan, options):
        state = step_moving(state, scan, options)
        if observe is not None:
            observe(state)
    return state


def volume_steps(
    state: MovingState, problem: MovingProblem, scan: MovingScan, options: MotionOptions
) -> tuple[MovingState, Float32]:
    """Some steps of the volume along the motion found, as many as are left at most, and what they leave."""
    problem = _shifted(problem, state, options)
    left = options.volume_steps - state.steps
    if not options.variation:
        steps = min(left, VOLUME_STEPS)
        found = problem.fit_volume(state.volume, state.knots, steps)
        return _next(state, found, steps, _shifts(state, problem, found, scan, options)), found.left
    split = np.zeros((2, 3, *state.volume.shape), np.float32) if state.split is None else state.split
    b = torch.from_numpy(split[0] - split[1])
    steps = min(left, SPLIT_STEPS)
    found = problem.fit_volume(state.volume, state.knots, steps, b)
    slopes = differences(torch.from_numpy(found.volume)).add_(torch.from_numpy(split[1]))
    kept = shortened(slopes, options.variation)
    new = torch.stack([kept, slopes - kept]).numpy()
    return _next(state, found, steps, _shifts(state, problem, found, scan, options), new), found.left


def _shifts(
    state: MovingState, problem: MovingProblem, found: Improved, scan: MovingScan, options: MotionOptions
) -> Float64:
    """Shifts of views by what is left, in pixels of the detector, less what moves the whole specimen."""
    if not options.jitter:
        return state.shifts
    further = shift_step(problem.data - found.left, found.left) * problem.moving.basis.voxel
    shifts, _ = remove_shift_gauge(state.shifts + further, scan.theta_degrees)
    return shifts


def _next(
    state: MovingState, found: Improved, steps: int, shifts: Float64, split: Float32 | None = None
) -> MovingState:
    return MovingState(
        state.level, state.steps + steps, found.volume, found.knots, found.misfit, state.intervals_knots,
        shifts, split,
    )  # fmt: skip


def _raised(state: MovingState, scan: MovingScan, factors: tuple[int, ...]) -> MovingState:
    """The same at the next level."""
    old, new = factors[state.level], factors[state.level + 1]
    _, rows, columns = scan.projections.shape
    coarse = torch.from_numpy(state.volume)
    volume = finer_volume(coarse, rows // new, columns // new, 1.0, old / new).numpy()
    return MovingState(state.level + 1, 0, volume, state.knots, state.misfit, state.knots, state.shifts)


def level_problem(
    state: MovingState, scan: MovingScan, options: MotionOptions, factor: int, world: World | None = None
) -> MovingProblem:
    """What is solved where projections are binned by ``factor``, with the intervals of time of a state."""
    views, rows, columns = scan.projections.shape
    # sums along rays count voxels of the level
    data = binned(scan.projections, factor) / np.float32(factor)
    still = _still(
        tuple(scan.theta_degrees), data.shape[1], data.shape[2], binned_center(scan.center, factor),
        options.threads,
    )  # fmt: skip
    times = time_functions(views, options.degree)
    groups = split_views(times, state.intervals_knots, options.intervals)
    basis = MotionBasis.of(
        (data.shape[1], data.shape[2], data.shape[2]), (rows, columns), options.cells, factor
    )
    moving = MovingRadon.of(
        still.radon, groups, times, basis, order=options.order, mass=options.mass, threads=options.threads,
        world=world,
    )  # fmt: skip
    rho = Penalties(1.0 / still.norm, options.smoothness)
    return MovingProblem(data, moving, still, rho, options.bending)


def _shifted(problem: MovingProblem, state: MovingState, options: MotionOptions) -> MovingProblem:
    """With views shifted as a whole, where they may be."""
    if not options.jitter:
        return problem
    shifts = state.shifts / problem.moving.basis.voxel
    return replace(problem, moving=replace(problem.moving, shifts=shifts))


@lru_cache(maxsize=1)
def _still(
    theta_degrees: tuple[float, ...], rows: int, columns: int, center: float, threads: int
) -> TomographyProblem:
    """Made once a level."""
    radon = Radon(theta_degrees, rows, columns, center, threads=threads)
    place = np.arange(columns) - columns // 2
    inside = np.hypot(place[:, None], place) < 0.5 * (columns - 1)
    return TomographyProblem.of(radon, support=torch.from_numpy(inside.astype(np.float32)))
