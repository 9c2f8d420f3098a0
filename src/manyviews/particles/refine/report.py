"""What a refinement adds to the page of a run."""

from __future__ import annotations

from collections.abc import Container, Iterator
from functools import partial

from manyviews.metrics.fsc import FscCurve
from manyviews.particles import postprocess_report
from manyviews.particles.pass_files import HALVES, passes_section
from manyviews.particles.postprocess_results import FSC_FILE
from manyviews.particles.refine.doubts import CONTRAST_FILE, DOUBTFUL_FILE
from manyviews.particles.report import CITATIONS, pose_sections, reference_section, try_model
from manyviews.particles.report import PICTURES as POSE_PICTURES
from manyviews.particles.results import REFERENCE_FILE
from manyviews.report.common import resolution_findings, table_section, volume_section, what_is_readable
from manyviews.report.data import RunData
from manyviews.report.sections import Citation, Part
from manyviews.runs.map_names import VOLUME_FILE

PICTURES = tuple(
    dict.fromkeys((*POSE_PICTURES, *postprocess_report.PICTURES, "reference", f"{HALVES}_passes"))
)
_TABLES = (
    (DOUBTFUL_FILE, "{rows} particles that are not believed"),
    (CONTRAST_FILE, "Contrast of {rows} groups of particles"),
)


def sections(run: RunData) -> Iterator[Part]:
    """What the folder of a refinement holds beside what every run has, finished or not."""
    yield from refined_sections(run)
    yield from map(Citation, CITATIONS["stochastic-em"])


def refined_sections(run: RunData, stages: Container[str] | None = None) -> Iterator[Part]:
    """Maps, their resolution, poses and iterations; ``stages`` are those whose iterations are shown."""
    yield from resolution_findings(run)
    if (run.path / FSC_FILE).exists():
        yield from postprocess_report.finished_sections(run.path)
    else:
        yield from what_is_readable(lambda: volume_section(run.path / VOLUME_FILE))
    yield from what_is_readable(lambda: reference_section(FscCurve.read_csv(run.path / REFERENCE_FILE)))
    yield from what_is_readable(lambda: passes_section(run.path, HALVES))
    yield from pose_sections(run, try_model(run.path / VOLUME_FILE), stages)
    yield from what_is_readable(*(partial(table_section, run.path / file, title) for file, title in _TABLES))
