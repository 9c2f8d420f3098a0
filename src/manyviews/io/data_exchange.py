"""Scans in Data Exchange HDF5: ``/exchange/data`` with flats, darks and angles beside it.

Sources: De Carlo et al., J. Synchrotron Rad. 21 (2014) 1224; the layout of the files of TomoScan. Angles are
in degrees as they were acquired: interlaced scans go on beyond 360 degrees, and are not sorted.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from manyviews.errors import InputError
from manyviews.io.frames import Float64, ScanFile, Selection, everything
from manyviews.io.hdf5 import Place, in_degrees, locate, open_frames, opened, read_numbers

DATA = "/exchange/data"
_ROTATION = "/process/acquisition/rotation"
_RESOLUTION = "/measurement/instrument/detection_system/objective/resolution"
_NANOMETRES = {"nm": 1.0, "um": 1e3, "micron": 1e3, "microns": 1e3, "mm": 1e6, "m": 1e9}


def is_data_exchange(path: Path) -> bool:
    """Whether an HDF5 file is of this layout."""
    return locate(path, DATA) is not None


def read_data_exchange(path: Path) -> ScanFile:
    """What a file says; no image is read. `InputError` as of `open_frames`, or if angles cannot be read."""
    folder = path.resolve().parent
    place = locate(path, DATA)
    if place is None:
        raise InputError(f"has no {DATA}", path=path, fix="give a Data Exchange file")
    frames = open_frames(place, folder)
    theta, source, notes = _theta(path, folder)
    pixel_size = _pixel_size(path, folder)
    return ScanFile(
        path=path,
        kind="Data Exchange HDF5",
        projections=everything(frames),
        theta_degrees=theta,
        theta_source=source,
        flats=_fields(path, folder, "/exchange/data_white"),
        darks=_fields(path, folder, "/exchange/data_dark"),
        pixel_size_nm=pixel_size,
        pixel_size_source=_RESOLUTION if pixel_size else "",
        notes=notes + ((place.moved,) if place.moved else ()),
    )


def _fields(path: Path, folder: Path, name: str) -> Selection | None:
    """Flats or darks; a set of no images, which some programs write, is none."""
    place = locate(path, name)
    if place is None or _is_empty(place):
        return None
    return everything(open_frames(place, folder))


def _is_empty(place: Place) -> bool:
    with opened(place.file) as file:
        shape = getattr(file[place.name], "shape", None)
    return not shape or 0 in shape


def _theta(path: Path, folder: Path) -> tuple[Float64 | None, str, tuple[str, ...]]:
    place = locate(path, "/exchange/theta")
    if place is not None and not _is_empty(place):
        theta, unit = read_numbers(place, folder)
        theta, told = in_degrees(theta, unit, place.title)
        return theta, place.title, told
    start, step, count = (_number(path, folder, f"{_ROTATION}/{name}") for name in _ROTATION_NAMES)
    if start is None or step is None or count is None:
        return None, f"there is no /exchange/theta, and no {_ROTATION}", ()
    if not 0 < count <= 1 << 20:
        raise InputError(f"{count:g} angles are promised", path=path, where=f"{_ROTATION}/num_angles")
    text = f"there is no /exchange/theta: angles begin at {start:g} and step by {step:g} as {_ROTATION} says"
    return start + step * np.arange(int(count), dtype=np.float64), _ROTATION, (text,)


_ROTATION_NAMES = ("rotation_start", "rotation_step", "num_angles")


def _number(path: Path, folder: Path, name: str) -> float | None:
    place = locate(path, name)
    if place is None or _is_scalar_text(place):
        return None
    return float(read_numbers(place, folder)[0][0])


def _is_scalar_text(place: Place) -> bool:
    with opened(place.file) as file:
        kind = getattr(file[place.name], "dtype", None)
    return kind is None or kind.kind not in "iuf"


def _pixel_size(path: Path, folder: Path) -> float | None:
    """In nm, from what TomoScan calls the resolution of the objective: the pixel in the specimen."""
    place = locate(path, _RESOLUTION)
    if place is None or _is_scalar_text(place):
        return None
    values, unit = read_numbers(place, folder)
    size = float(values[0]) * _NANOMETRES.get(unit.lower(), 1e3)  # microns where nothing is said
    return size if 0 < size < 1e6 else None
