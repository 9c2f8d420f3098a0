"""How a scan is reconstructed, in one place: the API, the command line, ``run.toml``.

Only the standard library is imported here, so that the command line can show its help quickly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from manyviews.options import MachineOptions, described, option

Method = Literal["oftv", "of", "shifts", "pcg", "pcgtv", "cg", "fbp", "oftv-printed", "of-printed"]
Engine = Literal["grid", "farneback", "dis"]

VARIATION = ("oftv", "pcgtv", "oftv-printed")
"""Methods with total variation."""
PRINTED = ("oftv-printed", "of-printed")
DENSE = ("oftv", "of")
MOVING = ("oftv", "of", "shifts", "oftv-printed", "of-printed")
"""Methods that find motion by reprojection."""
_ITERATIVE = ("oftv", "of", "shifts", "pcg", "pcgtv", "cg", "oftv-printed", "of-printed")


# One option a paragraph.
# fmt: off
@described
@dataclass(frozen=True)
class ReconstructOptions(MachineOptions):
    """How to reconstruct and align."""

    method: Method = option("oftv", section="method", metavar="METHOD",
        help="Reconstruct this way. oftv: volume and a flow for each view together, with total variation; "
        "of: without it; shifts: whole views shift; pcg, pcgtv: views aligned once, by opposite and return "
        "views, then conjugate gradients without and with total variation; cg: no alignment; fbp: filtered "
        "back-projection, no alignment; oftv-printed, of-printed: the splitting of Nikitin et al. 2021 as "
        "published.")
    flow: Engine = option("grid", section="method", metavar="ENGINE", methods=DENSE,
        help="Find flows by grid (splines, few numbers a view), farneback (the paper's) or dis (dense "
        "inverse search).")
    warp: Literal["move", "mass"] = option("move", section="method", metavar="KIND", methods=MOVING,
        help="Let motion keep this in projections. move: grey levels; mass: what is in them, as when a "
        "specimen shrinks and becomes denser.")
    levels: int | None = option(None, section="method", least=1, below=9, methods=MOVING,
        help="Begin with pixels binned by 2 so many times less one, and go on to the finest. Left out: so "
        "that the coarsest level has 48 columns and 16 rows at least, and 4 levels at most.")
    iterations: tuple[int, ...] = option((), section="method", metavar="N", least=1, methods=_ITERATIVE,
        help="Make so many outer iterations at each level, the coarsest first; one number: the coarsest "
        "level's, halved from each level to the next. Left out: 24 with motion, 8 without; printed: 64.")
    inner_iterations: int = option(4, section="method", metavar="N", least=1, methods=_ITERATIVE,
        help="Make so many conjugate-gradient steps for the volume in each outer iteration.")
    window: float | None = option(None, section="method", metavar="PIXELS", above=0,
        methods=(*DENSE, *PRINTED),
        help="Let pixels within this distance move as one at first, in pixels of the finest level; it "
        "shrinks from iteration to iteration. Left out: the width of the detector.")
    rotation: bool = option(False, section="method", methods=("shifts",),
        help="Find a turn of each view in the plane of the detector too.")
    tv: float = option(1.0, section="method", metavar="FACTOR", least=0, methods=VARIATION,
        help="Weigh total variation by this; 1 is for the noise that is seen in the projections.")
    damping: float = option(1.0, section="method", metavar="FACTOR", least=0,
        methods=("of", "shifts", "pcg", "cg"),
        help="Damp slopes of the volume by this; 1 is for the noise that is seen in the projections, 0 not "
        "at all.")
    robust: Literal["huber", "student", "none"] = option("huber", section="method", metavar="KIND",
        methods=("oftv", "of", "shifts"),
        help="Give views that fit badly less weight, by huber or student; none: all count alike.")
    prealign: bool = option(True, section="method", methods=("oftv", "of", "shifts", "pcg", "pcgtv"),
        help="Begin with the shifts of whole views. --no-prealign: begin with no motion.")
    halves: bool = option(True, section="output",
        help="Reconstruct two halves of the views apart too, each with its own motion, and compare them. "
        "--no-halves: leave that out, which takes half of the time.")
    tiff: bool = option(False, section="output",
        help="Write the volume as a stack of TIFF images too, a page a slice: volume.tiff.")
# fmt: on
