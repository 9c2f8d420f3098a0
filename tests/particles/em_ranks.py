"""Ab initio runs by all ranks of an MPI job, for tests of what ranks give and what a killed one leaves.

``mpiexec -n N python em_ranks.py PARTICLES OUT CHECKPOINT_SECONDS CASE...``; a case is a name of `CASES`,
`REFINED` or `SOLVED`, run in ``OUT/CASE``. The pids of the ranks are in ``OUT/pids``. ``EM_RANKS_FAIL=2``
makes rank 2 raise an error in its fifth iteration.
"""

import os
import sys
from dataclasses import replace
from pathlib import Path

from em_example import QUICK, reconstruct, refine_from_truth, solve_example

from manyviews.errors import ManyviewsError
from manyviews.jobs import run as job
from manyviews.parallel import launch
from manyviews.particles.em import plan as em_plan
from manyviews.particles.em.starts import RandomStarts

SHORT = replace(QUICK, refinements=3)
REFINED, SOLVED = "refined", "solved"
CASES = {
    "plain": SHORT,
    "halves": replace(SHORT, independent_halves=True, symmetry="C2"),
    "long": replace(SHORT, refinements=30),
}


def rank_main(particles: Path, out: Path, checkpoint_seconds: float, cases: list[str]) -> None:
    world = launch.start_world()
    pids = world.gather(os.getpid())
    if world.rank == 0:
        (out / "pids").write_text(" ".join(map(str, pids)))
    for case in cases:
        if case == REFINED:
            refine_from_truth(particles, out / case, world=world)
        elif case == SOLVED:
            solve_example(particles, out / case, world=world)
        else:
            reconstruct(
                particles, out / case, CASES[case], checkpoint_seconds=checkpoint_seconds, world=world
            )
    launch.leave_together()


def fail_on(rank: int) -> None:
    """Make one rank raise where it should work."""
    step = RandomStarts.step

    def failing(self, state):  # type: ignore[no-untyped-def]
        if self.problem.world.rank == rank and state.iteration == 4:
            raise RuntimeError("an error made on purpose")
        return step(self, state)

    RandomStarts.step = failing


def shorten() -> None:
    """Starts of ten iterations, no pictures: what is tested is not what is found."""
    em_plan._START_ITERATIONS = 10
    job.build_report = lambda folder, sections, tell=None: folder


if __name__ == "__main__":
    shorten()
    if "EM_RANKS_FAIL" in os.environ:
        fail_on(int(os.environ["EM_RANKS_FAIL"]))
    try:
        rank_main(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]), sys.argv[4:])
    except ManyviewsError as error:
        if launch.is_shared():
            launch.end_job(str(error), error.exit_code)
        sys.exit(str(error))
