"""Small scans of every format: whole files, what lies beside them, and what reads them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import tifffile

from manyviews.nano.scan.angles import read_angle_file
from manyviews.nano.scan.options import ScanOptions
from manyviews.nano.scan.prepare import prepare
from manyviews.nano.scan.scan import open_scan

VIEWS, ROWS, COLUMNS = 5, 3, 8
ANGLES = "\n".join(f"{angle:g}" for angle in np.linspace(0, 180, VIEWS)).encode() + b"\n"
_COUNTS = (1000 + 37 * np.arange(VIEWS * ROWS * COLUMNS) % 500).reshape(VIEWS, ROWS, COLUMNS).astype("<u2")
_FLAT, _DARK = np.full((1, ROWS, COLUMNS), 2000, "<u2"), np.full((1, ROWS, COLUMNS), 10, "<u2")


def _data_exchange(path: Path, chunked: bool) -> None:
    how = {"chunks": (1, ROWS, COLUMNS), "compression": "gzip"} if chunked else {}
    with h5py.File(path, "w") as file:
        file.create_dataset("exchange/data", data=_COUNTS, **how)
        file["exchange/data_white"], file["exchange/data_dark"] = _FLAT, _DARK
        file["exchange/theta"] = np.linspace(0.0, 180.0, VIEWS)


def _nexus(path: Path, chunked: bool) -> None:
    key = [1, 2, *[0] * VIEWS]
    with h5py.File(path, "w") as file:
        detector = file.create_group("entry/instrument/detector")
        detector["data"], detector["image_key"] = np.concatenate([_FLAT, _DARK, _COUNTS]), key
        sample = file.create_group("entry/sample")
        sample.attrs["NX_class"] = np.bytes_("NXsample")
        sample["rotation_angle"] = np.linspace(-90.0, 180.0, len(key))


def _tiff(path: Path, chunked: bool) -> None:
    if chunked:
        tifffile.imwrite(path, _COUNTS, photometric="minisblack", compression="zlib")
    else:
        tifffile.imwrite(path, _COUNTS, imagej=True, truncate=True)


def seeds(write: Callable[[Path, bool], None]) -> Callable[[], list[bytes]]:
    """Whole files, plain and packed."""

    def made() -> list[bytes]:
        found = []
        with tempfile.TemporaryDirectory() as folder:
            for chunked in (False, True):
                path = Path(folder) / f"{chunked}"
                write(path, chunked)
                found.append(path.read_bytes())
        return found

    return made


SCANS = (("Data Exchange", "s.h5", _data_exchange), ("NXtomo", "s.nxs", _nexus), ("TIFF", "s.tif", _tiff))


def beside(name: str) -> Callable[[Path], Path]:
    """The angles of a TIFF stack, and its flat and dark."""

    def prepared(folder: Path) -> Path:
        (folder / "s.txt").write_bytes(ANGLES)
        tifffile.imwrite(folder / "flat.tif", _FLAT[0])
        tifffile.imwrite(folder / "dark.tif", _DARK[0])
        return folder / name

    return prepared


def read_scan(path: Path, drawn: bool) -> None:
    """As a user does."""
    fields = {"flats": (path.parent / "flat.tif",), "darks": (path.parent / "dark.tif",)}
    options = ScanOptions(center=3.0, rows=(0, 2), **(fields if path.suffix == ".tif" else {}))
    made = prepare(open_scan(path, options), options)
    assert np.isfinite(made.projections).all()


def read_angles(path: Path, drawn: bool) -> None:
    """A list of angles by itself, and as that of a stack beside it."""
    stack = path.with_suffix(".tif")
    if not stack.exists():
        _tiff(stack, chunked=False)
    read_angle_file(path)
    open_scan(stack, ScanOptions())
