"""The jobs as functions: what ``manyviews tilt reconstruct``, ``subtomo align`` and so on do."""

from __future__ import annotations

from dataclasses import fields, replace
from os import PathLike
from typing import TYPE_CHECKING, Any, cast, overload

from manyviews.api.keywords import Files, build_options, command_line, shows_options
from manyviews.api.run import Run, open_run
from manyviews.errors import InputError
from manyviews.nano.reconstruct_options import ReconstructOptions as HowOptions
from manyviews.nano.scan.options import ScanOptions
from manyviews.options import RunOptions
from manyviews.parallel.launch import start_world
from manyviews.particles.options import AbinitioOptions, ParticleOptions, RefineOptions, SolveOptions
from manyviews.subtomo.align_options import AlignOptions
from manyviews.subtomo.options import SubtomogramOptions
from manyviews.tilt.options import ReconstructOptions, SeriesOptions

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from manyviews.geometry.views import TiltGeometry
    from manyviews.parallel.world import World


@overload
def reconstruct(
    stacks: ArrayLike, geometry: TiltGeometry, *, thickness: int, pixel_size: float = 1.0, **options: Any
) -> NDArray[np.float32]: ...


@overload
def reconstruct(
    stacks: Files, *, out: str | PathLike[str], thickness: int | None = None, **options: Any
) -> Run: ...


@shows_options(SeriesOptions, ReconstructOptions, RunOptions)
def reconstruct(
    stacks: Files | ArrayLike,
    geometry: TiltGeometry | None = None,
    *,
    out: str | PathLike[str] | None = None,
    thickness: int | None = None,
    **options: Any,
) -> Run | NDArray[np.float32]:
    """Reconstruct one volume from one or several tilt series: files to a run folder, or an array to an array.

    The same call on the same folder goes on where an earlier one stopped, and computes nothing if it was
    finished. Under ``mpiexec`` all processes of a script work on it together.

    Parameters
    ----------
    stacks
        An MRC file, or one for each tilt axis; or images ``(view, y, x)`` in memory.
    geometry
        The views of images in memory, one for each; files bring their own.
    out
        Run folder, for files; images in memory leave nothing on the disk.
    thickness
        Of the volume (z) in unbinned pixels; left out: what a tilt.com given for the angles says.
    **options
        The options of ``manyviews tilt reconstruct`` with underscores, e.g. ``axis_angle=(0, 90)``,
        ``method="consensus"``, ``overwrite=True``, ``quiet=True``: the fields of
        `manyviews.tilt.options.SeriesOptions` and ``ReconstructOptions`` and `manyviews.options.RunOptions`.
        For images in memory ``pixel_size`` in angstrom (1 if left out) and the fields of
        ``ReconstructOptions``, without what needs files: contrast transfer, dose, a reference, the choice of
        a prior. With ``method="consensus"`` also ``denoiser``: any function of a volume ``(z, y, x)`` that
        gives one back becomes an agent beside the view subsets.

    Returns
    -------
    Run or array
        The run; of images in memory the volume ``(z, y, x)``, float32.

    Raises
    ------
    InputError
        If there is no such option, or anything that was given cannot be used.
    ManyviewsError
        If the iteration diverges or the run is interrupted.
    """
    given = {**options, **({} if thickness is None else {"thickness": thickness})}
    if geometry is not None or hasattr(stacks, "__array__"):
        return _reconstruct_array(cast("ArrayLike", stacks), geometry, out, given)
    if "denoiser" in given:
        raise InputError(
            "a function cannot be recorded with a run, nor gone on with",
            where="option denoiser",
            fix="give the images as an array, as manyviews.read_tilt_series reads them",
        )
    if out is None:
        raise InputError("files are reconstructed into a run folder, and none is given", fix="give out")
    given = {"stacks": stacks, "out": out, **given}
    series, how, run, world = _options("tilt reconstruct", "stacks", given, SeriesOptions, ReconstructOptions)
    from manyviews.tilt.reconstruct import reconstruct as run_job

    run_job(series, how, run, world=world)
    world.barrier()  # all processes find the run as the first of them has left it
    return open_run(run.out)


def _reconstruct_array(
    images: ArrayLike, geometry: TiltGeometry | None, out: object, given: dict[str, Any]
) -> NDArray[np.float32]:
    """A volume of images in memory; ``given`` are the other keywords."""
    from manyviews.api.arrays import positive_pixel_size, real_array, require_geometry
    from manyviews.tilt.in_memory import reconstruct_images

    known = {item.name for kind in (SeriesOptions, RunOptions) for item in fields(kind)} - {"pixel_size"}
    for name in ("out",) if out is not None else sorted(given.keys() & known):
        raise InputError(
            "is for files, and images in memory leave none",
            where=f"option {name}",
            fix="leave it out, or write the images with manyviews.write_mrc and give the file",
        )
    pixel_size = positive_pixel_size(given.pop("pixel_size", 1.0))
    denoiser = given.pop("denoiser", None)
    (how,) = build_options(given, ReconstructOptions)
    array = real_array(images, "stack", "(view, y, x)")
    return reconstruct_images(array, require_geometry(geometry), pixel_size, how, denoiser)


