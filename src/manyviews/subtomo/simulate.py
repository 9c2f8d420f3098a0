"""Simulate subtomograms of a known specimen and write them as RELION would, with the truth beside them.

The signal-to-noise ratio is that of voxels: the variance of the noise-free subtomogram over its whole box,
CTF and wedge applied, over that of the noise in the same box. So two subtomograms of one pose correlate by
``snr / (1 + snr)``, and a larger box around the same particle means less noise at the same ratio.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import manyviews
from manyviews.alignment.symmetry_axes import lay_on_axes
from manyviews.errors import InputError
from manyviews.geometry.missing_wedge import TiltScheme
from manyviews.geometry.poses import euler_to_matrices
from manyviews.geometry.symmetry import symmetry_rotations
from manyviews.io.atomic import atomic_write
from manyviews.io.mrc import write_mrc
from manyviews.io.relion_subtomogram_writer import write_relion_subtomograms
from manyviews.io.staging import staged_folder
from manyviews.io.subtomogram_table import SubtomogramTable
from manyviews.operators.contrast_transfer import Optics
from manyviews.options import check_options
from manyviews.runs.toml import dump_toml
from manyviews.simulate.particle_specimens import particle_specimen
from manyviews.simulate.particles import VolumeProjector
from manyviews.simulate.subtomograms import (
    NoiseLevels,
    SubtomogramPoses,
    SubtomogramSeries,
    draw_subtomogram_poses,
)
from manyviews.subtomo.simulate_options import SimulateOptions
from manyviews.subtomo.wedge.transfer import frequency_radius, transfer
from manyviews.subtomo.wedge.weight_volumes import write_weights

Progress = Callable[[str, int, int], None]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

REFERENCE_ANGSTROM = 60.0
"""Finest detail of the reference that is written, as in the paper's experiment."""

_OWN_FILES = (
    "volumes/*.mrc", "weights/*.mrc", "particles.star", "truth.star", "truth.mrc", "reference_60A.mrc",
    "simulate.toml", "README.txt",
)  # fmt: skip
_MOST_VIEWS = 2000
_LEAST_SYMMETRY = 0.95


@dataclass(frozen=True, eq=False)
class SimulatedSubtomograms:
    """Subtomograms in memory, with all that is known of them.

    Attributes
    ----------
    volumes
        ``(N, box, box, box)`` float32, the molecule white; the variance of the noise is 1.
    transfer, wedge
        ``(box, box, box // 2 + 1)``: the transfer of all of them, CTF included, and without it.
    truth
        ``(box, box, box)``, the specimen in the grey levels of the volumes.
    poses
        The true ones, as in `manyviews.geometry.poses`.
    pixel_size
        Angstrom.
    signal_to_noise
        See the module; infinite without noise.
    """

    volumes: Float32
    transfer: Float32
    wedge: Float32
    truth: Float32
    poses: SubtomogramPoses
    pixel_size: float
    signal_to_noise: float


@dataclass(frozen=True)
class Simulated:
    """What `simulate` wrote: see `SimulatedSubtomograms`; ``command`` aligns them, as typed in a shell."""

    folder: Path
    particles: Path
    truth_poses: Path
    truth: Path
    reference: Path
    command: str
    signal_to_noise: float


class _Scene:
    """The specimen in its grey levels, how it is imaged, and all that was drawn at random but the noise."""

    def __init__(self, options: SimulateOptions) -> None:
        _check(options)
        self.options = options
        self.scheme = _scheme(options)
        self.optics = _optics(options)
        shift_range = options.shift_range
        if shift_range is None:
            shift_range = options.box * options.pixel_size / 20
        self.poses = draw_subtomogram_poses(options.count, shift_range, options.seed)
        volume = _specimen(options)
        raw = SubtomogramSeries(VolumeProjector(volume), self.scheme, options.pixel_size, self.optics)
        variance = raw.signal_variance(shift_range, options.seed)
        if not variance > 0:
            raise InputError(
                "the subtomograms are empty, so the noise has no measure",
                where="option specimen",
                fix="give a specimen with density inside the box",
            )
        self.noisy = not options.noise_free
        self.signal_to_noise = options.snr if self.noisy else math.inf
        self.scale = math.sqrt(options.snr / variance) if self.noisy else 1.0
        self.truth: Float32 = np.asarray(volume * self.scale, dtype=np.float32)
        self.series = SubtomogramSeries(
            VolumeProjector(self.truth), self.scheme, options.pixel_size, self.optics
        )
        self.levels = self.series.levels(1.0) if self.noisy else NoiseLevels(0.0, 0.0)

    def volumes(self) -> Iterator[Float32]:
        """All subtomograms, one after the other."""
        seed, turns = self.options.seed, euler_to_matrices(self.poses.angles)
        for number, (turn, shift) in enumerate(zip(turns, self.poses.shifts, strict=True)):
            if self.options.noise_only:
                yield self.series.noise(number, self.levels, seed)
            elif self.noisy:
                yield self.series.noisy(turn, shift, number, self.levels, seed)
            else:
                yield self.series.clean(turn, shift)

    def transfer(self, *, with_ctf: bool) -> Float32:
        """``(box, box, box // 2 + 1)``; nothing beyond the Nyquist frequency, where images end."""
        box = self.options.box
        return transfer(
            box,
            self.options.pixel_size,
            self.scheme,
            ctf=self.optics if with_ctf else None,
            radius=(box - 1) // 2,
        )


