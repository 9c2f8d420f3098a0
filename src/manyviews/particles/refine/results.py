"""What a refinement leaves in its folder, beside the report."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from manyviews.io.mrc import write_mrc
from manyviews.jobs.run import Job
from manyviews.maps.postprocess import Postprocessing, postprocess
from manyviews.particles import postprocess_results
from manyviews.particles.em.pose_samples import PoseSamples
from manyviews.particles.estimate import FINISHING
from manyviews.particles.pass_files import HALVES, pass_files
from manyviews.particles.refine.doubts import CONTRAST_FILE, DOUBTFUL_FILE, write_doubts
from manyviews.particles.refine.plan import RefinementPlan
from manyviews.particles.refine.scales import ContrastGroups
from manyviews.particles.refine.state import HalvesState
from manyviews.particles.results import POSE_FILES, REFERENCE_FILE, compare_with_reference, write_poses
from manyviews.particles.selection import FILES, Selection
from manyviews.report import fitted_images
from manyviews.runs.map_names import VOLUME_FILE

RESULTS = (
    *postprocess_results.RESULTS,
    *POSE_FILES,
    "directions.csv",
    "spread.csv",
    REFERENCE_FILE,
    DOUBTFUL_FILE,
    CONTRAST_FILE,
    *FILES,
    *fitted_images.FILES,
    *pass_files(HALVES),
)


@dataclass(frozen=True)
class Refined:
    """What was found: the map of both halves and one of each ``(D, D, D)``, and the poses of all particles.

    The map is weighted by what the halves agree in and masked by a sphere, the halves are as they are;
    ``groups`` are those of equal contrast, ``state`` is the last; ``summary`` has key figures by name.
    """

    volume: torch.Tensor
    halves: tuple[torch.Tensor, torch.Tensor]
    samples: PoseSamples
    state: HalvesState
    groups: ContrastGroups
    summary: dict[str, object]


def write_refined(job: Job, plan: RefinementPlan, chosen: Selection, found: Refined) -> dict[str, object]:
    """Finish the halves and write maps, poses and tables; returns key figures by name."""
    folder = job.folder
    first, second = (half.numpy() for half in found.halves)
    job.phase("finishing the half maps: mask, resolution, sharpening, local resolution", FINISHING)
    options = Postprocessing(
        symmetry=plan.options.symmetry, seed=plan.options.seed, threads=torch.get_num_threads()
    )
    finished = postprocess(first, second, plan.pixel_size, options)
    job.warn(*finished.warnings)
    told = postprocess_results.write_finished(folder, finished, (first, second))
    volume = found.volume.numpy()
    write_mrc(folder / VOLUME_FILE, volume, plan.pixel_size, overwrite=True,
              labels=("manyviews particles refine",))  # fmt: skip
    columns = write_doubts(folder, found.state, chosen, found.groups)
    spreads = write_poses(
        folder, chosen, found.samples, plan.pixel_size, plan.options.symmetry, chosen.numbers % 2 + 1, columns
    )
    summary = {"particles": len(chosen.table), **chosen.summary(), **found.summary, **told, **spreads}
    if plan.options.reference is not None:
        summary |= compare_with_reference(folder, volume, plan.pixel_size, plan.options.reference)
    return summary
