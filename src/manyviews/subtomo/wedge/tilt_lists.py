"""The tilts of each tomogram from files beside each other, one list for all or one for each."""

from __future__ import annotations

from pathlib import Path

from manyviews.errors import InputError, quoted
from manyviews.geometry.missing_wedge import TiltScheme
from manyviews.io.imod import read_angle_table
from manyviews.io.subtomogram_table import SubtomogramTable
from manyviews.subtomo.options import SubtomogramOptions

_ENDINGS = (".tlt", ".rawtlt", "_TLT.txt")
_TOMOGRAM_ENDINGS = (".mrc", ".rec", ".em", ".tomostar")


def tilt_schemes(table: SubtomogramTable, options: SubtomogramOptions) -> list[TiltScheme]:
    """The tilts of each particle, in the order of the table; equal ones are one object.

    Raises
    ------
    InputError
        If a tomogram has no list of tilts, a list cannot be read, or does not go with what the table says of
        visible tilts.
    """
    lists: dict[str, tuple[float, ...]] = {}
    known: dict[tuple[float, ...], TiltScheme] = {}
    found = []
    for particle in range(len(table)):
        name = table.tomogram_of(particle)
        if name not in lists:
            lists[name] = _tilts_of(name, options)
        tilts = _visible(lists[name], table, particle, options)
        if tilts not in known:
            known[tilts] = TiltScheme.of_tilts(tilts, axis=options.tilt_axis, beam=options.beam_axis)
        found.append(known[tilts])
    return found


def _tilts_of(name: str, options: SubtomogramOptions) -> tuple[float, ...]:
    given = options.tilt_angles
    assert given is not None
    if not given.is_dir():
        return tuple(read_angle_table(given).tilt_degrees.tolist())
    if not name:
        raise InputError(
            "the table does not tell which tomograms its particles are from",
            where="--tilt-angles",
            fix="give one file of tilts for all, not a folder",
        )
    stem = Path(name).name
    for ending in _TOMOGRAM_ENDINGS:
        stem = stem.removesuffix(ending)
    for ending in _ENDINGS:
        path = given / f"{stem}{ending}"
        if path.exists():
            return tuple(read_angle_table(path).tilt_degrees.tolist())
    raise InputError(
        f"tomogram {quoted(name)} has no list of its tilts",
        path=given,
        where="--tilt-angles",
        fix=f"put {stem}.tlt or {stem}.rawtlt there",
    )


def _visible(
    tilts: tuple[float, ...], table: SubtomogramTable, particle: int, options: SubtomogramOptions
) -> tuple[float, ...]:
    """Those of the tilts that the table says show a particle."""
    if not table.visible_tilts:
        return tilts
    seen = table.visible_tilts[particle]
    if len(seen) != len(tilts):
        raise InputError(
            f"subtomogram {particle + 1} is said to be visible in some of {len(seen)} tilts, but the list of "
            f"its tomogram has {len(tilts)}",
            path=options.tilt_angles,
            fix="give the list that was used to cut it out",
        )
    return tuple(tilt for tilt, shows in zip(tilts, seen, strict=True) if shows)
