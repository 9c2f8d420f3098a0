"""What a run from nothing to refined halves adds to its page: the refinement, then the first map."""

from __future__ import annotations

from collections.abc import Iterator

from manyviews.particles.pass_files import REFINEMENT, passes_section
from manyviews.particles.refine import report as refinement_report
from manyviews.particles.refine.refine import STAGE
from manyviews.particles.report import CITATIONS, learning_section, try_model
from manyviews.particles.report_data import read_learning
from manyviews.particles.start_files import PICTURE as STARTS_PICTURE
from manyviews.particles.start_files import starts_section
from manyviews.report.common import slices_section, what_is_readable
from manyviews.report.data import RunData
from manyviews.report.sections import Citation, Part, Section

ABINITIO_FILE = "abinitio.mrc"
PICTURES = (*refinement_report.PICTURES, "abinitio_slices", STARTS_PICTURE, "abinitio_learning")
_FIRST_STAGES = ("starts", "refinement", "descent")


def sections(run: RunData) -> Iterator[Part]:
    """What the folder of such a run holds beside what every run has, finished or not."""
    yield from refinement_report.refined_sections(run, (STAGE,))
    yield from what_is_readable(
        lambda: slices_section(run.path / ABINITIO_FILE, "Ab initio map", "abinitio_slices"),
        lambda: starts_section(run.path),
        lambda: passes_section(run.path, REFINEMENT, "Maps of all iterations of the ab initio refinement"),
        lambda: _first_iterations(run),
    )
    yield from map(Citation, dict.fromkeys((*CITATIONS.get(run.method, ()), *CITATIONS["stochastic-em"])))


def _first_iterations(run: RunData) -> Iterator[Section]:
    learning = read_learning(run, try_model(run.path / ABINITIO_FILE), _FIRST_STAGES)
    if learning is not None:
        yield learning_section(learning, "abinitio_learning", " of the ab initio stages")
