"""Weight volumes in MRC files, as other programs leave them beside subtomograms (``rlnCtfImage``).

| file, voxels (z, y, x) | zero frequency | written by |
| --- | --- | --- |
| ``(N, N, N)`` | in the middle, index ``N // 2`` | RELION 3, Warp, this program |
| ``(N, N, N // 2 + 1)`` | ``[0, 0, 0]`` | FFTW's half: RELION 4 and 5, Warp |
| ``(2 N, N, N // 2 + 1)`` | ``[0, 0, 0]``, twice | RELION 4 and 5: CTF^2, then how many tilts there are |

Whole or half is seen from the shape. Where zero frequency lies is decided by the volume itself: a wedge looks
the same at twice the frequency, but only seen from its own origin.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.io.mrc import read_header, read_mrc, write_mrc
from manyviews.subtomo.wedge.transfer import is_measured

Float32 = NDArray[np.float32]
Origin = Literal["middle", "corner"]

_CLEAR_DIFFERENCE = 0.02


@dataclass(frozen=True, eq=False)
class WeightVolume:
    """What a file holds, and how that was decided.

    Attributes
    ----------
    transfer
        ``(box, box, box // 2 + 1)`` float32, see `manyviews.subtomo.wedge.transfer`.
    origin
        Where the file has zero frequency.
    note
        What was decided, a clause to be told.
    is_unusual
        Whether zero frequency lies where RELION does not have it.
    """

    transfer: Float32
    origin: Origin
    note: str
    is_unusual: bool


def read_weights(
    path: Path, box: int, *, squared: bool = False, premultiplied: bool = False, origin: Origin | None = None
) -> WeightVolume:
    """Read the weights of subtomograms of ``box`` voxels.

    Parameters
    ----------
    squared
        The file holds the square of the CTF, as RELION 4 and 5 write it, not the CTF or a wedge.
    premultiplied
        The subtomograms were multiplied by their CTF, so that the transfer is its square.
    origin
        Where zero frequency is; left out: decided by the volume.

    Raises
    ------
    InputError
        If the file cannot be read, is of another box, holds NaN, infinity or nothing, or squares below zero.
    """
    shape = read_header(path).shape
    half_shape = (box, box, box // 2 + 1)
    if shape not in ((box, box, box), half_shape, (2 * box, *half_shape[1:])):
        raise _wrong_shape(path, shape, box)
    given = read_mrc(path)[0][:box]  # what follows are counts of tilts
    if not np.abs(given).max() > 0:
        raise InputError("holds no weight above zero", path=path, fix="give the weights of the particles")
    if squared and given.min() < 0:
        raise InputError(
            "holds squares below zero", path=path, fix="leave out that it holds the square of the CTF"
        )
    shifted_axes = (0, 1, 2) if shape[2] == box else (0, 1)
    is_whole = shape[2] == box
    found, note = (origin, "as was told") if origin else _origin(given, shifted_axes, is_whole=is_whole)
    half = np.fft.ifftshift(given, axes=shifted_axes) if found == "middle" else given
    values = half[:, :, : box // 2 + 1].astype(np.float64)
    if squared != premultiplied:
        values = np.sqrt(values) if squared else values**2
    expected: Origin = "middle" if is_whole else "corner"
    return WeightVolume(
        np.ascontiguousarray(values, dtype=np.float32),
        found,
        f"{path.name}: {' x '.join(map(str, shape))} weights, zero frequency in the {found}, {note}",
        found != expected,
    )


def write_weights(path: Path, transfer: Float32, pixel_size: float) -> None:
    """Write a transfer ``(box, box, box // 2 + 1)`` whole, zero frequency in the middle, for RELION."""
    labels = ("manyviews: weights of frequencies, zero in the middle",)
    write_mrc(path, whole_transfer(transfer), pixel_size, labels=labels)


def whole_transfer(transfer: NDArray[Any]) -> Float32:
    """``(box, box, box)`` of a transfer ``(box, box, box // 2 + 1)``, zero frequency at ``box // 2``."""
    box, half = transfer.shape[0], transfer.shape[2]
    whole = np.empty((box, box, box), dtype=np.float32)
    whole[:, :, :half] = transfer
    mirrored = -np.arange(box) % box
    whole[:, :, half:] = transfer[np.ix_(mirrored, mirrored, np.arange(box - half, 0, -1))]
    return np.fft.fftshift(whole)


def _wrong_shape(path: Path, shape: tuple[int, int, int], box: int) -> InputError:
    size = " x ".join(str(side) for side in shape)
    halves = sorted((box // 2 + 1, box, box))
    if sorted(shape) == halves:
        return InputError(
            f"the weights are {size} (z, y, x): halved along {'z' if shape[0] != box else 'y'}, not along x",
            path=path,
            fix="exchange its axes, or write the whole volume",
        )
    return InputError(
        f"the weights are {size}, but the particles {box} x {box} x {box}",
        path=path,
        fix=f"give weights of {box} x {box} x {box} or of {box} x {box} x {box // 2 + 1} (z, y, x)",
    )


def _origin(given: Float32, axes: tuple[int, ...], *, is_whole: bool) -> tuple[Origin, str]:
    """Where zero frequency is, and why."""
    expected: Origin = "middle" if is_whole else "corner"
    in_middle = _self_similarity(np.fft.ifftshift(given, axes=axes), is_whole=is_whole)
    in_corner = _self_similarity(given, is_whole=is_whole)
    if abs(in_middle - in_corner) < _CLEAR_DIFFERENCE:
        return expected, "as RELION has it (the volume looks alike from both)"
    found: Origin = "middle" if in_middle > in_corner else "corner"
    return found, "as RELION has it" if found == expected else "unlike RELION's; so it is read"


def _self_similarity(values: Float32, *, is_whole: bool) -> float:
    """How alike the measured region is at frequencies and at twice these, 0 to 1.

    Below half the Nyquist frequency: those measured at both, of those measured at one at least. ``values``
    have zero frequency at ``[0, 0, 0]``.
    """
    box = len(values)
    signed = np.arange(-(box // 4) + 1, box // 4)
    along_x = signed if is_whole else signed[signed >= 0]
    z, y, x = np.meshgrid(signed, signed, along_x, indexing="ij")
    measured = is_measured(values)
    once, twice = measured[z, y, x], measured[2 * z, 2 * y, 2 * x]
    ball = x**2 + y**2 + z**2 < (box // 4) ** 2
    either, both = int(np.sum((once | twice)[ball])), int(np.sum((once & twice)[ball]))
    return both / max(either, 1)
