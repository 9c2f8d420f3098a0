"""manyviews: streams for forward and back, one convolution for the normal operator."""

from __future__ import annotations

import time

import numpy as np
import torch

from manyviews.geometry.views import TiltGeometry
from manyviews.operators.convolution import Convolution
from manyviews.operators.tilt_projector import TiltProjector
from manyviews.operators.view_kernel import make_kernel
from peers.problem import Problem, Projector


def make(problem: Problem, threads: int) -> Projector:
    torch.set_num_threads(threads)
    geometry = TiltGeometry.concatenate(
        [
            TiltGeometry.from_tilt_axis(problem.tilt_degrees, axis, series=number)
            for number, axis in enumerate(problem.axes_degrees)
        ]
    )
    volume, images = torch.from_numpy(problem.volume()), torch.from_numpy(problem.images())
    shape = (problem.depth, problem.height, problem.width)
    projector = TiltProjector(geometry, shape, (problem.height, problem.width))
    start = time.perf_counter()
    convolution = Convolution.from_kernel(make_kernel(projector.groups, np.ones(len(geometry)), shape), shape)
    return Projector(
        forward=lambda: projector.forward(volume),
        back=lambda given: projector.adjoint(images if given is None else given),
        normal=lambda: convolution.forward(volume),
        to_images=lambda result, views: result[list(views)].numpy(),
        packages=("manyviews", "torch", "numba", "scipy"),
        details={"padded": list(convolution.padded), "kernel_seconds": time.perf_counter() - start},
    )
