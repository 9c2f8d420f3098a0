"""Subtomograms for the benchmarks: the paper's experiment, simulated once and kept in a folder.

GroEL (PDB 1OEL, assembly 1, laid on its D7 axes, 18 angstrom) in boxes of 64 voxels of 6 angstrom, or the 80S
ribosome (EMD-3883, voxels of 8.66 angstrom, no symmetry). Defocus 6 micrometres, 300 kV, Cs 2 mm; tilts in steps of 1
degree; half of the noise is white and there before the CTF, half is the detector's and comes after it; the
signal-to-noise ratio is the variance of the noise-free subtomogram in its whole box over that of the noise. The
particle and the noise are put together apart, so that all ratios share them.
"""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.geometry.missing_wedge import TiltScheme
from manyviews.geometry.poses import euler_to_matrices
from manyviews.geometry.symmetry import symmetry_rotations
from manyviews.io.mrc import read_mrc, write_mrc
from manyviews.operators.contrast_transfer import Optics
from manyviews.simulate.particles import VolumeProjector
from manyviews.simulate.subtomograms import SubtomogramPoses, SubtomogramSeries, draw_subtomogram_poses
from manyviews.subtomo.refine.objective import Poses
from manyviews.subtomo.simulate import low_passed, simulate_subtomograms
from manyviews.subtomo.simulate_options import SimulateOptions
from manyviews.subtomo.volumes import FourierSubtomograms, SubtomogramMaker
from manyviews.subtomo.wedge.transfer import transfer

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

RESULTS = Path(__file__).parent / "results"
BOX = 64
DEFOCUS = 60000.0  # angstrom
REFERENCE = 60.0  # angstrom
RATIOS = (0.03, 0.01, 0.003)
CANDIDATES = {0.03: 10, 0.01: 10, 0.003: 60}


@dataclass(frozen=True)
class Specimen:
    """What is aligned: its map, its point group, and how large it is in angstrom."""

    name: str
    volume: Float32
    pixel_size: float
    symmetry: str
    diameter: float

    @property
    def group(self) -> Float64:
        """``(n, 3, 3)`` rotations of its point group."""
        return np.asarray(symmetry_rotations(self.symmetry))

    @property
    def diameter_voxels(self) -> float:
        return self.diameter / self.pixel_size

    @property
    def shift_range(self) -> float:
        """Angstrom: what the true shifts reach along an axis, a twentieth of the box."""
        return BOX * self.pixel_size / 20

    @property
    def reference(self) -> torch.Tensor:
        """The map without detail finer than 60 angstrom."""
        return torch.from_numpy(low_passed(self.volume, self.pixel_size, REFERENCE))

    def radius(self, resolution: float) -> int:
        """Cycles per box of a resolution in angstrom."""
        return math.floor(BOX * self.pixel_size / resolution + 1e-9)


