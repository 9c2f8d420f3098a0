"""Everything a tilt reconstruction can be told, in one place: the API, the command line and ``run.toml``.

Only the standard library is imported here, so that the command line can show its help quickly.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from manyviews.options import MachineOptions

Method = Literal["wbp", "sirt", "cg", "direct-combine", "wang2020", "consensus"]
METHODS: tuple[Method, ...] = ("wbp", "sirt", "cg", "direct-combine", "wang2020", "consensus")


@dataclass(frozen=True)
class SeriesOptions:
    """Which stacks, and how each of them looks at the specimen.

    Attributes
    ----------
    stacks
        Tilt series, MRC files, one for each tilt axis.
    tilt_angles
        Angle file of each stack (.tlt, .rawtlt, .xtilt-style lists, .mdoc, .aln, RELION-5 tilt-series .star).
        Left out: FILE.mdoc or FILE.rawtlt beside the stack, then its extended header.
    axis_angle
        Direction of each stack's tilt axis in the image, degrees counter-clockwise from +y.
    transform
        IMOD .xf of each stack: raw image to aligned image, one line a section.
    shifts
        File of x y shifts in pixels for each stack, one line a section (or TomViz JSON): how far to move each
        raw image to align it, x along columns and y along rows as stored. TomViz's [x, y] pairs are read as
        (x, -y), because it shows TIFF images with the first row on top. FILE:FIRST-LAST takes only these
        lines, counted from 1, where the file is for a longer series than the stack.
    x_tilt
        IMOD .xtilt of each stack: rotation about x in degrees, one line a section.
    tilt_offset
        Degrees added to every tilt angle (IMOD OFFSET).
    exclude
        Views to leave out, counted from 1 as IMOD does, e.g. "1,4-6"; with several stacks "2:1,4-6" means
        the second one.
    pixel_size
        Angstrom per pixel of the stacks as stored; left out: from the header.
    """

    stacks: tuple[Path, ...] = ()
    tilt_angles: tuple[Path, ...] = ()
    axis_angle: tuple[float, ...] = ()
    transform: tuple[Path, ...] = ()
    shifts: tuple[Path, ...] = ()
    x_tilt: tuple[Path, ...] = ()
    tilt_offset: float = 0.0
    exclude: tuple[str, ...] = ()
    pixel_size: float | None = None


@dataclass(frozen=True)
class ReconstructOptions(MachineOptions):
    """How to reconstruct.

    Attributes
    ----------
    thickness
        Thickness of the volume in unbinned pixels (z).
    method
        consensus, cg, sirt, wbp, or the paper's wang2020 and direct-combine.
    iterations
        Iterations (outer iterations of consensus and wang2020); left out: a default for each method.
    subsets
        View subsets of consensus, wang2020 and direct-combine.
    overlap
        Views that a subset borrows from the next one.
    subset_order
        adjacent: neighbouring angles together, as in the paper; interleaved: every n-th view.
    bin
        Average blocks of N x N pixels before anything else.
    mann
        Mann averaging factor rho of consensus and wang2020, between 0 and 1.
    inner_iterations
        Gradient steps (wang2020) or conjugate-gradient steps (consensus) inside an outer iteration.
    relaxation
        Step of sirt and wang2020 as a fraction of the largest stable one.
    sirt_form
        landweber (the paper's) or normalised (row and column sums).
    damping
        Tikhonov damping of cg, consensus and wbp, in units of one view (1: as strong as one image that says
        "zero"). Left out: ten times the noise-to-signal ratio measured in the images; 0: plain least squares.
    normal
        convolution: project and back-project as one Fourier product, quick, true up to detector edges;
        exact: by the projectors.
    refresh
        Iterations of cg between exact passes over the images that correct the convolution; 0: never.
    non_negative
        Keep every voxel at zero or above (sirt, consensus).
    total_variation
        Strength of a total-variation agent (consensus); 0 is off.
    smoothness
        Strength of a quadratic smoothness agent (consensus); 0 is off.
    normalise
        none; background: subtract each view's background level; statistics: give every view mean zero and the
        spread of the series at low tilt.
    invert_contrast
        Change the sign of the images, for dark specimens on a bright ground.
    reference
        A true volume (MRC) to compare with: FSC, NCC.
    layout
        GROUPSxSLABS under MPI: groups of ranks for view subsets, each of so many ranks with a slab of slices,
        e.g. 4x2 for 8 ranks. Left out: what leaves the slowest rank the least to do and fits in memory.
    """

    thickness: int = 0
    method: Method = "cg"
    iterations: int | None = None
    subsets: int | None = None
    overlap: int | None = None
    subset_order: Literal["adjacent", "interleaved"] | None = None
    bin: int = 1
    mann: float | None = None
    inner_iterations: int | None = None
    relaxation: float = 0.3
    sirt_form: Literal["landweber", "normalised"] = "landweber"
    damping: float | None = None
    normal: Literal["convolution", "exact"] = "convolution"
    refresh: int = 5
    non_negative: bool = False
    total_variation: float = 0.0
    smoothness: float = 0.0
    normalise: Literal["none", "background", "statistics"] = "none"
    invert_contrast: bool = False
    reference: Path | None = None
    layout: str | None = None


@dataclass(frozen=True)
class ConvertOptions:
    """For which program the geometry is written, and where.

    Attributes
    ----------
    to
        imod (.tlt, .xf, .xtilt and a tilt.com), aretomo (.aln), serialem (.mdoc) or relion5 (tilt-series
        .star).
    out
        Folder for the files, which are named after the stacks; none is replaced.
    """

    to: Literal["imod", "aretomo", "serialem", "relion5"]
    out: Path


@dataclass(frozen=True)
class SimulateOptions:
    """A specimen, and how it is looked at.

    Attributes
    ----------
    phantom
        cell, gaussians, ellipsoids, or the path of a PDB or mmCIF model (also .gz).
    size
        Width and height of the images and of the volume in pixels; one number for both.
    thickness
        Thickness of the volume (z) in pixels.
    pixel_size
        Angstrom per pixel.
    axes
        Direction of the tilt axis of each stack in the image, degrees counter-clockwise from +y.
    tilt_min
        First tilt in degrees.
    tilt_max
        Last tilt in degrees.
    tilt_step
        Degrees between views.
    noise
        Standard deviation of the noise as a fraction of that of the noise-free untilted image.
    snr
        The same as a ratio of variances, signal over noise.
    drift
        How much gain and offset differ between and drift along the stacks, e.g. 0.1 for up to 10 %.
    shift_error
        Standard deviation of random image shifts in pixels; the .xf files written bring the images back.
    axis_error
        Standard deviation in degrees of the angle by which the images of each stack are turned; the .xf
        files written turn them back.
    extended
        Let the specimen go on outside the field, as real ones do.
    dtype
        Pixel type of the stacks, float32 or int16 (scaled).
    seed
        Same seed, same data.
    overwrite
        Replace a simulation in the same folder; other files in it stay.
    """

    phantom: str = "cell"
    size: tuple[int, ...] = (256, 256)
    thickness: int = 64
    pixel_size: float = 8.0
    axes: tuple[float, ...] = (0.0, 45.0, 90.0, 135.0)
    tilt_min: float = -60.0
    tilt_max: float = 60.0
    tilt_step: float = 2.0
    noise: float = 0.0
    snr: float | None = None
    drift: float = 0.0
    shift_error: float = 0.0
    axis_error: float = 0.0
    extended: bool = False
    dtype: Literal["float32", "int16"] = "float32"
    seed: int = 0
    overwrite: bool = False
