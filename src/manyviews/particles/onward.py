"""What a job over particles tells at its end: the commands with which other programs go on from its files."""

from __future__ import annotations

from manyviews.io.particle_stacks import project_folder
from manyviews.io.particle_table import ParticleTable
from manyviews.jobs.relion import postprocess_command, reconstruct_command
from manyviews.jobs.run import Job
from manyviews.particles.options import ParticleOptions
from manyviews.particles.results import CRYOSPARC_FILE, HALF_MAPS, PARTICLES_FILE


def say_what_is_next(
    job: Job, particles: ParticleOptions, table: ParticleTable, pixel_size: float, symmetry: str
) -> None:
    """Say it, from the first rank, once all files are written; nothing of RELION that it could not do.

    RELION finds images by their names from one folder, and takes protein as white in them.
    """
    if not job.speaks:
        return
    if all((job.folder / name).exists() for name in HALF_MAPS):
        job.say(f"RELION finishes the half maps: {postprocess_command(job.folder, pixel_size)}")
    else:
        job.say(
            "no half maps, as all particles were posed with one map: manyviews particles refine with "
            f"--start {job.folder} refines two halves apart"
        )
    if (job.folder / CRYOSPARC_FILE).exists():
        job.say(f"for cryoSPARC, with the uid of its particles: {job.folder / CRYOSPARC_FILE}")
        return
    dark = table.contrast_sign is not None and bool((table.contrast_sign < 0).any())
    root = project_folder(table.stack_names, source=particles.particles, data_root=particles.data_root)
    if root is not None and not dark:
        told = reconstruct_command(job.folder / PARTICLES_FILE, root, symmetry)
        job.say(f"RELION finds the images from there: {told}")
