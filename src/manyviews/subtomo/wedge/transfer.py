"""What of a particle's transform a subtomogram holds: ``FT(subtomogram) = c(k) FT(particle) + noise``.

The transfer ``c`` is a float32 volume in the layout of numpy's ``rfftn``, ``(box, box, box // 2 + 1)`` with
zero frequency at ``[0, 0, 0]``; 0 where nothing was measured.

* A range of tilts is binary: 1 in the measured region, of several schemes in any of them.
* Listed tilts are slabs s_i one cycle per box thick (`manyviews.geometry.missing_wedge.slab_weight`), with
  the weight w_i of back-projection (`TiltScheme.view_weights`, the ramp) and a factor a_i each, the product
  of weight, dose and CTF: ``c = sum s_i w_i a_i / max(1, sum s_i w_i)``. That is the mean factor of the views
  that measured a frequency, about 1/2 on the edge of the wedge and less in gaps between high tilts, as in a
  volume made by weighted back-projection. There is no cosine of the tilt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from manyviews.errors import InputError
from manyviews.geometry.missing_wedge import TiltScheme, slab_weight
from manyviews.operators.contrast_transfer import Optics, ctf_values

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
OnLattice = Callable[[Float64, Float64, Float64], Float64]

_MEASURED = 1e-3

ImagesCtf = Literal["signed", "flipped", "multiplied"]
"""What was done to the images' CTF: nothing, its phases were flipped, or they were multiplied by it."""

_CORE = 0.5  # cycles per box that a box blurs the tilt axis by, where all views meet


