"""Projections of slices that turn about an axis, each tilted towards the beam by an angle of its own.

A view whose axis is pitched by beta shows a voxel at height z, and at depth s along the beam, in row
``z + s tan(beta)``. Along z this is one shift for each depth, so in the transform along z, with frequency k,
a projection is again a line through the transform of the slice (projection-slice theorem), moved sideways
by ``k tan(beta)``:

    P(k, f) = U(k; f (cos, sin)(theta) + k tan(beta) (-sin, cos)(theta))

Lines differ from one k to the next, so slices cannot share the weights of a point as in
`manyviews.operators.radon`; each is read by a non-uniform transform (finufft; Barnett, Magland & af
Klinteberg 2019, SIAM J. Sci. Comput. 41:C479). The transform along z is a product of matrices, for some
frequencies at a time: nothing as large as the volume or the projections is needed beside them.

Not in it: that a pitched view is less high, by cos(beta), which is 0.0006 of its height at 2 degrees.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import finufft
import numpy as np
import scipy.fft
import torch
from numpy.typing import ArrayLike, NDArray

from manyviews.errors import InputError
from manyviews.operators.linear import LinearOperator, register, require_shape
from manyviews.operators.radon import Radon
from manyviews.operators.slice_threads import each_block

Array = NDArray[Any]
MOST_DEGREES = 60.0
"""Of a pitch: rows that far apart are seldom on one detector."""
_TOGETHER = 16  # frequencies along z
_TAPER = 9  # rows, in which one edge goes over into the other


class PitchedRadon(LinearOperator):
    """Volume ``(z, y, x)`` to projections ``(view, z, column)``, with its exact transpose.

    Angles, columns and sizes are those of a `Radon`, which this one is where no view is pitched, but for
    the error of either. Above the first slice and below the last the volume goes on as it ends there.

    Parameters
    ----------
    level
        The same projector without pitch.
    pitch_degrees
        ``(views,)``; where it is positive, what is deep (at ``y cos(theta) - x sin(theta)`` above nought) is
        seen in a higher row.

    Raises
    ------
    InputError
        If there is not one pitch a view, or one is no number within 60 degrees.
    """

    def __init__(self, level: Radon, pitch_degrees: ArrayLike) -> None:
        pitch = np.array(pitch_degrees, dtype=np.float64).reshape(-1)
        _require_usable(pitch, len(level.theta_degrees))
        self.level = level
        self.pitch_degrees = pitch
        self.domain, self.range = level.domain, level.range
        self._lines = _Lines.of(level, np.tan(np.deg2rad(pitch)))
        rows, side, _ = level.domain
        reach = math.ceil(float(np.abs(self._lines.tangents).max()) * side / math.sqrt(2.0))
        self._heights = _Heights.of(rows, reach)

    def forward(self, x: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        """Project ``(z, y, x)``; ``out (view, z, column)`` is for the result, None: a new tensor."""
        require_shape(x, self.domain, "the Radon transform of pitched views")
        images = x.new_empty(self.range) if out is None else out
        flat = x.detach().reshape(self.domain[0], -1)
        for number, (frequencies, down, up) in enumerate(self._heights.parts(x.dtype)):
            lines = torch.from_numpy(self._read(torch.mm(down, flat).numpy(), frequencies))
            # of what is there before, nothing counts in the first sum
            torch.baddbmm(images, up.expand(len(lines), *up.shape), lines, beta=min(number, 1), out=images)
        return images

    def adjoint(self, y: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        """Back-project ``(view, z, column)``; ``out (z, y, x)`` is for the result, None: a new tensor."""
        require_shape(y, self.range, "the adjoint of the Radon transform of pitched views")
        volume = y.new_empty(self.domain) if out is None else out
        flat = volume.view(self.domain[0], -1)
        for number, (frequencies, down, up) in enumerate(self._heights.parts(y.dtype)):
            slices = torch.from_numpy(self._spread(torch.matmul(up.T, y.detach()).numpy(), frequencies))
            torch.addmm(flat, down.T, slices, beta=min(number, 1), out=flat)
        return volume

    def _read(self, slices: Array, frequencies: NDArray[np.float64]) -> Array:
        """Lines ``(view, 2k, column)``, real parts first, of slices ``(2k, y * x)`` at frequencies."""
        count, side = len(frequencies), self.domain[1]
        given = slices.reshape(2, count, side, side)
        lines = np.empty((self.range[0], 2, count, self.range[2]), slices.dtype)

        def read(work: _Transform, one: slice) -> None:
            found = work.read(given[0, one.start] + 1j * given[1, one.start], frequencies[one.start])
            lines[:, 0, one.start], lines[:, 1, one.start] = found.real, found.imag

        self._each(count, 2, slices.dtype, read)
        return lines.reshape(len(lines), 2 * count, -1)

    def _spread(self, lines: Array, frequencies: NDArray[np.float64]) -> Array:
        """The transpose of `_read`."""
        count, side = len(frequencies), self.domain[1]
        given = lines.reshape(len(lines), 2, count, -1)
        slices = np.empty((2, count, side, side), lines.dtype)

        def spread(work: _Transform, one: slice) -> None:
            found = work.spread(given[:, 0, one.start] + 1j * given[:, 1, one.start], frequencies[one.start])
            slices[0, one.start], slices[1, one.start] = found.real, found.imag

        self._each(count, 1, lines.dtype, spread)
        return slices.reshape(2 * count, -1)

    def _each(
        self, count: int, kind: int, dtype: np.dtype[Any], task: Callable[[_Transform, slice], None]
    ) -> None:
        """Call ``task`` for each of so many frequencies, with a transform that no other thread has."""
        lines, level = self._lines, self.level

        def make() -> _Transform:
            return _Transform(kind, lines, level.domain[1], level.epsilon, dtype)

        each_block(count, 1, level.threads, make, task)


@dataclass(frozen=True)
class _Heights:
    """The transform along z of slices that go on beyond their ends, and back.

    ``down (k, z)`` and ``up (z, k)`` are complex: a volume of real slices has the frequencies ``down @ u`` in
    cycles a row, and the rows ``Re(up @ .)``.
    """

    frequencies: NDArray[np.float64]
    down: NDArray[np.complex128]
    up: NDArray[np.complex128]

    @classmethod
    def of(cls, rows: int, reach: int) -> _Heights:
        """For shifts of at most ``reach`` rows."""
        # an odd number in all: no frequency but nought is its own mirror
        taper = _TAPER + (rows + _TAPER + 1) % 2
        length = rows + 2 * reach + taper
        frequencies = np.arange(length // 2 + 1) / length
        along = np.exp(-2j * np.pi * frequencies[:, None] * np.arange(length))
        part = np.clip((np.arange(length - rows) + 1 - reach) / (taper + 1), 0.0, 1.0)
        first = 0.5 - 0.5 * np.cos(np.pi * part)  # of the first slice, which follows upon the last
        down = along[:, :rows].copy()
        down[:, 0] += along[:, rows:] @ first
        down[:, -1] += along[:, rows:] @ (1.0 - first)
        twice = np.where(frequencies > 0, 2.0, 1.0)[:, None]
        up = (twice * np.conj(along[:, :rows])).T / length
        return cls(frequencies, down, up)

    def parts(self, dtype: torch.dtype) -> Iterator[tuple[NDArray[np.float64], torch.Tensor, torch.Tensor]]:
        """Some frequencies ``(k,)`` at a time; ``(2k, z)`` and ``(z, 2k)`` for real and imaginary parts."""
        for start in range(0, len(self.frequencies), _TOGETHER):
            part = slice(start, start + _TOGETHER)
            down = np.concatenate([self.down[part].real, self.down[part].imag])
            up = np.concatenate([self.up[:, part].real, -self.up[:, part].imag], axis=1)
            yield self.frequencies[part], torch.from_numpy(down).to(dtype), torch.from_numpy(up).to(dtype)


@dataclass(frozen=True)
class _Lines:
    """Points of all views without pitch, in radians per pixel, and what pitch and the axis do to them.

    ``y, x (view, line)``; ``tangents, sine, cosine (view,)``; ``phases (line,)`` move the axis to its column,
    and are nought at the one frequency that has no counterpart.
    """

    y: NDArray[np.float64]
    x: NDArray[np.float64]
    tangents: NDArray[np.float64]
    sine: NDArray[np.float64]
    cosine: NDArray[np.float64]
    phases: NDArray[np.complex128]
    columns: int

    @classmethod
    def of(cls, level: Radon, tangents: NDArray[np.float64]) -> _Lines:
        theta, line = np.deg2rad(level.theta_degrees), level.polar.line
        frequency = scipy.fft.fftfreq(line)
        sine, cosine = np.sin(theta), np.cos(theta)
        phases = np.exp(-2j * np.pi * level.center * frequency)
        phases[line // 2] = 0.0
        y, x = (2 * np.pi * turned[:, None] * frequency for turned in (sine, cosine))
        return cls(y, x, tangents, sine, cosine, phases, level.range[2])

    def points(self, height_frequency: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Along y and x, ``(view * line,)``, for a frequency along z in cycles a row."""
        aside = 2 * np.pi * height_frequency * self.tangents
        y, x = self.y + (aside * self.cosine)[:, None], self.x - (aside * self.sine)[:, None]
        return y.reshape(-1), x.reshape(-1)


