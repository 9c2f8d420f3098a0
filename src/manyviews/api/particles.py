"""Images of particles in memory as the files that the particle jobs take."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from manyviews.api.arrays import positive_pixel_size, real_array
from manyviews.errors import InputError
from manyviews.io.particle_images import write_particle_stack
from manyviews.io.particle_table import OpticsGroup, table_of_stack
from manyviews.io.relion_particles import write_relion_particles

Float64 = NDArray[np.float64]


def write_particles(
    path: str | PathLike[str],
    images: ArrayLike,
    pixel_size: float,
    *,
    defocus: ArrayLike | None = None,
    astigmatism_angle: ArrayLike | None = None,
    voltage: float = 300.0,
    spherical_aberration: float = 2.7,
    amplitude_contrast: float = 0.1,
    angles: ArrayLike | None = None,
    shifts: ArrayLike | None = None,
    overwrite: bool = False,
) -> Path:
    """Write images and their RELION 3.1 table, for `abinitio`, `refine`, `solve` and RELION.

    Parameters
    ----------
    path
        Of the table, ``.star``; the images go beside it, into a stack ``.mrcs`` of the same name.
    images
        ``(particle, y, x)``, square, particles brighter than the ground.
    pixel_size
        Angstrom.
    defocus
        ``(particle,)``, or ``(particle, 2)`` where there is astigmatism: RELION's U and V, in angstrom,
        positive under focus. Left out: images without contrast transfer.
    astigmatism_angle
        ``(particle,)``, of U, in degrees.
    voltage, spherical_aberration, amplitude_contrast
        Kilovolts, millimetres, a fraction: of all images.
    angles, shifts
        ``(particle, 3)`` RELION's rot, tilt and psi in degrees, ``(particle, 2)`` in angstrom, where known.
    overwrite
        Replace both files.

    Returns
    -------
    Path
        That of the table.

    Raises
    ------
    InputError
        If a shape or a number cannot be, or a file exists.
    """
    table = Path(path)
    if table.suffix != ".star":
        raise InputError("a table of particles is a .star", path=table, fix="give it that ending")
    stack = real_array(images, "stack", "(particle, y, x)")
    count, rows, columns = stack.shape
    if rows != columns:
        raise InputError(f"the images are {columns} x {rows} pixels, not square", fix="cut or pad them")
    size = positive_pixel_size(pixel_size)
    blurs = np.zeros((count, 2)) if defocus is None else _two_defoci(defocus, count)
    # the formula of the CTF is 1 everywhere without aberration and with nothing but amplitude contrast
    aberration, contrast = (0.0, 1.0) if defocus is None else (spherical_aberration, amplitude_contrast)
    optics = OpticsGroup("one", float(voltage), float(aberration), float(contrast), size, columns)
    posed = table_of_stack(
        table.with_suffix(".mrcs"),
        optics,
        blurs,
        defocus_angle=_numbers("astigmatism_angle", astigmatism_angle, (count,)),
        angles=_numbers("angles", angles, (count, 3)),
        shifts=_numbers("shifts", shifts, (count, 2)),
    )
    for file in (table, table.with_suffix(".mrcs")):
        if file.exists() and not overwrite:  # before either is written
            raise InputError("exists already", path=file, fix="choose another name or give overwrite=True")
    write_particle_stack(table.with_suffix(".mrcs"), [stack], count, size, overwrite=overwrite)
    write_relion_particles(table, posed, overwrite=overwrite)
    return table


def _two_defoci(defocus: ArrayLike, count: int) -> Float64:
    """U and V of every particle."""
    given: NDArray[Any] = np.asarray(defocus)
    both = np.stack([given, given], axis=1) if given.ndim == 1 else given
    found = _numbers("defocus", both, (count, 2))
    assert found is not None
    return found


def _numbers(name: str, values: ArrayLike | None, wanted: tuple[int, ...]) -> Float64 | None:
    """An array of a shape, of finite numbers; `InputError` otherwise."""
    if values is None:
        return None
    given: NDArray[Any] = np.asarray(values)
    if given.shape != wanted or given.dtype.kind not in "fiu" or not np.isfinite(given).all():
        raise InputError(
            f"is {given.dtype} of shape {given.shape}, not finite numbers of shape {wanted}",
            where=f"option {name}",
            fix="give one for each image",
        )
    return given.astype(np.float64)
