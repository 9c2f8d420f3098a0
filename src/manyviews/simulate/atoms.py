"""PDB and mmCIF models as densities on a grid, and as Gaussians.

The density of an atom is the Fourier transform of its electron scattering factor (five Gaussians,
International Tables C 4.3.2.2, as in gemmi), so its integral is the factor at zero angle; sums over a model
are in angstrom per cubic angstrom and proportional to its electrostatic potential. Hydrogens are left out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError, quoted, shortened
from manyviews.simulate.phantoms import Gaussians

Float64 = NDArray[np.float64]

_FARTHEST = 1e5  # angstrom
_LARGEST_OCCUPANCY = 10.0
_LARGEST_B_FACTOR = 1e4  # square angstrom; beyond it an atom is a cloud of 100 angstrom

SUFFIXES = (".pdb", ".ent", ".cif", ".mmcif")


def is_model_file(path: Path) -> bool:
    """Whether the name is that of an atomic model: .pdb, .ent, .cif or .mmcif, also with .gz."""
    name = path.name.lower().removesuffix(".gz")
    return name.endswith(SUFFIXES)


def atoms_to_density(
    path: Path,
    volume_shape: tuple[int, int, int],
    pixel_size: float,
    *,
    resolution: float | None = None,
    b_factor: float | None = None,
    assembly: str | None = None,
    rotation: Float64 | None = None,
) -> NDArray[np.float32]:
    """The density of an atomic model on a grid, its centre of mass at index ``n // 2``.

    Parameters
    ----------
    path
        PDB or mmCIF, also gzipped.
    volume_shape
        ``(z, y, x)`` in voxels.
    pixel_size
        Angstrom.
    resolution
        Angstrom; every atom is blurred by a Gaussian of sigma ``0.225 resolution``, whose transform is 1/e
        at that resolution (the convention of ChimeraX molmap). Left out: three pixels.
    b_factor
        Replaces the B factors of the file, in square angstrom.
    assembly
        The biological assembly of this name (REMARK 350, ``_pdbx_struct_assembly``), not the model as it
        stands.
    rotation
        ``(3, 3)``, turns the model about its centre of mass first.

    Returns
    -------
    ``(z, y, x)`` float32.

    Raises
    ------
    InputError
        If the file cannot be read or holds no atoms, has no such assembly, the model does not fit, or the
        resolution is finer than two pixels.
    """
    import gemmi

    wanted = 3 * pixel_size if resolution is None else resolution
    if not pixel_size > 0 or wanted < 2 * pixel_size:
        raise InputError(
            f"a resolution of {wanted:g} angstrom needs pixels of at most {wanted / 2:g} angstrom",
            fix="give a coarser resolution or a smaller pixel size",
        )
    structure = _read(path)
    if assembly is not None:
        _build(structure, assembly, path)
    if rotation is not None:
        _turn(structure[0], rotation)
    origin = np.array([n // 2 for n in volume_shape[::-1]]) * pixel_size
    _place(structure[0], origin - _centre_of_mass(structure[0]), b_factor, extra_b=4 * wanted**2)
    _check_fits(structure[0], np.array(volume_shape[::-1]) * pixel_size, path)
    calculator = gemmi.DensityCalculatorE()
    depth, height, width = (n * pixel_size for n in volume_shape)
    calculator.grid.set_unit_cell(gemmi.UnitCell(width, height, depth, 90, 90, 90))
    calculator.grid.set_size(*volume_shape[::-1])
    calculator.add_model_density_to_grid(structure[0])
    values = np.array(calculator.grid, copy=False)  # (x, y, z)
    return np.ascontiguousarray(values.transpose(2, 1, 0), dtype=np.float32)


def residue_gaussians(path: Path, *, blur_sigma: float) -> Gaussians:
    """An atomic model as one Gaussian for each residue, with the residue's mass, place and spread.

    Coarser than `atoms_to_density`, but its projections are exact. The centre of mass is at the origin;
    ``blur_sigma``, angstrom, is added to the spread in every direction.

    Raises
    ------
    InputError
        If the file cannot be read or holds no atoms, or the blur is not positive.
    """
    if not blur_sigma > 0:
        raise InputError(f"a blur of {blur_sigma} angstrom is not possible", fix="give a width above zero")
    model = _read(path)[0]
    middle = _centre_of_mass(model)
    masses, centres, covariances = [], [], []
    for chain in model:
        for residue in chain:
            weights, positions = _atoms(residue)
            if not len(weights):
                continue
            place = weights @ positions / weights.sum()
            spread = (positions - place).T @ ((positions - place) * weights[:, None]) / weights.sum()
            masses.append(weights.sum())
            centres.append(place - middle)
            covariances.append(spread + blur_sigma**2 * np.eye(3))
    covariance = np.array(covariances)
    peak = np.array(masses) / ((2 * np.pi) ** 1.5 * np.sqrt(np.linalg.det(covariance)))
    return Gaussians(peak, np.array(centres), covariance)


def _read(path: Path) -> Any:
    """The models of a file, without hydrogens."""
    import gemmi

    try:
        structure = gemmi.read_structure(str(path))
    except (OSError, RuntimeError, ValueError) as error:
        reason = shortened(str(error).replace(str(path), path.name).split("\n", maxsplit=1)[0])
        raise InputError(
            f"cannot be read as PDB or mmCIF ({reason})", path=path, fix="check the file"
        ) from None
    if len(structure):
        structure.remove_hydrogens()
    if not len(structure) or not any(True for _ in structure[0].all()):
        raise InputError("holds no atoms but hydrogens", path=path, fix="give a PDB or mmCIF model")
    _check_atoms(structure[0], path)
    return structure


def _build(structure: Any, assembly: str, path: Path) -> None:
    """Replace the model by one of its biological assemblies, in place."""
    import gemmi

    names = [one.name for one in structure.assemblies]
    if assembly not in names:
        known = ", ".join(names) if names else "none"
        raise InputError(
            f"has no assembly {quoted(assembly)} (its assemblies: {known})",
            path=path,
            fix="give one of these",
        )
    structure.transform_to_assembly(assembly, gemmi.HowToNameCopiedChain.AddNumber)


def _turn(model: Any, rotation: Float64) -> None:
    """Turn all atoms about the origin; anisotropic B factors are not kept (see `_place`)."""
    import gemmi

    for found in model.all():
        found.atom.pos = gemmi.Position(*(rotation @ np.array(found.atom.pos.tolist())))


def _check_atoms(model: Any, path: Path) -> None:
    """Refuse places, occupancies and B factors of no model: the density would be nonsense, or endless."""
    numbers = np.array(
        [(*one.atom.pos.tolist(), one.atom.occ, one.atom.b_iso) for one in model.all()], dtype=np.float64
    )
    for columns, most, name in (
        (numbers[:, :3], _FARTHEST, "a coordinate"),
        (numbers[:, 3:4], _LARGEST_OCCUPANCY, "an occupancy"),
        (numbers[:, 4:], _LARGEST_B_FACTOR, "a B factor"),
    ):
        bad = ~(np.abs(columns) <= most)  # NaN too
        if bad.any():
            raise InputError(
                f"{name} is not a number from {-most:g} to {most:g}",
                path=path,
                where=f"atom {int(np.argwhere(bad)[0, 0]) + 1}, hydrogens not counted",
                fix="correct the model",
            )
    if not any(len(_atoms(residue)[0]) for chain in model for residue in chain):
        raise InputError("no atom has an occupancy above zero", path=path, fix="correct the model")


def _atoms(residue: Any) -> tuple[Float64, Float64]:
    """Scattering factors at zero angle times occupancy ``(n,)`` and positions ``(n, 3)``."""
    atoms = list(residue)
    weights = np.array([atom.occ * atom.element.c4322.calculate_sf(0.0) for atom in atoms], dtype=np.float64)
    positions = np.array([atom.pos.tolist() for atom in atoms], dtype=np.float64).reshape(-1, 3)
    return weights[weights > 0], positions[weights > 0]


def _centre_of_mass(model: Any) -> Float64:
    parts = [_atoms(residue) for chain in model for residue in chain]
    weights = np.concatenate([part[0] for part in parts])
    positions = np.concatenate([part[1] for part in parts])
    return np.asarray(weights @ positions / weights.sum(), dtype=np.float64)


def _place(model: Any, shift: Float64, b_factor: float | None, extra_b: float) -> None:
    """Move all atoms and widen them; anisotropic B factors are replaced by their isotropic part."""
    import gemmi

    for found in model.all():
        atom = found.atom
        atom.pos += gemmi.Position(*shift)
        atom.b_iso = (atom.b_iso if b_factor is None else b_factor) + extra_b
        atom.aniso = gemmi.SMat33f(0, 0, 0, 0, 0, 0)


def _check_fits(model: Any, size: Float64, path: Path) -> None:
    positions = np.array([found.atom.pos.tolist() for found in model.all()])
    if np.any(positions < 0) or np.any(positions > size):
        extent = np.ptp(positions, axis=0)
        raise InputError(
            f"the model is {' x '.join(f'{length:.0f}' for length in extent)} angstrom and does not fit into"
            f" the volume of {' x '.join(f'{length:.0f}' for length in size)}",
            path=path,
            fix="make the volume or the pixels larger",
        )
