"""The pretended GPU is as strict as a real one, so that runs on it can fail."""

import numpy as np
import pytest
import torch

from manyviews.kernels import select
from pretend_gpu import CUDA, pretend_gpu

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a real one")


@pytest.fixture
def gpu():
    with pretend_gpu():
        yield torch.arange(6.0, device="cuda").reshape(2, 3)


def test_tensors_say_that_they_are_there_and_stay(gpu):
    for tensor in (
        gpu,
        gpu + 1,
        gpu[0],
        gpu.new_zeros(3),
        torch.fft.rfft(gpu),
        gpu.to(torch.float64),
        gpu.clone(),
    ):
        assert tensor.is_cuda
        assert tensor.device == CUDA
    assert not gpu.cpu().is_cuda
    assert torch.from_numpy(np.ones(3, np.float32)).to(gpu).is_cuda
    assert float(gpu.sum()) == 15.0
    assert not torch.ones(3).is_cuda


def test_numpy_and_the_other_memory_are_refused(gpu):
    with pytest.raises(TypeError, match="numpy"):
        gpu.numpy()
    with pytest.raises(TypeError, match="numpy"):
        np.asarray(gpu)
    here = torch.ones(2, 3)
    for mix in (
        lambda: gpu + here,
        lambda: here.mul_(gpu),
        lambda: torch.cat([gpu, here]),
        lambda: gpu.add_(here),
    ):
        with pytest.raises(RuntimeError, match="same device"):
            mix()
    gpu.copy_(here)
    gpu[:1] = here[:1]
    assert float((gpu * torch.tensor(2.0)).sum()) == 12.0  # a number may come from anywhere


def test_kernels_of_a_gpu_take_its_tensors_only(gpu):
    frame = torch.ones(2, 4, 5)
    views = (torch.ones(1), torch.zeros(1), torch.full((1,), 2.0), torch.zeros(1))
    streams = select.streams(CUDA)
    out = gpu.new_zeros((1, 5, 5))
    found = streams.project_streams(streams.pack_frame(frame.to(CUDA)), *views, out)
    assert found.is_cuda
    assert float(out.sum()) > 0  # what was written is in the tensor that was handed over
    with pytest.raises(AssertionError):
        streams.project_streams(frame, *views, out)
