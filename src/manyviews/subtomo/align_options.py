"""Everything that jobs over subtomograms can be told, in one place: the API, the command line, ``run.toml``.

Only the standard library is imported here, so that the command line can show its help quickly.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from manyviews.options import SEEDS, MachineOptions, described, option

HalvesBy = Literal["particle", "filament", "tomogram", "parent", "position", "table"]
Search = Literal["joint", "rotational"]
Method = Literal[
    "levenberg-marquardt", "sag", "sag-slices", "sag-slices-optimized", "alternation", "newton-marching"
]


# One option a paragraph.
# fmt: off
@described
@dataclass(frozen=True)
class AlignOptions(MachineOptions):
    """How to align and average."""

    reference: Path | None = option(None, section="method", metavar="MAP",
        help="Begin with this map (MRC or EM, of the particles' size), cut off at --start-resolution. Left "
        "out: begin with the average in random orientations.")
    start_resolution: float = option(60.0, section="method", metavar="ANGSTROM", above=0,
        help="Let the map that a run begins with count up to this resolution only, in angstrom.")
    starts: int = option(8, section="method", least=1,
        help="Without --reference and --known-poses: try so many random beginnings, two iterations each, and "
        "go on with the one that explains the particles best.")
    hands: Literal["one", "both"] = option("one", section="method", metavar="HANDS",
        help="With --reference: one, take its hand to be right; or both, lay 50 particles on its mirror "
        "image too, and tell which fits better. The run goes on with the map as it is.")
    diameter: float | None = option(None, section="particle", metavar="ANGSTROM", above=0,
        help="Take the particle to have this largest diameter, in angstrom; the map is masked with a soft "
        "sphere around it. Left out: 0.7 of the box.")
    mask: Path | None = option(None, section="particle", metavar="MAP",
        help="Mask the map with this one (MRC or EM, of the particles' size, 0 outside to 1 inside with a "
        "soft edge). Left out: a soft sphere of --diameter.")
    resolution: float | None = option(None, section="particle", metavar="ANGSTROM", above=0,
        help="Go to this resolution and no finer, in angstrom. Left out: as far as the halves agree.")
    symmetry: str = option("C1", section="particle", metavar="GROUP",
        help="Impose this point group, e.g. C1, C7, D7, T, O, I, whose axes lie as RELION has them.")
    shift_range: float | None = option(None, section="particle", metavar="ANGSTROM", least=0,
        help="Look for particles up to so far from the middle of their boxes, in angstrom. Left out: a "
        "tenth of the box.")
    candidates: int = option(10, section="method", least=1,
        help="Make so many of the best poses of the grid search fine.")
    search: Search = option("joint", section="method", metavar="SEARCH",
        help="Find candidates by joint, which scores rotations and shifts together with all phases, or by "
        "rotational, the paper's fast rotational matching of power spectra with the shift found afterwards.")
    method: Method = option("levenberg-marquardt", section="method", metavar="METHOD",
        help="Make candidates fine by levenberg-marquardt (Xu and Alber), sag (stochastic average gradients "
        "on parts of the frequencies), sag-slices or sag-slices-optimized (algorithms 1 and 2 of Lu et al. "
        "as printed), alternation (Chen et al.), or newton-marching (Kruse et al.).")
    iterations: int = option(12, section="method", least=1,
        help="Align and average at most so many times; a run stops when the median turn of the particles is "
        "below a degree and the halves agree no further than before.")
    halves: HalvesBy = option("particle", section="method", metavar="BY",
        help="Keep together in one half what shares a particle, filament, tomogram or parent; position: "
        "the two ends of filaments; table: the halves of the table.")
    merged: bool = option(False, section="method",
        help="Align both halves to their common map, as in the paper; the resolution is then too good.")
    joined_resolution: float | None = option(None, section="method", metavar="ANGSTROM", least=0,
        help="Let the maps of the halves share what is coarser than this, in angstrom, so that they do not "
        "drift apart; 0: nothing. Left out: nothing with a reference, --start-resolution without.")
    known_poses: bool = option(False, section="method",
        help="Begin with the poses of the table: they are candidates of the first iteration, and without "
        "--reference their average is the first map.")
    prior_sigma: float | None = option(None, section="method", metavar="DEG", above=0,
        help="Expect orientations to lie around the priors of the table (rlnAngleTiltPrior and so on) with "
        "this standard deviation, in degrees, and no further than three of it. Left out: what the table says "
        "beside its priors, else 10.")
    ignore_priors: bool = option(False, section="method", help="Search orientations everywhere, whatever "
        "priors the table has.")
    min_distance: float = option(0.0, section="particle", metavar="ANGSTROM", least=0,
        help="Leave out particles this near to a better one of the same tomogram, centre to centre, in "
        "angstrom.")
    reject: float = option(0.0, section="method", least=0, below=1,
        help="Leave this share of the particles, those with the lowest scores, out of the averages.")
    seed: int = option(0, section="method", least=0, below=SEEDS,
        help="Draw all random numbers from this seed.")
    compare: Path | None = option(None, section="output", metavar="MAP",
        help="Compare the result with this true map (MRC, of the particles' size), aligned first, in either "
        "hand.")


@described
@dataclass(frozen=True)
class AverageOptions(MachineOptions):
    """How to average in poses that the table holds."""

    diameter: float | None = option(None, section="particle", metavar="ANGSTROM", above=0,
        help="Take the particle to have this largest diameter, in angstrom; the map is masked with a soft "
        "sphere around it. Left out: 0.7 of the box.")
    mask: Path | None = option(None, section="particle", metavar="MAP",
        help="Mask the map with this one (MRC or EM, of the particles' size, 0 outside to 1 inside with a "
        "soft edge). Left out: a soft sphere of --diameter.")
    resolution: float | None = option(None, section="particle", metavar="ANGSTROM", above=0,
        help="Go to this resolution and no finer, in angstrom. Left out: that of the voxels.")
    symmetry: str = option("C1", section="particle", metavar="GROUP",
        help="Impose this point group, e.g. C1, C7, D7, T, O, I, on whose axes the poses lie.")
    halves: HalvesBy = option("particle", section="method", metavar="BY",
        help="Keep together in one half what shares a particle, filament, tomogram or parent; position: the "
        "two ends of filaments; table: the halves of the table.")
    min_distance: float = option(0.0, section="particle", metavar="ANGSTROM", least=0,
        help="Leave out particles this near to a better one of the same tomogram, centre to centre, in "
        "angstrom.")
    reject: float = option(0.0, section="method", least=0, below=1,
        help="Leave this share of the particles, those with the lowest scores, out of the average.")
    seed: int = option(0, section="method", least=0, below=SEEDS,
        help="Draw which half a particle goes to from this seed.")
    compare: Path | None = option(None, section="output", metavar="MAP",
        help="Compare the result with this true map (MRC, of the particles' size), aligned first, in either "
        "hand.")
# fmt: on
