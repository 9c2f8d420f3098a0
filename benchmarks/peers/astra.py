"""ASTRA Toolbox on the CPU: it has 2-D projectors only, so a volume is a set of slices across the axis."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import astra
import numpy as np
from scipy.sparse import csr_matrix

from peers.problem import Float32, NotApplicable, Problem, Projector

PACKAGES = ("astra-toolbox", "numpy", "scipy")


def make(problem: Problem, threads: int) -> Projector:
    """The "linear" projector, slice by slice, one ASTRA projector for each thread."""
    volume_geometry, detector_geometry = _geometries(problem)
    volume = np.ascontiguousarray(problem.volume().transpose(1, 0, 2))
    images = np.ascontiguousarray(problem.images().transpose(1, 0, 2))
    projectors = [
        astra.create_projector("linear", detector_geometry, volume_geometry) for _ in range(threads)
    ]
    pool = ThreadPoolExecutor(threads)

    def run(algorithm: str, slices: Float32, sinograms: Float32) -> None:
        def work(thread: int) -> None:
            for y in range(thread, problem.height, threads):
                volume_id = astra.data2d.link("-vol", volume_geometry, slices[y])
                sinogram_id = astra.data2d.link("-sino", detector_geometry, sinograms[y])
                settings = astra.astra_dict(algorithm)
                settings["ProjectorId"] = projectors[thread]
                settings["ProjectionDataId"] = sinogram_id
                settings["VolumeDataId" if algorithm == "FP" else "ReconstructionDataId"] = volume_id
                task = astra.algorithm.create(settings)
                astra.algorithm.run(task)
                astra.algorithm.delete(task)
                astra.data2d.delete([volume_id, sinogram_id])

        list(pool.map(work, range(threads)))

    def forward() -> Float32:
        out = np.empty_like(images)
        run("FP", volume, out)
        return out

    def back(given: Float32 | None) -> Float32:
        out = np.empty_like(volume)
        run("BP", out, images if given is None else given)
        return out

    return Projector(
        forward=forward,
        back=back,
        to_images=lambda result, views: result[:, list(views)].transpose(1, 0, 2),
        packages=PACKAGES,
    )


def make_matrix(problem: Problem, threads: int) -> Projector:
    """ASTRA's explicit matrix of one slice, applied to all slices at once by scipy, half of them a thread."""
    volume_geometry, detector_geometry = _geometries(problem)
    projector = astra.create_projector("linear", detector_geometry, volume_geometry)
    matrix = csr_matrix(astra.matrix.get(astra.projector.matrix(projector)), dtype=np.float32)
    transposed = matrix.T.tocsr()
    parts = np.array_split(np.arange(problem.height), threads)
    pool = ThreadPoolExecutor(threads)

    def slices_last(stack: Float32) -> list[Float32]:
        columns = stack.transpose(0, 2, 1).reshape(-1, problem.height)
        return [np.ascontiguousarray(columns[:, part]) for part in parts]

    volumes, sinograms = slices_last(problem.volume()), slices_last(problem.images())

    def to_images(result: list[Float32], views: Any) -> Float32:
        whole = np.concatenate(result, axis=1).reshape(problem.tilts, problem.width, problem.height)
        return whole[list(views)].transpose(0, 2, 1)

    return Projector(
        forward=lambda: list(pool.map(matrix.__matmul__, volumes)),
        back=lambda given: list(pool.map(transposed.__matmul__, sinograms if given is None else given)),
        to_images=to_images,
        packages=PACKAGES,
        details={"matrix_entries": int(matrix.nnz)},
    )


def _geometries(problem: Problem) -> tuple[Any, Any]:
    if not problem.upright_single_axis:
        raise NotApplicable("ASTRA has no 3-D projector on the CPU")
    # ASTRA's y axis points up the rows of a slice, so its angle runs against the tilt.
    angles = -np.deg2rad(problem.tilt_degrees)
    volume_geometry = astra.create_vol_geom(problem.depth, problem.width)
    return volume_geometry, astra.create_proj_geom("parallel", 1.0, problem.width, angles)
