"""Ways from the projections of a specimen that moves to its volume, for `nano_study`.

Each is ``way(scan, mass) -> volume``. ``pcg``: preconditioned conjugate gradients, motion ignored; ``pcgtv``: with
total variation; ``of``, ``oftv``: the splitting of Nikitin et al., IEEE Trans. Comput. Imaging 7 (2021) 272, as printed,
one level, flows by Farneback; ``direct``: a flow for each view on splines, and ``D_f R u = d`` solved as it is;
``moving``, ``movingtv``: volume and motion in space fitted together (`manyviews.nano.motion`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.kernels.warp_cpu import pull_back, push_forward
from manyviews.nano.admm.alignment import align_step
from manyviews.nano.admm.tomography import Penalties, TomographyProblem, preconditioned_steps, printed_steps
from manyviews.nano.flow.accept import accept_flow
from manyviews.nano.flow.engines import make_engine
from manyviews.nano.flow.gauge import remove_gauge
from manyviews.nano.flow.windows import WindowSchedule
from manyviews.nano.motion.reconstruct import (
    MotionOptions,
    MovingScan,
    MovingState,
    is_done,
    reconstruct_moving,
    step_moving,
)
from manyviews.operators.differences import add_laplacian, differences
from manyviews.operators.radon import Radon

Float32 = NDArray[np.float32]
Way = Callable[[MovingScan, bool], Float32]

SMOOTHNESS, SPLIT = 1e-3, 3e-3  # rho2 where R has norm one, without and with total variation
VARIATION = 2e-3  # slopes up to this are noise, in grey levels: a weight of 2 rho2 times this
OUTER, INNER, ROUNDS = 32, 4, 6
_FOUND: list[tuple[MovingScan, MovingState]] = []  # the last that `moving` found


def problem_of(scan: MovingScan) -> TomographyProblem:
    _, rows, columns = scan.projections.shape
    place = np.arange(columns) - columns // 2
    inside = np.hypot(place[:, None], place) < 0.5 * (columns - 1)
    radon = Radon(scan.theta_degrees, rows, columns, scan.center)
    return TomographyProblem.of(radon, support=torch.from_numpy(inside.astype(np.float32)))


def pcg(scan: MovingScan, mass: bool, *, steps: int = 15) -> Float32:
    problem, data = problem_of(scan), torch.from_numpy(scan.projections)
    rho = Penalties(1.0 / problem.norm, SMOOTHNESS)
    volume = torch.zeros(problem.radon.domain)
    for _ in range(steps // 5):
        volume = preconditioned_steps(problem, volume, problem.radon.forward(volume) - data, None, rho, 5)
    return volume.numpy()


def pcgtv(scan: MovingScan, mass: bool, *, rounds: int = 8) -> Float32:
    problem, data = problem_of(scan), torch.from_numpy(scan.projections)
    rho = Penalties(1.0 / problem.norm, SPLIT)
    volume = torch.zeros(problem.radon.domain)
    split, dual = (torch.zeros((3, *volume.shape)) for _ in range(2))
    for _ in range(rounds):
        left = problem.radon.forward(volume) - data
        volume = preconditioned_steps(problem, volume, left, split - dual, rho, 2)
        slopes = differences(volume) + dual
        split = shrunk(slopes, VARIATION)
        dual = slopes - split
    return volume.numpy()


def shrunk(slopes: torch.Tensor, most: float) -> torch.Tensor:
    length = torch.sqrt((slopes**2).sum(dim=0))
    return slopes * (torch.clamp(length - most, min=0.0) / torch.clamp(length, min=1e-30))


def printed(scan: MovingScan, mass: bool, variation: bool = False) -> Float32:
    """Multipliers are divided by their rho; penalties double or halve as in the authors' program."""
    problem, data = problem_of(scan), scan.projections
    scale = np.float32(problem.norm**0.5)  # u is that of a projector of norm one
    alpha = 2 * SPLIT * VARIATION * float(scale) if variation else 0.0
    farneback = make_engine("farneback")
    columns = data.shape[2]
    windows = WindowSchedule(columns)
    flow = np.zeros((len(data), 2, *data.shape[1:]), np.float32)
    images, dual, rho = data.copy(), np.zeros_like(data), 0.5
    volume = torch.zeros(problem.radon.domain)
    slopes_dual, rho2 = torch.zeros((3, *volume.shape)), 0.5
    model = np.zeros_like(data)
    for iteration in range(OUTER):
        new = farneback.find(data, images, flow, windows.window(iteration))
        flow = accept_flow(data, images, flow, new, mass=mass).flow
        images = align_step(data, flow, model + dual, images, rho, steps=INNER, mass=mass)
        split = None
        if alpha > 0:
            split = shrunk(differences(volume * float(scale)) + slopes_dual, alpha / (2 * rho2))
        penalties = Penalties(rho / problem.norm, rho2 if alpha > 0 else 0.0)
        wanted = torch.from_numpy(images - dual)
        b = None if split is None else (split - slopes_dual) / float(scale)
        penalties = Penalties(rho, penalties.gradient * float(scale) ** 2)
        left = problem.radon.forward(volume) - wanted
        volume = printed_steps(problem, volume, left, b, penalties, INNER)
        before, model = model, problem.radon.forward(volume).numpy()
        apart, moved = (
            float(np.sum(part.astype(float) ** 2)) for part in (images - model, rho * (model - before))
        )
        dual = dual + model - images
        if split is not None:
            slopes_dual = slopes_dual + differences(volume * float(scale)) - split
        factor = 2.0 if apart > 10 * moved else 0.5 if moved > 10 * apart else 1.0
        rho, dual = rho * factor, dual / np.float32(factor)
    return volume.numpy()


