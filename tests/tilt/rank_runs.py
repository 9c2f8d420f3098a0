"""Reconstructions by all ranks of an MPI job, for tests of what ranks give and what a killed one leaves.

``mpiexec -n N python rank_runs.py STACKS OUT CHECKPOINT_SECONDS CASE...`` with the stacks ``a.mrc`` and
``b.mrc`` in STACKS; a case is a name of `CASES` and a layout that has N ranks, ``cg:1x2``, run in
``OUT/cg-1x2``; ``gpu-cg:1x2`` runs it on GPUs that are pretended. The pids of the ranks are in ``OUT/pids``.
Cases of `SPOILT` have the stacks ``spoilt-a.mrc`` and ``spoilt-b.mrc``, with weights ``weights-a.mrc`` and
``weights-b.mrc``.
"""

import contextlib
import os
import sys
from pathlib import Path

from manyviews.errors import ManyviewsError
from manyviews.jobs import run as frame
from manyviews.options import RunOptions
from manyviews.parallel import launch
from manyviews.tilt import reconstruct as job
from manyviews.tilt.options import ReconstructOptions, SeriesOptions

sys.path.append(str(Path(__file__).parents[1]))

from pretend_gpu import pretend_gpu

THICKNESS, AXES = 11, (0.0, 35.0)
# Such that the volume has several layers of defocus, and points are not spread far.
TRANSFER = {"ctf": "3d", "defocus_hand": "-1", "voltage": 100.0, "spherical_aberration": 0.001}
FINEST = 0.5  # angstrom
CASES = {
    "cg": {"method": "cg", "iterations": 7, "refresh": 3},
    "sirt": {"method": "sirt", "iterations": 5},
    "normalised": {"method": "sirt", "sirt_form": "normalised", "iterations": 3},
    "consensus": {"method": "consensus", "iterations": 4, "subsets": 4, "overlap": 1, "non_negative": True},
    "admm": {"method": "admm", "iterations": 4},
    "wang2020": {"method": "wang2020", "iterations": 3, "subsets": 4, "inner_iterations": 4},
    "wbp": {"method": "wbp"},
    "weighed": {"method": "cg", "iterations": 7, "refresh": 3, "edges": "weigh"},
    "filled": {"method": "consensus", "iterations": 3, "subsets": 4, "edges": "weigh"},
    "3d": {"iterations": 4, **TRANSFER},
    "3d-admm": {"method": "admm", "prior": "none", "total_variation": 0.05, "iterations": 3, **TRANSFER},
    "long": {"method": "consensus", "iterations": 60, "subsets": 3},
}  # fmt: skip
SPOILT = ("weighed", "filled")


def run_case(case: str, stacks: Path, out: Path, checkpoint_seconds: float) -> None:
    label, layout = case.split(":")
    name = label.removeprefix("gpu-")
    on_gpu = name != label
    kind = "spoilt-" if name in SPOILT else ""
    weights = tuple(stacks / f"weights-{one}.mrc" for one in "ab") if name in SPOILT else ()
    series = SeriesOptions(
        stacks=(stacks / f"{kind}a.mrc", stacks / f"{kind}b.mrc"),
        tilt_angles=(stacks / "a.tlt", stacks / "b.tlt"),
        axis_angle=AXES,
        pixel_size=FINEST if name.startswith("3d") else None,
    )
    options = ReconstructOptions(
        thickness=THICKNESS,
        layout=layout,
        threads=1,
        weights=weights,
        defocus=(stacks / "a.defocus", stacks / "b.defocus") if name.startswith("3d") else (),
        device="cuda" if on_gpu else "cpu",
        **CASES[name],
    )
    folder = out / (name if name == "long" else f"{label}-{layout}")
    with pretend_gpu() if on_gpu else contextlib.nullcontext():
        job.reconstruct(
            series,
            options,
            RunOptions(folder, quiet=True, checkpoint_seconds=checkpoint_seconds),
            world=launch.start_world(),
        )


def rank_main(stacks: Path, out: Path, checkpoint_seconds: float, cases: list[str]) -> None:
    pids = launch.start_world().gather(os.getpid())
    if launch.start_world().rank == 0:
        (out / "pids").write_text(" ".join(map(str, pids)))
    for case in cases:
        run_case(case, stacks, out, checkpoint_seconds)
    launch.leave_together()


if __name__ == "__main__":
    frame.build_report = lambda folder, sections, tell=None: (
        folder
    )  # pictures take longer than the rest of these runs
    try:
        rank_main(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]), sys.argv[4:])
    except ManyviewsError as error:
        if launch.is_shared():
            launch.end_job(str(error), error.exit_code)
        sys.exit(str(error))
