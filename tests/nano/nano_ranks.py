"""A reconstruction by all ranks: ``mpiexec -n N python nano_ranks.py SCAN OUT METHOD [CENTER]``."""

import sys
from dataclasses import replace
from pathlib import Path

from nano_job_example import QUICK, run

from manyviews.errors import ManyviewsError
from manyviews.jobs import run as job
from manyviews.nano.reconstruct_options import ReconstructOptions
from manyviews.parallel import launch

OPTIONS = {
    "oftv": replace(QUICK, halves=False, iterations=(2, 1), inner_iterations=2),
    "of-printed": ReconstructOptions(
        method="of-printed", levels=2, iterations=(3, 2), halves=False, threads=1
    ),
    "spacetv": ReconstructOptions(method="spacetv", iterations=(1, 1), halves=False, threads=1),
    "pcgtv": ReconstructOptions(method="pcgtv", iterations=(4,), halves=False, threads=1),
    "fbp": ReconstructOptions(method="fbp", threads=1),
}


def rank_main(scan: Path, out: Path, method: str, *center: str) -> None:
    given = {"center": float(center[0])} if center else {}
    run(scan, out, OPTIONS[method], world=launch.start_world(), **given)
    launch.leave_together()


if __name__ == "__main__":
    job.build_report = lambda folder, sections, tell=None: folder
    try:
        rank_main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
    except ManyviewsError as error:
        if launch.is_shared():
            launch.end_job(str(error), error.exit_code)
        sys.exit(str(error))