def is_measured(transfers: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    """Where a transfer of any shape is more than a thousandth of its largest magnitude."""
    size = np.abs(transfers)
    return np.asarray(size > _MEASURED * size.max())


def transfer(
    box: int,
    pixel_size: float,
    schemes: TiltScheme | Sequence[TiltScheme],
    *,
    weights: ArrayLike | None = None,
    dose: ArrayLike | None = None,
    ctf: Optics | None = None,
    images_ctf: ImagesCtf = "signed",
    radius: float | None = None,
) -> Float32:
    """The transfer ``(box, box, box // 2 + 1)`` of subtomograms of ``box`` voxels of ``pixel_size`` angstrom.

    Parameters
    ----------
    schemes
        One tilt series or several (dual or multiple tilt axes).
    weights, dose
        ``(view,)`` for the listed tilts of all schemes in order: a factor, and the electrons per square
        angstrom that the specimen had seen by the middle of the view, which dim it as `exposure_decay` says.
    ctf
        Of each listed tilt, at the particle; or one for all. With a range only one, without astigmatism.
    images_ctf
        Whether the images were left as they are (the transfer has the CTF's sign), phase-flipped (its
        magnitude) or multiplied by their CTF (its square).
    radius
        Cycles per box beyond which nothing is kept. Left out: to the corners.

    Raises
    ------
    InputError
        If there is no scheme, ranges and lists are mixed, or something is given for each view of a range or
        for another number of views.
    """
    all_schemes = (schemes,) if isinstance(schemes, TiltScheme) else tuple(schemes)
    listed = _are_listed(all_schemes)
    if listed:
        factors = _Factors(box, pixel_size, all_schemes, weights, dose, ctf, images_ctf)
        values = _on_lattice(factors.mean, box)
    else:
        if weights is not None or dose is not None:
            raise InputError(
                "weights or doses were given, but a range of tilts has no views",
                where="--tilt-range",
                fix="list the tilts",
            )
        values = _range_transfer(box, pixel_size, all_schemes, ctf, images_ctf)
    if radius is not None:
        values *= frequency_radius(box) <= radius
    return values.astype(np.float32)


def exposure_decay(frequency: ArrayLike, dose: float) -> Float64:
    """What radiation leaves of amplitudes at a frequency in 1/angstrom after so many electrons per A^2.

    ``exp(-dose / (2 N(s)))``, ``N(s) = 0.24499 s^-1.6649 + 2.8141``, at 300 kV (Grant and Grigorieff, eLife
    4 (2015) e06980).
    """
    s = np.asarray(frequency, dtype=np.float64)
    with np.errstate(divide="ignore"):
        critical = 0.24499 * s**-1.6649 + 2.8141
    return np.asarray(np.exp(-dose / (2 * critical)), dtype=np.float64)


def lattice(box: int) -> tuple[Float64, Float64, Float64]:
    """kx, ky, kz of the ``rfftn`` layout in cycles per box, as arrays that broadcast to it.

    ``-box / 2`` where y and z have their Nyquist frequency, ``box / 2`` where x has.
    """
    full = np.asarray(np.fft.fftfreq(box, 1 / box), dtype=np.float64)
    half: Float64 = np.arange(box // 2 + 1, dtype=np.float64)
    return half, full.reshape(-1, 1), full.reshape(-1, 1, 1)


def frequency_radius(box: int) -> Float64:
    """Length of every frequency of the ``rfftn`` layout, in cycles per box."""
    kx, ky, kz = lattice(box)
    return np.asarray(np.sqrt(kx**2 + ky**2 + kz**2), dtype=np.float64)


def _are_listed(schemes: tuple[TiltScheme, ...]) -> bool:
    """Whether the schemes list their tilts; all do or none does."""
    kinds = {bool(scheme.tilts) for scheme in schemes}
    if len(kinds) != 1:
        what = "there is no tilt scheme" if not kinds else "some tilt schemes are ranges and some lists"
        raise InputError(what, where="tilts", fix="give a range for each axis or the tilts of each")
    return kinds.pop()


def _on_lattice(function: OnLattice, box: int) -> Float64:
    """A real, centrosymmetric function of frequencies on the lattice of a real volume's transform.

    A Nyquist frequency stands for +box/2 and -box/2; there the mean of both is taken, so that the result is
    the transform of something real.
    """
    frequencies = lattice(box)
    values = np.array(np.broadcast_to(function(*frequencies), (box, box, box // 2 + 1)))
    if box % 2:
        return values
    planes = []
    for axis in range(3):
        index = tuple(slice(box // 2, box // 2 + 1) if one == axis else slice(None) for one in range(3))
        # kx broadcasts along z and y, so it has one axis only: cut those that are there
        flipped = (_flipped(k, axis, box) for k in frequencies)
        planes.append((index, (values[index] + function(*flipped)) / 2))
    for index, plane in planes:
        values[index] = plane
    return values


def _flipped(k: Float64, axis: int, box: int) -> Float64:
    """One component of the frequencies in a Nyquist plane, with the sign of its Nyquist frequency changed."""
    whole = k.reshape((1,) * (3 - k.ndim) + k.shape)
    if whole.shape[axis] > 1:
        whole = whole.take([box // 2], axis=axis)
    return np.where(2 * np.abs(whole) == box, -whole, whole)


def _range_transfer(
    box: int,
    pixel_size: float,
    schemes: tuple[TiltScheme, ...],
    ctf: Optics | None,
    images_ctf: ImagesCtf,
) -> Float64:
    """1 in the union of ranges, times a CTF that is the same in every direction."""

    def measured(kx: Float64, ky: Float64, kz: Float64) -> Float64:
        inside = [scheme.measured(kx, ky, kz) for scheme in schemes]
        return np.asarray(np.any(inside, axis=0), dtype=np.float64)

    # at Nyquist frequencies both signs must be measured: a binary wedge stays binary
    values = np.floor(_on_lattice(measured, box))
    if ctf is None:
        return values
    if len(ctf) != 1 or ctf.defocus[0, 0] != ctf.defocus[0, 1]:
        raise InputError(
            "a range of tilts takes one CTF without astigmatism", where="CTF", fix="list the tilts"
        )
    radius = frequency_radius(box)
    points = np.stack([radius.ravel(), np.zeros(radius.size)], axis=1)
    found = ctf_values(ctf, points, box, pixel_size).numpy()[0].reshape(radius.shape)
    return np.asarray(values * _as_imaged(found.astype(np.float64), images_ctf))


def _as_imaged(ctf: Float64, images_ctf: ImagesCtf) -> Float64:
    """The factor that an image's transform has, from its CTF and what was done about it."""
    if images_ctf == "flipped":
        return np.abs(ctf)
    return np.square(ctf) if images_ctf == "multiplied" else ctf


class _Factors:
    """The views of listed tilts with a factor each."""

    def __init__(
        self,
        box: int,
        pixel_size: float,
        schemes: tuple[TiltScheme, ...],
        weights: ArrayLike | None,
        dose: ArrayLike | None,
        ctf: Optics | None,
        images_ctf: ImagesCtf,
    ) -> None:
        self.box, self.pixel_size, self.images_ctf = box, pixel_size, images_ctf
        self.views = [
            (scheme, number, matrix) for scheme in schemes for number, matrix in enumerate(scheme.matrices())
        ]
        count = len(self.views)
        self.weights = np.ones(count) if weights is None else _one_a_view(weights, count, "weights")
        self.dose = np.zeros(count) if dose is None else _one_a_view(dose, count, "doses")
        if ctf is not None and len(ctf) not in (1, count):
            raise InputError(
                f"{len(ctf)} CTFs were given for {count} tilts", where="CTF", fix="give one for each tilt"
            )
        self.ctf = ctf

    def mean(self, kx: Float64, ky: Float64, kz: Float64) -> Float64:
        """``sum s_i w_i a_i / max(1, sum s_i w_i)``."""
        kx, ky, kz = np.broadcast_arrays(kx, ky, kz)
        shape, frequencies = kx.shape, np.stack([kx.ravel(), ky.ravel(), kz.ravel()])
        total, covered = np.zeros(frequencies.shape[1]), np.zeros(frequencies.shape[1])
        for view, (scheme, number, matrix) in enumerate(self.views):
            slab = slab_weight(matrix[2], *frequencies)
            inside = np.flatnonzero(slab)
            near = frequencies[:, inside]
            weight = slab[inside] * scheme.view_weights(number, *near, core=_CORE)
            covered[inside] += weight
            total[inside] += weight * self._factor(view, matrix[:2] @ near)
        return (total / np.maximum(covered, 1.0)).reshape(shape)

    def _factor(self, view: int, seen: Float64) -> Float64 | float:
        """Weight, dose and CTF of a view at image frequencies ``(2, P)``."""
        factor: Float64 | float = float(self.weights[view])
        if self.dose[view] > 0:
            length = np.hypot(*seen) / (self.box * self.pixel_size)
            factor = factor * exposure_decay(length, float(self.dose[view]))
        if self.ctf is not None:
            one = self.ctf.select(np.array([view if len(self.ctf) > 1 else 0]))
            values = ctf_values(one, seen.T, self.box, self.pixel_size).numpy()[0].astype(np.float64)
            factor = factor * _as_imaged(values, self.images_ctf)
        return factor


def _one_a_view(values: ArrayLike, count: int, name: str) -> Float64:
    given = np.asarray(values, dtype=np.float64)
    if given.shape != (count,):
        raise InputError(
            f"{given.size} {name} were given for {count} tilts", where=name, fix="give one for each tilt"
        )
    if not (np.isfinite(given).all() and (given >= 0).all()):
        raise InputError(f"the {name} of tilts are not all numbers from 0 on", where=name, fix="correct them")
    return given
