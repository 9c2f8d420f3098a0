"""RELION-5's list of tilt series, which has what its files of single series have not: hand and microscope.

Source: RELION-5 ``tomogram_set.cpp``: a row a series, of which rlnTomoTiltSeriesStarFile names the file, seen
from the folder of the project; rlnTomoDefocusSlope is 1 where it is left out. A job writes the list beside
the folder with the files.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from manyviews.errors import InputError
from manyviews.io.star import StarBlock, read_star
from manyviews.io.text import parse_number

_NAMES = "rlnTomoTiltSeriesStarFile"
_MOST_BYTES = 16 * 2**20


@dataclass(frozen=True)
class ListedSeries:
    """What a list says of one tilt series; None where it does not. Fields are as of `DefocusTable`.

    Attributes
    ----------
    microscope_source
        The list.
    hand
        1 or -1: sign of the change of defocus with depth.
    defocus_slope
        By how much defocus changes for each angstrom of depth.
    voltage_kv, spherical_aberration_mm, amplitude_contrast
        Of the microscope.
    """

    microscope_source: str
    hand: int | None
    defocus_slope: float
    voltage_kv: float | None
    spherical_aberration_mm: float | None
    amplitude_contrast: float | None


def find_listed(series: Path) -> ListedSeries | None:
    """The row of the list that names the STAR file of a tilt series; None: no list beside its folder does.

    Of several lists that agree the first by name counts.

    Raises
    ------
    InputError
        If a row holds something that is not a number, or two lists say different things.
    """
    if not series.is_file():
        return None
    place = series.resolve()
    found = [
        listed
        for path in sorted(place.parent.parent.glob("*.star"))
        for listed in [_listed(path, place)]
        if listed is not None
    ]
    if not found:
        return None
    said = {(one.hand, one.defocus_slope) for one in found}
    if len(said) > 1:
        names = " and ".join(Path(one.microscope_source).name for one in found)
        raise InputError(
            f"{names} differ in the hand or the slope of its defocus",
            path=series,
            fix="move the list that does not hold to another folder",
        )
    return found[0]


def _listed(path: Path, series: Path) -> ListedSeries | None:
    try:
        if path.stat().st_size > _MOST_BYTES:
            return None
        blocks = read_star(path)
    except (InputError, OSError):  # whatever else lies there
        return None
    for block in blocks:
        for row, name in enumerate(block.columns.get(_NAMES, [])):
            if Path(name).parts[-2:] == series.parts[-2:]:
                return _of_row(block, row, path)
    return None


def _of_row(block: StarBlock, row: int, path: Path) -> ListedSeries:
    def number(name: str) -> float | None:
        values = block.columns.get(name)
        if values is None:
            return None
        return parse_number(values[row], path=path, where=f"column {name}, row {row + 1}")

    hand, slope = number("rlnTomoHand"), number("rlnTomoDefocusSlope")
    if hand not in (None, 1.0, -1.0):
        what = f"the hand is {hand:g}"
        raise InputError(what, path=path, where="column rlnTomoHand", fix="make it 1 or -1")
    return ListedSeries(
        microscope_source=str(path),
        hand=None if hand is None else int(hand),
        defocus_slope=1.0 if slope is None else slope,
        voltage_kv=number("rlnVoltage"),
        spherical_aberration_mm=number("rlnSphericalAberration"),
        amplitude_contrast=number("rlnAmplitudeContrast"),
    )
