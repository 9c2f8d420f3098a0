"""Everything a tilt reconstruction can be told, in one place: the API, the command line and ``run.toml``.

Only the standard library is imported here, so that the command line can show its help quickly.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from manyviews.options import SEEDS, MachineOptions, described, option

Method = Literal["wbp", "sirt", "cg", "admm", "direct-combine", "wang2020", "consensus"]
METHODS: tuple[Method, ...] = ("wbp", "sirt", "cg", "admm", "direct-combine", "wang2020", "consensus")
SubsetOrder = Literal["adjacent", "interleaved"]
CtfCorrection = Literal["none", "phase-flip", "wiener", "3d"]
_ITERATIVE: tuple[Method, ...] = tuple(method for method in METHODS if method != "wbp")
SUBSET_METHODS: tuple[Method, ...] = ("direct-combine", "wang2020", "consensus")


# One option a paragraph.
# fmt: off
@described
@dataclass(frozen=True)
class SeriesOptions:
    """Which stacks, and how each of them looks at the specimen."""

    stacks: tuple[Path, ...] = option((), section="input", metavar="STACK", positional=True,
        help="Reconstruct from these tilt series, one for each tilt axis: MRC files, or lists of files with "
        "one image each (RELION-5 .star, .mdoc, or text with a name on every line).")
    tilt_angles: tuple[Path, ...] = option((), section="input",
        help="Read the tilt angles of each stack from its angle file (.tlt, .rawtlt, AreTomo's _TLT.txt, "
        ".mdoc, .aln, tilt.com, RELION-5 tilt-series .star). Left out: FILE.mdoc, FILE.rawtlt or FILE.tlt "
        "beside the stack, then its extended header.")
    axis_angle: tuple[float, ...] = option((), section="geometry", metavar="DEG",
        help="Take each stack's tilt axis to lie in this direction of the image, in degrees "
        "counter-clockwise from +y.")
    transform: tuple[Path, ...] = option((), section="geometry",
        help="Align each stack by its IMOD .xf file, which takes the raw image to the aligned one, one line "
        "a section.")
    shifts: tuple[Path, ...] = option((), section="geometry",
        help="Move the images of each stack by the x y shifts in its file, in pixels, one line a section "
        "(or TomViz JSON): how far to move each raw image to align it, x along columns and y along "
        "rows as stored. TomViz's [x, y] pairs are read as (x, -y), because it shows TIFF images with "
        "the first row on top. FILE:FIRST-LAST takes only these lines, counted from 1, where the file "
        "is for a longer series than the stack.")
    alignment: Path | None = option(None, section="geometry", metavar="RUN",
        help="Take the geometry of all views from this run of tilt align of the same stacks: tilts, axes, "
        "shifts, and which views are left out.")
    x_tilt: tuple[Path, ...] = option((), section="geometry",
        help="Turn the specimen about x as each stack's IMOD .xtilt file says, in degrees, one line a "
        "section.")
    tilt_offset: float = option(0.0, section="geometry", metavar="DEG",
        help="Add this many degrees to every tilt angle (IMOD's OFFSET).")
    exclude: tuple[str, ...] = option((), section="input", metavar="VIEWS",
        help='Leave these views out, counted from 1 as IMOD does, e.g. "1,4-6"; with several stacks '
        '"2:1,4-6" means the second one.')
    pixel_size: float | None = option(None, section="input", metavar="ANGSTROM", above=0,
        help="Take the stacks, as stored, to have pixels of this size in angstrom. Left out: what their "
        "headers say.")


@described
@dataclass(frozen=True)
class ReconstructOptions(MachineOptions):
    """How to reconstruct."""

    thickness: int = option(0, section="volume",
        help="Make the volume this thick (z), in unbinned pixels. Left out: what a tilt.com given with "
        "--tilt-angles says; without one what a quick reconstruction shows, around the middle of the "
        "specimen.")
    volume_size: tuple[int, ...] = option((), section="volume", metavar="PIXELS",
        help="Make the volume this wide and high (x y), in unbinned pixels. Left out: the size of the "
        "images, with width and height exchanged where they lie on their side.")
    method: Method = option("cg", section="method", metavar="METHOD",
        help="Reconstruct in this way: cg, admm, consensus, sirt, wbp, or the paper's wang2020 and "
        "direct-combine. admm is least squares with priors that the data choose.")
    prior: Literal["auto", "smooth", "none"] | None = option(None, section="method", metavar="PRIOR",
        methods=("admm",),
        help="Choose what admm takes for granted of the specimen. auto: held-out views choose total "
        "variation and its strength or a smooth specimen, and whether no voxel is below zero; smooth: power "
        "by frequency as the images have it, and what --total-variation and --non-negative say; none: "
        "nothing but what these say. Left out: auto, where these two leave anything open.")
    iterations: int | None = option(None, section="method", least=1, methods=_ITERATIVE,
        help="Do this many iterations (outer iterations of consensus and wang2020). Left out: a default for "
        "each method.")
    tolerance: float = option(0.0, section="method", least=0,
        help="Stop sooner, when an iteration changes the volume by less than this part of it, e.g. 0.001; 0: "
        "never.")
    subsets: int | None = option(None, section="method", methods=SUBSET_METHODS,
        help="Divide the views into this many subsets (consensus, wang2020, direct-combine). Left out: what "
        "suits the method and the number of views.")
    overlap: int | None = option(None, section="method", least=0, methods=SUBSET_METHODS,
        help="Let each subset borrow this many views from the next one. Left out: 2 for wang2020, else 0.")
    subset_order: SubsetOrder | None = option(None, section="method", metavar="ORDER", methods=SUBSET_METHODS,
        help="Choose how views are divided into subsets. adjacent: neighbouring angles together, as in the "
        "paper; interleaved: every n-th view. Left out: adjacent for wang2020, else interleaved.")
    bin: int = option(1, section="volume", least=1,
        help="Average blocks of N x N pixels before anything else is done.")
    mann: float | None = option(None, section="method", above=0, below=1, methods=("wang2020", "consensus"),
        help="Set the Mann averaging factor rho of consensus and wang2020, between 0 and 1. Left out: 0.8.")
    inner_iterations: int | None = option(None, section="method", least=1, methods=("wang2020", "consensus"),
        help="Do this many gradient steps (wang2020) or conjugate-gradient steps (consensus) inside an "
        "outer iteration. Left out: 10 and 3.")
    relaxation: float = option(0.3, section="method", above=0, below=2,
        methods=("sirt", "direct-combine", "wang2020"),
        help="Set the step of sirt, direct-combine and wang2020 to this fraction of the largest stable one.")
    sirt_form: Literal["landweber", "normalised"] = option("landweber", section="method", metavar="FORM",
        methods=("sirt",),
        help="Choose the form of sirt: landweber (the paper's) or normalised (by row and column sums).")
    damping: float | None = option(None, section="method", least=0,
        methods=("cg", "admm", "consensus", "wbp"),
        help="Set the Tikhonov damping of cg, admm, consensus and wbp, in units of one view (1: as strong as "
        'one image that says "zero"). Left out: the noise-to-signal ratio of every frequency measured in the '
        "images for cg, ten times the mean one for others, none where admm has a prior; 0: plain least "
        "squares.")
    normal: Literal["convolution", "exact"] = option("convolution", section="method", metavar="HOW",
        help="Choose how to project and back-project in one. convolution: as one Fourier product, quick, "
        "true up to detector edges; exact: by the projectors.")
    refresh: int | None = option(None, section="method", least=0, methods=("cg",),
        help="Make an exact pass over the images, which corrects the convolution, after every so many "
        "iterations of cg. Left out: after 2, 4, 8, 16, ... of them; 0: never.")
    non_negative: bool = option(False, section="method", methods=("sirt", "admm", "consensus"),
        help="Keep every voxel at zero or above (sirt, admm, consensus).")
    total_variation: float = option(0.0, section="method", least=0, methods=("admm", "consensus"),
        help="Add total variation of this strength (admm, consensus); 0 is off, or chosen by --prior auto.")
    smoothness: float = option(0.0, section="method", least=0, methods=("consensus",),
        help="Add a quadratic smoothness agent of this strength (consensus); 0 is off.")
    normalise: Literal["none", "background", "statistics"] = option("none", section="input", metavar="HOW",
        help="Even out the grey levels of the views first. none; background: subtract each view's "
        "background level; statistics: give every view mean zero and the spread of the series at low "
        "tilt.")
    invert_contrast: bool = option(False, section="input",
        help="Change the sign of the images, for dark specimens on a bright ground.")
    remove_outliers: bool = option(False, section="input",
        help="Replace hot pixels and X-rays, which stand out of an image alone or in clusters of a few, by "
        "the median around them, before anything else is done. Left out: they are counted and told.")
    edges: Literal["auto", "weigh", "keep"] = option("auto", section="input", metavar="HOW",
        help="Choose what rays count that leave the volume through its sides, where they see specimen that "
        "no voxel stands for. weigh: less the more of their way is outside, and nothing from half of it on; "
        "keep: as much as others; auto: weigh them where the images show anything beside the volume.")
    mask_detector: Literal["auto", "never"] = option("auto", section="input", metavar="WHEN",
        help="Give no weight to bad rows and columns of the detector. auto: where they are found, in one "
        "image or in all; never: they count as others do.")
    mask_borders: Literal["auto", "never"] = option("auto", section="input", metavar="WHEN",
        help="Give no weight to borders of one grey level, as alignment leaves them in stacks. auto: where "
        "they are found; never: they count as an image does.")
    mask_beads: bool = option(False, section="input",
        help="Find gold beads, far darker or brighter than all else, and give no weight to the pixels that "
        "show them: the volume is that of the specimen without them.")
    bead_diameter: float | None = option(None, section="input", metavar="ANGSTROM", above=0,
        help="Take beads to be this wide, in angstrom. Left out: as the images show them.")
    weights: tuple[Path, ...] = option((), section="input", metavar="STACK",
        help="Let the pixels of each stack count by its stack of weights (MRC, of the same size): 1 fully, 0 "
        "not at all.")
    ctf: CtfCorrection = option("none", section="microscope", metavar="HOW",
        help="Correct the contrast transfer. none; phase-flip or wiener: every image, in strips along the "
        "tilt axis; 3d: as a part of the projection, layer by layer of the specimen.")
    defocus: tuple[Path, ...] = option((), section="microscope",
        help="Read the defocus of each stack's views from its file: CTFFIND's or AreTomo's .txt, IMOD's "
        ".defocus, a RELION-5 tilt-series .star, or an .mdoc (nominal). Left out: such a file that was given "
        "for the angles, or the .mdoc beside the stack.")
    defocus_hand: Literal["auto", "+1", "-1", "none"] = option("auto", section="microscope", metavar="HAND",
        help="Let defocus grow (+1) or fall (-1) with depth along the beam, which is RELION's rlnTomoHand. "
        "auto: as the images say, else RELION's list of tilt series; none: one defocus for all of an image.")
    voltage: float | None = option(None, section="microscope", metavar="KV", above=0,
        help="Take this acceleration voltage, in kV. Left out: what the files say, else 300.")
    spherical_aberration: float | None = option(None, section="microscope", metavar="MM", least=0,
        help="Take this spherical aberration, in mm. Left out: what the files say, else 2.7.")
    amplitude_contrast: float | None = option(None, section="microscope", least=-1, below=1,
        help="Take this fraction of amplitude contrast. Left out: what the files say, else 0.07.")
    wiener_constant: float = option(0.1, section="microscope", above=0,
        help="Divide by the squared transfer plus this number, with --ctf wiener.")
    dose_weighting: bool = option(False, section="microscope",
        help="Weight every view by what its dose has left of each frequency (Grant & Grigorieff 2015), by "
        "the doses of --dose-per-view, a RELION-5 .star or an .mdoc.")
    dose_per_view: float | None = option(None, section="microscope", metavar="DOSE", above=0,
        help="Weight by dose, each view having had this much, in electrons per square angstrom. The order of "
        "the views is that of the angle file or the .mdoc, else of the sections.")
    reference: Path | None = option(None, section="output",
        help="Compare the result with this true volume (MRC, of the same size): FSC and NCC.")
    layout: str | None = option(None, section="machine", metavar="GROUPSxSLABS",
        help="Share the work among MPI ranks in this way: groups of ranks for view subsets, each of so many "
        "ranks with a slab of slices, e.g. 4x2 for 8 ranks. Left out: what leaves the slowest rank "
        "the least to do and fits in memory, or one told to be a tenth quicker.")

    @property
    def weighs_dose(self) -> bool:
        """Whether images are weighted by dose."""
        return self.dose_weighting or self.dose_per_view is not None


@described
@dataclass(frozen=True)
class ConvertOptions:
    """For which program the geometry is written, and where."""

    to: Literal["imod", "aretomo", "serialem", "relion5"] = option(section="output", metavar="PROGRAM",
        required=True,
        help="Write the files of this program: imod (.tlt, .xf, .xtilt and a tilt.com), aretomo (.aln), "
        "serialem (.mdoc) or relion5 (tilt-series .star).")

    out: Path = option(section="output", metavar="DIR", required=True,
        help="Write the files, which are named after the stacks, to this folder; none is replaced.")


@dataclass(frozen=True)
class SimulateOptions:
    """A specimen, and how it is looked at."""

    phantom: str = option("cell", section="specimen", metavar="PHANTOM",
        help="Simulate this specimen: cell, gaussians, ellipsoids, or the path of a PDB or mmCIF model "
        "(also .gz).")
    size: tuple[int, ...] = option((256, 256), section="specimen", least=1,
        help="Make images and volume this wide and high, in pixels; one number is for both.")
    thickness: int = option(64, section="specimen", least=1,
        help="Make the volume this thick (z), in pixels.")
    pixel_size: float = option(8.0, section="specimen", metavar="ANGSTROM", above=0,
        help="Make pixels of this size, in angstrom.")
    detail: float = option(2.0, section="specimen", metavar="PIXELS", least=0.5,
        help="Make the finest detail this wide, the standard deviation of a Gaussian in pixels; below 2 the "
        "voxels no longer resolve all of it.")
    axes: tuple[float, ...] = option((0.0, 45.0, 90.0, 135.0), section="geometry", metavar="DEG",
        help="Tilt about these axes, one for each stack: directions in the image, in degrees "
        "counter-clockwise from +y.")
    tilt_min: float = option(-60.0, section="geometry", metavar="DEG", above=-90, below=90,
        help="Begin at this tilt angle, in degrees.")
    tilt_max: float = option(60.0, section="geometry", metavar="DEG", above=-90, below=90,
        help="End at this tilt angle, in degrees.")
    tilt_step: float = option(2.0, section="geometry", metavar="DEG", above=0,
        help="Tilt by so many degrees from one view to the next.")
    defocus: float | None = option(None, section="microscope", metavar="ANGSTROM", above=0, below=1e6,
        help="Give the images the contrast of this defocus, in angstrom under focus at the specimen's "
        "centre, every part of the specimen by its depth. Left out: perfect projections.")
    defocus_spread: float = option(0.0, section="microscope", metavar="ANGSTROM", least=0,
        help="Vary the defocus from view to view at random, with this standard deviation in angstrom.")
    astigmatism: float = option(0.0, section="microscope", metavar="ANGSTROM", least=0,
        help="Let the defocus differ by so much, in angstrom, between two directions in the image, drawn at "
        "random for each stack.")
    defocus_hand: Literal["+1", "-1"] = option("-1", section="microscope", metavar="HAND",
        help="Let defocus grow (+1) or fall (-1) with depth along the beam.")
    voltage: float = option(300.0, section="microscope", metavar="KV", above=0,
        help="Take this acceleration voltage, in kV.")
    spherical_aberration: float = option(2.7, section="microscope", metavar="MM", least=0,
        help="Take this spherical aberration, in mm.")
    amplitude_contrast: float = option(0.07, section="microscope", least=-1, below=1,
        help="Take this fraction of amplitude contrast.")
    dose_per_view: float = option(0.0, section="microscope", metavar="DOSE", least=0,
        help="Let detail fade as after so many electrons per square angstrom in each view, which are taken "
        "in the order of their tilt, nearest to zero first. Needs --defocus.")
    noise: float = option(0.0, section="imperfections", least=0,
        help="Add noise with this standard deviation, as a fraction of that of the noise-free untilted "
        "image.")
    snr: float | None = option(None, section="imperfections", above=0,
        help="Add noise of this ratio of variances, signal over noise, instead of --noise.")
    drift: float = option(0.0, section="imperfections", least=0,
        help="Let gain and offset differ between and drift along the stacks by so much, e.g. 0.1 for up to "
        "10 %.")
    shift_error: float = option(0.0, section="imperfections", metavar="PIXELS", least=0,
        help="Shift the images at random, with this standard deviation in pixels; the .xf files written "
        "bring the images back.")
    axis_error: float = option(0.0, section="imperfections", metavar="DEG", least=0,
        help="Turn the images of each stack by a random angle of this standard deviation in degrees; the "
        ".xf files written turn them back.")
    bad_views: float = option(0.0, section="imperfections", metavar="FRACTION", least=0, below=1,
        help="Spoil this part of the views of each stack, by turns: the beam is blocked, or the image is "
        "upside down; simulate.toml lists them.")
    extended: bool = option(False, section="specimen",
        help="Let the specimen go on outside the field, as real ones do.")
    dtype: Literal["float32", "int16"] = option("float32", section="output", metavar="TYPE",
        help="Store pixels of this type, float32 or int16 (scaled).")
    seed: int = option(0, section="specimen", least=0, below=SEEDS,
        help="Draw all random numbers from this seed: the same seed gives the same data.")
    overwrite: bool = option(False, section="output",
        help="Replace a simulation in the same folder; other files in it stay.")
