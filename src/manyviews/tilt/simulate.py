"""Simulate tilt series of a known specimen and write them as a microscope would, with the truth beside."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import manyviews
from manyviews.errors import InputError
from manyviews.geometry.views import TiltGeometry
from manyviews.io.atomic import atomic_write
from manyviews.io.ctffind import write_ctffind
from manyviews.io.defocus_table import DefocusTable
from manyviews.io.imod import write_angles, write_xf, xf_to_raw_to_aligned
from manyviews.io.mdoc import write_mdoc
from manyviews.io.mrc import MrcWriter
from manyviews.io.staging import staged_folder
from manyviews.operators.contrast_transfer import Optics
from manyviews.operators.view_transfer import ViewTransfer
from manyviews.options import check_options, flag
from manyviews.runs.toml import dump_toml
from manyviews.simulate.box import Outline
from manyviews.simulate.phantoms import Phantom
from manyviews.simulate.specimens import specimen
from manyviews.simulate.tilt_series import (
    GreyLevels,
    Spoiled,
    draw_defocus,
    drifting_grey_levels,
    misalignment,
    recording_order,
    spoiled_views,
    tilt_series_images,
)
from manyviews.simulate.transferred import transferred_views
from manyviews.tilt.options import SimulateOptions

Progress = Callable[[str, int, int], None]

_OWN_FILES = (
    "axis-*.mrc",
    "axis-*.rawtlt",
    "axis-*.mrc.mdoc",
    "axis-*.xf",
    "axis-*_CTF.txt",
    "truth.mrc",
    "simulate.toml",
    "README.txt",
)
_INT16_PEAK = 8000.0  # of the untilted image; leaves room for four times as much at high tilt


@dataclass(frozen=True)
class Simulated:
    """What `simulate` wrote.

    One stack for each axis, the density of the specimen (``truth``), the ``command`` that reconstructs them,
    as typed in a shell, and the number of images in all stacks together (``views``).
    """

    folder: Path
    stacks: tuple[Path, ...]
    truth: Path
    command: str
    views: int


@dataclass(frozen=True)
class _Scene:
    """The specimen and the grey levels that follow from its noise-free untilted image."""

    phantom: Phantom
    volume_shape: tuple[int, int, int]
    signal_std: float
    noise_std: float
    scale: float


@dataclass(frozen=True)
class _Series:
    """One stack to be: its name, the views as they are recorded, and what undoes the misalignment.

    ``spoiled`` says which of the views show something else.
    """

    name: str
    index: int
    axis_degrees: float
    geometry: TiltGeometry
    xf: NDArray[np.float64] | None
    grey_levels: GreyLevels
    transfer: ViewTransfer | None
    spoiled: dict[int, Spoiled]


def simulate(options: SimulateOptions, out: Path, progress: Progress | None = None) -> Simulated:
    """Simulate tilt series and write them into a folder that appears when complete.

    ``DIR/axis-000.mrc`` and so on, the images of one axis each, with ``.rawtlt`` and ``.mrc.mdoc`` beside
    (and ``.xf`` if misaligned, ``_CTF.txt`` if out of focus); ``truth.mrc``; ``simulate.toml``, all options
    and what was drawn; ``README.txt`` with the command to reconstruct. Images are made and written one by
    one, so memory does not grow with their number. ``progress`` is told the name of the file, images done
    and images to do.

    Raises
    ------
    InputError
        If an option is impossible, the folder cannot be written, or holds files without
        ``options.overwrite``.
    """
    _check(options)
    with staged_folder(out, _OWN_FILES, overwrite=options.overwrite) as folder:
        scene = _scene(options)
        series = [_series(index, scene, options) for index in range(len(options.axes))]
        _write_truth(folder / "truth.mrc", scene, options, progress)
        for one in series:
            _write_images(folder / f"{one.name}.mrc", one, scene, options, progress)
            _write_geometry(folder / f"{one.name}.mrc", one, scene, options)
        command = _command(out, series, options)
        atomic_write(folder / "README.txt", _readme(command, options).encode())
        atomic_write(folder / "simulate.toml", dump_toml(_record(series, scene, options)).encode())
    return Simulated(
        folder=out,
        stacks=tuple(out / f"{one.name}.mrc" for one in series),
        truth=out / "truth.mrc",
        command=command,
        views=sum(len(one.geometry) for one in series),
    )


def _check(options: SimulateOptions) -> None:
    check_options(options)

    def need(good: bool, name: str, what: str, fix: str) -> None:
        if not good:
            raise InputError(what, where=flag(name), fix=fix)

    size, axes = options.size, options.axes
    need(len(size) in (1, 2), "size", f"{len(size)} numbers are no size", "give x and y in pixels")
    need(len(axes) > 0, "axes", "no axis was given", "give at least one angle")
    names = [_name(axis) for axis in axes]
    need(len(set(names)) == len(names), "axes", "an axis was given twice", "give every axis once")
    tilts = f"tilts from {options.tilt_min:g} to {options.tilt_max:g}"
    ordered = options.tilt_min <= options.tilt_max
    need(ordered, "tilt_min", f"{tilts} are not possible", "give the smaller angle first")
    both = options.snr is not None and options.noise > 0
    need(not both, "snr", "noise was given in two ways", "give either --snr or --noise")
    focused = options.defocus is None
    for name in ("defocus_spread", "astigmatism", "dose_per_view"):
        needless = not focused or getattr(options, name) == 0
        need(needless, name, "images in perfect focus have no such thing", "give --defocus too")


def _tilts(options: SimulateOptions) -> NDArray[np.float64]:
    """Angles in degrees, rounded to the four decimals of the angle file."""
    count = math.floor((options.tilt_max - options.tilt_min) / options.tilt_step + 1e-6) + 1
    return np.asarray(np.round(options.tilt_min + options.tilt_step * np.arange(count), 4), dtype=np.float64)


def _lateral_extent(options: SimulateOptions) -> float:
    """How much larger than the field the specimen must be for the highest tilt to see no end of it."""
    if not options.extended:
        return 1.0
    highest = np.deg2rad(np.abs(_tilts(options)).max())
    tallness = options.thickness / min(options.size)
    return float((1 + tallness * np.sin(highest)) / np.cos(highest))


def _outline(options: SimulateOptions) -> Outline:
    """A rectangle stays in the field when tilted about one of its symmetry axes only."""
    step = 45 if options.size[0] == options.size[-1] else 90
    return "rectangle" if options.extended or all(a % step == 0 for a in options.axes) else "circle"


def _name(axis: float) -> str:
    sign = "m" if axis < 0 else ""  # a second hyphen reads badly
    whole, part = f"{abs(axis):.4f}".split(".")
    decimals = part.rstrip("0")
    return f"axis-{sign}{int(whole):03d}" + (f".{decimals}" if decimals else "")


def _scene(options: SimulateOptions) -> _Scene:
    volume_shape = (options.thickness, options.size[-1], options.size[0])
    phantom = specimen(
        options.phantom,
        volume_shape,
        options.pixel_size,
        options.seed,
        lateral_extent=_lateral_extent(options),
        outline=_outline(options),
        detail_pixels=options.detail,
    )
    untilted = _untilted(phantom, volume_shape[1:], options)
    signal = float(untilted.std(dtype=np.float64))
    fraction = options.noise if options.snr is None else 1 / math.sqrt(options.snr)
    peak = float(np.abs(untilted).max()) or 1.0
    scale = _INT16_PEAK / peak if options.dtype == "int16" else 1.0
    return _Scene(phantom, volume_shape, signal, fraction * signal, scale)


def _untilted(
    phantom: Phantom, image_shape: tuple[int, int], options: SimulateOptions
) -> NDArray[np.float32]:
    """The image without tilt, noise and dose."""
    untilted = TiltGeometry.from_tilt_axis([0.0])
    if options.defocus is None:
        perfect: NDArray[np.float32] = phantom.project(untilted, image_shape, options.pixel_size)[0]
        return perfect
    optics = _optics(np.array([[options.defocus, options.defocus]]), 0.0, options)
    transfer = ViewTransfer(optics, np.zeros(1), int(options.defocus_hand))
    return next(transferred_views(phantom, untilted, image_shape, options.pixel_size, transfer))


def _optics(defocus: NDArray[np.float64], angle: float, options: SimulateOptions) -> Optics:
    return Optics.make(
        options.voltage, options.spherical_aberration, options.amplitude_contrast, defocus, angle
    )


def _transfer(index: int, tilts: NDArray[np.float64], options: SimulateOptions) -> ViewTransfer | None:
    """Contrast transfer of one stack, its defocus rounded to the decimals of the file."""
    if options.defocus is None:
        return None
    defocus, angle = draw_defocus(
        len(tilts), options.defocus, options.defocus_spread, options.astigmatism, options.seed, index
    )
    before = options.dose_per_view * recording_order(tilts)
    dose = np.asarray(before + 0.5 * options.dose_per_view, dtype=np.float64)
    return ViewTransfer(_optics(defocus, angle, options), dose, int(options.defocus_hand))


def _series(index: int, scene: _Scene, options: SimulateOptions) -> _Series:
    axis, tilts = options.axes[index], _tilts(options)
    geometry = TiltGeometry.from_tilt_axis(tilts, axis, series=index)
    xf = None
    if options.shift_error > 0 or options.axis_error > 0:
        xf = misalignment(len(tilts), options.shift_error, options.axis_error, options.seed, index)
        to_aligned = xf_to_raw_to_aligned(xf, options.pixel_size, scene.volume_shape[1:])
        geometry = geometry.with_image_transform(to_aligned)
    grey = drifting_grey_levels(len(tilts), options.drift, scene.signal_std, options.seed, index)
    spoiled = spoiled_views(len(tilts), options.bad_views, options.seed, index)
    return _Series(_name(axis), index, axis, geometry, xf, grey, _transfer(index, tilts, options), spoiled)


def _write_truth(path: Path, scene: _Scene, options: SimulateOptions, progress: Progress | None) -> None:
    shape = scene.volume_shape
    with MrcWriter(path, shape, options.pixel_size, labels=("manyviews: true density",)) as writer:
        for z, plane in enumerate(scene.phantom.density_planes(shape, options.pixel_size)):
            writer.write(plane[None])
            if progress is not None:
                progress(path.name, z + 1, shape[0])


def _write_images(
    path: Path, one: _Series, scene: _Scene, options: SimulateOptions, progress: Progress | None
) -> None:
    images = tilt_series_images(
        scene.phantom,
        one.geometry,
        scene.volume_shape[1:],
        options.pixel_size,
        grey_levels=one.grey_levels,
        noise_std=scene.noise_std,
        seed=options.seed,
        series=one.index,
        transfer=one.transfer,
        spoiled=one.spoiled,
    )
    views = len(one.geometry)
    with MrcWriter(
        path,
        (views, *scene.volume_shape[1:]),
        options.pixel_size,
        dtype=options.dtype,
        labels=(f"manyviews: simulated tilt series, axis {one.axis_degrees:g} degrees",),
        is_volume=False,
    ) as writer:
        for view, image in enumerate(images):
            writer.write(image[None] if options.dtype == "float32" else _as_int16(image, scene.scale)[None])
            if progress is not None:
                progress(path.name, view + 1, views)


def _as_int16(image: NDArray[np.float32], scale: float) -> NDArray[np.int16]:
    limits = np.iinfo(np.int16)
    return np.asarray(np.clip(np.rint(image * scale), limits.min, limits.max), dtype=np.int16)


def _write_geometry(path: Path, one: _Series, scene: _Scene, options: SimulateOptions) -> None:
    """The angle file, the .mdoc and, if the images are misaligned, the .xf beside a stack."""
    tilts = one.geometry.tilt_degrees
    write_angles(path.with_suffix(".rawtlt"), tilts)
    write_mdoc(
        path.with_name(path.name + ".mdoc"),
        tilts,
        options.pixel_size,
        scene.volume_shape[1:],
        axis_degrees=one.axis_degrees,
        image_file=path.name,
        **_of_microscope(one, options),
    )
    if one.transfer is not None:
        write_ctffind(path.with_name(f"{one.name}_CTF.txt"), _defocus_table(one.transfer))
    if one.xf is not None:
        write_xf(path.with_suffix(".xf"), one.xf)


def _of_microscope(one: _Series, options: SimulateOptions) -> dict[str, Any]:
    """What the .mdoc says of defocus and dose: what was asked for."""
    if one.transfer is None:
        return {}
    assert options.defocus is not None
    count = len(one.transfer)
    numbers = {"TargetDefocus": np.full(count, -1e-4 * options.defocus)}
    if options.dose_per_view > 0:
        numbers["ExposureDose"] = np.full(count, options.dose_per_view)
        numbers["PriorRecordDose"] = one.transfer.dose - 0.5 * options.dose_per_view
    return {"voltage_kv": options.voltage, "of_sections": numbers}


def _defocus_table(transfer: ViewTransfer) -> DefocusTable:
    optics = transfer.optics
    return DefocusTable(
        source="",
        defocus=optics.defocus,
        angle=optics.defocus_angle,
        phase_shift=optics.phase_shift,
        sections=np.arange(len(optics), dtype=np.int64),
        voltage_kv=float(optics.voltage_kv[0]),
        spherical_aberration_mm=float(optics.spherical_aberration_mm[0]),
        amplitude_contrast=float(optics.amplitude_contrast[0]),
    )


def _command(out: Path, series: list[_Series], options: SimulateOptions) -> str:
    words = ["manyviews", "tilt", "reconstruct", *(str(out / f"{one.name}.mrc") for one in series)]
    words += ["--axis-angle", *(f"{one.axis_degrees:.10g}" for one in series)]
    if any(one.xf is not None for one in series):
        words += ["--transform", *(str(out / f"{one.name}.xf") for one in series)]
    if options.defocus is not None:
        words += ["--ctf", "3d", "--defocus", *(str(out / f"{one.name}_CTF.txt") for one in series)]
        words += ["--defocus-hand", options.defocus_hand]
        words += ["--dose-weighting"] if options.dose_per_view > 0 else []
    words += ["--thickness", str(options.thickness), "--reference", str(out / "truth.mrc")]
    return shlex.join([*words, "--out", str(out / "reconstruction")])


def _readme(command: str, options: SimulateOptions) -> str:
    scaled = "\nThe stacks are int16; simulate.toml holds the factor they were scaled by.\n"
    return f"""Simulated tilt series, {len(options.axes)} axes of {len(_tilts(options))} views.

