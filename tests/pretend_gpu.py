"""A GPU that is pretended on a machine without one: tensors that say they lie on it, and are as strict.

`pretend_gpu` hands out tensors in ordinary memory whose device is ``cuda:0``. What CUDA tensors refuse, they
refuse: NumPy, and the company of tensors in the other memory. The kernels are those of the CPU, since
Triton's interpreter takes a thousand times as long; what Triton's compute is tested for itself. So a whole
run with ``--device cuda`` finds out whether its arrays are where they should be, not whether a GPU can.

As a program: ``python pretend_gpu.py WORDS...`` is ``manyviews WORDS...`` on such a machine. The environment
variable ``PRETENDED_MIB`` says what it has of memory.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

from manyviews.kernels import affine_cpu, select, streams_cpu

CUDA = torch.device("cuda", 0)
_DEVICE, _IS_CUDA = torch.Tensor.device.__get__, torch.Tensor.is_cuda.__get__
_HOST_ONLY = (torch.Tensor.numpy, torch.Tensor.__array__, torch.Tensor.__dlpack__)
# What may have tensors of both memories, its result where the first one is.
_MIXES = (torch.Tensor.copy_, torch.Tensor.__getitem__)


class OnGpu(torch.Tensor):
    """A tensor that says it lies on a GPU."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Do it as if."""
        return _as_if(func, args, kwargs or {})


class _Mode(TorchFunctionMode):
    """The same for functions that make tensors of none."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _as_if(func, args, kwargs or {})


def _as_if(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    if func is torch.device:
        return func(*args, **kwargs)
    tensors: list[torch.Tensor] = []
    tree_map(lambda one: tensors.append(one) if isinstance(one, torch.Tensor) else None, (args, kwargs))
    on_gpu = any(isinstance(one, OnGpu) for one in tensors)
    if on_gpu and func == _DEVICE:
        return CUDA
    if on_gpu and func == _IS_CUDA:
        return True
    if on_gpu and func in _HOST_ONLY:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")
    moved = _moves(func, args, kwargs)
    if moved is None and on_gpu:
        _require_one_memory(func, tensors)
        moved = isinstance(tensors[0], OnGpu) if func in _MIXES else True
    with torch._C.DisableTorchFunctionSubclass():
        plain = tree_map(_on_host, (args, kwargs))
        found = func(*plain[0], **plain[1])
        if moved is not None and func == torch.Tensor.to and moved != on_gpu and found is plain[0][0]:
            found = found.clone()  # another memory is a copy
        return tree_map(_on_gpu, found) if moved else found


def _moves(func: Any, args: Any, kwargs: dict[str, Any]) -> bool | None:
    """Whether the result is on the GPU, as the call says itself; None: it does not."""
    if func == torch.Tensor.cpu:
        return False
    if func == torch.Tensor.cuda:
        return True
    if kwargs.get("device") is not None:
        return torch.device(kwargs["device"]).type == "cuda"
    if func != torch.Tensor.to:
        return None
    for one in args[1:]:
        if isinstance(one, torch.Tensor):
            return isinstance(one, OnGpu)
        if isinstance(one, (torch.device, str)):
            return torch.device(one).type == "cuda"
    return None


def _require_one_memory(func: Any, tensors: list[torch.Tensor]) -> None:
    if func in _MIXES:
        return
    if func == torch.Tensor.__setitem__ and not any(one.dtype == torch.int64 for one in tensors):
        return  # slices, to which a copy is made
    if any(not isinstance(one, OnGpu) and one.ndim for one in tensors):
        raise RuntimeError(f"expected all tensors to be on the same device, in {func}")


def _on_host(value: Any) -> Any:
    if isinstance(value, OnGpu):
        return value.as_subclass(torch.Tensor)
    if isinstance(value, torch.device):
        return torch.device("cpu")
    return "cpu" if isinstance(value, str) and value.startswith("cuda") else value


def _on_gpu(value: Any) -> Any:
    return value.as_subclass(OnGpu) if isinstance(value, torch.Tensor) else value


def _kernel(found: Callable[..., Any]) -> Callable[..., Any]:
    """A kernel for CPU tensors, which takes the pretended ones; what is to be computed with is on the GPU."""

    def called(*args: Any, **kwargs: Any) -> Any:
        assert isinstance(args[0], OnGpu)
        assert "support" not in kwargs
        with torch._C.DisableTorchFunctionSubclass(), torch._C.DisableTorchFunction():
            own, words = tree_map(_on_host, (args, kwargs))
            return _on_gpu(found(*own, **words))

    return called


class _Streams:
    """The streams with the signatures of `manyviews.kernels.streams_cuda`."""

    @staticmethod
    def pack_frame(volume: torch.Tensor) -> torch.Tensor:
        return volume.contiguous()

    @staticmethod
    def project_streams(frame: torch.Tensor, *rest: Any) -> torch.Tensor:
        def on_host(volume: torch.Tensor, *others: Any) -> torch.Tensor:
            return streams_cpu.project_streams(streams_cpu.pack_frame(volume), *others)

        return _kernel(on_host)(frame, *rest)

    back_project_streams = staticmethod(_kernel(streams_cpu.back_project_streams))


class _Affine:
    spline_prefilter = staticmethod(_kernel(affine_cpu.spline_prefilter))
    resample_spline = staticmethod(_kernel(affine_cpu.resample_spline))
    resample_spline_adjoint = staticmethod(_kernel(affine_cpu.resample_spline_adjoint))


def _for(pretended: Any, real: Callable[[torch.device], Any]) -> Callable[[torch.device], Any]:
    return lambda device: pretended if device.type == "cuda" else real(device)


@contextlib.contextmanager
def pretend_gpu() -> Iterator[None]:
    """There is a GPU as long as this lasts."""
    with contextlib.ExitStack() as stack:
        for name, pretended in (("streams", _Streams), ("affine", _Affine)):
            stack.enter_context(mock.patch.object(select, name, _for(pretended, getattr(select, name))))
        stack.enter_context(mock.patch.object(torch.cuda, "is_available", return_value=True))
        stack.enter_context(mock.patch.object(torch.cuda, "device_count", return_value=1))
        memory = int(os.environ.get("PRETENDED_MIB", "8192")) << 20
        stack.enter_context(mock.patch.object(torch.cuda, "mem_get_info", return_value=(memory, memory)))
        stack.enter_context(_Mode())
        yield


if __name__ == "__main__":
    from manyviews.cli.main import main

    with pretend_gpu():
        sys.exit(main(sys.argv[1:]))
