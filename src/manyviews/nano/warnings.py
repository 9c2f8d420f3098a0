"""What the user should know of a reconstruction that was made, beside what `check` says of the scan."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from manyviews.nano.plan import Plan
from manyviews.nano.reconstruct_results import ViewTable
from manyviews.nano.scan.binning import unbinned_center
from manyviews.nano.scan.prepare import Prepared
from manyviews.nano.scan.views import listed

_FAR = 0.25  # of the detector
_OFF_CENTER = 0.5


def result_warnings(plan: Plan, prepared: Prepared, table: ViewTable) -> tuple[str, ...]:
    """Sentences on views that do not fit, jumps, long shifts, and an axis that lies elsewhere."""
    found = []
    places = prepared.views
    bad, jumps = places[table.views.bad > 0], places[table.views.jump > 0]
    if len(bad):
        does = "does" if len(bad) == 1 else "do"
        found.append(
            f"{_listed(bad)} {does} not fit the rest and count{'s' if len(bad) == 1 else ''} less: see "
            "views.csv, or leave out with --exclude"
        )
    if len(jumps):
        found.append(f"the scan jumps before {_listed(jumps)}")
    far = places[np.abs(table.shifts).max(axis=1) > _FAR * prepared.projections.shape[2]]
    if len(far):
        found.append(f"{_listed(far)} moved by more than a quarter of the detector")
    off = float(np.mean(table.shifts[:, 0]))
    if plan.options.method == "shifts" and abs(off) > _OFF_CENTER:
        axis = unbinned_center(prepared.center - off, prepared.binning)
        found.append(
            f"the views lie {-off:+.2f} pixels beside where the centre has them, which their shifts make "
            f"up for: the axis may be at column {axis:.2f} of the scan"
        )
    return tuple(found)


def _listed(places: NDArray[np.int64]) -> str:
    return f"view{'s' if len(places) > 1 else ''} {listed(places)}"
