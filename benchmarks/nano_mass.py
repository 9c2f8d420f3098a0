"""Flows where mass is kept: engines as they are, inside `KeepingMass`, and with grey levels kept instead.

``python benchmarks/nano_mass.py``. 40^3, 60 views in 4 rotations, deformed by 10 % with mass kept, 10^5 photons;
``nano reconstruct --method of`` with 16 iterations at one level. Prints misfit and relative error of the volume, a
smooth map of the whole taken out. *As it is* takes the engine's flow, which says where grey levels are read, for where mass goes.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from unittest.mock import patch

import numpy as np

from manyviews.io.mrc import read_mrc
from manyviews.nano import stages
from manyviews.nano.motion.registration import register_smoothly
from manyviews.nano.reconstruct import reconstruct
from manyviews.nano.reconstruct_options import ReconstructOptions
from manyviews.nano.scan.options import ScanOptions
from manyviews.nano.simulate import simulate
from manyviews.nano.simulate_options import SimulateOptions
from manyviews.options import RunOptions

SIZE, VIEWS, ITERATIONS = 40, 60, 16
CENTER = (SIZE - 1) / 2


def one_run(scan: Path, out: Path, flow: str, how: str) -> str:
    options = ReconstructOptions(
        method="of", levels=1, iterations=(ITERATIONS,), halves=False,
        flow=flow, warp="move" if how == "move" else "mass",  # type: ignore[arg-type]
    )  # fmt: skip
    told = ScanOptions(scan=scan, center=CENTER), options, RunOptions(out=out, quiet=True)
    if how == "as it is":
        with (
            patch.object(stages, "keeping", lambda engine, mass: engine),
            patch.object(stages, "as_model", lambda state, problem: state),
        ):
            summary = reconstruct(*told).summary
    else:
        summary = reconstruct(*told).summary
    middle = scan.with_name("truth_middle.mrc")
    truth = read_mrc(middle if middle.exists() else scan.with_name("truth.mrc"))[0]
    errors = []
    for name in ("volume.mrc", "volume_before.mrc"):
        laid = register_smoothly(read_mrc(out / name)[0], truth, mass=True)
        errors.append(float(np.linalg.norm(laid - truth) / np.linalg.norm(truth)))
    return (
        f"error {errors[0]:.4f}, not aligned {errors[1]:.4f}; "
        f"misfit {summary['misfit']}, {summary['misfit_unaligned']}"
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for kind, seed in (("flow", 0), ("flow", 1), ("object", 0)):
            options = SimulateOptions(
                size=(SIZE,), views=VIEWS, rotations=4, deformation=kind,  # type: ignore[arg-type]
                deformation_percent=10.0, warp="mass", photons=1e5, seed=seed, center=CENTER,
            )  # fmt: skip
            scan = simulate(options, folder / f"{kind}{seed}").scan
            for flow in ("grid", "farneback", "dis"):
                for how in ("as it is", "keeping mass", "move"):
                    out = folder / f"{kind}{seed}-{flow}-{how.replace(' ', '-')}"
                    print(kind, seed, flow, how, one_run(scan, out, flow, how), sep=", ", flush=True)


if __name__ == "__main__":
    main()
