"""Whether a change of the views explains a scan: rows that it was not fitted to must confirm it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manyviews.nano.rigid.angle_fit import RigidScan, fit_rigid, left_by_rows

Float64 = NDArray[np.float64]
Rows = NDArray[np.bool_]

_MOST_ROWS = 12
_STEPS = 3  # of views as they are given
_REDUNDANT = 1.5  # numbers of a row for each pixel of its slice, at least
_BEYOND_NOISE = 1.01  # of what noise leaves
_BEYOND_CHANCE = 5.0  # times
_MOST_OF_IT, _HARDLY_MORE = 0.5, 1.2


@dataclass(frozen=True)
class Explained:
    """What rigid views leave of the rows that were kept apart.

    ``without`` and ``found``: of views as they are given and as they are changed; ``noise``: by noise alone.
    ``by_chance`` is what as many free numbers take of noise.
    """

    without: float
    found: float
    noise: float
    by_chance: float

    @property
    def share(self) -> float:
        """Of what is beyond noise, what the change explains."""
        beyond = self.without - self.noise
        return (self.without - self.found) / beyond if beyond > 0 else 0.0

    @property
    def more_than_chance(self) -> bool:
        """Whether there is anything to explain, and more of it is than by chance."""
        return self.without > self.noise and self.without - self.found > _BEYOND_CHANCE * self.by_chance

    @property
    def most_of_it(self) -> bool:
        """Whether more than half of what is beyond noise is explained."""
        return self.share > _MOST_OF_IT

    @property
    def hardly_more(self) -> bool:
        """Whether what is left is hardly more than noise."""
        return self.found < _HARDLY_MORE * self.noise


@dataclass(frozen=True)
class Unchanged:
    """Views as they are given, fitted to some rows.

    ``told, checked (z,)`` are the rows that are fitted to and those kept apart, ``start`` and
    ``motion (view, 4)`` the views before and after, ``weights (view,)`` theirs; ``noise`` what noise leaves
    of the rows kept apart.
    """

    told: Rows
    checked: Rows
    noise: float
    start: Float64
    motion: Float64
    weights: Float64


def unchanged(scan: RigidScan, shifts: Float64, sigma: float) -> Unchanged | None:
    """Views at ``shifts (view, 2)`` and from there on; ``sigma`` is the noise of a pixel.

    None: there are too few numbers to tell, or they leave nothing but noise.
    """
    told, checked = _rows_apart(scan.images.shape[1])
    start = np.zeros((len(shifts), 4))
    start[:, :2] = shifts
    noise = _noise_below(scan, start, sigma, checked)
    if noise is None:
        return None
    return Unchanged(told, checked, noise, start, *fit_rigid(scan, start, told, _STEPS, angles=False))


def _rows_apart(rows: int) -> tuple[Rows, Rows]:
    """``(z,)`` rows to fit to, not too many, and those that are kept apart: pairs in turns."""
    pairs = np.arange(rows) // 2 % 2 == 0
    used = np.flatnonzero(pairs)
    told = np.zeros(rows, bool)
    told[used[:: -(-len(used) // _MOST_ROWS)]] = True
    return told, ~pairs


def _noise_below(scan: RigidScan, motion: Float64, sigma: float, checked: Rows) -> float | None:
    """What noise ``sigma`` of a pixel leaves of rows.

    None where a motion ``(view, 4)`` leaves nothing more, or views are too few to tell.
    """
    views, _, columns = scan.images.shape
    alike = np.ones(views)
    fit = scan.at(motion, alike)
    if fit.basis.shape[2] * _REDUNDANT > views * columns:
        return None
    noise = sigma**2 * fit.freedom() * int(checked.sum())
    return noise if left_by_rows(scan, motion, alike, checked) >= _BEYOND_NOISE * noise else None
