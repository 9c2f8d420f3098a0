"""How fast the CUDA streams project and back-project: ``python benchmarks/cuda_projectors.py``.

Rate: voxels x views / second. Bandwidth fraction: what must move at least (volume and detector once each) in
that time, over what a plain copy moves on the same GPU; a projection reuses both from the caches, so a small
fraction is no fault, it says how far memory is from being the limit.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable

import torch

REPEATS = 10
CASES = [(256, 256, 64, 121), (1024, 1024, 58, 484)]  # s, w, z, views


def seconds(action: Callable[[], torch.Tensor]) -> float:
    """Median time of an action on the GPU, after two runs to compile and warm up."""
    times: list[float] = []
    for repeat in range(REPEATS + 2):
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        start.record()
        action()
        stop.record()
        stop.synchronize()
        if repeat >= 2:
            times.append(float(start.elapsed_time(stop)) / 1e3)
    return statistics.median(times)


def copy_rate() -> float:
    """Bytes per second of a device-to-device copy, read and written counted."""
    source = torch.empty(2**28, device="cuda")
    target = torch.empty_like(source)
    return 2 * source.nbytes / seconds(lambda: target.copy_(source))


def dot_mismatch(x: torch.Tensor, back: torch.Tensor, forward: torch.Tensor, y: torch.Tensor) -> float:
    left, right = torch.sum(forward.double() * y), torch.sum(x.double() * back)
    return float(abs(left - right) / (forward.double().norm() * y.double().norm()))


def run_case(columns: int, width: int, depth: int, views: int, copied: float) -> None:
    from manyviews.kernels.streams_cuda import back_project_streams, project_streams

    tilts = torch.deg2rad(torch.linspace(-60, 60, views, dtype=torch.float64)).cuda()
    offsets = torch.full_like(tilts, columns // 2)
    geometry = (torch.cos(tilts), torch.sin(tilts), offsets, torch.full_like(tilts, 0.25))
    volume = torch.randn((depth, columns, width), device="cuda")
    detector = torch.randn((views, columns, width), device="cuda")
    projected, back_projected = torch.empty_like(detector), torch.zeros_like(volume)
    updates = float(volume.numel()) * views
    moved = volume.nbytes + detector.nbytes
    actions = {
        "forward": lambda: project_streams(volume, *geometry, projected),
        "back": lambda: back_project_streams(detector, *geometry, back_projected),
    }
    for name, action in actions.items():
        time = seconds(action)
        print(
            f"{columns} x {width} x {depth}, {views} views  {name:8s} {1e3 * time:9.3f} ms "
            f"{updates / time / 1e9:9.1f} G voxel-updates/s  bandwidth fraction {moved / time / copied:.3f}"
        )
    back_projected.zero_()
    mismatch = dot_mismatch(volume, actions["back"](), actions["forward"](), detector)
    print(f"{columns} x {width} x {depth}, {views} views  adjoint mismatch {mismatch:.1e}")


def main() -> int:
    if not torch.cuda.is_available():
        print("cuda_projectors: needs an NVIDIA GPU, none is here; nothing measured")
        return 0
    copied = copy_rate()
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, copy {copied / 1e9:.0f} GB/s")
    for case in CASES:
        run_case(*case, copied)
    return 0


if __name__ == "__main__":
    sys.exit(main())