def simulate_subtomograms(options: SimulateOptions) -> SimulatedSubtomograms:
    """Subtomograms in memory; the same numbers as `simulate` writes. `InputError` as of `simulate`."""
    scene = _Scene(options)
    volumes = np.empty((options.count, *scene.truth.shape), dtype=np.float32)
    for number, volume in enumerate(scene.volumes()):
        volumes[number] = volume
    return SimulatedSubtomograms(
        volumes=volumes,
        transfer=scene.transfer(with_ctf=True),
        wedge=scene.transfer(with_ctf=False),
        truth=scene.truth,
        poses=scene.poses,
        pixel_size=options.pixel_size,
        signal_to_noise=scene.signal_to_noise,
    )


def simulate(options: SimulateOptions, out: Path, progress: Progress | None = None) -> Simulated:
    """Write subtomograms, their weights, tables without and with the true poses, and the specimen.

    The same options give the same files. The folder appears when complete or not at all; ``progress`` is told
    a name, volumes done and volumes to do.

    Raises
    ------
    InputError
        If an option is impossible, the specimen cannot be used, or the folder cannot be written.
    """
    with staged_folder(out, _OWN_FILES, overwrite=options.overwrite) as folder:
        scene = _Scene(options)
        names = _write_volumes(folder, scene, progress)
        weights = _write_weights(folder, scene)
        write_mrc(folder / "truth.mrc", scene.truth, options.pixel_size)
        reference = low_passed(scene.truth, options.pixel_size, REFERENCE_ANGSTROM)
        write_mrc(folder / "reference_60A.mrc", reference, options.pixel_size)
        table = _table(folder, options, names, weights, scene.poses)
        write_relion_subtomograms(folder / "truth.star", table)
        blind = replace(table, angles=None, shifts=np.zeros_like(table.shifts))
        write_relion_subtomograms(folder / "particles.star", blind)
        command = _command(out)
        atomic_write(folder / "README.txt", _readme(command, options).encode())
        atomic_write(folder / "simulate.toml", dump_toml(_record(scene)).encode())
    return Simulated(
        folder=out,
        particles=out / "particles.star",
        truth_poses=out / "truth.star",
        truth=out / "truth.mrc",
        reference=out / "reference_60A.mrc",
        command=command,
        signal_to_noise=scene.signal_to_noise,
    )


def low_passed(volume: Float32, pixel_size: float, resolution: float) -> Float32:
    """A map without detail finer than a resolution in angstrom: a cosine edge two cycles per box wide."""
    box = len(volume)
    beyond = frequency_radius(box) - box * pixel_size / resolution
    keep = 0.5 - 0.5 * np.sin(np.pi / 2 * np.clip(beyond, -1, 1))
    found = np.fft.irfftn(np.fft.rfftn(volume) * keep, s=volume.shape, axes=(0, 1, 2))
    return np.asarray(found, dtype=np.float32)


def _check(options: SimulateOptions) -> None:
    check_options(options)
    if options.noise_only and options.noise_free:
        raise InputError("noise alone without noise is nothing", where="--noise-only", fix="leave one out")


def _scheme(options: SimulateOptions) -> TiltScheme:
    if len(options.tilt_range) != 2:
        raise InputError(
            f"{len(options.tilt_range)} angles are no range",
            where="--tilt-range",
            fix="give two, e.g. -60 60",
        )
    low, high = options.tilt_range
    whole = TiltScheme.of_range(low, high, options.tilt_axis, options.beam_axis)
    steps = (high - low) / options.tilt_step
    if steps >= _MOST_VIEWS:
        raise InputError(
            f"steps of {options.tilt_step:g} degrees are {steps:.0f} views", where="--tilt-step",
            fix=f"give larger steps, for less than {_MOST_VIEWS} views",
        )  # fmt: skip
    tilts = low + options.tilt_step * np.arange(math.floor(steps + 1e-6) + 1)
    return TiltScheme(low, float(tilts[-1]), tuple(tilts.tolist()), whole.axis, whole.beam)


