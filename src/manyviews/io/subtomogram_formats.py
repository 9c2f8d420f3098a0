"""Tables of subtomograms in any of the formats: which one a file is in, reading and writing it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from manyviews.errors import InputError, quoted
from manyviews.io.dynamo_table import read_dynamo_table, write_dynamo_table
from manyviews.io.motive_list import read_motive_list, write_motive_list
from manyviews.io.relion_subtomogram_writer import write_relion_subtomograms
from manyviews.io.relion_subtomograms import read_relion_subtomograms
from manyviews.io.stopgap import is_stopgap, read_stopgap_list, write_stopgap_list
from manyviews.io.subtomogram_table import SubtomogramTable

TableFormat = Literal["relion", "relion-tomo", "dynamo", "em", "stopgap"]

_BY_SUFFIX: dict[str, TableFormat] = {".star": "relion", ".tbl": "dynamo", ".em": "em"}


def format_by_name(path: Path) -> TableFormat:
    """The format that the ending of a name stands for; `InputError` if it is none."""
    suffix = Path(path).suffix.lower()
    if suffix not in _BY_SUFFIX:
        raise InputError(
            f"the ending {quoted(suffix)} is none of a table of subtomograms",
            path=path,
            fix="call it .star (RELION, STOPGAP), .tbl (Dynamo) or .em (motive list)",
        )
    return _BY_SUFFIX[suffix]


def read_subtomograms(
    path: Path,
    *,
    pixel_size: float | None = None,
    default_pixel_size: float | None = None,
    tomogram_pixel_size: float | None = None,
    data_root: Path | None = None,
    with_volumes: bool = True,
) -> SubtomogramTable:
    """Read a table in any format: by the ending of its name, STOPGAP's lists by what is in the STAR file.

    Parameters
    ----------
    path
        RELION's or STOPGAP's ``.star``, Dynamo's ``.tbl``, a motive list ``.em``.
    pixel_size
        Angstrom, of the subtomograms; STAR files of RELION and volumes may tell it, the others do not.
    default_pixel_size
        Angstrom, where nothing tells it.
    tomogram_pixel_size
        Angstrom, in which RELION's ``rlnCoordinateX`` counts; left out: what the file says.
    data_root
        The folder to which names of volumes are relative, or in which they lie by their numbers.
    with_volumes
        Whether the volumes must be there; False: a table of positions.

    Raises
    ------
    InputError
        As of the reader of the format.
    """
    path = Path(path)
    kind = format_by_name(path)
    if kind == "dynamo":
        return read_dynamo_table(
            path,
            pixel_size=pixel_size,
            default_pixel_size=default_pixel_size,
            data_root=data_root,
            with_volumes=with_volumes,
        )
    if kind == "em" or is_stopgap(path):
        read = read_motive_list if kind == "em" else read_stopgap_list
        size = default_pixel_size if pixel_size is None else pixel_size
        return read(path, pixel_size=size, data_root=data_root, with_volumes=with_volumes)
    return read_relion_subtomograms(
        path,
        pixel_size=pixel_size,
        default_pixel_size=default_pixel_size,
        tomogram_pixel_size=tomogram_pixel_size,
        data_root=data_root,
        with_volumes=with_volumes,
    )


def write_subtomograms(
    path: Path, table: SubtomogramTable, kind: TableFormat, *, overwrite: bool = False
) -> tuple[str, ...]:
    """Write a table in a format; what could not be said in it is returned. `InputError` as of the writers."""
    if kind == "dynamo":
        return write_dynamo_table(path, table, overwrite=overwrite)
    if kind == "em":
        return write_motive_list(path, table, overwrite=overwrite)
    if kind == "stopgap":
        return write_stopgap_list(path, table, overwrite=overwrite)
    return write_relion_subtomograms(path, table, tomo=kind == "relion-tomo", overwrite=overwrite)
