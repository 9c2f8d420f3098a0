"""A flow on a grid of cubic B-splines, and one Gauss-Newton step of it, on the CPU in float32.

``f(z, x) = sum_kl B(z / h - k) B(x / h - l) c_kl`` for knots h pixels apart (Unser, IEEE Signal Process.
Mag. 16 (1999) 22). A step makes ``|data - D_f model|^2`` smaller: with residual r and slopes g of the
moved model its gradient is ``B' g r``, taken over all pixels, and its matrix ``B' (g g') B``, for which
``g g'`` is averaged over blocks of pixels: that changes the way to the minimum, not the minimum. Views
are in parallel, each is one thread's.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from manyviews.kernels.inner import inner
from manyviews.kernels.warp_cpu import BORDER, pad_image, pull_padded, work_arrays
from manyviews.parallel.threads import each_in_threads

__all__ = [
    "Bases",
    "Basis",
    "bin_images",
    "expand_grids",
    "grid_steps",
    "make_basis",
    "project_grids",
    "slope_lines",
]

Float32 = NDArray[np.float32]

_FAST = {"contract", "reassoc", "nsz", "arcp", "afn"}
_LEAST_DAMPING, _SHORT_DAMPING = 1e-6, 1e-3


class Basis(NamedTuple):
    """Cubic B-splines along one axis, at places: the four that reach each place, and their weights."""

    first: NDArray[np.int64]
    """``(places,)`` the first of the four knots."""
    weights: Float32
    """``(4, places)``"""
    starts: NDArray[np.int64]
    """``(cells + 1,)`` where each cell, the places with the same four knots, begins; cell i has first
    knot i.
    """
    gram_inverse: Float32
    """``(knots, knots)`` inverse of the products of all splines with each other, damped."""

    @property
    def knots(self) -> int:
        """How many knots reach the places."""
        return len(self.gram_inverse)


Bases = tuple[Basis, Basis]
"""Along z and along x."""


def make_basis(places: NDArray[np.float64], length: int, spacing: float) -> Basis:
    """Splines of knots ``spacing`` pixels apart at ``places`` (ascending) of an axis of ``length`` pixels.

    `ValueError` if there are no places.
    """
    if not len(places):
        raise ValueError("splines are read at no place")
    cells = max(1, int(np.ceil(length / spacing)))
    at = (np.asarray(places, dtype=np.float64) - 0.5 * (length - 1)) / spacing + 0.5 * cells
    first = np.clip(np.floor(at).astype(np.int64), 0, cells - 1)
    t = at - first
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, 1 + 3 * t * (1 + t - t * t), t**3]) / 6
    matrix = np.zeros((cells + 3, len(at)))
    for j in range(4):
        matrix[first + j, np.arange(len(at))] = weights[j]
    gram = matrix @ matrix.T
    damped = gram + _damping(gram, short=length < spacing)
    starts = np.searchsorted(first, np.arange(cells + 1))
    return Basis(first, weights.astype(np.float32), starts, np.linalg.inv(damped).astype(np.float32))


def _damping(gram: NDArray[np.float64], *, short: bool) -> NDArray[np.float64]:
    """``(knots, knots)`` what is added to the products of splines.

    An axis ``short`` of the distance of knots tells less than four of them. With the least damping their
    inverse has entries so large that float32 leaves nothing of the flow; here knots that differ are damped,
    so that a shift is the same number at all of them.
    """
    knots = len(gram)
    if not short:
        return np.asarray(_LEAST_DAMPING * np.trace(gram) / knots * np.eye(knots))
    differences = np.diff(np.eye(knots), axis=0)
    return np.asarray(_SHORT_DAMPING * np.trace(gram) / knots * (differences.T @ differences))


@inner(fastmath=_FAST, nogil=True, cache=True)
def slope_lines(moved, data, z, lines):  # type: ignore[no-untyped-def]
    """Of row z, into ``lines (3, x)``: what data have more than the moved model, and its slopes along x
    and z.
    """
    rows, columns = moved.shape
    half = moved.dtype.type(0.5)
    above, below = moved[max(z - 1, 0)], moved[min(z + 1, rows - 1)]
    here = moved[z]
    for x in range(columns):
        lines[0, x] = data[z, x] - here[x]
    for x in range(columns):
        lines[2, x] = half * (below[x] - above[x])
    for x in range(1, columns - 1):
        lines[1, x] = half * (here[x + 1] - here[x - 1])
    lines[1, 0] = half * (here[min(1, columns - 1)] - here[0])
    lines[1, columns - 1] = half * (here[columns - 1] - here[max(columns - 2, 0)])


@inner(fastmath=_FAST, nogil=True, cache=True)
def _expand_line(knots, basis_x, line):  # type: ignore[no-untyped-def]
    w = basis_x.weights
    for cell in range(len(basis_x.starts) - 1):
        c0, c1, c2, c3 = knots[cell], knots[cell + 1], knots[cell + 2], knots[cell + 3]
        for x in range(basis_x.starts[cell], basis_x.starts[cell + 1]):
            line[x] = w[0, x] * c0 + w[1, x] * c1 + w[2, x] * c2 + w[3, x] * c3


@njit(fastmath=_FAST, nogil=True, cache=True)
def _expand(coefficients, basis_z, basis_x, flow):  # type: ignore[no-untyped-def]
    """Knots ``(2, K, L)`` to a flow ``(2, z, x)``: along x first, where there are few lines."""
    w = basis_z.weights
    wide = np.empty((coefficients.shape[1], flow.shape[2]), np.float32)
    for part in range(2):
        for k in range(len(wide)):
            _expand_line(coefficients[part, k], basis_x, wide[k])
        for z in range(flow.shape[1]):
            k, line = basis_z.first[z], flow[part, z]
            w0, w1, w2, w3 = w[0, z], w[1, z], w[2, z], w[3, z]
            one, two, three, four = wide[k], wide[k + 1], wide[k + 2], wide[k + 3]
            for x in range(len(line)):
                line[x] = w0 * one[x] + w1 * two[x] + w2 * three[x] + w3 * four[x]


@inner(fastmath=_FAST, nogil=True, cache=True)
def _add_line(values, basis_z, z, wide):  # type: ignore[no-untyped-def]
    """Row z, into the knots along z ``(K, x)``; two at a time, for which the compiler makes SIMD."""
    for j in range(0, 4, 2):
        w0, w1 = basis_z.weights[j, z], basis_z.weights[j + 1, z]
        one, two = wide[basis_z.first[z] + j], wide[basis_z.first[z] + j + 1]
        for x in range(len(values)):
            one[x] += w0 * values[x]
            two[x] += w1 * values[x]


@inner(fastmath=_FAST, nogil=True, cache=True)
def _reduce_lines(wide, basis_x, knots):  # type: ignore[no-untyped-def]
    """The transpose of reading splines along x: rows ``(K, x)`` to knots ``(K, L)``."""
    w = basis_x.weights
    knots[:] = 0
    for k in range(len(wide)):
        values, line = wide[k], knots[k]
        for cell in range(len(basis_x.starts) - 1):
            s0, s1, s2, s3 = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
            for x in range(basis_x.starts[cell], basis_x.starts[cell + 1]):
                s0 += w[0, x] * values[x]
                s1 += w[1, x] * values[x]
                s2 += w[2, x] * values[x]
                s3 += w[3, x] * values[x]
            line[cell] += s0
            line[cell + 1] += s1
            line[cell + 2] += s2
            line[cell + 3] += s3


@inner(fastmath=_FAST, nogil=True, cache=True)
def _add_product(one, other, out):  # type: ignore[no-untyped-def]
    for x in range(len(out)):
        out[x] += one[x] * other[x]


@inner(fastmath=_FAST, nogil=True, cache=True)
def _sum_blocks(line, block, sums):  # type: ignore[no-untyped-def]
    for column in range(len(sums)):
        total = np.float32(0)
        for x in range(column * block, min(len(line), (column + 1) * block)):
            total += line[x]
        sums[column] = total


@inner(fastmath=_FAST, nogil=True, cache=True)
def _sums(moved, data, basis_z, basis_x, block, gradient, tensor):  # type: ignore[no-untyped-def]
    """Gradient at the knots ``(2, K, L)``, and products of slopes (xx, xz, zz) summed over blocks of
    pixels.
    """
    rows, columns = moved.shape
    lines, force = np.empty((3, columns), np.float32), np.empty(columns, np.float32)
    wide = np.zeros((2, gradient.shape[1], columns), np.float32)
    products = np.zeros((3, columns), np.float32)
    for z in range(rows):
        slope_lines(moved, data, z, lines)
        for part in range(2):
            for x in range(columns):
                force[x] = lines[0, x] * lines[1 + part, x]
            _add_line(force, basis_z, z, wide[part])
        _add_product(lines[1], lines[1], products[0])
        _add_product(lines[1], lines[2], products[1])
        _add_product(lines[2], lines[2], products[2])
        if z + 1 == rows or (z + 1) % block == 0:
            for part in range(3):
                _sum_blocks(products[part], block, tensor[part, z // block])
            products[:] = 0
    for part in range(2):
        _reduce_lines(wide[part], basis_x, gradient[part])


@inner(fastmath=_FAST, nogil=True, cache=True)
def _add_bending(knots, stiffness, out):  # type: ignore[no-untyped-def]
    """Add the gradient of half of ``stiffness (f_xx^2 + 2 f_xz^2 + f_zz^2)``, by differences of knots
    ``(K, L)``.
    """
    rows, columns = knots.shape
    for k in range(1, rows - 1):
        for column in range(columns):
            bend = stiffness * (knots[k - 1, column] - 2 * knots[k, column] + knots[k + 1, column])
            out[k - 1, column] += bend
            out[k, column] -= 2 * bend
            out[k + 1, column] += bend
    for k in range(rows):
        for column in range(1, columns - 1):
            bend = stiffness * (knots[k, column - 1] - 2 * knots[k, column] + knots[k, column + 1])
            out[k, column - 1] += bend
            out[k, column] -= 2 * bend
            out[k, column + 1] += bend
    for k in range(rows - 1):
        for column in range(columns - 1):
            twist = knots[k, column] - knots[k + 1, column] - knots[k, column + 1] + knots[k + 1, column + 1]
            twist *= 2 * stiffness
            out[k, column] += twist
            out[k + 1, column] -= twist
            out[k, column + 1] -= twist
            out[k + 1, column + 1] += twist


@inner(fastmath=_FAST, nogil=True, cache=True)
def _apply(knots, tensor, pooled_z, pooled_x, bending, holding, field, out):  # type: ignore[no-untyped-def]
    """``(B' T B + bending + holding) knots``; ``field (2, rows, columns)`` of blocks is work space."""
    _expand(knots, pooled_z, pooled_x, field)
    wide = np.zeros((2, knots.shape[1], field.shape[2]), np.float32)
    for z in range(tensor.shape[1]):
        for x in range(tensor.shape[2]):
            along_x, along_z = field[0, z, x], field[1, z, x]
            field[0, z, x] = tensor[0, z, x] * along_x + tensor[1, z, x] * along_z
            field[1, z, x] = tensor[1, z, x] * along_x + tensor[2, z, x] * along_z
        for part in range(2):
            _add_line(field[part, z], pooled_z, z, wide[part])
    for part in range(2):
        _reduce_lines(wide[part], pooled_x, out[part])
        for k in range(knots.shape[1]):
            for column in range(knots.shape[2]):
                out[part, k, column] += holding * knots[part, k, column]
        _add_bending(knots[part], bending, out[part])


@inner(fastmath=_FAST, nogil=True, cache=True)
def _dot(a, b):  # type: ignore[no-untyped-def]
    total = np.float32(0)
    one, other = a.reshape(a.size), b.reshape(b.size)
    for i in range(len(one)):
        total += one[i] * other[i]
    return total


@inner(fastmath=_FAST, nogil=True, cache=True)
def _add_scaled(a, scale, b, out):  # type: ignore[no-untyped-def]
    """``out = a + scale b``"""
    one, other, result = a.reshape(a.size), b.reshape(b.size), out.reshape(out.size)
    for i in range(len(one)):
        result[i] = one[i] + scale * other[i]


@njit(fastmath=_FAST, nogil=True, cache=True)
def _solve(force, tensor, pooled_z, pooled_x, bending, holding, steps):  # type: ignore[no-untyped-def]
    """Conjugate gradients from zero for the change of the knots that a force ``(2, K, L)`` brings."""
    change, rest = np.zeros_like(force), force.copy()
    way, image = force.copy(), np.empty_like(force)
    field = np.empty((2, tensor.shape[1], tensor.shape[2]), np.float32)
    square = _dot(rest, rest)
    least = np.float32(1e-4) * square
    for _ in range(steps):
        if not square > least:
            break
        _apply(way, tensor, pooled_z, pooled_x, bending, holding, field, image)
        length = square / _dot(way, image)
        _add_scaled(change, length, way, change)
        _add_scaled(rest, -length, image, rest)
        before, square = square, _dot(rest, rest)
        _add_scaled(rest, square / before, way, way)
    return change


@inner(nogil=True, cache=True)
def _one_step(data, padded, middle, full, pooled, block, weights, steps, knots):  # type: ignore[no-untyped-def]
    """One step of one view; ``middle`` is what time would have the knots be, both ``(2, K, L)``."""
    rows, columns = data.shape
    flow = np.empty((2, rows, columns), np.float32)
    moved = np.empty((rows, columns), np.float32)
    tensor = np.empty((3, (rows + block - 1) // block, (columns + block - 1) // block), np.float32)
    force = np.empty_like(knots)
    _expand(knots, full[0], full[1], flow)
    pull_padded(padded, flow, 3, work_arrays(moved), moved)
    _sums(moved, data, full[0], full[1], block, force, tensor)
    # of the mean slope, in pixels of the flow at each knot: without units, so that brightness does not matter
    unit = np.float32(0.5 * (tensor[0].sum() + tensor[2].sum()) / (knots.shape[1] * knots.shape[2]))
    # an even image is read with errors of rounding, which are no slopes
    if not unit * knots.shape[1] * knots.shape[2] > np.float32(1e-10) * _dot(moved, moved):
        return
    bending, holding = unit * weights[0], unit * (weights[1] + weights[2])
    negative = np.zeros_like(knots)
    for part in range(2):
        _add_bending(knots[part], bending, negative[part])
    _add_scaled(force, np.float32(-1), negative, force)
    _add_scaled(middle, np.float32(-1), knots, negative)
    _add_scaled(force, unit * weights[1], negative, force)
    change = _solve(force, tensor, pooled[0], pooled[1], bending, holding, steps)
    _add_scaled(knots, np.float32(1), change, knots)


@njit(nogil=True, cache=True)
def _step_view(data, model, middle, full, pooled, block, weights, steps, knots):  # type: ignore[no-untyped-def]
    padded = np.empty((model.shape[0] + BORDER, model.shape[1] + BORDER), np.float32)
    pad_image(model, padded)
    _one_step(data, padded, middle, full, pooled, block, weights, steps, knots)


@njit(fastmath=_FAST, nogil=True, cache=True)
def _project_view(flow, basis_z, basis_x, knots):  # type: ignore[no-untyped-def]
    wide = np.empty((knots.shape[1], flow.shape[2]), np.float32)
    sums, half = np.empty(knots.shape[1:], np.float32), np.empty(knots.shape[1:], np.float32)
    for part in range(2):
        wide[:] = 0
        for z in range(flow.shape[1]):
            _add_line(flow[part, z], basis_z, z, wide)
        _reduce_lines(wide, basis_x, sums)
        _multiply(basis_z.gram_inverse, sums, half)
        _multiply(half, basis_x.gram_inverse, knots[part])


@inner(fastmath=_FAST, nogil=True, cache=True)
def _multiply(a, b, out):  # type: ignore[no-untyped-def]
    out[:] = 0
    for i in range(a.shape[0]):
        for j in range(a.shape[1]):
            for k in range(b.shape[1]):
                out[i, k] += a[i, j] * b[j, k]


@njit(fastmath=_FAST, nogil=True, cache=True)
def _bin_image(image, factor, out):  # type: ignore[no-untyped-def]
    rows, columns = out.shape
    line, scale = np.empty(columns * factor, np.float32), np.float32(1 / factor**2)
    for z in range(rows):
        line[:] = 0
        for row in range(z * factor, (z + 1) * factor):
            for x in range(len(line)):
                line[x] += image[row, x]
        for x in range(columns):
            total = line[factor * x]
            for place in range(factor * x + 1, factor * (x + 1)):
                total += line[place]
            out[z, x] = scale * total


def bin_images(images: Float32, factor: int, out: Float32) -> None:
    """Means of blocks of ``factor`` pixels a side of ``(n, z, x)``, without rows and columns left over."""
    each_in_threads(lambda n: _bin_image(images[n], factor, out[n]), len(images))


def grid_steps(
    data: Float32, model: Float32, knots: Float32, middle: Float32, full: Bases, pooled: Bases, block: int,
    weights: tuple[float, float, float], steps: int = 20,
) -> Float32:  # fmt: skip
    """One Gauss-Newton step of the knots ``(n, 2, K, L)`` of every view.

    Parameters
    ----------
    data, model
        ``(n, z, x)``; the flow of the knots is where the model is read to be like the data.
    middle
        ``(n, 2, K, L)`` what the knots are held to.
    full, pooled, block
        Splines along z and x at pixels, and at the middles of blocks of so many pixels a side, over which
        products of slopes are summed.
    weights
        Of bending, of holding to the middle, and of a change at all, as parts of the mean square slope at a
        knot.
    steps
        Of conjugate gradients at most.
    """
    result = knots.copy()
    both = np.array(weights, np.float32)

    def step(n: int) -> None:
        _step_view(data[n], model[n], middle[n], full, pooled, block, both, steps, result[n])

    each_in_threads(step, len(data))
    return result


def expand_grids(knots: Float32, bases: Bases, out: Float32 | None = None) -> Float32:
    """The flow ``(n, 2, z, x)`` of knots ``(n, 2, K, L)`` at the places of the bases.

    ``out`` is for the result, None: a new array.
    """
    shape = (len(knots), 2, len(bases[0].first), len(bases[1].first))
    flow = np.empty(shape, np.float32) if out is None else out
    each_in_threads(lambda n: _expand(knots[n], *bases, flow[n]), len(knots))
    return flow


def project_grids(flow: Float32, bases: Bases) -> Float32:
    """The knots ``(n, 2, K, L)`` whose flow is nearest to one ``(n, 2, z, x)``, in the mean of squares."""
    own = np.ascontiguousarray(flow, dtype=np.float32)
    knots = np.empty((len(own), 2, bases[0].knots, bases[1].knots), np.float32)
    each_in_threads(lambda n: _project_view(own[n], *bases, knots[n]), len(own))
    return knots
