"""RELION's STAR files of subtomograms written, as version 3 has them or with columns of versions 4 and 5.

What is read and what it means is in `manyviews.io.relion_subtomograms`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from manyviews.errors import InputError
from manyviews.io import relion_pixel_size as pixel_sizes
from manyviews.io import relion_subtomograms as labels
from manyviews.io.dynamo_table import is_own_label as is_dynamo
from manyviews.io.motive_list import is_own_label as is_motive_list
from manyviews.io.star import StarBlock, write_star
from manyviews.io.stopgap import is_own_label as is_stopgap
from manyviews.io.subtomogram_table import Float64, Int64, SubtomogramTable

_GROUP = "rlnOpticsGroup"
_TOMO_VERSION = 50001
_NO_CTF = {
    "rlnVoltage": "300.000000",
    "rlnSphericalAberration": "0.000000",
    "rlnAmplitudeContrast": "1.000000",
}
"""Where nothing is known of the microscope: with these RELION's CTF is 1 at every frequency."""


def write_relion_subtomograms(
    path: Path, table: SubtomogramTable, *, tomo: bool = False, overwrite: bool = False
) -> tuple[str, ...]:
    """Write the table; what could not be said in it is returned.

    Volumes keep the names they had, so that they are found from the folder where they were found before.

    Parameters
    ----------
    path, table
        The STAR file, and what to write.
    tomo
        True: ``rlnTomoName`` and positions as RELION 4 and 5 read them, from the middle of the tomogram where
        the table counts from there. False: ``rlnMicrographName`` and ``rlnCoordinateX`` from the first voxel.

    Raises
    ------
    InputError
        As `write_star`, or if positions count from the middle of a tomogram and ``tomo`` is false.
    """
    said: list[str] = []
    first_group = table.optics.get(_GROUP, [])[:1] or ["1"]
    groups = table.extra.get(_GROUP) if _GROUP in table.optics else None
    groups = groups or first_group * len(table)
    columns: dict[str, list[str]] = {}
    if table.tomogram_index is not None:
        label = labels.TOMOGRAM if tomo else labels.MICROGRAPH
        columns[label] = [table.tomograms[index] for index in table.tomogram_index.tolist()]
    columns |= _volumes(table)
    columns[_GROUP] = groups
    columns |= _positions(table, Path(path), tomo=tomo)
    columns |= _decimals(labels.SHIFTS, table.shifts)
    columns |= _decimals(labels.ANGLES, table.angles) | _decimals(labels.BOX_ANGLES, table.box_angles)
    for names, values in ((labels.PRIORS, table.prior_angles), (labels.SIGMAS, table.prior_sigmas)):
        columns |= _priors(names, values, said)
    for field, label in labels.WHOLE.items():
        columns |= _whole(label, getattr(table, field))
    for field, label in labels.NUMBERS.items():
        values = getattr(table, field)
        columns |= {} if values is None else {label: [f"{value:.9g}" for value in values.tolist()]}
    if table.visible_tilts:
        columns[labels.VISIBLE] = [_list_text(tilts) for tilts in table.visible_tilts]
    foreign = {label for label in table.extra if is_foreign(label)}
    columns |= {
        label: texts for label, texts in table.extra.items() if label not in columns and label not in foreign
    }
    blocks = [StarBlock("optics", _optics(table, tomo=tomo)), StarBlock("particles", columns)]
    if tomo:
        stacks = int(not table.volumes and labels.VOLUME in table.extra)
        blocks.insert(0, StarBlock("general", {labels.STACKS: [str(stacks)]}))
        write_star(path, blocks, version=_TOMO_VERSION, overwrite=overwrite)
    else:
        write_star(path, blocks, overwrite=overwrite)
    return tuple(said)


def is_foreign(label: str) -> bool:
    """Whether a column was kept from a table of another program."""
    return is_dynamo(label) or is_motive_list(label) or is_stopgap(label)


def _volumes(table: SubtomogramTable) -> dict[str, list[str]]:
    columns: dict[str, list[str]] = {}
    if table.volumes:
        columns[labels.VOLUME] = list(table.volume_names or map(str, table.volumes))
    if any(weight is not None for weight in table.weights):
        names = table.weight_names or ["" if path is None else str(path) for path in table.weights]
        columns[labels.WEIGHTS] = [name or "None" for name in names]
    return columns


def _positions(table: SubtomogramTable, path: Path, *, tomo: bool) -> dict[str, list[str]]:
    if table.coordinates is None:
        return {}
    if table.origin == "centre":
        if not tomo:
            raise InputError(
                "positions count from the middle of a tomogram whose size is not known",
                path=path,
                fix="give it with --tomogram-size X Y Z, in voxels, or write --format relion-tomo",
            )
        return _decimals(labels.CENTRED, table.coordinates)
    return _decimals(labels.POSITION, table.coordinates / (table.tomogram_pixel_size or table.pixel_size))


def _priors(names: Sequence[str], values: Float64 | None, said: list[str]) -> dict[str, list[str]]:
    """Columns in which no particle is free; those of all particles free are left out."""
    columns: dict[str, list[str]] = {}
    for at, label in enumerate(names if values is not None else ()):
        assert values is not None
        free = np.isnan(values[:, at])
        if free.all():
            continue
        if free.any():
            said.append(f"{label} is not written: {int(free.sum())} particles have none")
            continue
        columns |= _decimals([label], values[:, at])
    return columns


def _optics(table: SubtomogramTable, *, tomo: bool) -> dict[str, list[str]]:
    """The groups as they were read, with the pixel size of the table; without them one that has no CTF."""
    kept = dict(table.optics)
    if _GROUP not in kept:
        kept = {_GROUP: ["1"], "rlnOpticsGroupName": ["opticsGroup1"]}
        kept |= {label: [text] for label, text in _NO_CTF.items()}
    count = len(kept[_GROUP])
    new = {pixel_sizes.IMAGE: f"{table.pixel_size:.6f}"}
    if table.volumes:
        new["rlnImageDimensionality"] = "3"
    if table.box is not None:
        new[labels.BOX] = str(table.box)
    if table.ctf_premultiplied is not None:
        new[labels.PREMULTIPLIED] = str(int(table.ctf_premultiplied))
    series = table.tomogram_pixel_size or table.pixel_size
    if tomo or pixel_sizes.SERIES in kept:
        new[pixel_sizes.SERIES] = f"{series:.6f}"
        new[pixel_sizes.BINNING] = f"{table.pixel_size / series:.6f}"
    elif table.coordinates is not None:
        new[pixel_sizes.MICROGRAPH] = f"{series:.6f}"
    return {**kept, **{label: [text] * count for label, text in new.items()}}


def _decimals(names: Sequence[str], values: Float64 | None) -> dict[str, list[str]]:
    if values is None:
        return {}
    table = values.reshape(len(values), -1)
    return {label: [_decimal(value) for value in table[:, at].tolist()] for at, label in enumerate(names)}


def _decimal(value: float) -> str:
    """Six decimals, without the sign of zero."""
    return f"{round(value, 6) + 0.0:.6f}"


def _whole(label: str, values: Int64 | None) -> dict[str, list[str]]:
    return {} if values is None else {label: [str(value) for value in values.tolist()]}


def _list_text(tilts: Sequence[bool]) -> str:
    return "[" + ",".join(str(int(seen)) for seen in tilts) + "]"
