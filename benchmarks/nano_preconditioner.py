"""What does preconditioning the tomography step buy: error after 1 to 32 inner iterations, by rho2 / rho1.

``python benchmarks/nano_preconditioner.py [--size 64] [--json result.json]``

Balls within a circle, 3/2 as many views as pixels at interlaced angles, exact projections and gradient, from an empty
volume. Penalties are of operators with norm one. Relative L2 error of

- ``preconditioned``: ours, one convolution an iteration;
- ``plain``: the same conjugate gradients without the preconditioner;
- ``printed``: the paper's directions and line search, a projection and a back-projection an iteration.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path

import numpy as np
import torch

from manyviews.nano.admm.tomography import Penalties, TomographyProblem, preconditioned_steps, printed_steps
from manyviews.operators.differences import differences
from manyviews.operators.radon import Radon
from manyviews.solvers.conjugate_gradient import solve_some

STEPS = (1, 2, 4, 8, 16, 32)
RATIOS = (0.0, 0.001, 0.01, 0.1, 1.0)


def balls(size: int, depth: int) -> torch.Tensor:
    rng = np.random.default_rng(0)
    z, y, x = np.meshgrid(np.arange(depth), *[np.arange(size) - size // 2] * 2, indexing="ij")
    volume = np.zeros((depth, size, size), np.float32)
    for _ in range(60):
        at, height = rng.uniform(-0.32 * size, 0.32 * size, 2), rng.uniform(4, depth - 4)
        radius, density = rng.uniform(2, 7), rng.uniform(-0.5, 1.0)
        volume[(x - at[0]) ** 2 + (y - at[1]) ** 2 + (z - height) ** 2 < radius**2] += density
    return torch.from_numpy(volume)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    size, depth, views = given.size, given.size // 2, 3 * given.size // 2
    position = np.arange(size) - size // 2
    support = torch.from_numpy(np.hypot(position, position[:, None]) < size / 2 - 1).float()
    truth = balls(size, depth) * support
    radon = Radon(np.arange(views) * 222.492236, depth, size, 0.5 * (size - 1))
    problem = TomographyProblem.of(radon, support=support)
    a, b = radon.forward(truth), differences(truth)
    empty = torch.zeros_like(truth)
    rows = []
    for ratio in RATIOS:
        rho = Penalties(1.0 / problem.norm, ratio)

        def hessian(x: torch.Tensor, rho: Penalties = rho) -> torch.Tensor:
            return problem.hessian(x, rho, torch.empty_like(x))

        downhill = problem.half_gradient(empty, -a, b, rho).neg_()
        ways = {
            "preconditioned": partial(preconditioned_steps, problem, empty, -a, b, rho),
            "plain": partial(solve_some, hessian, downhill, empty),
            "printed": partial(printed_steps, problem, empty, -a, b, rho),
        }
        for name, way in ways.items():
            errors = [float((way(steps) - truth).norm() / truth.norm()) for steps in STEPS]
            rows.append({"ratio": ratio, "way": name, "steps": STEPS, "error": [round(e, 5) for e in errors]})
            print(ratio, name, *(f"{error:.4f}" for error in errors), flush=True)
    if given.json:
        given.json.write_text(
            json.dumps({"size": size, "depth": depth, "views": views, "rows": rows}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
