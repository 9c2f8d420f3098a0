"""One run of `nano reconstruct` for benchmarks: projections in, a volume and seconds out. Not to be run by itself."""

from __future__ import annotations

import argparse
import resource
import shutil
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import manyviews as mv
from manyviews.io.mrc import read_mrc, write_mrc

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Reconstructed:
    """The volume, that without alignment (None where the method writes none), and seconds."""

    volume: Float32
    before: Float32 | None
    cpu_seconds: float
    wall_seconds: float


def reconstructed(
    projections: Float32, theta_degrees: Float64, center: float, method: str, args: argparse.Namespace,
    **options: Any,
) -> Reconstructed:  # fmt: skip
    """Sums along rays ``(view, z, x)``; ``args`` has ``work``, a folder, and ``threads``.

    Without halves, else as the command comes; ``options`` are more of its options. pcg and pcgtv are not
    aligned at all.
    """
    images, angles, out = args.work / "scan.mrc", args.work / "angles.txt", args.work / "run"
    write_mrc(images, projections, 10.0, overwrite=True, is_volume=False)
    np.savetxt(angles, theta_degrees)
    still = {"prealign": False} if method in ("pcg", "pcgtv") else {}
    began, spent = time.monotonic(), _cpu_seconds()
    run = mv.reconstruct_scan(
        images, out=out, angles=angles, center=center, minus_log=False, pixel_size_nm=1.0, method=method,
        halves=False, quiet=True, overwrite=True, threads=args.threads, **{**still, **options},
    )  # fmt: skip
    spent, took = _cpu_seconds() - spent, time.monotonic() - began
    before = out / "volume_before.mrc"
    found = Reconstructed(
        np.array(run.volume, np.float32), read_mrc(before)[0] if before.exists() else None, spent, took
    )
    shutil.rmtree(out)
    return found


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