@dataclass(frozen=True)
class Scene:
    """How subtomograms of a specimen come about, for one tilt range."""

    specimen: Specimen
    tilt: float
    ctf: bool = True

    @property
    def scheme(self) -> TiltScheme:
        whole = TiltScheme.of_range(-self.tilt, self.tilt, "y", "z")
        tilts = tuple(np.arange(-self.tilt, self.tilt + 0.5).tolist())
        return TiltScheme(-self.tilt, self.tilt, tilts, whole.axis, whole.beam)

    @property
    def optics(self) -> Optics | None:
        return Optics.make(300.0, 2.0, 0.07, [[DEFOCUS, DEFOCUS]]) if self.ctf else None

    @property
    def transfer(self) -> Float32:
        size = self.specimen.pixel_size
        return transfer(BOX, size, self.scheme, ctf=self.optics, radius=(BOX - 1) // 2)

    def poses(self, count: int, seed: int) -> SubtomogramPoses:
        return draw_subtomogram_poses(count, self.specimen.shift_range, seed)

    def parts(self, count: int, seed: int, *, particle: bool = True) -> Iterator[tuple[Float32, Float32]]:
        """Particle with a mean variance of 1, and noise of variance 1, of each subtomogram."""
        size = self.specimen.pixel_size
        series = SubtomogramSeries(VolumeProjector(self.specimen.volume), self.scheme, size, self.optics)
        spread = math.sqrt(series.signal_variance(self.specimen.shift_range, 0))
        levels = series.levels(1.0)
        poses = self.poses(count, seed)
        turns = euler_to_matrices(poses.angles)
        for number in range(count):
            noise = series.noise(number, levels, seed)
            clean = (
                series.clean(turns[number], poses.shifts[number]) / np.float32(spread) if particle else noise
            )
            yield clean, noise


def specimen(name: str, data: Path, cache: Path) -> Specimen:
    """``groel`` or ``80s``."""
    if name == "80s":
        volume, header = read_mrc(data / "subtomo" / "ribo80s_emd3883_64_8.66A.mrc")
        assert header.pixel_size is not None
        return Specimen(name, np.array(volume, np.float32), float(header.pixel_size[0]), "C1", 340.0)
    cache.mkdir(parents=True, exist_ok=True)
    path = cache / "groel.mrc"
    if not path.exists():
        model = str(data / "pdb" / "1oel.pdb.gz")
        options = SimulateOptions(
            specimen=model, assembly="1", symmetry="D7", box=BOX, count=1, noise_free=True
        )
        write_mrc(path, simulate_subtomograms(options).truth, options.pixel_size)
    return Specimen(name, np.array(read_mrc(path)[0], np.float32), 6.0, "D7", 200.0)


def fourier_set(
    scene: Scene, ratios: tuple[float, ...], count: int, seed: int, radius: int, cache: Path
) -> dict[float, FourierSubtomograms]:
    """The subtomograms at each signal-to-noise ratio; 0 is noise alone."""
    own = scene.specimen
    found: dict[float, FourierSubtomograms] = {}
    folder = cache / f"{own.name}_{scene.tilt:g}_{count}_{radius}_{seed}"
    missing = [one for one in ratios if not (folder / f"{one:g}.npz").exists()]
    maker = SubtomogramMaker.of(iter([scene.transfer]), BOX, own.pixel_size, radius, own.diameter)
    if missing:
        folder.mkdir(parents=True, exist_ok=True)
        values = {one: np.empty((count, len(maker.points)), np.complex64) for one in missing}
        power = {one: np.zeros((2, len(maker.points))) for one in missing}
        for number, (clean, noise) in enumerate(scene.parts(count, seed, particle=any(missing))):
            for one in missing:
                values[one][number], seen = maker.coefficients(np.float32(math.sqrt(one)) * clean + noise, 0)
                power[one] += seen
        for one in missing:
            made = maker.whitened(values[one], np.zeros(count, np.int64), power[one])
            np.savez(folder / f"{one:g}.npz", values=made.values, transfers=made.transfers)
    for one in ratios:
        kept = np.load(folder / f"{one:g}.npz")
        found[one] = FourierSubtomograms(
            maker.points, kept["values"], kept["transfers"], np.zeros(count, np.int64), BOX, own.pixel_size
        )
    return found


def true_poses(scene: Scene, count: int, seed: int) -> Poses:
    """The true poses, shifts in voxels."""
    poses = scene.poses(count, seed)
    return Poses(euler_to_matrices(poses.angles), poses.shifts / scene.specimen.pixel_size, np.arange(count))


def machine() -> dict[str, Any]:
    """What a result was measured with."""
    import numba

    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, shared",
        "load_average": round(os.getloadavg()[0], 1),
        "versions": {"python": platform.python_version(), "numpy": np.__version__, "numba": numba.__version__,
                     "torch": torch.__version__},
    }  # fmt: skip


def rounded(value: Any) -> Any:
    """Four digits are enough."""
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(one) for one in value]
    return float(f"{float(value):.4g}") if isinstance(value, (float, np.floating)) else value
