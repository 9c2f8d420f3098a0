"""Cut boxes around positions out of tomograms: volumes, a table of them, and a list of what became of each.

A tomogram is mapped, not read: what is read are the boxes. The middle of a box is a voxel; what is left of
the position beyond it stays in the table as a shift. Boxes that reach beyond their tomogram are skipped,
filled or refused as told; NaN is never written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.io.mrc import write_mrc
from manyviews.io.relion_pixel_size import BINNING, IMAGE, PIXEL
from manyviews.io.relion_subtomogram_writer import is_foreign, write_relion_subtomograms
from manyviews.io.relion_subtomograms import VOLUME, WEIGHTS
from manyviews.io.staging import staged_folder
from manyviews.io.subtomogram_table import Float64, SubtomogramTable
from manyviews.io.tables import write_table
from manyviews.io.volume_files import voxel_fault
from manyviews.options import check_options
from manyviews.subtomo.duplicates import find_duplicates
from manyviews.subtomo.options import ExtractOptions
from manyviews.subtomo.picked import Picked, pick

Progress = Callable[[str, int, int], None]
Float32 = NDArray[np.float32]

VOLUMES, TABLE, LIST = "volumes", "particles.star", "extracted.csv"
_OWN_FILES = (f"{VOLUMES}/*.mrc", TABLE, LIST)
_HEADER = ("particle", "tomogram", "x", "y", "z", "state", "filled_fraction", "reason", "volume")
_SUSPICIOUS = 0.5


@dataclass(frozen=True)
class Cut:
    """What became of a particle: its ``volume``, or why there is none; ``reason`` says too what is filled."""

    reason: str = ""
    filled: float = 0.0
    volume: Float32 | None = None


@dataclass(frozen=True)
class Extracted:
    """What `extract` wrote, how many were cut out, filled, and skipped, what was
    taken from where, and what to warn of.
    """

    table: Path
    listed: Path
    count: int
    filled: int
    skipped: dict[str, int]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


def extract(options: ExtractOptions, progress: Progress | None = None) -> Extracted:
    """Cut out what the options say; the folder appears when complete or not at all.

    ``progress`` is told what is done, how much of it, and how much there is.

    Raises
    ------
    InputError
        If an input cannot be read, nothing can be cut out, a box reaches beyond its tomogram and that is to
        fail, or the folder cannot be written.
    """
    check_options(options)
    picked = pick(options)
    with staged_folder(options.out, _OWN_FILES, overwrite=options.overwrite) as folder:
        (folder / VOLUMES).mkdir()
        cuts: dict[int, Cut] = {}
        written: set[int] = set()
        for done, (row, cut) in enumerate(_cuts(picked, options), start=1):
            if cut.volume is not None:
                write_mrc(folder / _name(picked, row), cut.volume, picked.pixel_size)
                written.add(row)
            cuts[row] = replace(cut, volume=None)
            if progress is not None:
                progress("subtomograms", done, len(picked.table))
        if not written:
            raise InputError(
                f"not one of {len(picked.table)} boxes could be cut out: {cuts[0].reason}",
                path=options.positions,
                fix="check units, voxel size and the order x y z of the positions",
            )
        write_relion_subtomograms(folder / TABLE, _table(picked, np.array(sorted(written)), options.box))
        write_table(folder / LIST, _HEADER, _listing(picked, cuts, written))
    return _result(options, picked, cuts, written)


def _name(picked: Picked, row: int) -> str:
    """A volume by its row in the file of positions, from 1."""
    return f"{VOLUMES}/{int(picked.rows[row]) + 1:06d}.mrc"


def _cuts(picked: Picked, options: ExtractOptions) -> Iterator[tuple[int, Cut]]:
    """What becomes of every particle, tomogram after tomogram, from their first sections to their last."""
    score = picked.table.score
    duplicates = find_duplicates(
        picked.voxels * picked.pixel_size, picked.index, options.min_distance, score
    ) if options.min_distance > 0 else None  # fmt: skip
    for number, tomogram in enumerate(picked.tomograms):
        own = np.flatnonzero(picked.index == number)
        voxels = tomogram.map_voxels()
        for row in own[np.argsort(picked.voxels[own, 2], kind="stable")].tolist():
            if duplicates is not None and not duplicates.kept[row]:
                other = int(picked.rows[duplicates.of[row]]) + 1
                yield row, Cut(f"duplicate of particle {other}, {duplicates.distances[row]:.1f} A away")
                continue
            cut = cut_box(voxels, nearest_voxel(picked.voxels[row]), options.box, fill=options.edge == "fill")
            if cut.volume is None and options.edge == "fail":
                where = f"particle {int(picked.rows[row]) + 1}"
                raise InputError(
                    f"its box cannot be cut out of {tomogram.path.name}: {cut.reason}",
                    path=options.positions,
                    where=where,
                    fix="take it out, or give --edge skip or --edge fill",
                )
            yield row, replace(cut, volume=-cut.volume) if options.invert and cut.volume is not None else cut


def nearest_voxel(position: Float64) -> NDArray[np.int64]:
    """Whole voxels; half-way it is the next higher one."""
    return np.floor(position + 0.5).astype(np.int64)


def cut_box(voxels: NDArray[Any], middle: NDArray[np.int64], box: int, *, fill: bool) -> Cut:
    """A cube of ``box`` voxels whose voxel ``box // 2`` is ``middle`` (x y z), of ``voxels`` ``(z, y, x)``.

    What lies outside, or is not finite, is the mean of the rest if ``fill``, else there is no volume. Nor is
    there one where all voxels are the same, or none is inside.
    """
    first = middle[::-1] - box // 2
    low = np.maximum(first, 0)
    high = np.minimum(first + box, voxels.shape)
    if np.any(low >= high):
        return Cut("outside the tomogram")
    place = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    with np.errstate(over="ignore", invalid="ignore"):  # what becomes infinite is looked for next
        inside = np.array(voxels[place], dtype=np.float32)
    finite = np.isfinite(inside)
    present = int(np.count_nonzero(finite))
    beyond = 1 - inside.size / box**3
    missing = 1 - present / box**3
    reasons = [f"{beyond:.1%} of the box lies beyond the edge"] if beyond else []
    if present < inside.size:
        reasons.append(f"{inside.size - present} voxels are NaN or infinite")
    reason = " and ".join(reasons)
    if missing and (not fill or not present):
        return Cut(reason)
    if fault := voxel_fault(inside[finite]):
        return Cut(fault)
    if not missing:
        return Cut(volume=inside)
    volume = np.full((box,) * 3, inside[finite].mean(dtype=np.float64), dtype=np.float32)
    place = tuple(slice(a - f, b - f) for a, b, f in zip(low, high, first, strict=True))
    volume[place][finite] = inside[finite]
    return Cut(reason, missing, volume)


def _table(picked: Picked, kept: NDArray[np.int64], box: int) -> SubtomogramTable:
    """The particles that were cut out, each with what its position has beyond a whole voxel."""
    table, size = picked.table.select(kept), picked.pixel_size
    voxels = picked.voxels[kept]
    middle = np.floor(voxels + 0.5)
    left_over = {
        label: texts
        for label, texts in table.extra.items()
        if not is_foreign(label) and label not in (VOLUME, WEIGHTS, IMAGE, PIXEL)
    }
    optics = dict(table.optics)
    optics.pop(BINNING, None)
    names = tuple(_name(picked, row) for row in kept.tolist())
    return replace(
        table,
        pixel_size=size,
        tomogram_pixel_size=size,
        shifts=-(voxels - middle) * size,
        coordinates=middle * size,
        origin="corner",
        volumes=tuple(Path(name) for name in names),
        volume_names=names,
        weights=(),
        weight_names=(),
        tomograms=table.tomograms or (picked.tomograms[0].path.stem,),
        tomogram_index=np.zeros(len(kept), dtype=np.int64) if not table.tomograms else table.tomogram_index,
        ctf_premultiplied=None,
        optics=optics,
        box=box,
        extra=left_over,
    )


def _listing(picked: Picked, cuts: dict[int, Cut], written: set[int]) -> Iterator[tuple[object, ...]]:
    for row in range(len(picked.table)):
        cut = cuts[row]
        state = "skipped" if row not in written else "filled" if cut.filled else "extracted"
        tomogram = picked.table.tomogram_of(row) or picked.tomograms[0].path.stem
        place = (f"{value:.3f}" for value in picked.voxels[row])
        volume = _name(picked, row) if row in written else ""
        yield int(picked.rows[row]) + 1, tomogram, *place, state, f"{cut.filled:.6f}", cut.reason, volume


def _result(options: ExtractOptions, picked: Picked, cuts: dict[int, Cut], written: set[int]) -> Extracted:
    skipped: dict[str, int] = {}
    for row, cut in cuts.items():
        if row not in written:
            kind = _kind(cut.reason)
            skipped[kind] = skipped.get(kind, 0) + 1
    warnings = list(picked.table.warnings)
    outside = np.mean([_is_outside(picked, row) for row in range(len(picked.table))])
    if outside >= _SUSPICIOUS:
        warnings.append(
            f"{outside:.0%} of the positions lie outside their tomograms: are units, voxel size and the order"
            " x y z right?"
        )
    filled = sum(cuts[row].filled > 0 for row in written)
    return Extracted(
        options.out / TABLE,
        options.out / LIST,
        len(written),
        filled,
        skipped,
        picked.table.notes,
        tuple(warnings),
    )


def _is_outside(picked: Picked, row: int) -> bool:
    sides = picked.tomograms[int(picked.index[row])].shape[::-1]
    middle = nearest_voxel(picked.voxels[row])
    return bool(np.any(middle < 0) or np.any(middle >= sides))


def _kind(reason: str) -> str:
    for word in ("duplicate", "outside the tomogram", "beyond the edge", "NaN"):
        if word in reason:
            return {"duplicate": "duplicates", "NaN": "NaN or infinity inside"}.get(word, word)
    return "empty or constant"
