"""Volumes as OME-Zarr (OME-NGFF 0.4): chunks in a folder, at several sizes, as napari and Fiji read them."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.io.atomic import require_absent
from manyviews.io.volume_files import volume_header

__all__ = ["copy_to_ome_zarr", "require_zarr", "write_ome_zarr"]

CHUNK = 64
_GROUP_FILE = ".zgroup"
_ANGSTROM_PER_NM = 10.0
_SMALLEST = 128  # voxels of the longest side, below which no smaller copy is made


def require_zarr() -> None:
    """`InputError` if the package that writes these files is not installed."""
    if importlib.util.find_spec("zarr") is None:
        raise InputError(
            "the package zarr is not installed, which writes OME-Zarr", fix="pip install 'manyviews[zarr]'"
        )


def copy_to_ome_zarr(source: Path, path: Path, *, overwrite: bool = False) -> float | None:
    """Copy a volume, MRC or EM, to OME-Zarr, a few planes of it in memory at a time.

    Returns the side of a voxel in nanometres; None where the header tells none, or three.

    Raises
    ------
    InputError
        If the volume cannot be read, the place is taken or cannot be written, or zarr is not installed.
    """
    volume = volume_header(source)
    if path.suffix.lower() != ".zarr":
        raise InputError("is no name for OME-Zarr", path=path, fix="let it end in .ome.zarr")
    require_absent(path, overwrite=overwrite)
    if path.exists() and not (path / _GROUP_FILE).is_file():
        raise InputError("is no OME-Zarr and is not replaced", path=path, fix="choose another name")
    if not path.absolute().parent.is_dir():
        raise InputError("the folder is not there", path=path.parent, fix="make it, or correct the name")
    size = volume.pixel_size
    voxel_nm = None if size is None else size / _ANGSTROM_PER_NM
    write_ome_zarr(path, volume.map_voxels(), voxel_nm)
    return voxel_nm


def write_ome_zarr(path: Path, volume: NDArray[Any], voxel_nm: float | None) -> None:
    """Write ``(z, y, x)`` and copies of half the size, chunk by chunk; in the end it replaces what was there.

    A voxel of a copy is the mean of eight; planes left over are left out. Lengths are in nanometres, or
    without unit if ``voxel_nm`` is None. `InputError` if it cannot be written, or without zarr.
    """
    require_zarr()
    made = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        shutil.rmtree(made, ignore_errors=True)
        _write(made, volume, voxel_nm, path.name.removesuffix(".zarr"))
        if path.exists():
            shutil.rmtree(path)
        made.rename(path)
    except OSError as error:
        raise InputError(
            f"cannot be written ({error.strerror or error})", path=path,
            fix="check that the place is writable and has free space",
        ) from error  # fmt: skip
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _write(folder: Path, volume: NDArray[Any], voxel_nm: float | None, name: str) -> None:
    import zarr

    group = zarr.create_group(store=folder, zarr_format=2)
    datasets: list[dict[str, Any]] = []
    level: Any = volume
    while True:
        factor = 2 ** len(datasets)
        array = group.create_array(
            name=str(len(datasets)), shape=level.shape, dtype="float32",
            chunks=tuple(min(CHUNK, length) for length in level.shape),
            chunk_key_encoding={"name": "v2", "separator": "/"},
        )  # fmt: skip
        for first in range(0, level.shape[0], CHUNK):
            array[first : first + CHUNK] = level[first : first + CHUNK]
        datasets.append(_dataset(len(datasets), factor, voxel_nm or 1.0))
        if max(level.shape) <= _SMALLEST or min(level.shape) < 2:
            break
        level = _Halved(array)
    unit = {} if voxel_nm is None else {"unit": "nanometer"}
    axes = [{"name": axis, "type": "space", **unit} for axis in "zyx"]
    group.attrs["multiscales"] = [{"version": "0.4", "name": name, "axes": axes, "datasets": datasets}]


def _dataset(number: int, factor: int, voxel: float) -> dict[str, Any]:
    """Voxels of a copy lie between those that they are means of."""
    scale = {"type": "scale", "scale": [voxel * factor] * 3}
    shift = {"type": "translation", "translation": [0.5 * (factor - 1) * voxel] * 3}
    return {"path": str(number), "coordinateTransformations": [scale, shift]}


class _Halved:
    """An array of half the size, made of the planes that are asked for."""

    def __init__(self, array: Any) -> None:
        self._array = array
        self.shape = tuple(length // 2 for length in array.shape)

    def __getitem__(self, planes: slice) -> NDArray[np.float32]:
        depth, rows, columns = self.shape
        first, last = planes.start, min(planes.stop, depth)
        part = np.asarray(self._array[2 * first : 2 * last, : 2 * rows, : 2 * columns])
        cubes = part.reshape(last - first, 2, rows, 2, columns, 2)
        found: NDArray[np.float32] = cubes.mean(axis=(1, 3, 5), dtype=np.float32)
        return found
