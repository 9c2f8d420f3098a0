"""Specimens by name: what fills the volume of a simulated tilt series."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from manyviews.errors import InputError, quoted
from manyviews.random import Stream, generator
from manyviews.simulate.box import MARGIN_SIGMAS, Box, Outline
from manyviews.simulate.cell import cell_slab
from manyviews.simulate.phantoms import Ellipsoids, Gaussians, Phantom

FINEST_SIGMA_PIXELS = 2.0
_MOST_MOLECULES = 20
_TRIES_PER_MOLECULE = 20


def specimen(
    kind: str,
    volume_shape: tuple[int, int, int],
    pixel_size: float,
    seed: int,
    *,
    lateral_extent: float = 1.0,
    outline: Outline = "rectangle",
    detail_pixels: float = FINEST_SIGMA_PIXELS,
) -> Phantom:
    """Build a specimen for a volume ``(z, y, x)`` of voxels of ``pixel_size`` angstrom.

    ``kind`` is cell, gaussians, ellipsoids, or the path of a PDB or mmCIF model; ``detail_pixels`` is the
    width of its finest detail, the rest is as in `cell_slab`. `InputError` if there is no such specimen, or
    it does not fit.
    """
    from manyviews.simulate.atoms import is_model_file

    if kind == "cell":
        return cell_slab(
            volume_shape,
            pixel_size,
            seed,
            smallest_sigma_pixels=detail_pixels,
            lateral_extent=lateral_extent,
            outline=outline,
        )
    box = Box.of_volume(volume_shape, detail_pixels, lateral_extent=lateral_extent, outline=outline)
    unit = detail_pixels * pixel_size
    if kind == "gaussians":
        return random_gaussians(box, unit, seed)
    if kind == "ellipsoids":
        return random_ellipsoids(box, unit, seed)
    if is_model_file(Path(kind)):
        return molecules(Path(kind), box, unit, seed)
    raise InputError(
        f"there is no phantom {quoted(kind)}",
        where="option phantom",
        fix="choose cell, gaussians, ellipsoids or a .pdb or .cif file",
    )


def random_gaussians(box: Box, unit: float, seed: int) -> Gaussians:
    """Scattered Gaussians of sigma 1 to 3 units, stretched and turned at random; ``unit`` in angstrom."""
    rng = generator(seed, Stream.GAUSSIANS)
    count = max(4, round(box.area() / 40))
    widest = max(1.0, min(3.0, float(box.half[2]) / MARGIN_SIGMAS))
    sigma = rng.uniform(1.0, widest, (count, 3))
    turn = Rotation.random(count, random_state=rng).as_matrix()
    scaled = turn * sigma[:, None, :]
    centre = np.array([box.random_point(rng, MARGIN_SIGMAS * widths.max()) for widths in sigma])
    covariance = scaled @ scaled.transpose(0, 2, 1)
    return Gaussians(rng.uniform(0.3, 1.0, count), centre * unit, covariance * unit**2)


def random_ellipsoids(box: Box, unit: float, seed: int) -> Ellipsoids:
    """Scattered uniform ellipsoids with sharp edges, so never fully resolved; ``unit`` in angstrom."""
    rng = generator(seed, Stream.ELLIPSOIDS)
    count = max(3, round(box.area() / 150))
    longest = max(2.0, min(6.0, 0.8 * float(box.half[2])))
    semi_axes = rng.uniform(1.5, longest, (count, 3))
    centre = np.array([box.random_point(rng, float(axes.max()) + 0.5) for axes in semi_axes])
    turn = Rotation.random(count, random_state=rng).as_matrix()
    return Ellipsoids(rng.uniform(0.3, 1.0, count), centre * unit, semi_axes * unit, turn)


def molecules(path: Path, box: Box, unit: float, seed: int) -> Gaussians:
    """Copies of an atomic model, one Gaussian a residue, turned at random and not overlapping, in a box.

    Residues are blurred by ``unit``, the width of the finest detail in angstrom. `InputError` if the PDB or
    mmCIF file cannot be read or the model does not fit.
    """
    from manyviews.simulate.atoms import residue_gaussians

    molecule = residue_gaussians(path, blur_sigma=unit)
    widths = np.sqrt(np.diagonal(molecule.covariance, axis1=1, axis2=2)) / unit
    if not np.all(box.holds(molecule.centre / unit, MARGIN_SIGMAS * widths)):
        extent = np.ptp(molecule.centre, axis=0)
        raise InputError(
            f"the model is {' x '.join(f'{length:.0f}' for length in extent)} angstrom and does not fit into"
            f" the slab of {' x '.join(f'{2 * half * unit:.0f}' for half in box.half)} with its margins",
            path=path,
            fix="make the slab thicker or the pixels larger",
        )
    rng = generator(seed, Stream.MOLECULES)
    radius = float(
        np.max(np.linalg.norm(molecule.centre, axis=1) / unit + MARGIN_SIGMAS * widths.max(axis=1))
    )
    if radius > box.half.min():  # it fits upright only
        return molecule
    places = _free_places(box, radius, rng)
    turns = Rotation.random(len(places), random_state=rng).as_matrix()
    copies = [molecule.moved(turn, place * unit) for turn, place in zip(turns, places, strict=True)]
    return Gaussians.concatenate(copies)


def _free_places(box: Box, radius: float, rng: np.random.Generator) -> list[NDArray[np.float64]]:
    """Centres of spheres that do not touch, as many as are found in a fixed number of tries."""
    places: list[NDArray[np.float64]] = []
    for _ in range(_MOST_MOLECULES * _TRIES_PER_MOLECULE):
        place = box.random_point(rng, radius)
        if all(np.linalg.norm(place - other) >= 2 * radius for other in places):
            places.append(place)
        if len(places) == _MOST_MOLECULES:
            break
    return places
