"""An alignment by all ranks: ``mpiexec -n N python align_ranks.py PARTICLES OUT``; without pictures."""

import sys
from dataclasses import replace
from pathlib import Path

from align_run_example import QUICK, run

from manyviews.errors import ManyviewsError
from manyviews.jobs import run as job
from manyviews.parallel import launch

SHORT = replace(QUICK, start_resolution=40.0, iterations=2, hands="both")


def rank_main(particles: Path, out: Path) -> None:
    world = launch.start_world()
    options = replace(SHORT, reference=particles.with_name("truth.mrc"))
    run(particles, out, options, world=world)
    launch.leave_together()


if __name__ == "__main__":
    job.build_report = lambda folder, sections, tell=None: folder
    try:
        rank_main(Path(sys.argv[1]), Path(sys.argv[2]))
    except ManyviewsError as error:
        if launch.is_shared():
            launch.end_job(str(error), error.exit_code)
        sys.exit(str(error))