@shows_options(ParticleOptions, AbinitioOptions, RunOptions)
def abinitio(particles: str | PathLike[str], *, out: str | PathLike[str], **options: Any) -> Run:
    """Find the structure and the poses of particles from nothing but their images.

    Runs go on, and share the work, as those of `reconstruct` do, with the same errors.

    Parameters
    ----------
    particles
        RELION STAR file or cryoSPARC .cs file.
    out
        Run folder.
    **options
        The options of ``manyviews particles abinitio`` with underscores, e.g. ``diameter=180``,
        ``symmetry="C4"``, ``quiet=True``: the fields of `manyviews.particles.options.ParticleOptions` and
        ``AbinitioOptions`` and `manyviews.options.RunOptions`.
    """
    given = {"particles": particles, "out": out, **options}
    which, how, run, world = _options(
        "particles abinitio", "particles", given, ParticleOptions, AbinitioOptions
    )
    from manyviews.particles.abinitio import abinitio as run_job

    run_job(which, how, run, world=world)
    world.barrier()
    return open_run(run.out)


@shows_options(ParticleOptions, RefineOptions, RunOptions)
def refine(
    particles: str | PathLike[str], *, start: str | PathLike[str], out: str | PathLike[str], **options: Any
) -> Run:
    """Refine particles from a map at low resolution, two halves of them apart.

    Runs go on, and share the work, as those of `reconstruct` do, with the same errors.

    Parameters
    ----------
    particles
        RELION STAR file or cryoSPARC .cs file.
    start
        A map (MRC), or a run folder that holds one.
    out
        Run folder.
    **options
        The options of ``manyviews particles refine`` with underscores, e.g. ``diameter=180``,
        ``halves="micrograph"``, ``quiet=True``: the fields of `manyviews.particles.options.ParticleOptions`
        and ``RefineOptions`` and `manyviews.options.RunOptions`.
    """
    given = {"particles": particles, "start": start, "out": out, **options}
    which, how, run, world = _options("particles refine", "particles", given, ParticleOptions, RefineOptions)
    from manyviews.particles.refine.refine import refine as run_job

    run_job(which, how, run, world=world)
    world.barrier()
    return open_run(run.out)


@shows_options(ParticleOptions, SolveOptions, RunOptions)
def solve(particles: str | PathLike[str], *, out: str | PathLike[str], **options: Any) -> Run:
    """Find the structure of particles from nothing and refine two halves apart: `abinitio`, then `refine`.

    Runs go on, and share the work, as those of `reconstruct` do, with the same errors.

    Parameters
    ----------
    particles
        RELION STAR file or cryoSPARC .cs file.
    out
        Run folder.
    **options
        The options of ``manyviews particles solve`` with underscores, e.g. ``diameter=180``, ``starts=6``,
        ``quiet=True``: the fields of `manyviews.particles.options.ParticleOptions` and ``SolveOptions`` and
        `manyviews.options.RunOptions`.
    """
    given = {"particles": particles, "out": out, **options}
    which, how, run, world = _options("particles solve", "particles", given, ParticleOptions, SolveOptions)
    from manyviews.particles.solve import solve as run_job

    run_job(which, how, run, world=world)
    world.barrier()
    return open_run(run.out)


@shows_options(SubtomogramOptions, AlignOptions, RunOptions)
def align_subtomograms(particles: str | PathLike[str], *, out: str | PathLike[str], **options: Any) -> Run:
    """Align subtomograms through their missing wedge, to a map or from nothing, and average them.

    Runs go on, and share the work, as those of `reconstruct` do, with the same errors.

    Parameters
    ----------
    particles
        A table of subtomograms: RELION's .star, Dynamo's .tbl, a motive list .em, or STOPGAP's .star.
    out
        Run folder.
    **options
        The options of ``manyviews subtomo align`` with underscores, e.g. ``tilt_range=(-60, 60)``,
        ``symmetry="D7"``, ``quiet=True``: the fields of `manyviews.subtomo.options.SubtomogramOptions`,
        `manyviews.subtomo.align_options.AlignOptions` and `manyviews.options.RunOptions`.
    """
    given = {"particles": particles, "out": out, **options}
    which, how, run, world = _options("subtomo align", "particles", given, SubtomogramOptions, AlignOptions)
    from manyviews.subtomo.align import align as run_job

    run_job(which, how, run, world=world)
    world.barrier()
    return open_run(run.out)


@shows_options(ScanOptions, HowOptions, RunOptions)
def reconstruct_scan(scan: str | PathLike[str], *, out: str | PathLike[str], **options: Any) -> Run:
    """Reconstruct a scan of a specimen that drifts and deforms, and find how each view moved.

    Runs go on, and share the work, as those of `reconstruct` do, with the same errors.

    Parameters
    ----------
    scan
        HDF5 file (Data Exchange, NXtomo), folder of TIFF files, TIFF or MRC stack.
    out
        Run folder.
    **options
        The options of ``manyviews nano reconstruct`` with underscores, e.g. ``method="shifts"``,
        ``binning=2``, ``quiet=True``: the fields of `manyviews.nano.scan.options.ScanOptions`,
        `manyviews.nano.reconstruct_options.ReconstructOptions` and `manyviews.options.RunOptions`.
    """
    given = {"scan": scan, "out": out, **options}
    which, how, run, world = _options("nano reconstruct", "scan", given, ScanOptions, HowOptions)
    from manyviews.nano.reconstruct import reconstruct as run_job

    run_job(which, how, run, world=world)
    world.barrier()
    return open_run(run.out)


def _options(
    command: str, positional: str, given: dict[str, Any], *kinds: type[Any]
) -> tuple[Any, Any, RunOptions, World]:
    """Options of the data, of the method and of the run, which has the command, and who works on it."""
    what, how, run = build_options(given, *kinds, RunOptions)
    words = command_line(command, positional, (what, how, run), given)
    return what, how, replace(run, command=words), start_world()
