"""From where particles are seen, and which directions of frequencies all of them together have measured.

``coverage.csv`` has a row for each field of the sphere (`manyviews.report.sphere`) in the frame of the map:
``z,longitude_degrees,particles,measured``, how many particles the beam passed through in that direction, and
the part of them that measured the frequencies there. An even spread of particles fills the wedge of each.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from manyviews.geometry.poses import view_directions
from manyviews.kernels.measured_cpu import count_measured
from manyviews.operators.slice_threads import each_block
from manyviews.report.sphere import count_directions, field_directions, write_fields
from manyviews.subtomo.load import Transfers
from manyviews.subtomo.wedge.transfer import is_measured

Float64 = NDArray[np.float64]

COVERAGE_FILE = "coverage.csv"
_FIRST_RADIUS = 3  # Fourier pixels: within, a wedge has no shape yet


def write_coverage(path: Path, poses: Float64, measured: NDArray[Any]) -> None:
    """Write ``coverage.csv`` from poses ``(N, 3, 3)`` and the measured part of each frequency.

    ``measured`` is in the layout of `measured_by_direction`: the sum over the particles of what each has
    measured, turned into the frame of the map, over the number of particles.
    """
    counts = count_directions(view_directions(poses))
    write_fields(path, {"particles": counts, "measured": measured_by_direction(measured)})


def measured_share(
    transfers: Transfers, index: NDArray[np.int64], rotations: Float64, most: int = 500
) -> NDArray[np.float32]:
    """``(box, box, box // 2 + 1)``: the share of the particles that measured a frequency of the map.

    ``index (N,)`` says whose transfer is which; of ``most`` particles where there are more.
    """
    box = transfers.box
    chosen = np.linspace(0, len(index) - 1, min(most, len(index))).round().astype(int)
    counts = np.zeros((box, box, box // 2 + 1), np.int32)
    for number in np.unique(index[chosen]):
        measured = is_measured(transfers[int(number)])
        turns = np.ascontiguousarray(rotations[chosen[index[chosen] == number]])

        def some(_: None, z: slice, measured: NDArray[np.bool_] = measured, turns: Float64 = turns) -> None:
            count_measured(measured, turns, z.start, counts[z])

        each_block(box, 1, 0, lambda: None, some)
    return (counts / np.float32(len(chosen))).astype(np.float32)


def measured_by_direction(measured: NDArray[Any]) -> Float64:
    """``(ROWS, COLUMNS)`` of `manyviews.report.sphere`: the mean along the ray from the origin to Nyquist.

    ``measured`` is ``(n, n, n // 2 + 1)``, the unshifted half-spectrum of a real volume.
    """
    side = len(measured)
    radii = np.arange(min(_FIRST_RADIUS, side // 2 - 1), side // 2)
    at = field_directions()[..., None, :] * radii[:, None]  # rows, columns, radius, (x, y, z)
    return np.asarray(sample_half_spectrum(measured, at).mean(axis=-1))


def least_measured(measured: NDArray[Any]) -> Float64:
    """The direction of frequencies, a unit vector (x, y, z), that is measured least; see there.

    For a cone about it (`manyviews.metrics.directional_fsc`): the map is least resolved along it.
    """
    fields = measured_by_direction(measured)
    row, column = np.unravel_index(int(np.argmin(fields)), fields.shape)
    return np.asarray(field_directions()[row, column])


def weights_on_box(weights: NDArray[Any], padding: int, box: int) -> NDArray[np.float32]:
    """Weights of a padded grid, as `fsc_of_transforms` takes them: ``(box, box, box // 2 + 1)``, unshifted.

    ``weights`` is ``(2h + 1, 2h + 1, h + 2)``, of `manyviews.operators.fourier_sums`: ``padding`` points for
    each of the box, among which turned samples are spread. A frequency gets back what is its own, so that a
    particle that measured all around it with weight 1 counts 1; zero beyond the grid.
    """
    half = weights.shape[0] // 2
    # the mirror images of the first columns stand before them, so that the plane x = 0 has neighbours
    mirror = weights[::-1, ::-1, 1 : padding + 1][..., ::-1]
    whole = np.concatenate([mirror, weights], axis=2).astype(np.float32)
    tent = 1 - np.abs(np.arange(1 - padding, padding)) / padding  # of one sample of the box
    smooth = whole
    for axis in range(3):
        smooth = ndimage.convolve1d(smooth, tent, axis, mode="constant")
    reach = (half - 1) // padding
    order = np.arange(-min(reach, (box - 1) // 2), min(reach, (box - 1) // 2) + 1)
    columns = order[order >= 0]
    found = np.zeros((box, box, box // 2 + 1), np.float32)
    found[np.ix_(order, order, columns)] = smooth[
        np.ix_(half + padding * order, half + padding * order, padding + padding * columns)
    ]
    return found


def sample_half_spectrum(values: NDArray[Any], at: Float64) -> Float64:
    """Values of a half-spectrum ``(n, n, n // 2 + 1)``, the same at k and -k, between its samples.

    ``at`` is ``(..., 3)`` (x, y, z) in Fourier pixels, less than n / 2 from the origin; linear interpolation.
    """
    mirrored = np.where(at[..., :1] < 0, -at, at)
    places = np.moveaxis(mirrored[..., ::-1], -1, 0)
    # only z and y go round; the plane beyond the last of x is never asked for
    turned = places % np.array([len(values), len(values), np.inf]).reshape(3, *[1] * (places.ndim - 1))
    found = ndimage.map_coordinates(np.asarray(values, np.float64), turned, order=1, mode="grid-wrap")
    return np.asarray(found)
