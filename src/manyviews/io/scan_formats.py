"""Which format a scan is of, by its content, not by its name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from manyviews.errors import InputError
from manyviews.io import hdf5
from manyviews.io.data_exchange import is_data_exchange, read_data_exchange
from manyviews.io.file_kinds import PROBE_BYTES, TEXT, is_text
from manyviews.io.frames import ScanFile, Selection, everything
from manyviews.io.mrc_header import read_header
from manyviews.io.mrc_scan import MrcFrames, read_mrc_scan
from manyviews.io.nexus_tomo import find_keys, read_nexus_tomo
from manyviews.io.tiff_series import is_tiff, open_tiffs, read_tiff_folder, read_tiff_stack, tiff_files

_FORMATS = "an HDF5 file (Data Exchange or NXtomo), TIFF files or an MRC stack"


def read_scan_file(path: Path) -> ScanFile:
    """What a file or a folder says of a scan; no image is read.

    `InputError` if it is of no format that is known, or as the reader of its format.
    """
    if path.is_dir():
        return read_tiff_folder(path)
    start = _start(path)
    if start.startswith(hdf5.SIGNATURE):
        return _read_hdf5(path)
    if is_tiff(path):
        return read_tiff_stack(path)
    if start and is_text(start):
        raise InputError(f"is {TEXT.name}, no scan", path=path, fix=f"give {_FORMATS}")
    return read_mrc_scan(path)


def _start(path: Path) -> bytes:
    try:
        with open(path, "rb") as handle:
            return handle.read(PROBE_BYTES)
    except OSError as error:
        raise InputError(
            f"cannot be read ({error.strerror or error})", path=path, fix="check the name and the permissions"
        ) from error
    except ValueError as error:
        raise InputError("is not a possible file name", path=path, fix="check the name") from error


def _read_hdf5(path: Path) -> ScanFile:
    if is_data_exchange(path):
        return read_data_exchange(path)
    if find_keys(path):
        return read_nexus_tomo(path)
    raise InputError(
        "is HDF5 with neither /exchange/data (Data Exchange) nor an image_key (NXtomo)",
        path=path,
        fix="give the raw scan",
    )


def read_field(paths: Sequence[Path]) -> Selection:
    """Flats or darks in TIFF files, folders of them, or one MRC stack; `InputError` if they cannot be
    read.
    """
    files: list[Path] = []
    for path in paths:
        found = tiff_files(path) if path.is_dir() else [path]
        if not found:
            raise InputError("has no TIFF files", path=path, fix="give the files themselves")
        files += found
    if len(files) == 1 and not is_tiff(files[0]):
        return everything(MrcFrames(read_header(files[0])))
    return everything(open_tiffs(files))