def oftv(scan: MovingScan, mass: bool) -> Float32:
    return printed(scan, mass, variation=True)


def direct(scan: MovingScan, mass: bool) -> Float32:
    """Flows of a grid and conjugate gradients along them, in turns; the gauge is taken out of each flow."""
    problem, data = problem_of(scan), scan.projections
    grid = make_engine("grid")
    flow = np.zeros((len(data), 2, *data.shape[1:]), np.float32)
    volume = pcg(scan, mass, steps=5)
    for number in range(ROUNDS):
        model = problem.radon.forward(torch.from_numpy(volume)).numpy()
        window = max(12.0, data.shape[2] / 2 ** (0.5 * number + 1))
        flow = accept_flow(data, model, flow, grid.find(data, model, flow, window)).flow
        flow, _ = remove_gauge(flow, scan.theta_degrees, center=scan.center)
        volume = along_flows(problem, data, flow, volume, 5)
    return volume


def along_flows(
    problem: TomographyProblem, data: Float32, flow: Float32, start: Float32, steps: int
) -> Float32:
    """``min |D_f R u - d|^2 + smoothness`` by preconditioned conjugate gradients."""
    rho = Penalties(1.0 / problem.norm, SMOOTHNESS)
    precondition = problem.preconditioner(rho)
    volume = torch.from_numpy(start.copy())
    left = data - pull_back(problem.radon.forward(volume).numpy(), flow)

    def descent() -> torch.Tensor:
        found = problem.radon.adjoint(torch.from_numpy(push_forward(left, flow))) * rho.projections
        bent = torch.zeros_like(volume)
        add_laplacian(volume, rho.gradient, bent)
        assert problem.support is not None
        return (found - bent) * problem.support

    rest = descent()
    direction = precondition.forward(rest)
    slope = float(torch.sum(rest.double() * direction))
    for _ in range(steps):
        projected = pull_back(problem.radon.forward(direction).numpy(), flow)
        bent = torch.zeros_like(volume)
        add_laplacian(direction, rho.gradient, bent)
        curvature = rho.projections * float(np.vdot(projected.astype(float), projected))
        length = slope / (curvature + float(torch.sum(direction.double() * bent)))
        volume += length * direction
        left = left - np.float32(length) * projected
        rest = descent()
        turned = precondition.forward(rest)
        new_slope = float(torch.sum(rest.double() * turned))
        direction = turned + (new_slope / slope) * direction
        slope = new_slope
    return volume.numpy()


def motion_options(columns: int, mass: bool, variation: float = 0.0) -> MotionOptions:
    """At 48 pixels levels of 16 and 24, where powers of two would leave none between 12 and 24."""
    levels = (3, 2) if columns == 48 else None
    smoothness, steps = (SPLIT, 16) if variation else (SMOOTHNESS, 10)
    return MotionOptions(
        mass=mass, variation=variation, levels=levels, volume_steps=steps, smoothness=smoothness
    )


def moving(scan: MovingScan, mass: bool) -> Float32:
    state = reconstruct_moving(scan, motion_options(scan.projections.shape[2], mass))
    _FOUND.clear()
    _FOUND.append((scan, state))
    return state.volume


def movingtv(scan: MovingScan, mass: bool) -> Float32:
    """Goes on from what `moving` found for the same scan, if that came right before."""
    if not _FOUND or _FOUND[0][0] is not scan:
        moving(scan, mass)
    options = motion_options(scan.projections.shape[2], mass, VARIATION)
    state = replace(_FOUND[0][1], steps=0)
    while not is_done(state, scan, options):
        state = step_moving(state, scan, options)
    return state.volume


WAYS: dict[str, Way] = {
    "pcg": pcg, "pcgtv": pcgtv, "of": printed, "oftv": oftv, "direct": direct, "moving": moving, "movingtv": movingtv,
}  # fmt: skip
