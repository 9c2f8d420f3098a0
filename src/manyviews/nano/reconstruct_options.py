"""How a scan is reconstructed, in one place: the API, the command line, ``run.toml``.

Only the standard library is imported here, so that the command line can show its help quickly.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from manyviews.options import MachineOptions, described, option, option_of

Method = Literal[
    "auto", "oftv", "of", "spacetv", "space", "shifts", "pcg", "pcgtv", "cg", "fbp", "oftv-printed",
    "of-printed",
]  # fmt: skip
Engine = Literal["grid", "farneback", "dis"]

AUTO = "auto"
"""Flows or motion in space, whichever fits."""
VARIATION = ("auto", "oftv", "spacetv", "pcgtv", "oftv-printed")
"""Methods with total variation."""
PRINTED = ("oftv-printed", "of-printed")
SPACE = ("spacetv", "space")
"""Methods that find a motion of the specimen in space."""
DENSE = ("auto", "oftv", "of")
MOVING = ("auto", "oftv", "of", "shifts", "oftv-printed", "of-printed")
"""Methods that find motion of views by reprojection, or may."""
_ITERATIVE = (*MOVING, *SPACE, "pcg", "pcgtv", "cg")
_STEPPING = (*MOVING, "pcg", "pcgtv", "cg")


# One option a paragraph.
# fmt: off
@described
@dataclass(frozen=True)
class ReconstructOptions(MachineOptions):
    """How to reconstruct and align."""

    method: Method = option("auto", section="method", metavar="METHOD",
        help="Reconstruct this way. auto: oftv or spacetv, whichever explains binned projections better; "
        "oftv: volume and a flow for each view together, with total variation, for images that deform; "
        "of: without it; spacetv: volume and the displacement of the specimen in space together, with total "
        "variation, for specimens that deform; space: without it; shifts: whole views shift; pcg, pcgtv: "
        "views aligned once, by opposite and return views, then conjugate gradients without and with total "
        "variation; cg: no alignment; fbp: filtered back-projection, no alignment; oftv-printed, "
        "of-printed: the splitting of Nikitin et al. 2021 as published.")
    flow: Engine = option("grid", section="method", metavar="ENGINE", methods=DENSE,
        help="Find flows by grid (splines, few numbers a view), farneback (the paper's) or dis (dense "
        "inverse search).")
    warp: Literal["move", "mass"] = option("move", section="method", metavar="KIND",
        methods=(*MOVING, *SPACE),
        help="Let motion keep this in projections, or in the specimen. move: grey levels; mass: what is in "
        "them, as when a specimen shrinks and becomes denser.")
    levels: int | None = option(None, section="method", least=1, below=9, methods=MOVING,
        help="Begin with pixels binned by 2 so many times less one, and go on to the finest. Left out: so "
        "that the coarsest level has 48 columns and 16 rows at least, and 4 levels at most. Where auto "
        "comes to spacetv this does not count.")
    iterations: tuple[int, ...] = option((), section="method", metavar="N", least=1, methods=_ITERATIVE,
        help="Make so many outer iterations at each level, the coarsest first; one number: the coarsest "
        "level's, halved from each level to the next. Left out: 24 with motion, 8 without; printed: 64. "
        "space, spacetv: one number is of the levels at which motion is fitted; left out: 4, 3 and, for "
        "the volume at the finest, 2 or 8. Where auto comes to spacetv this does not count.")
    inner_iterations: int = option(4, section="method", metavar="N", least=1, methods=_STEPPING,
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
        methods=("of", "space", "shifts", "pcg", "cg"),
        help="Damp slopes of the volume by this; 1 is for the noise that is seen in the projections, 0 not "
        "at all.")
    robust: Literal["huber", "student", "none"] = option("huber", section="method", metavar="KIND",
        methods=("auto", "oftv", "of", *SPACE, "shifts"),
        help="Give views that fit badly less weight, by huber or student; none: all count alike.")
    prealign: bool = option(True, section="method",
        methods=("auto", "oftv", "of", *SPACE, "shifts", "pcg", "pcgtv"),
        help="Begin with the shifts of whole views. --no-prealign: begin with no motion.")
    refine_angles: bool = option(True, section="method", methods=("auto", "oftv", "of", *SPACE, "shifts"),
        help="Look whether views were taken at other angles than given, or are tilted towards the beam, each "
        "by its own angle, and take what rows that were kept apart confirm. space, spacetv: tilts are not "
        "looked for. --no-refine-angles: angles are as given and no view is tilted, and so they are with "
        "--no-prealign or more than 512 views.")
    halves: bool = option(True, section="output",
        help="Reconstruct two halves of the views apart too, each with its own motion, and compare them. "
        "--no-halves: leave that out, which takes half of the time.")
    tiff: bool = option(False, section="output",
        help="Write the volume as a stack of TIFF images too, a page a slice: volume.tiff.")
    ome_zarr: bool = option(False, section="output",
        help="Write the volume as OME-Zarr too, in chunks and at several sizes: volume.zarr. It needs the "
        "package zarr: pip install 'manyviews[zarr]'.")
# fmt: on


def with_method(options: ReconstructOptions, method: Method) -> ReconstructOptions:
    """The same with another method; what that does not have goes back to its default, with levels and
    iterations, which mean something else to it.
    """
    changed: dict[str, Any] = {"levels": None, "iterations": ()} if method in SPACE else {}
    for item in fields(options):
        about = option_of(item)
        if about is not None and about.methods and method not in about.methods:
            changed[item.name] = item.default
    return replace(options, **{**changed, "method": method})
