"""Where the rotation axis is on the detector: given, by opposite views, or by the sharpest slices."""

from __future__ import annotations

from dataclasses import dataclass

from manyviews.errors import InputError
from manyviews.nano.scan.center_pairs import Estimate, Float64, Read, center_by_pairs
from manyviews.nano.scan.center_search import center_by_search, largest_gap_degrees

_APART_PIXELS = 1.0


@dataclass(frozen=True)
class FoundCenter:
    """The centre in pixels of the projections, counted from 0, ``by`` what it was found, and what was found.

    ``by`` is ``given``, ``opposite views``, ``sharpest slices`` or ``middle of the detector``; ``notes`` and
    ``warnings`` are sentences, with centres in pixels of the detector.
    """

    center: float
    by: str
    pairs: Estimate | None = None
    sharpest: Estimate | None = None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def search_range(columns: int, width: float | None) -> tuple[float, float]:
    """Lowest and highest centre of a search ``width`` pixels wide; left out, half of the detector.

    `InputError` if it is wider than the detector.
    """
    middle = (columns - 1) / 2
    half = columns / 4 if width is None else width / 2
    if half > middle:
        raise InputError(
            f"{width:g} is wider than the detector of {columns} columns",
            where="--center-search-width",
            fix="give fewer pixels",
        )
    return middle - half, middle + half


def check_center(center: float, columns: int) -> None:
    """`InputError` if a centre is not on the detector."""
    if not -0.5 <= center <= columns - 0.5:
        raise InputError(
            f"{center:g} is outside the detector of {columns} columns",
            where="--center",
            fix=f"give the column of the axis in pixels of the detector, from 0 to {columns - 1}",
        )


def find_center(
    read: Read,
    shape: tuple[int, int, int],
    theta_degrees: Float64,
    *,
    search_width: float | None = None,
    factor: int = 1,
) -> FoundCenter:
    """The centre by both ways, in pixels of the projections ``(view, row, column)`` that ``read`` gives.

    These are -log of the transmission, binned by ``factor``; ``search_width`` counts pixels of the detector.
    Opposite views win. Where the best of one way is on the border of the search, the other wins.
    """
    low, high = search_range(shape[2], None if search_width is None else search_width / factor)
    pairs = center_by_pairs(read, shape, theta_degrees, (low, high))
    sharpest = center_by_search(read, shape, theta_degrees, (low, high))
    ways = [("opposite views", pairs), ("sharpest slices", sharpest)]
    usable = [(by, one) for by, one in ways if one is not None and not one.on_border]
    if usable:
        by, center = usable[0][0], usable[0][1].center
    else:
        by, center = "middle of the detector", (shape[2] - 1) / 2

    def told(value: float) -> str:
        return f"{(value + 0.5) * factor - 0.5:.2f}"

    warnings = [
        f"the centre by {name} is on the border of the search ({told(low)} to {told(high)}) or beyond, at"
        f" {told(one.center)}: not taken; search more widely with --center-search-width, or give --center"
        for name, one in ways
        if one is not None and one.on_border
    ]
    if not usable:
        warnings.append(
            f"the centre could not be found ({_why_not(pairs, sharpest, theta_degrees)}): the middle of"
            f" the detector,"
            f" {told(center)}, is taken; give --center"
        )
    if len(usable) == 2 and abs(usable[0][1].center - usable[1][1].center) * factor > _APART_PIXELS:
        warnings.append(
            f"the centre by opposite views is {told(usable[0][1].center)}, by sharpest slices"
            f" {told(usable[1][1].center)}: the first is taken; give --center if it is wrong"
        )
    return FoundCenter(center, by, pairs, sharpest, tuple(_notes(pairs, sharpest, factor)), tuple(warnings))


def _why_not(pairs: Estimate | None, sharpest: Estimate | None, theta: Float64) -> str:
    if pairs is not None or sharpest is not None:
        return "what was found is on the border"
    gap = largest_gap_degrees(theta)
    return f"no two views are opposite, and {gap:.3g} degrees of directions are missing"


def _notes(pairs: Estimate | None, sharpest: Estimate | None, factor: int) -> list[str]:
    """What each way found, in pixels of the detector."""
    found = []
    if pairs is not None:
        about = f"{pairs.parts} pair{'s' if pairs.parts > 1 else ''}, correlation {pairs.match:.2f}"
        if pairs.degrees_off:
            about += f", the nearest {pairs.degrees_off:.2f} degrees from opposite, followed to 0"
        if pairs.parts > 1:
            about += f", which differ by {pairs.spread * factor:.2f} pixels"
        found.append(f"centre by opposite views: {(pairs.center + 0.5) * factor - 0.5:.2f} ({about})")
    else:
        found.append("centre by opposite views: there are none")
    if sharpest is not None:
        value = (sharpest.center + 0.5) * factor - 0.5
        found.append(
            f"centre by sharpest slices: {value:.2f} ({sharpest.parts}"
            f" slice{'s' if sharpest.parts > 1 else ''})"
        )
    else:
        found.append("centre by sharpest slices: not looked for, too many directions are missing")
    return found
