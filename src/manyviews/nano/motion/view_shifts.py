"""Whole views that lie apart from what the moving specimen says: jitter, which no smooth motion describes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from manyviews.kernels.warp_cpu import pull_back, push_forward

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_LONGEST = 1.0  # pixels of a step: slopes tell no more than that
_LEAST = 1e-3  # of the mean slope of all views, below which a view tells nothing


def read_shifted(images: Float32, shifts: Float64) -> Float32:
    """Images ``(view, z, x)`` read at places moved by ``shifts (view, 2)``, in pixels along x, then z."""
    return np.asarray(pull_back(images, _flow(images, shifts)), np.float32)


def push_shifted(images: Float32, shifts: Float64) -> Float32:
    """The exact transpose of `read_shifted`."""
    return np.asarray(push_forward(images, _flow(images, shifts)), np.float32)


def shift_step(model: Float32, left: Float32) -> Float64:
    """``(view, 2)`` by how much further to read, by Gauss-Newton; ``left`` is data less ``model``."""
    along_z, along_x = np.gradient(model.astype(np.float64), axis=(1, 2))
    slopes = np.stack([along_x, along_z], axis=1)
    matrix = np.einsum("vazx,vbzx->vab", slopes, slopes, optimize=True)
    force = np.einsum("vazx,vzx->va", slopes, left, optimize=True)
    floor = _LEAST * float(np.trace(matrix, axis1=1, axis2=2).mean()) + 1e-30
    found = np.linalg.solve(matrix + floor * np.eye(2), force[:, :, None])[:, :, 0]
    length = np.sqrt((found**2).sum(axis=1, keepdims=True))
    return np.asarray(found * np.minimum(1.0, _LONGEST / np.maximum(length, 1e-30)))


def _flow(images: Float32, shifts: Float64) -> Float32:
    views, rows, columns = images.shape
    flow = np.empty((views, 2, rows, columns), np.float32)
    flow[...] = shifts[:, :, None, None]
    return flow