axis-*.mrc       the images of one tilt axis each; the number is its direction in the image,
                 degrees counter-clockwise from +y
axis-*.rawtlt    tilt angles, degrees; axis-*.mrc.mdoc says the same and more
axis-*_CTF.txt   the true defocus of every view, as CTFFIND writes it (only if out of focus on purpose)
axis-*.xf        brings misaligned images back (only if they were misaligned on purpose)
truth.mrc        the density that was projected: an image is the sum of its voxels along the rays
simulate.toml    all options and what was drawn at random
{scaled if options.dtype == "int16" else ""}
Reconstruct with

{command}
"""


def _told(spoiled: dict[int, Spoiled]) -> dict[str, list[int]]:
    """Sections from 1, by how they were spoiled."""
    kinds = sorted(set(spoiled.values()))
    return {kind: sorted(view + 1 for view, how in spoiled.items() if how == kind) for kind in kinds}


def _record(series: list[_Series], scene: _Scene, options: SimulateOptions) -> dict[str, Any]:
    """What ``simulate.toml`` holds."""
    given = {item.name: getattr(options, item.name) for item in fields(options)}
    stacks = {
        one.name: {
            "axis_angle": one.axis_degrees,
            "gain": one.grey_levels.gain.tolist(),
            "offset": one.grey_levels.offset.tolist(),
            **({"bad_sections": _told(one.spoiled)} if one.spoiled else {}),
        }
        for one in series
    }
    return {
        "manyviews": manyviews.__version__,
        "options": given,
        "grey_levels": {
            "signal_std": scene.signal_std,
            "noise_std": scene.noise_std,
            "scale": scene.scale,
        },
        "stacks": stacks,
    }
