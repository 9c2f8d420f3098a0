"""STOPGAP's motive lists: STAR files with the block ``data_stopgap_motivelist``.

Source: STOPGAP 0.7, ``sg_get_motl_fields.m``. A particle sits at orig + shift in voxels, of which the first
is 1; angles are those of `manyviews.geometry.zxz_angles`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from manyviews.errors import InputError, quoted
from manyviews.geometry.zxz_angles import from_motive_list, to_motive_list
from manyviews.io.dynamo_table import FIRST_VOXEL, voxel_positions
from manyviews.io.numbered_files import find_numbered_volumes
from manyviews.io.numbered_tomograms import NumberedTomograms, number_tomograms
from manyviews.io.star import StarBlock, column_numbers, column_whole_numbers, read_star, write_star
from manyviews.io.subtomogram_table import Float64, Int64, SubtomogramTable

BLOCK = "stopgap_motivelist"

_BEGINNING = 65536

_LABEL = "stopgap_"
_POSITION = ("orig_x", "orig_y", "orig_z")
_SHIFT = ("x_shift", "y_shift", "z_shift")
_ANGLES = ("phi", "psi", "the")
_WHOLE = ("motl_idx", "tomo_num", "object", "subtomo_num", "class")
_FIELDS = (
    *("motl_idx", "tomo_num", "object", "subtomo_num", "halfset", *_POSITION, "score"),
    *(*_SHIFT, *_ANGLES, "class"),
)
_HALVES = {"A": 1, "B": 2}


def is_stopgap(path: Path) -> bool:
    """Whether a STAR file begins as a motive list of STOPGAP; False where it cannot be read."""
    try:
        with open(path, "rb") as handle:
            return f"data_{BLOCK}".encode() in handle.read(_BEGINNING)
    except (OSError, ValueError):
        return False


def read_stopgap_list(
    path: Path,
    *,
    pixel_size: float | None = None,
    data_root: Path | None = None,
    with_volumes: bool = True,
) -> SubtomogramTable:
    """Read a motive list; the pixel size in angstrom must be given.

    With volumes, those in ``data_root`` (left out: beside the list) whose names end in ``subtomo_num``.

    Raises
    ------
    InputError
        If a column is missing or holds something else than it should, a particle is listed for each of
        several classes, the pixel size is not given, or a volume is missing.
    """
    path = Path(path)
    block = next((found for found in read_star(path) if found.name == BLOCK), None)
    if block is None:
        raise InputError(f"has no block data_{BLOCK}", path=path, fix="give a motive list of STOPGAP")
    columns = block.columns
    missing = [name for name in _FIELDS if name not in columns and name not in ("halfset", "motl_idx")]
    if missing or len(block) == 0:
        what = f"the column {missing[0]} is missing" if missing else "holds no particles"
        raise InputError(what, path=path, fix="give a motive list of STOPGAP")
    if pixel_size is None:
        raise InputError(
            "a motive list does not tell the pixel size",
            path=path,
            fix="give it with --pixel-size, in angstrom",
        )
    whole = {name: column_whole_numbers(columns[name], name, path) for name in _WHOLE if name in columns}
    _require_one_entry(whole["subtomo_num"], path)
    tomograms = NumberedTomograms.of(whole["tomo_num"])
    volumes: tuple[Path, ...] = ()
    if with_volumes:
        volumes = find_numbered_volumes(data_root or path.parent, whole["subtomo_num"].tolist(), path)

    def numbers(labels: Sequence[str]) -> Float64:
        return np.stack([column_numbers(columns[label], label, path) for label in labels], axis=1)

    kept = {label: texts for label, texts in columns.items() if label not in _FIELDS or label == "motl_idx"}
    return SubtomogramTable(
        pixel_size=pixel_size,
        shifts=-numbers(_SHIFT) * pixel_size,
        angles=from_motive_list(numbers(_ANGLES)),
        volumes=volumes,
        tomograms=tomograms.names,
        tomogram_index=tomograms.index,
        coordinates=(numbers(_POSITION) - FIRST_VOXEL) * pixel_size,
        score=numbers(["score"])[:, 0],
        number=whole["subtomo_num"],
        parent=whole["object"],
        class_number=whole["class"],
        half=_halves(columns, path),
        extra={_LABEL + label: texts for label, texts in kept.items()},
        notes=_all_alike(columns),
    )


def _require_one_entry(numbers: Int64, path: Path) -> None:
    different, counts = np.unique(numbers, return_counts=True)
    if len(different) < len(numbers):
        raise InputError(
            f"particle {different[counts > 1][0]} is listed {counts.max()} times",
            path=path,
            where="column subtomo_num",
            fix="keep one entry a particle, that of its best class",
        )


def _halves(columns: Mapping[str, list[str]], path: Path) -> Int64 | None:
    """1 for A and 2 for B; None where all are A, which is what STOPGAP writes before it makes halves."""
    texts = columns.get("halfset")
    if texts is None or set(texts) == {"A"}:
        return None
    for row, text in enumerate(texts):
        if text not in _HALVES:
            raise InputError(
                f"half set {quoted(text)} is neither A nor B",
                path=path,
                where=f"column halfset, row {row + 1}",
                fix="correct the list",
            )
    return np.array([_HALVES[text] for text in texts], dtype=np.int64)


def _all_alike(columns: Mapping[str, list[str]]) -> tuple[str, ...]:
    """What to say of halves that are none."""
    is_so = set(columns.get("halfset", ())) == {"A"}
    return ("all particles are of half set A, which is taken as none",) if is_so else ()


def write_stopgap_list(path: Path, table: SubtomogramTable, *, overwrite: bool = False) -> tuple[str, ...]:
    """Write a motive list; what could not be said in it is returned. `InputError` as of other writers."""
    flat = table.in_tomogram()
    count = len(flat)
    numbered = number_tomograms(flat)
    order = np.arange(1, count + 1)
    ones = np.ones(count, dtype=np.int64)
    kept = {label[len(_LABEL) :]: texts for label, texts in flat.extra.items() if is_own_label(label)}
    angles = to_motive_list(np.zeros((count, 3)) if flat.angles is None else flat.angles)
    columns = {
        "motl_idx": kept.pop("motl_idx", _texts(order)),
        "tomo_num": _texts(numbered.numbers),
        "object": _texts(ones if flat.parent is None else flat.parent),
        "subtomo_num": _texts(order if flat.number is None else flat.number),
        "halfset": ["A"] * count if flat.half is None else ["AB"[half - 1] for half in flat.half.tolist()],
        **_decimals(_POSITION, voxel_positions(flat, Path(path))),
        **_decimals(["score"], np.zeros(count) if flat.score is None else flat.score),
        **_decimals(_SHIFT, -flat.shifts / flat.pixel_size),
        **_decimals(_ANGLES, angles),
        "class": _texts(ones if flat.class_number is None else flat.class_number),
        **kept,
    }
    write_star(Path(path), [StarBlock(BLOCK, columns)], overwrite=overwrite)
    return numbered.warnings


def is_own_label(label: str) -> bool:
    """Whether a column was kept from a list of STOPGAP."""
    return label.startswith(_LABEL)


def _texts(values: Int64) -> list[str]:
    return [str(value) for value in values.tolist()]


def _decimals(labels: Sequence[str], values: Float64) -> dict[str, list[str]]:
    table = values.reshape(len(values), -1)
    return {label: [f"{value:.6f}" for value in table[:, at].tolist()] for at, label in enumerate(labels)}