def _optics(options: SimulateOptions) -> Optics | None:
    if options.defocus is None:
        return None
    microscope = (options.voltage, options.spherical_aberration, options.amplitude_contrast)
    return Optics.make(*microscope, [[options.defocus, options.defocus]])


def _specimen(options: SimulateOptions) -> Float32:
    """The density on the grid of the box, turned onto its axes where that was asked for."""

    def density(rotation: Float64 | None = None) -> Float32:
        return particle_specimen(
            options.specimen,
            options.box,
            options.pixel_size,
            seed=options.seed,
            resolution=options.resolution,
            assembly=options.assembly,
            rotation=rotation,
        )[0]

    volume = density()
    group = None if options.symmetry is None else symmetry_rotations(options.symmetry)
    if group is None or len(group) == 1:  # C1 has no axes
        return volume
    found = lay_on_axes(volume, group, options.seed)
    if found.correlation < _LEAST_SYMMETRY:
        raise InputError(
            f"the specimen has no {str(options.symmetry).upper()} symmetry: it agrees with itself by"
            f" {found.correlation:.2f} only",
            where="--symmetry",
            fix="give its point group, or leave it out",
        )
    return density(found.rotation)


def _write_volumes(folder: Path, scene: _Scene, progress: Progress | None) -> list[str]:
    """All subtomograms, one file each; their names."""
    options = scene.options
    (folder / "volumes").mkdir()
    width = max(6, len(str(options.count)))
    names = [f"volumes/{number:0{width}d}.mrc" for number in range(1, options.count + 1)]
    for number, (name, volume) in enumerate(zip(names, scene.volumes(), strict=True), start=1):
        write_mrc(folder / name, volume, options.pixel_size, labels=("manyviews: simulated subtomogram",))
        if progress is not None:
            progress("volumes", number, options.count)
    return names


def _write_weights(folder: Path, scene: _Scene) -> str:
    """The wedge, and with the CTF where there is one; the name of what the table names."""
    (folder / "weights").mkdir()
    write_weights(folder / "weights" / "wedge.mrc", scene.transfer(with_ctf=False), scene.options.pixel_size)
    if scene.optics is None:
        return "weights/wedge.mrc"
    write_weights(folder / "weights" / "ctf.mrc", scene.transfer(with_ctf=True), scene.options.pixel_size)
    return "weights/ctf.mrc"


def _table(
    folder: Path, options: SimulateOptions, names: list[str], weights: str, poses: SubtomogramPoses
) -> SubtomogramTable:
    """The particles with their true poses; one optics group."""
    optics = {
        "rlnOpticsGroup": "1",
        "rlnOpticsGroupName": "simulated",
        "rlnVoltage": f"{options.voltage:.6f}",
        "rlnSphericalAberration": f"{options.spherical_aberration:.6f}",
        "rlnAmplitudeContrast": f"{options.amplitude_contrast:.6f}",
        "rlnImagePixelSize": f"{options.pixel_size:.6f}",
        "rlnImageSize": str(options.box),
        "rlnImageDimensionality": "3",
    }
    return SubtomogramTable(
        pixel_size=options.pixel_size,
        shifts=poses.shifts,
        angles=poses.angles,
        volumes=tuple(folder / name for name in names),
        volume_names=tuple(names),
        weights=(folder / weights,) * len(names),
        weight_names=(weights,) * len(names),
        optics={label: [value] for label, value in optics.items()},
    )


def _command(out: Path) -> str:
    words = ["manyviews", "subtomo", "align", str(out / "particles.star"), "--reference"]
    return shlex.join([*words, str(out / "reference_60A.mrc"), "--out", str(out / "alignment")])


def _readme(command: str, options: SimulateOptions) -> str:
    what = "of pure noise" if options.noise_only else "of particles, the molecule white"
    return f"""Simulated subtomograms {what}: {options.count} volumes of {options.box} voxels a side.

volumes/             the subtomograms; the noise has variance 1
weights/             what of a particle's transform they hold: the wedge, and with the CTF where there is one
particles.star       volumes and weights, no poses: what an alignment starts from
truth.star           the same with the true poses and shifts
truth.mrc            the specimen, in the grey levels of the volumes
reference_60A.mrc    the same without detail finer than 60 angstrom
simulate.toml        all options and the levels that follow from them

Align with

{command}
"""


def _record(scene: _Scene) -> dict[str, Any]:
    """What ``simulate.toml`` holds."""
    options = scene.options
    given = {item.name: getattr(options, item.name) for item in fields(options)}
    made: dict[str, Any] = {"scale": scene.scale, "views": len(scene.scheme.tilts)}
    if scene.noisy:
        made |= {
            "signal_to_noise": scene.signal_to_noise,
            "noise_std_in_images": scene.levels.white,
        }
    return {"manyviews": manyviews.__version__, "options": given, "grey_levels": made}
