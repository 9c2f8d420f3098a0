"""Specimens by name that fill one box: what single particles and subtomograms are simulated from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from manyviews.alignment.map_alignment import move_map
from manyviews.errors import InputError, quoted
from manyviews.io.mrc import read_mrc
from manyviews.simulate.atoms import atoms_to_density, is_model_file
from manyviews.simulate.particles import molecular_complex
from manyviews.simulate.phantoms import Gaussians

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


def particle_specimen(
    name: str,
    box: int,
    pixel_size: float,
    *,
    seed: int = 0,
    resolution: float | None = None,
    assembly: str | None = None,
    rotation: Float64 | None = None,
) -> tuple[Float32, Gaussians | None]:
    """The density ``(box, box, box)`` of a specimen, and its Gaussians where it is made of such.

    Parameters
    ----------
    name
        ``complex`` (made up of Gaussians, from the seed), or the path of a PDB or mmCIF model or MRC map. A
        smaller map has zeros around it.
    pixel_size, resolution
        Angstrom; the resolution is what an atomic model is blurred to, see `atoms_to_density`.
    assembly
        Name of the biological assembly of a model; left out: the model as it stands.
    rotation
        ``(3, 3)``: a model or map is moved with its centre of mass to the middle and turned.

    Raises
    ------
    InputError
        If there is no such specimen, or it cannot be used.
    """
    shape = (box, box, box)
    path = Path(name)
    is_model = name != "complex" and is_model_file(path)
    if assembly is not None and not is_model:
        raise InputError(
            f"{quoted(name)} is no atomic model, so it has no assemblies",
            where="--assembly",
            fix="leave it out",
        )
    if name == "complex":
        phantom = molecular_complex(box, pixel_size, seed)
        if rotation is not None:
            phantom = phantom.moved(rotation, np.zeros(3))
        return phantom.density(shape, pixel_size), phantom
    if is_model:
        found = atoms_to_density(
            path, shape, pixel_size, resolution=resolution, assembly=assembly, rotation=rotation
        )
        return found, None
    if path.suffix.lower() in (".mrc", ".map", ".rec"):
        volume = _map(path, box, pixel_size)
        return (volume if rotation is None else turned(volume, rotation)), None
    raise InputError(
        f"there is no specimen {quoted(name)}",
        where="option specimen",
        fix="choose complex, a .pdb or .cif model or a .mrc map",
    )


def turned(volume: Float32, rotation: Float64) -> Float32:
    """A map with its centre of mass in the middle, turned: what was at X from there is at R X."""
    density = np.maximum(np.asarray(volume, np.float64), 0)
    middle = np.array(ndimage.center_of_mass(density))[::-1] - len(volume) // 2
    return move_map(volume, rotation, -(rotation @ middle))


def _map(path: Path, box: int, pixel_size: float) -> Float32:
    """A map, zeros around it if it is smaller than the box."""
    volume, header = read_mrc(path)
    side = len(volume)
    if volume.shape != (side,) * 3 or side > box:
        size = " x ".join(str(n) for n in volume.shape)
        raise InputError(f"is {size} voxels", path=path, fix=f"give a cube of at most {box}")
    sizes = header.pixel_size or (pixel_size,) * 3
    if max(abs(size / pixel_size - 1) for size in sizes) > 0.01:
        raise InputError(
            f"has voxels of {sizes[0]:g} A, not {pixel_size:g} A",
            path=path,
            fix="give its --pixel-size or resample it",
        )
    if not np.isfinite(volume).all() or not volume.std() > 0:
        raise InputError("is constant, or holds NaN or infinity", path=path, fix="give a map with density")
    before = box // 2 - side // 2
    return np.pad(volume, (before, box - side - before))
