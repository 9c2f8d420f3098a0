"""Everything an ab initio reconstruction can be told, in one place: the API, the command line, ``run.toml``.

Only the standard library is imported here, so that the command line can show its help quickly.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

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
class AbinitioOptions:
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
    device
        cpu, cuda, or auto.
    threads
        Threads of each rank; 0: the cores, divided among the ranks of a host.
    memory
        Memory that each rank may use, GiB. Images that need more are kept in files. Left out: what is free.
    scratch
        Folder for such files. Left out: the run folder.
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
    device: Literal["cpu", "cuda", "auto"] = "cpu"
    threads: int = 0
    memory: float | None = None
    scratch: Path | None = None