class _Transform:
    """Lines of all views at one frequency along z: read from a slice (kind 2) or spread over it (1)."""

    def __init__(self, kind: int, lines: _Lines, side: int, epsilon: float, dtype: np.dtype[Any]) -> None:
        self.lines, self.real = lines, dtype
        self.complex = np.result_type(dtype, np.complex64)
        self.plan = finufft.Plan(
            kind, (side, side), eps=epsilon, isign=-1 if kind == 2 else 1, dtype=self.complex, nthreads=1,
            upsampfac=1.25,
        )  # fmt: skip
        self.phases = lines.phases.astype(self.complex)

    def read(self, slices: Array, height_frequency: float) -> Array:
        """``(view, column)`` of one ``(y, x)``, all complex."""
        self._at(height_frequency)
        found = self.plan.execute(np.ascontiguousarray(slices)).reshape(self.lines.x.shape)
        lines: Array = scipy.fft.ifft(found * self.phases, axis=1)
        return lines[:, : self.lines.columns]

    def spread(self, columns: Array, height_frequency: float) -> Array:
        """The transpose of `read`."""
        self._at(height_frequency)
        lines = scipy.fft.fft(columns, n=len(self.phases), axis=1, norm="forward") * np.conj(self.phases)
        found: Array = self.plan.execute(np.ascontiguousarray(lines.reshape(-1), dtype=self.complex))
        return found

    def _at(self, height_frequency: float) -> None:
        y, x = self.lines.points(height_frequency)
        self.plan.setpts(y.astype(self.real), x.astype(self.real))


def _require_usable(pitch: NDArray[np.float64], views: int) -> None:
    if len(pitch) != views:
        raise InputError(f"{len(pitch)} pitches are not those of {views} views", fix="give one a view")
    if not (np.abs(pitch) <= MOST_DEGREES).all():
        raise InputError(
            f"a pitch must be a number within {MOST_DEGREES:g} degrees", fix="give what views are tilted by"
        )


@register("pitched radon")
def _test_instance(case: int) -> LinearOperator:
    if case == 0:
        level = Radon([0.0, 33.0, 141.0, 77.5, 370.0], 3, 9, 3.7)
    elif case == 1:
        level = Radon(np.arange(7) * 77.0, 18, 12, 5.5, size=10)
    else:
        level = Radon([-20.0, 200.0, 90.0], 1, 6, 2.0, size=13, threads=2)
    return PitchedRadon(level, np.linspace(-7.0, 12.0, level.range[0]))
