"""Which kernels serve which device."""

from __future__ import annotations

from types import ModuleType

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
