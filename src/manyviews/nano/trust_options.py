"""How a run is tested with a motion that is known, in one place: the command line, ``run.toml``.

Only the standard library is imported here, so that the command line can show its help quickly.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from manyviews.options import SEEDS, MachineOptions, described, option


# One option a paragraph.
# fmt: off
@described
@dataclass(frozen=True)
class TrustOptions(MachineOptions):
    """Which run, and what motion is put into its data."""

    reconstruction: Path = option(Path(), section="input", metavar="RUN", positional=True,
        help="Take the data and the options of this finished run of nano reconstruct.")
    motion: Literal["smooth", "drift", "jitter"] | None = option(None, section="imperfections",
        metavar="KIND",
        help="Inject this. smooth: a deformation that grows in time; drift: smooth shifts of whole views; "
        "jitter: a shift of each view. Left out: smooth, but drift for a run of whole shifts.")
    amount: float | None = option(None, section="imperfections", metavar="PIXELS", above=0,
        help="Inject a motion of up to so many pixels of the run. Left out: 3 percent of the columns.")
    seed: int = option(0, section="imperfections", least=0, below=SEEDS,
        help="Draw the motion from this seed.")
# fmt: on
