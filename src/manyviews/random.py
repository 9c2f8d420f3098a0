"""Random numbers by name: every use has a stream of its own, a function of the seed alone.

Switching one kind of randomness on so never changes another, and no two streams share their numbers. Words
that are merely listed, ``default_rng([5, 1])``, do not promise that: ``default_rng([5, 1, 0])`` is the same.
"""

from __future__ import annotations

from enum import IntEnum, unique

import numpy as np

from manyviews.options import SEEDS

_KEYS = 2**32  # a larger key would be two words, so that (2**32,) and (0, 1) were the same


@unique
class Stream(IntEnum):
    """What random numbers are for, with the keys that tell apart the streams of one name.

    A number is never changed and never used again: all results of that stream would change.
    """

    TEST = 0  # test instances of operators; case
    DOT_TEST = 1  # the vectors of the dot test of operators
    EIGENVALUE = 2  # where the search for the largest eigenvalue starts
    KERNEL_PLACES = 3  # where the profile of a view's kernel is averaged
    SYMMETRY_AXES = 4  # voxels and operations that a map is compared with itself by

    CELL = 10  # the cell-like slab
    GAUSSIANS = 11  # scattered Gaussians
    ELLIPSOIDS = 12  # scattered ellipsoids
    MOLECULES = 13  # places and turns of an atomic model's copies
    COMPLEX = 14  # the molecular complex

    GREY_LEVELS = 20  # drift of a simulated tilt series; series
    MISALIGNMENT = 21  # shifts and turn of a simulated tilt series; series
    TILT_NOISE = 22  # noise of a simulated view; series, view
    TILT_DEFOCUS = 23  # defocus of the views of a simulated tilt series; series
    SPOILED_VIEWS = 24  # which views of a simulated tilt series are spoiled; series

    POSES = 30  # rotations of simulated particles
    SHIFTS = 31  # shifts of simulated particles
    DEFOCUS = 32  # defocus of simulated particles
    PARTICLE_NOISE = 33  # noise of a simulated image; its number
    SUBTOMOGRAM_POSES = 34  # rotations of simulated subtomograms
    SUBTOMOGRAM_SHIFTS = 35  # shifts of simulated subtomograms
    SUBTOMOGRAM_NOISE = 36  # noise of a simulated subtomogram's views; its number

    START_MAP = 40  # the spheres of a random start; start or trial
    START_POWER = 41  # the views that a random start gets its brightness by; start or trial
    START_STEP = 42  # poses of a mini-batch of a start (stochastic-em); iteration
    START_BATCHES = 43  # order of the images (stochastic-em); start, pass through all of them
    START_SCORE = 44  # the images that score a start, and their poses (stochastic-em)
    REFINEMENT = 45  # batch and poses (stochastic-em); iteration
    IMAGE_SIGNS = 46  # what images are told apart by
    HALF_START = 47  # noise of the start of each half; half, or 2 for the images that judge its sign
    HALVES_PASS = 48  # poses in a pass of a refinement of halves; pass, or batch
    EVIDENCE_VIEWS = 49  # the views of a map that the evidence of an image is predicted with

    SAGD_BATCHES = 50  # which images are in which mini-batch; trial
    SAGD_ORDER = 51  # order of the mini-batches; trial, pass through all of them
    SAGD_DRAWS = 52  # poses of an image; trial, iteration, its number
    SAGD_POSES = 53  # the grids that poses are looked for on, in the end
    HALVES_BATCHES = 54  # order of the images in a refinement of halves by batches; pass through all of them

    PSGD_ORDER = 55  # order of the images (preconditioned SGD); pass through all of them
    PSGD_PROBES = 56  # probes of the Hessian's diagonal (preconditioned SGD); iteration
    PROBES = 57  # probes of a Hessian's diagonal by itself; its number
    LANCZOS = 58  # where the search for extreme eigenvalues starts

    SUBTOMOGRAM_START = 60  # poses of the average that an alignment starts from
    SUBTOMOGRAM_PARTS = 61  # parts of the frequencies, or slices, of a refinement; pose (slices)

    SCAN_SPECIMEN = 80  # parts of a simulated specimen for scans
    SCAN_DEFORMATION = 81  # the field that deforms it
    SCAN_MOTION = 82  # shifts and turns of whole views
    SCAN_COUNTS = 83  # photons and readout of a view; its number
    SCAN_BACKGROUND = 84  # the slow background of a view; its number
    SCAN_BEAM = 85  # the beam; of its images: flats 0, darks 1, the number
    INJECTED_MOTION = 86  # the known motion that is put into given projections

    NOISE_IMAGES = 89  # made-up images of noise that particles are told from; pass, half
    FSC_PHASES = 90  # phases of a half without its own; half, draw
    HALVES = 91  # which half a unit of subtomograms goes to


def generator(seed: int, stream: Stream, *keys: int) -> np.random.Generator:
    """The numbers of a stream; the same arguments always give the same.

    Parameters
    ----------
    seed
        Of the run, from 0 to below `manyviews.options.SEEDS`.
    stream
        What for.
    keys
        Which one of that name, each from 0 to below 2**32. Another number of keys is another stream too.

    Raises
    ------
    ValueError
        If a seed or key is out of its range, where streams could coincide.
    """
    if not 0 <= seed < SEEDS:
        raise ValueError(f"{seed} is no seed: it must be from 0 on and below {SEEDS}")
    if not all(0 <= key < _KEYS for key in keys):
        raise ValueError(f"{keys} are no keys: each must be from 0 on and below {_KEYS}")
    words = (int(stream), *(int(key) for key in keys))
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(int(seed), spawn_key=words)))
