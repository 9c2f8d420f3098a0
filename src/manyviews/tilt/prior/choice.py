"""What came of a search for a prior: in words, as a table, and as a picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.io.tables import read_numbers, require_ordinary, write_table
from manyviews.report.sections import Finding, Part, Picture, Section
from manyviews.tilt.prior.trials import Trial, standard_error

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Float64 = NDArray[np.float64]

PRIOR_FILE = "prior.csv"
PICTURE = "prior"
_COLUMNS = ("total_variation", "smooth", "non_negative", "held_out_error", "standard_error", "chosen")
_LARGEST = 1e30


@dataclass(frozen=True)
class Choice:
    """A prior, and what it was chosen from.

    Attributes
    ----------
    taken
        Whether it beat conjugate gradients without a prior, which are used if not.
    smooth, total_variation, non_negative
        The prior, for all views.
    best
        Number of the trial it rests on.
    tried, strengths, errors
        Trials, their strengths, and what they left of every held-out view, ``(trial, view)``, as a share of
        the variance of these views; ``without (view,)`` is what is left without a prior.
    noise_share
        What white noise alone would leave.
    bound_chosen
        Whether the data chose `non_negative`: by the first two trials.
    """

    taken: bool
    smooth: bool
    total_variation: float
    non_negative: bool
    best: int
    tried: tuple[Trial, ...]
    strengths: tuple[float, ...]
    errors: Float64
    without: Float64
    noise_share: float
    bound_chosen: bool

    @property
    def words(self) -> str:
        """What was chosen, why, and what it beat."""
        views = f"{len(self.without)} held-out views"
        error, without = float(self.errors[self.best].mean()), float(self.without.mean())
        if not self.taken:
            return (
                f"{views} are predicted best without a prior (cg leaves {_percent(without)} of their "
                f"variance, the best prior {_percent(error)}): going on with cg"
            )
        bound = "no voxel below zero" if self.non_negative else "voxels of any sign"
        variation = f"total variation, of which strength {self.total_variation:.3g} is taken,"
        return (
            f"{views} chose {'a smooth specimen' if self.smooth else variation} and {bound}: it leaves "
            f"{_percent(error)} of their variance, cg without a prior {_percent(without)}, white noise alone "
            f"would leave about {_percent(self.noise_share)}{self._bound_words()}"
        )

    def _bound_words(self) -> str:
        if not self.bound_chosen:
            return ""
        free, bound = self.errors[:2].mean(axis=1)
        verdict = "spoke for that" if self.non_negative else "did not speak for a bound at zero"
        strength = "of a smooth specimen" if self.tried[0].smooth else f"at strength {self.strengths[0]:.3g}"
        return f"; trials {strength} {verdict} ({_percent(bound)} with a bound, {_percent(free)} without)"

    def figures(self) -> dict[str, object]:
        """For the summary."""
        return {
            "prior": self.words,
            "prior_smooth": self.smooth if self.taken else False,
            "prior_total_variation": self.total_variation if self.taken else 0.0,
            "prior_non_negative": self.non_negative if self.taken else False,
            "held_out_views": len(self.without),
            "held_out_error": float((self.errors[self.best] if self.taken else self.without).mean()),
            "held_out_error_without_a_prior": float(self.without.mean()),
        }

    def write(self, path: Path) -> None:
        """Write the table, replacing an earlier one; the first row is without a prior."""
        rows: list[tuple[object, ...]] = [(0.0, 0, 0, *_measured(self.without), int(not self.taken))]
        for number, (trial, strength, errors) in enumerate(
            zip(self.tried, self.strengths, self.errors, strict=True)
        ):
            chosen = int(self.taken and number == self.best)
            kind = int(trial.smooth), int(trial.non_negative)
            rows.append((f"{strength:.9g}", *kind, *_measured(errors), chosen))
        write_table(path, _COLUMNS, rows)


def _measured(errors: Float64) -> tuple[str, str]:
    return f"{errors.mean():.9g}", f"{standard_error(errors):.4g}"


def _percent(share: float) -> str:
    return f"{100.0 * share:.3g} %"


def prior_section(path: Path) -> Iterator[Part]:
    """The curve of held-out errors against strength; nothing if there is no table.

    `InputError` if it is damaged.
    """
    table = read_numbers(path, _COLUMNS)
    if not len(table):
        return
    require_ordinary(np.nan_to_num(table, posinf=0.0), path, least=0.0, most=_LARGEST)
    strengths, smooth, taken = table[:, 0], table[:, 1], table[:, 5] == 1
    if len(table) < 2 or not (smooth[1:] == (strengths[1:] == 0.0)).all() or taken.sum() != 1:
        raise InputError("is no table of priors with one of them chosen", path=path)
    chosen = table[taken][0]
    if chosen[0] > 0.0 or chosen[1]:
        bound = " and no voxel below zero" if chosen[2] else ""
        kind = "a smooth specimen" if chosen[1] else "total variation"
        yield Finding(f"held-out views chose {kind}{bound}")
    else:
        yield Finding("held-out views were predicted best without a prior")
    yield Section(
        "Prior, chosen by held-out views",
        Picture(PICTURE, "Error of held-out views against the strength of total variation", _figure(table)),
        "What volumes made without some views leave of these, as a share of their variance, by strength of "
        "total variation, and of a smooth specimen; the ring is the trial that was taken. Trials are short, "
        "and each goes on from the one before.",
    )


def _figure(table: Float64) -> Figure:
    from manyviews.report.style import COLOURS, INK, new_figure, plain_axes

    figure = new_figure(3.4)
    axes = plain_axes(figure)
    chosen = table[table[:, 5] == 1][0]
    for bound, label in ((0, "voxels of any sign"), (1, "none below zero")):
        every = table[1:][table[1:, 2] == bound]
        rows = every[every[:, 1] == 0]
        rows = rows[np.argsort(rows[:, 0], kind="stable")]
        if len(rows):
            axes.plot(rows[:, 0], rows[:, 3], color=COLOURS[bound], marker="o", markersize=4, label=label)
        smooth = every[every[:, 1] == 1][:, 3]
        if len(smooth):
            width = 2.5 if chosen[1] and chosen[2] == bound else 1.0
            words = f"smooth specimen, {label}"
            axes.axhline(smooth.min(), color=COLOURS[bound], linestyle=":", linewidth=width, label=words)
    axes.axhline(table[0, 3], color=COLOURS[2], linestyle="--", linewidth=1.0, label="without a prior (cg)")
    if chosen[0] > 0.0:
        axes.plot(chosen[0], chosen[3], marker="o", markersize=10, fillstyle="none", color=INK)
    axes.set_xscale("log", base=2)
    axes.set_xlabel("strength of total variation", color=INK)
    axes.set_ylabel("held-out error", color=INK)
    axes.legend(fontsize=8, frameon=False)
    return figure
