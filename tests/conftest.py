"""Fixtures that any test may use."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from manyviews.geometry.views import TiltGeometry

REPOSITORY = Path(__file__).resolve().parents[1]

# Triton reads this when a kernel is decorated, so it must be set before the first import of one.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked ``cuda`` are skipped where there is no GPU."""
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("cuda"):
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Data sets beside the checkout, too large for it; tests that need them are skipped without."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no shared data beside the checkout ({folder.name} is absent)")
    return folder


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers, the same in every run."""
    return np.random.default_rng(20250101)


@pytest.fixture
def small_geometry() -> TiltGeometry:
    """Two axes of seven tilts each."""
    tilts = np.linspace(-60.0, 60.0, 7)
    return TiltGeometry.concatenate(
        [TiltGeometry.from_tilt_axis(tilts, axis, series=n) for n, axis in enumerate((0.0, 90.0))]
    )


@pytest.fixture
def one_thread():
    """Problems as small as those of some tests are slowed down by threads."""
    import numba
    import torch

    before = torch.get_num_threads(), numba.get_num_threads()
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    yield
    torch.set_num_threads(before[0])
    numba.set_num_threads(before[1])
