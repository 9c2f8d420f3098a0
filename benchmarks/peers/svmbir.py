"""svmbir: C with OpenMP over slices; the matrix of a slice is kept in a file and read by every call."""

from __future__ import annotations

import tempfile

import numpy as np
import svmbir

from peers.problem import Float32, NotApplicable, Problem, Projector


def make(problem: Problem, threads: int) -> Projector:
    if not problem.upright_single_axis:
        raise NotApplicable("svmbir knows single-axis slices only")
    # At its angle 0 the beam runs along the rows of a slice, ours along the columns.
    angles = np.deg2rad(problem.tilt_degrees - 90.0)
    volume = np.ascontiguousarray(problem.volume().transpose(1, 0, 2))
    images = problem.images()
    settings = {
        "num_threads": threads,
        "verbose": 0,
        "roi_radius": float(problem.width),  # every voxel, as for all others
        "svmbir_lib_path": tempfile.mkdtemp(),  # not the home folder; the runner removes it
    }

    def back(given: Float32 | None) -> Float32:
        stack = images if given is None else given
        return np.asarray(
            svmbir.backproject(stack, angles, num_rows=problem.depth, num_cols=problem.width, **settings)
        )

    return Projector(
        forward=lambda: svmbir.project(volume, angles, problem.width, **settings),
        back=back,
        to_images=lambda result, views: result[list(views)],
        packages=("svmbir", "numpy"),
    )
