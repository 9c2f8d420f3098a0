"""Points that are near each other, and groups of what hangs together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


def near_pairs(points: Float64, distance: float) -> Int64:
    """``(pairs, 2)`` points ``(n, k)`` that are nearer than that.

    Of equal points each is paired with the next alone: all pairs of many copies would be too many.
    """
    from scipy.spatial import KDTree

    if len(points) < 2 or distance <= 0:
        return np.zeros((0, 2), np.int64)
    _, first, group = np.unique(points, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(group.ravel(), kind="stable")
    equal = np.diff(group.ravel()[order]) == 0
    pairs = first[KDTree(points[first]).query_pairs(distance, output_type="ndarray")]
    return np.concatenate([np.stack([order[:-1][equal], order[1:][equal]], axis=1), pairs]).astype(np.int64)


def first_of_group(pairs: Int64, count: int) -> Int64:
    """``(count,)`` the first of all that each hangs together with through pairs ``(pairs, 2)``."""
    from scipy.sparse import coo_array, csgraph

    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    _, label = csgraph.connected_components(graph, directed=False)
    _, first, group = np.unique(label, return_index=True, return_inverse=True)
    return np.asarray(first[group], dtype=np.int64)
