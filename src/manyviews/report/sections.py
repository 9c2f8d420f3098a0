"""What a job hands over for the page of a run: sections, and words for the places that every page has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from manyviews.report.data import RunData
from manyviews.report.display_volume import DisplayVolume

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Picture:
    """A drawing, kept as ``figures/NAME.png`` too; ``alternative`` says in words what it shows."""

    name: str
    alternative: str
    figure: Figure


@dataclass(frozen=True)
class VolumeView:
    """A volume to leaf through and to turn; ``picture`` stands for it where a page is printed or still."""

    name: str
    volume: DisplayVolume
    picture: Picture


@dataclass(frozen=True)
class Table:
    """Rows by the names of their columns, at least one; the first row tells the columns."""

    rows: Sequence[Mapping[str, str]]


@dataclass(frozen=True)
class Section:
    """A titled part of the page, in the order in which it is handed over; a string is a paragraph.

    The caption says what a reader must know; ``folded`` shows only the title until it is clicked.
    """

    title: str
    body: Picture | VolumeView | Table | str
    caption: str = ""
    folded: bool = False


@dataclass(frozen=True)
class Note:
    """A sentence at the top of the page: something is missing or doubtful."""

    text: str


@dataclass(frozen=True)
class Finding:
    """A clause of the verdict, behind how the run ended."""

    text: str


@dataclass(frozen=True)
class Citation:
    """A paper that the result rests on."""

    paper: str


Part: TypeAlias = Section | Note | Finding | Citation
Sections: TypeAlias = Callable[[RunData], Iterable[Part]]


def pictures_of(parts: Iterable[Part]) -> list[Picture]:
    """All drawings of a page, those that stand for a volume too."""
    bodies = [part.body for part in parts if isinstance(part, Section)]
    drawn = [body.picture if isinstance(body, VolumeView) else body for body in bodies]
    return [body for body in drawn if isinstance(body, Picture)]
