"""What was measured of each subtomogram of a table: by weight volumes, tilt ranges, or the options."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.geometry.missing_wedge import TiltScheme
from manyviews.io.subtomogram_table import SubtomogramTable
from manyviews.subtomo.options import SubtomogramOptions
from manyviews.subtomo.tables import told_tilt_range
from manyviews.subtomo.wedge.tilt_lists import tilt_schemes
from manyviews.subtomo.wedge.transfer import transfer
from manyviews.subtomo.wedge.weight_volumes import WeightVolume, read_weights

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]

_FULL = 1e-3  # degrees: a range of no width
_DYNAMO_FULL, _DYNAMO_Y, _DYNAMO_X = 0, 1, 2
_KEPT = 8


@dataclass(frozen=True, eq=False)
class TableTransfers:
    """``W`` transfers of subtomograms of ``box`` voxels, read or made when they are asked for.

    Attributes
    ----------
    sources
        A weight volume's path, or tilt schemes, of each; an empty tuple of schemes: all was measured.
    index
        ``(N,)`` which one is whose.
    squared, premultiplied
        What the weight volumes and the subtomograms hold; see `read_weights`.
    told
        How it was decided, a sentence, and warnings.
    """

    box: int
    pixel_size: float
    sources: tuple[Path | tuple[TiltScheme, ...], ...]
    index: Int64
    squared: bool = False
    premultiplied: bool = False
    told: str = ""
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, number: int) -> Float32:
        """``(box, box, box // 2 + 1)`` in the layout of ``rfftn``; `InputError` if it cannot be read."""
        return _made(self, number)

    def schemes(self, number: int) -> tuple[TiltScheme, ...] | None:
        """The tilt schemes of a transfer; None for a weight volume."""
        source = self.sources[number]
        return None if isinstance(source, Path) else source


@lru_cache(maxsize=_KEPT)
def _made(transfers: TableTransfers, number: int) -> Float32:
    source, box = transfers.sources[number], transfers.box
    if isinstance(source, Path):
        return read_weights(
            source, box, squared=transfers.squared, premultiplied=transfers.premultiplied
        ).transfer
    if not source:
        return np.ones((box, box, box // 2 + 1), np.float32)
    return transfer(box, transfers.pixel_size, source)


def table_transfers(table: SubtomogramTable, options: SubtomogramOptions, box: int) -> TableTransfers:
    """What was measured of each subtomogram; options win over the table, aloud.

    Raises
    ------
    InputError
        If nothing tells.
    """
    has_weights = any(path is not None for path in table.weights)
    if options.tilt_range or options.tilt_angles is not None or not has_weights:
        _refuse_turned_boxes(table, options)
    if options.tilt_range and options.tilt_angles is not None:
        raise InputError("--tilt-range and --tilt-angles say the same thing twice", fix="give one of the two")
    if options.tilt_range and (told_range := told_tilt_range(options)):
        scheme = TiltScheme.of_range(*told_range, axis=options.tilt_axis, beam=options.beam_axis)
        tilts = f"{scheme.low:g} to {scheme.high:g} degrees"
        told = f"measured from {tilts} about {options.tilt_axis} (--tilt-range)"
        warnings: tuple[str, ...] = ()
        if has_weights or table.tilt_ranges is not None:
            beaten = "the weight volumes of the table" if has_weights else "the tilt ranges of the table"
            warnings = (f"--tilt-range is taken, not {beaten}",)
        index = np.zeros(len(table), np.int64)
        return TableTransfers(box, table.pixel_size, ((scheme,),), index, told=told, warnings=warnings)
    if options.tilt_angles is not None:
        return _from_lists(table, options, box, has_weights)
    if has_weights:
        return _from_weights(table, options, box)
    if table.tilt_ranges is not None:
        return _from_ranges(table, options, box)
    raise InputError(
        "nothing tells which part of each subtomogram was measured (the missing wedge)",
        path=options.particles,
        fix="give --tilt-range -60 60 and --tilt-axis y, or --tilt-angles, as the tomograms were tilted, or "
        "a table with weight volumes (rlnCtfImage)",
    )


def _refuse_turned_boxes(table: SubtomogramTable, options: SubtomogramOptions) -> None:
    """A wedge about the tomogram's axes does not fit boxes that were cut out turned."""
    if table.box_angles is not None and np.any(np.abs(table.box_angles) > _FULL):
        raise InputError(
            "the boxes were turned when they were cut out (rlnTomoSubtomogramRot, Tilt, Psi), so each has a "
            "wedge of its own",
            path=options.particles,
            fix="give a table with weight volumes (rlnCtfImage), or cut them out again with subtomo extract",
        )


def _from_lists(
    table: SubtomogramTable, options: SubtomogramOptions, box: int, has_weights: bool
) -> TableTransfers:
    schemes = tilt_schemes(table, options)
    unique = list(dict.fromkeys(schemes))
    place = {scheme: number for number, scheme in enumerate(unique)}
    index = np.array([place[scheme] for scheme in schemes], dtype=np.int64)
    counts = sorted({len(scheme.tilts) for scheme in unique})
    many = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    told = f"measured at {many} tilts of each tomogram (--tilt-angles), {len(unique)} different lists"
    warnings = ("--tilt-angles is taken, not the weight volumes of the table",) if has_weights else ()
    sources = tuple((scheme,) for scheme in unique)
    return TableTransfers(box, table.pixel_size, sources, index, told=told, warnings=warnings)


def _from_weights(table: SubtomogramTable, options: SubtomogramOptions, box: int) -> TableTransfers:
    missing = [number for number, path in enumerate(table.weights) if path is None]
    if missing:
        raise InputError(
            f"subtomogram {missing[0] + 1} has no weight volume, others have one",
            path=options.particles,
            fix="give each one, or --tilt-range for all",
        )
    paths = [path for path in table.weights if path is not None]
    unique = tuple(dict.fromkeys(paths))
    place = {path: number for number, path in enumerate(unique)}
    premultiplied = bool(table.ctf_premultiplied)
    named, first = _first_readable(unique, box, premultiplied)
    many = "one weight volume" if len(unique) == 1 else f"{len(unique)} weight volumes"
    told = f"measured as {many} of the table say: {first.note}"
    warnings = (f"{named.name}: {first.note}",) if first.is_unusual else ()
    index = np.array([place[path] for path in paths], dtype=np.int64)
    return TableTransfers(
        box, table.pixel_size, unique, index, premultiplied=premultiplied, told=told, warnings=warnings
    )


def _first_readable(paths: tuple[Path, ...], box: int, premultiplied: bool) -> tuple[Path, WeightVolume]:
    """What is told of all; particles whose own cannot be read are set aside later, unless all are."""
    faults: list[InputError] = []
    for path in paths:
        try:
            return path, read_weights(path, box, premultiplied=premultiplied)
        except InputError as error:
            faults.append(error)
    raise faults[0]


def _from_ranges(table: SubtomogramTable, options: SubtomogramOptions, box: int) -> TableTransfers:
    """Dynamo's columns 13 to 17: kind 0 is no wedge, 1 tilts about y, 2 about x, 3 about both."""
    ranges = np.asarray(table.tilt_ranges, dtype=np.float64)
    kinds = np.ones(len(table), np.int64) if table.wedge_type is None else table.wedge_type
    keys = [(int(kind), *row) for kind, row in zip(kinds, ranges.tolist(), strict=True)]
    unique = tuple(dict.fromkeys(keys))
    place = {key: number for number, key in enumerate(unique)}
    sources = tuple(_schemes(key, options) for key in unique)
    index = np.array([place[key] for key in keys], dtype=np.int64)
    told = f"measured as the tilt ranges of the table say ({len(unique)} kinds)"
    return TableTransfers(box, table.pixel_size, sources, index, told=told)


def _schemes(key: tuple[float, ...], options: SubtomogramOptions) -> tuple[TiltScheme, ...]:
    kind, y_low, y_high, x_low, x_high = key
    if kind == _DYNAMO_FULL:
        return ()
    axis: Literal["y", "x"]
    found = []
    for axis, low, high in (("y", y_low, y_high), ("x", x_low, x_high)):
        named = kind not in (_DYNAMO_Y, _DYNAMO_X) or (kind == _DYNAMO_X) == (axis == "x")
        if named and high - low > _FULL:
            found.append(TiltScheme.of_range(low, high, axis=axis, beam="z"))
    if not found:
        raise InputError(
            f"a wedge of kind {kind:g} has no tilt range", path=options.particles, where="columns 13 to 17",
            fix="give --tilt-range",
        )  # fmt: skip
    return tuple(found)
