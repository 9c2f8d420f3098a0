"""Which kernels serve which device."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch


def streams(device: torch.device) -> ModuleType:
    """The module with ``project_streams`` and ``back_project_streams`` for a device."""
    if device.type == "cuda":
        from manyviews.kernels import streams_cuda

        return streams_cuda
    from manyviews.kernels import streams_cpu

    return streams_cpu


def affine(device: torch.device) -> ModuleType:
    """The module with ``spline_prefilter``, ``resample_spline`` and its adjoint for a device."""
    if device.type == "cuda":
        from manyviews.kernels import affine_cuda

        return affine_cuda
    from manyviews.kernels import affine_cpu

    return affine_cpu


def slices(device: torch.device) -> ModuleType:
    """The module with ``gather_slices`` and ``splat_slices``, ``splat_weighted``, ``splat_weights``."""
    if device.type != "cpu":
        from manyviews.kernels import slices_torch

        return slices_torch
    from manyviews.kernels import slices_cpu

    return slices_cpu


def pose_scores(device: torch.device) -> ModuleType:
    """The module with ``score_around``, ``sample_posterior`` and ``best_rotations`` for a device."""
    if device.type != "cpu":
        from manyviews.kernels import pose_scores_torch

        return pose_scores_torch
    from manyviews.kernels import pose_scores_cpu

    return pose_scores_cpu


def pose_sums(device: torch.device) -> ModuleType:
    """The module with ``add_images`` for a device."""
    if device.type != "cpu":
        from manyviews.kernels import pose_sums_torch

        return pose_sums_torch
    from manyviews.kernels import pose_sums_cpu

    return pose_sums_cpu


def native(tensor: torch.Tensor) -> Any:
    """What the kernels of the tensor's device take: on the CPU the same memory as a NumPy array."""
    return tensor.numpy() if tensor.device.type == "cpu" else tensor
