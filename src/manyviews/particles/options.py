"""Everything that jobs over particles can be told, in one place: the API, the command line, ``run.toml``.

Only the standard library is imported here, so that the command line can show its help quickly.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from manyviews.options import SEEDS, MachineOptions, described, option

AbinitioMethod = Literal["stochastic-em", "sagd"]
Schedule = Literal["quick", "paper"]
Prior = Literal["uniform", "exponential", "car"]
RefineMethod = Literal["em", "accelerated-em", "preconditioned-sgd", "sgd", "vdam"]
RefineDiagonal = Literal["em", "hutchinson"]
Halves = Literal["table", "micrograph", "particle"]
_EM: tuple[AbinitioMethod, ...] = ("stochastic-em",)
_SAGD: tuple[AbinitioMethod, ...] = ("sagd",)

# Said of more than one job.
_OUTLIERS = (
    "Replace hot pixels and X-rays, which stand out of an image alone or in clusters of a few, by "
    "the median around them. Left out: they are cut down to three standard deviations of the noise."
)
_SHIFTS = (
    "Expect particles off the middle of their images by this standard deviation, in angstrom, "
    "along x and y. Left out: a fortieth of the box."
)
_HALVES = (
    "Divide the particles into halves by the table (rlnRandomSubset), by micrograph, or by "
    "particle; copies of a particle stay together. Left out: as the table says where it has halves, "
    "else by particle."
)
_SOLVENT = (
    "Mask the noise about the particle out of the maps that poses are found with, softly, as soon as the "
    "halves tell where the particle is. Somewhat sharper maps; but weak density of the particle may be lost "
    "with the noise: compare power_explained. Left out: all that is in the sphere stays."
)
_REFERENCE = (
    "Compare the result with this true map (MRC, of the images' size), aligned first, in either hand."
)


# One option a paragraph.
# fmt: off
@described
@dataclass(frozen=True)
class ParticleOptions:
    """Which particles."""

    particles: Path = option(Path(), section="input", metavar="PARTICLES", positional=True,
        help="Read the particles from this RELION STAR file (3.0, 3.1 or 5.0) or cryoSPARC .cs file.")
    data_root: Path | None = option(None, section="input", metavar="DIR",
        help="Look for the images in this folder, as the file names them or else by the last parts of their "
        "names. Left out: the file's folder or one above it.")
    passthrough: Path | None = option(None, section="input",
        help="Read the fields that the .cs file lacks from this cryoSPARC passthrough .cs file.")
    dark_protein: bool = option(False, section="input",
        help="Take protein as dark in the images of a STAR file (RELION's rule is white).")
    no_ctf: bool = option(False, section="input",
        help="Take the images as having no contrast transfer function, or as corrected for it.")
    pixel_size: float | None = option(None, section="input", metavar="ANGSTROM", above=0,
        help="Take the images to have pixels of this size in angstrom. Left out: what the file says.")


@described
@dataclass(frozen=True)
class ConvertOptions:
    """Where a table goes that is written for another program."""

    out: Path = option(section="output", metavar="TABLE",
        help="Write this table: RELION's (3.1) if it ends in .star, cryoSPARC's if it ends in .cs.")
    without_images: bool = option(False, section="input",
        help="Do not look for the images, which may be elsewhere.")
    overwrite: bool = option(False, section="output", help="Replace the table if it is there.")


@described
@dataclass(frozen=True)
class AbinitioOptions(MachineOptions):
    """How to reconstruct."""

    remove_outliers: bool = option(False, section="input",
        help=_OUTLIERS)
    method: AbinitioMethod = option("stochastic-em", section="method", metavar="METHOD",
        help="Reconstruct in this way. stochastic-em: expectation maximisation on growing batches, no "
        "gradient step, the quick default; sagd: the stochastic average gradients of Punjani, Brubaker "
        "and Fleet.")
    diameter: float | None = option(None, section="particle", metavar="ANGSTROM",
        help="Put a soft spherical mask of this diameter, in angstrom, around the particle. Left out: 0.8 "
        "of the box.")
    resolution: float | None = option(None, section="particle", metavar="ANGSTROM",
        help="Go to this resolution and no finer, in angstrom. Left out: as far as the halves of the data "
        "agree.")
    symmetry: str = option("C1", section="particle", metavar="GROUP", methods=_EM,
        help="Impose this point group, e.g. C1, C7, D2, T, O, I (stochastic-em). Starts do without it; the "
        "best of them is laid on its axes and refined with it.")
    starts: int | None = option(None, section="method", least=1,
        help="Make this many random starts; the one that explains the images best is gone on with. Left out: "
        "3, and by stochastic-em one more, up to 8, as long as no other agrees with the best.")
    refinements: int = option(8, section="method", least=1, methods=_EM,
        help="Refine for this many iterations (stochastic-em).")
    batch: int = option(200, section="method", least=1, help="Take this many images to a mini-batch.")
    schedule: Schedule | None = option(None, section="method", metavar="SCHEDULE", methods=_SAGD,
        help="Let sagd stay at each frequency for so long: paper, 150 mini-batches, or quick, 40. Left out: "
        "quick for fewer than 10,000 images.")
    iterations: int | None = option(None, section="method", least=1, methods=_SAGD,
        help="Let sagd go through this many mini-batches in all. Left out: as many as its schedule needs.")
    shift_sigma: float | None = option(None, section="particle", metavar="ANGSTROM",
        help=_SHIFTS)
    prior: Prior = option("exponential", section="method", metavar="PRIOR", methods=_SAGD,
        help="Give sagd this prior of the density: uniform, exponential, or car (each voxel is like its "
        "neighbours).")
    prior_strength: float = option(1.0, section="method", least=0, methods=_SAGD,
        help="Make the prior of sagd this strong, relative to its default.")
    allow_negative: bool = option(False, section="particle", methods=_EM,
        help="Let the density be below that of the solvent in all starts (stochastic-em). Left out: in every "
        "second one; the best start decides for the refinement.")
    independent_halves: bool = option(False, section="output", methods=_EM,
        help="Refine two halves of the particles apart, so that their FSC is that of independent maps "
        "(stochastic-em).")
    seed: int = option(0, section="method", least=0, below=SEEDS,
        help="Draw all random numbers from this seed: the same seed gives the same result.")
    reference: Path | None = option(None, section="output",
        help=_REFERENCE)


@described
@dataclass(frozen=True)
class RefineOptions(MachineOptions):
    """How to refine."""

    start: Path = option(Path(), section="input", metavar="PATH", required=True,
        help="Begin with this map (MRC), of any number of voxels for the same field of view, or with the map "
        "of this run folder. Only its low frequencies are used, see --start-resolution.")
    start_resolution: float = option(40.0, section="method", metavar="ANGSTROM", above=0,
        help="Use of the start what is coarser than this, in angstrom, or than 6.4 waves across the particle "
        "where that is finer: the two halves are apart from there on.")
    remove_outliers: bool = option(False, section="input",
        help=_OUTLIERS)
    diameter: float | None = option(None, section="particle", metavar="ANGSTROM",
        help="Put a soft spherical mask of this diameter, in angstrom, around the particle. Left out: 0.8 "
        "of the box.")
    resolution: float | None = option(None, section="particle", metavar="ANGSTROM",
        help="Go to this resolution and no finer, in angstrom. Left out: as far as the halves agree.")
    symmetry: str = option("C1", section="particle", metavar="GROUP",
        help="Impose this point group, e.g. C1, C7, D2, T, O, I, on whose axes the start lies.")
    flat_solvent: bool = option(False, section="particle",
        help=_SOLVENT)
    halves: Halves | None = option(None, section="method", metavar="HALVES",
        help=_HALVES)
    method: RefineMethod = option("em", section="method", metavar="METHOD",
        help="Refine by em: expectation maximisation, a pass through all images an iteration; by "
        "preconditioned-sgd: batches that grow to all images, with EM's diagonal (online EM), which takes "
        "fewer passes but more CPU time an image where images are few (thousands); by accelerated-em: EM, "
        "extrapolated. To compare with: vdam (written after RELION's) and sgd (no preconditioner).")
    diagonal: RefineDiagonal = option("em", section="method", metavar="DIAGONAL",
        help="Divide the gradient of preconditioned-sgd by the diagonal of EM's quadratic (em), or by that "
        "of the true Hessian, shell by shell, estimated by probes (hutchinson).")
    batch: int | None = option(None, section="method", metavar="IMAGES", least=1,
        help="Take so many images a batch in the first pass, by the methods that take batches; in each "
        "further pass there are half as many batches. Left out: a tenth of the images, but 500 at least.")
    iterations: int = option(25, section="method", least=1,
        help="Go through all images so many times at most; it ends as soon as the halves agree no further.")
    shift_sigma: float | None = option(None, section="particle", metavar="ANGSTROM",
        help=_SHIFTS)
    seed: int = option(0, section="method", least=0, below=SEEDS,
        help="Draw all random numbers from this seed: the same seed gives the same result.")
    reference: Path | None = option(None, section="output",
        help=_REFERENCE)


@described
@dataclass(frozen=True)
class SolveOptions(MachineOptions):
    """How to come from nothing to two refined half maps: what matters of ab initio and of the refinement."""

    remove_outliers: bool = option(False, section="input",
        help=_OUTLIERS)
    method: AbinitioMethod = option("stochastic-em", section="method", metavar="METHOD",
        help="Find the first map in this way. stochastic-em: expectation maximisation on growing batches, "
        "the quick default; sagd: the stochastic average gradients of Punjani, Brubaker and Fleet.")
    starts: int | None = option(None, section="method", least=1,
        help="Make this many random starts; the one that explains the images best is gone on with. You are "
        "told how many of the others agree with it. Left out: 3, and by stochastic-em one more, up to 8, as "
        "long as no other agrees with the best.")
    diameter: float | None = option(None, section="particle", metavar="ANGSTROM",
        help="Put a soft spherical mask of this diameter, in angstrom, around the particle: a little more "
        "than its longest extent. Left out: 0.8 of the box.")
    symmetry: str = option("C1", section="particle", metavar="GROUP",
        help="Impose this point group, e.g. C1, C7, D2, T, O, I. Random starts do without it; what they come "
        "to is laid on its axes, and you are told how symmetric it looked. Not sure: leave it out first.")
    allow_negative: bool = option(False, section="particle", methods=_EM,
        help="Let the density be below that of the solvent in all starts (stochastic-em). Left out: in every "
        "second one. The refinement of the halves always lets it.")
    flat_solvent: bool = option(False, section="particle",
        help=_SOLVENT)
    resolution: float | None = option(None, section="particle", metavar="ANGSTROM",
        help="Go to this resolution and no finer, in angstrom. Left out: as far as the halves agree.")
    start_resolution: float = option(40.0, section="method", metavar="ANGSTROM", above=0,
        help="Give both halves of the first map what is coarser than this, in angstrom, or than 6.4 waves "
        "across the particle where that is finer: they are apart from there on.")
    halves: Halves | None = option(None, section="method", metavar="HALVES",
        help=_HALVES)
    iterations: int = option(25, section="method", least=1,
        help="Refine the halves in so many passes through all images at most; it ends as soon as they agree "
        "no further.")
    shift_sigma: float | None = option(None, section="particle", metavar="ANGSTROM",
        help=_SHIFTS)
    seed: int = option(0, section="method", least=0, below=SEEDS,
        help="Draw all random numbers from this seed: the same seed gives the same result.")
    reference: Path | None = option(None, section="output",
        help=_REFERENCE)

    def abinitio(self) -> AbinitioOptions:
        """Of the first part; sagd knows no symmetry."""
        symmetry = self.symmetry if self.method in _EM else "C1"
        return AbinitioOptions(
            **self._of_both(), method=self.method, starts=self.starts, symmetry=symmetry,
            allow_negative=self.allow_negative,
        )  # fmt: skip

    def refinement(self) -> RefineOptions:
        """Of the second part, but for its start."""
        return RefineOptions(
            **self._of_both(), symmetry=self.symmetry, start_resolution=self.start_resolution,
            halves=self.halves, iterations=self.iterations, reference=self.reference,
            flat_solvent=self.flat_solvent,
        )  # fmt: skip

    def _of_both(self) -> dict[str, Any]:
        shared = ("remove_outliers", "diameter", "resolution", "shift_sigma", "seed")
        machine = (item.name for item in fields(MachineOptions))
        return {name: getattr(self, name) for name in (*shared, *machine)}


@described
@dataclass(frozen=True)
class ReconstructOptions(MachineOptions):
    """How to reconstruct from poses that the table holds."""

    remove_outliers: bool = option(False, section="input",
        help=_OUTLIERS)
    diameter: float | None = option(None, section="particle", metavar="ANGSTROM", above=0,
        help="Put a soft spherical mask of this diameter around the particle, in angstrom. Left out: the "
        "largest in the box.")
    resolution: float | None = option(None, section="particle", metavar="ANGSTROM", above=0,
        help="Go to this finest resolution, in angstrom. Left out: that of the pixels.")
    symmetry: str = option("C1", section="particle", metavar="GROUP",
        help="Impose this point group, e.g. C1, C7, D2, T, O, I, on whose axes the poses lie.")
    padding: int = option(2, section="method", least=1,
        help="Sample the transform this many times finer than the box asks for, 1 to 4.")
    reference: Path | None = option(None, section="output",
        help="Compare the map with this true one (MRC), as it lies.")


@described
@dataclass(frozen=True)
class PostprocessOptions:
    """How two half maps are finished."""

    half1: Path = option(Path(), section="input", metavar="HALF1", positional=True,
        help="Read the map of the first half from this file (MRC or EM), unfiltered, protein white.")
    half2: Path = option(Path(), section="input", metavar="HALF2", positional=True,
        help="Read the map of the second half from this file, of the same size.")
    pixel_size: float | None = option(None, section="input", metavar="ANGSTROM", above=0,
        help="Take the maps to have voxels of this size in angstrom. Left out: what their headers say.")
    mask: Path | None = option(None, section="particle",
        help="Take this mask (MRC, of the maps' size, from 0 outside to 1 inside, with a soft edge). Left "
        "out: one is found from the halves.")
    symmetry: str = option("C1", section="particle", metavar="GROUP",
        help="Give the mask this point group, e.g. C1, C7, D2, T, O, I, about the axes of the box, and tell "
        "where the maps do not have it.")
    b_factor: float | None = option(None, section="method", metavar="SQUARE_ANGSTROM",
        help="Sharpen by this B factor in square angstrom, which is below zero to sharpen, as RELION has it. "
        "Left out: it is fitted from 10 angstrom to the resolution.")
    local_threshold: float = option(0.5, section="method", above=0, below=1,
        help="Take a place as resolved as far as the halves correlate by this around it.")
    seed: int = option(0, section="method", least=0, below=SEEDS,
        help="Draw the random phases from this seed: the same seed gives the same result.")
    threads: int = option(0, section="machine", least=0,
        help="Compute with this many threads; 0: all cores.")


@described
@dataclass(frozen=True)
class ConditionOptions(MachineOptions):
    """How to find the condition numbers of particles whose poses the table holds."""

    diameter: float | None = option(None, section="particle", metavar="ANGSTROM", above=0,
        help="Take what lies outside of this diameter as background, whose noise is measured, in angstrom. "
        "Left out: 0.8 of the box.")
    resolution: float | None = option(None, section="particle", metavar="ANGSTROM", above=0,
        help="Go to this finest resolution, in angstrom. Left out: that of the pixels.")
    resolutions: int = option(5, section="method", least=1,
        help="Look at this many resolutions, in even steps of frequency up to the finest.")
    count: int | None = option(None, section="input", least=1,
        help="Use this many particles, spread over the table: fewer see less of the transform, so that the "
        "problem is harder than that of all. Left out: all.")
    damping: float = option(1e-8, section="method", above=0,
        help="Add this much to every eigenvalue, relative to the mean 1/variance of a coefficient's noise: "
        "what no image sees has no other.")
    probes: int = option(30, section="method", least=1,
        help="Estimate the diagonal by this many of Hutchinson's random probes, as preconditioned SGD does "
        "in an epoch of 30 batches.")
    products: int = option(100, section="method", least=2,
        help="Search for eigenvalues with at most this many products with the Hessian, each two passes over "
        "the images. What has not settled by then is told as a bound.")
    seed: int = option(0, section="method", least=0, below=SEEDS,
        help="Draw probes and starts of searches from this seed: the same seed gives the same result.")


@dataclass(frozen=True)
class SimulateOptions:
    """A specimen, and how its images are taken."""

    specimen: str = option("complex", section="specimen",
        help="Simulate this specimen: complex (made up of Gaussians), the path of a PDB or mmCIF model "
        "(also .gz), or of a map in an MRC file.")
    box: int = option(64, section="specimen", least=16, help="Make square images of this side, in pixels.")
    pixel_size: float = option(4.0, section="specimen", metavar="ANGSTROM", above=0,
        help="Make pixels of this size, in angstrom.")
    count: int = option(2000, section="specimen", least=1, help="Make this many images.")
    resolution: float | None = option(None, section="specimen", metavar="ANGSTROM",
        help="Blur an atomic model to this finest detail, in angstrom. Left out: three pixels.")
    snr: float | None = option(None, section="noise", above=0,
        help="Add noise of this ratio of variances, noise-free images over noise. Left out: 0.1, unless "
        "noise is given.")
    noise: float | None = option(None, section="noise", least=0,
        help="Add noise with this standard deviation in a pixel for a specimen whose voxels sum to --mass, "
        "instead of --snr; 0 for none.")
    mass: float = option(80_000.0, section="noise", above=0,
        help="Let --noise refer to a specimen whose voxels have this sum.")
    noise_colour: float = option(0.0, section="noise", least=0,
        help="Make the noise so much stronger at low frequencies than at high ones, in power; 0 is white.")
    no_ctf: bool = option(False, section="microscope", help="Leave the contrast transfer function out.")
    voltage: float = option(300.0, section="microscope", metavar="KV", above=0,
        help="Set the voltage of the microscope, in kilovolts.")
    spherical_aberration: float = option(2.7, section="microscope", metavar="MM", least=0,
        help="Set the spherical aberration (Cs), in millimetres.")
    amplitude_contrast: float = option(0.07, section="microscope", least=0, below=1,
        help="Let this part of the contrast be amplitude contrast, from 0 to below 1.")
    b_factor: float = option(0.0, section="microscope", least=0,
        help="Let the CTF fall off by this B factor in square angstrom, as exp(-B s^2 / 4).")
    defocus_min: float = option(10_000.0, section="microscope", metavar="ANGSTROM", least=0,
        help="Draw the mean defocus of an image from here on, in angstrom.")
    defocus_max: float = option(25_000.0, section="microscope", metavar="ANGSTROM", least=0,
        help="Draw the mean defocus of an image up to here, in angstrom.")
    astigmatism: float = option(600.0, section="microscope", metavar="ANGSTROM", least=0,
        help="Let the two defocus values of an image differ by up to so much, in angstrom.")
    shift_sigma: float = option(5.0, section="poses", metavar="ANGSTROM", least=0,
        help="Shift the particles in x and in y with this standard deviation, in angstrom.")
    views: Literal["uniform", "belt"] = option("uniform", section="poses", metavar="VIEWS",
        help="See the particles from these directions: uniform, or belt for side views only, around the z "
        "axis of the specimen.")
    belt_width: float = option(15.0, section="poses", metavar="DEG", above=0,
        help="Let the latitude of a belt have this standard deviation, in degrees.")
    seed: int = option(0, section="specimen", least=0, below=SEEDS,
        help="Draw all random numbers from this seed: the same seed gives the same data.")
    overwrite: bool = option(False, section="output",
        help="Replace a simulation in the same folder; other files in it stay.")
