"""Everything that jobs over particles can be told, in one place: the API, the command line, ``run.toml``.

Only the standard library is imported here, so that the command line can show its help quickly.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from manyviews.options import MachineOptions

AbinitioMethod = Literal["stochastic-em", "sagd"]
Prior = Literal["uniform", "exponential", "car"]


@dataclass(frozen=True)
class ParticleOptions:
    """Which particles.

    Attributes
    ----------
    particles
        RELION STAR file (3.0, 3.1 or 5.0) or cryoSPARC .cs file of the particles.
    data_root
        Folder to which image names in the file are relative. Left out: the file's folder or one above it.
    passthrough
        cryoSPARC passthrough .cs, which holds the fields that the other one lacks.
    dark_protein
        Protein is dark in the images of a STAR file (RELION's rule is white).
    no_ctf
        The images have no contrast transfer function, or are corrected for it.
    pixel_size
        Angstrom; left out: what the file says.
    """

    particles: Path = Path()
    data_root: Path | None = None
    passthrough: Path | None = None
    dark_protein: bool = False
    no_ctf: bool = False
    pixel_size: float | None = None


@dataclass(frozen=True)
class AbinitioOptions(MachineOptions):
    """How to reconstruct.

    Attributes
    ----------
    method
        stochastic-em: expectation maximisation on growing batches, no gradient step, the quick default; sagd:
        the stochastic average gradients of Punjani, Brubaker and Fleet.
    diameter
        Of the particle in angstrom; a soft spherical mask is put around it. Left out: 0.8 of the box.
    resolution
        Finest resolution to go to, in angstrom. Left out: as far as the halves of the data agree.
    symmetry
        Point group, e.g. C1, C7, D2, T, O, I. Starts do without it; the best of them is laid on its axes and
        refined with it.
    starts
        Random starts; the one that explains the images best is gone on with.
    refinements
        Iterations of the refinement (stochastic-em).
    batch
        Images of a mini-batch.
    schedule
        Of sagd: paper, 150 mini-batches at each frequency, or quick, 40. Left out: quick for fewer than
        10,000 images.
    iterations
        Mini-batches of sagd in all. Left out: as many as its schedule needs.
    shift_sigma
        Standard deviation of the particles' places around the middle of their images, in angstrom, along x
        and y. Left out: a fortieth of the box.
    prior
        Of the density (sagd): uniform, exponential, or car (each voxel like its neighbours).
    prior_strength
        Of the prior, relative to its default.
    allow_negative
        Let the density be below that of the solvent.
    independent_halves
        Refine two halves of the particles apart, so that their FSC is that of independent maps
        (stochastic-em).
    seed
        Of all random numbers.
    reference
        A true map (MRC) to compare with, aligned first, either hand.
    """

    method: AbinitioMethod = "stochastic-em"
    diameter: float | None = None
    resolution: float | None = None
    symmetry: str = "C1"
    starts: int = 3
    refinements: int = 8
    batch: int = 200
    schedule: Literal["quick", "paper"] | None = None
    iterations: int | None = None
    shift_sigma: float | None = None
    prior: Prior = "exponential"
    prior_strength: float = 1.0
    allow_negative: bool = False
    independent_halves: bool = False
    seed: int = 0
    reference: Path | None = None


@dataclass(frozen=True)
class ReconstructOptions(MachineOptions):
    """How to reconstruct from poses that the table holds.

    Attributes
    ----------
    diameter
        Of the particle in angstrom; a soft spherical mask is put around it. Left out: the largest sphere in
        the box.
    resolution
        Finest resolution to go to, in angstrom. Left out: that of the pixels.
    symmetry
        Point group, e.g. C1, C7, D2, T, O, I, on whose axes the poses lie.
    padding
        How many times finer than the box asks for the transform is sampled, 1 to 4.
    reference
        A true map (MRC) to compare with, as it lies.
    """

    diameter: float | None = None
    resolution: float | None = None
    symmetry: str = "C1"
    padding: int = 2
    reference: Path | None = None


@dataclass(frozen=True)
class SimulateOptions:
    """A specimen, and how its images are taken.

    Attributes
    ----------
    specimen
        complex (made up of Gaussians), the path of a PDB or mmCIF model (also .gz), or of a map in an MRC
        file.
    box
        Side of the images in pixels.
    pixel_size
        Angstrom per pixel.
    count
        Number of images.
    resolution
        Finest detail of an atomic model in angstrom. Left out: three pixels.
    snr
        Variance of the noise-free images over that of the noise. Left out: 0.1, unless noise is given.
    noise
        Standard deviation of the noise in a pixel for a specimen whose voxels sum to --mass, instead of snr;
        0 for none.
    mass
        Sum of the specimen's voxels that --noise refers to.
    noise_colour
        How much stronger than at high frequencies the noise is at low ones, in power; 0 is white.
    no_ctf
        Leave the contrast transfer function out.
    voltage
        Kilovolts.
    spherical_aberration
        Millimetres.
    amplitude_contrast
        Part of the contrast that is amplitude contrast, 0 to 1.
    b_factor
        Square angstrom; the CTF falls off as exp(-B s^2 / 4).
    defocus_min
        Least mean defocus of an image in angstrom.
    defocus_max
        Largest mean defocus in angstrom.
    astigmatism
        Largest difference between the two defocus values of an image in angstrom.
    shift_sigma
        Standard deviation of the particles' shifts in x and in y, angstrom.
    views
        uniform, or belt for side views only, around the z axis of the specimen.
    belt_width
        Standard deviation in degrees of the latitude of a belt.
    seed
        Same seed, same data.
    overwrite
        Replace a simulation in the same folder; other files in it stay.
    """

    specimen: str = "complex"
    box: int = 64
    pixel_size: float = 4.0
    count: int = 2000
    resolution: float | None = None
    snr: float | None = None
    noise: float | None = None
    mass: float = 80_000.0
    noise_colour: float = 0.0
    no_ctf: bool = False
    voltage: float = 300.0
    spherical_aberration: float = 2.7
    amplitude_contrast: float = 0.07
    b_factor: float = 0.0
    defocus_min: float = 10_000.0
    defocus_max: float = 25_000.0
    astigmatism: float = 600.0
    shift_sigma: float = 5.0
    views: Literal["uniform", "belt"] = "uniform"
    belt_width: float = 15.0
    seed: int = 0
    overwrite: bool = False
