"""Simulate a scan of a specimen that moves and deforms, as a beamline would write it, and the truth beside.

``scan.h5`` is Data Exchange HDF5: grey values, flats, darks, and angles in the order of acquisition.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import manyviews
from manyviews.io.array_file import write_array
from manyviews.io.atomic import atomic_path, atomic_write
from manyviews.io.data_exchange_writer import write_data_exchange
from manyviews.io.mrc import MrcWriter
from manyviews.io.staging import staged_folder
from manyviews.io.tables import write_table
from manyviews.nano.simulate_options import SimulateOptions
from manyviews.nano.simulated_scan import SimulatedScan
from manyviews.runs.toml import dump_toml
from manyviews.simulate.deformation import inverse_flow

Progress = Callable[[str, int, int], None]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

SCAN_FILE, TRUTH_FILE, MIDDLE_FILE = "scan.h5", "truth.mrc", "truth_middle.mrc"
STILL_FILE, FLOW_FILE, PUSH_FILE = "truth_projections.mrc", "truth_flow.npy", "truth_push.npy"
MEAN_FLOW_FILE, VIEWS_FILE = "truth_mean_flow.npy", "truth_views.csv"
_OWN_FILES = (
    SCAN_FILE, TRUTH_FILE, MIDDLE_FILE, STILL_FILE, FLOW_FILE, MEAN_FLOW_FILE, PUSH_FILE, VIEWS_FILE,
    "simulate.toml", "README.txt",
)  # fmt: skip
_ANGSTROM_PER_NM = 10.0
_VIEW_COLUMNS = (
    "view", "theta_degrees", "deformation_pixels", "shift_x_pixels", "shift_z_pixels", "roll_degrees",
    "blank",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class ScanArrays:
    """A simulated scan in memory.

    Attributes
    ----------
    projections
        ``(view, z, x)`` float32, minus logarithms of the transmission, with noise, of a known beam.
    still
        The same without motion, deformation and noise.
    theta_degrees, center
        ``(view,)`` in the order of acquisition; the column of the rotation axis.
    truth
        ``(z, y, x)`` before it deformed, in minus logarithms of transmission a pixel.
    flow
        ``(view, 2, z, x)`` by which ``still`` is read at moved places to give ``projections``; where
        ``flow_is_all`` is false, as the specimen deforms, the mean of that along rays.
    """

    projections: Float32
    still: Float32
    theta_degrees: Float64
    center: float
    truth: Float32
    flow: Float32
    flow_is_all: bool


@dataclass(frozen=True)
class Simulated:
    """What `simulate` wrote: the scan, the specimen, and the ``command`` that reconstructs it."""

    folder: Path
    scan: Path
    truth: Path
    center: float
    command: str


def simulate_arrays(options: SimulateOptions) -> ScanArrays:
    """A scan in memory; the same grey values as `simulate` writes. `InputError` as of `simulate`."""
    scan = SimulatedScan(options)
    shape = (options.views, *scan.shape)
    projections, still = np.empty(shape, np.float32), np.empty(shape, np.float32)
    flow = np.empty((options.views, 2, *scan.shape), np.float32)
    for view in scan.views():
        grey = scan.measured(view)
        projections[view.number] = -np.log(scan.detector.transmission(grey))
        still[view.number] = view.still
        flow[view.number] = view.flow
    truth = np.stack(list(scan.density()))
    return ScanArrays(projections, still, scan.theta_degrees, scan.center, truth, flow, scan.has_flow)


def simulate(options: SimulateOptions, out: Path, progress: Progress | None = None) -> Simulated:
    """Write a scan and the truth into a folder that appears when complete.

    The same options give the same numbers. Views are made and written one by one, so memory does not grow
    with their number. ``progress`` is told a name, how much is done and how much there is.

    Raises
    ------
    InputError
        If an option is impossible, or the folder cannot be written, or holds files without
        ``options.overwrite``.
    """
    with staged_folder(out, _OWN_FILES, overwrite=options.overwrite) as folder:
        scan = SimulatedScan(options)
        _write_density(folder / TRUTH_FILE, scan, 0.0, progress)
        if not scan.has_flow:
            _write_density(folder / MIDDLE_FILE, scan, float(scan.growth.mean()), progress)
        _write_views(folder, scan, progress)
        _write_push(folder, scan)
        _write_motion(folder / VIEWS_FILE, scan)
        command = _command(out, options)
        atomic_write(folder / "README.txt", _readme(command, scan).encode())
        atomic_write(folder / "simulate.toml", dump_toml(_record(scan)).encode())
    return Simulated(out, out / SCAN_FILE, out / TRUTH_FILE, scan.center, command)


def _write_density(path: Path, scan: SimulatedScan, grown: float, progress: Progress | None) -> None:
    rows, columns = scan.shape
    size = scan.options.pixel_size_nm * _ANGSTROM_PER_NM
    with MrcWriter(path, (rows, columns, columns), size, labels=("manyviews: true density",)) as writer:
        for done, plane in enumerate(scan.density(grown), start=1):
            writer.write(plane[None])
            if progress is not None:
                progress(path.name, done, rows)


def _write_views(folder: Path, scan: SimulatedScan, progress: Progress | None) -> None:
    """The scan, and projections without motion and the flow of every view while they are at hand."""
    options = scan.options
    size = options.pixel_size_nm * _ANGSTROM_PER_NM
    shape = (options.views, *scan.shape)
    labels = ("manyviews: projections without motion",)
    with (
        MrcWriter(folder / STILL_FILE, shape, size, labels=labels, is_volume=False) as still,
        atomic_path(folder / (FLOW_FILE if scan.has_flow else MEAN_FLOW_FILE)) as flow_path,
    ):
        flow = np.lib.format.open_memmap(flow_path, "w+", np.float32, (options.views, 2, *scan.shape))

        def measured() -> Iterator[NDArray[Any]]:
            for view in scan.views():
                still.write(view.still[None])
                flow[view.number] = view.flow
                yield scan.measured(view)
                if progress is not None:
                    progress(SCAN_FILE, view.number + 1, options.views)

        write_data_exchange(
            folder / SCAN_FILE,
            measured(),
            scan.theta_degrees,
            flats=np.stack([scan.detector.flat(number) for number in range(options.flats)]),
            darks=np.stack([scan.detector.dark(number) for number in range(options.darks)]),
            pixel_size_nm=options.pixel_size_nm,
        )
        flow.flush()


def _write_push(folder: Path, scan: SimulatedScan) -> None:
    """Where the mass of every pixel goes at the end of the deformation, motion of whole views left out."""
    if scan.pattern is None or scan.kept != "mass":
        return
    push = inverse_flow(scan.amount * scan.pattern.flow)
    write_array(folder / PUSH_FILE, push)


def _write_motion(path: Path, scan: SimulatedScan) -> None:
    """``truth_views.csv``."""
    motion = scan.motion
    rows = (
        (
            view + 1,
            f"{theta:.6f}",
            f"{scan.amount * scan.growth[view]:.4f}",
            f"{motion.shift[view, 0]:.4f}",
            f"{motion.shift[view, 1]:.4f}",
            f"{motion.roll_degrees[view]:.5f}",
            int(view in scan.blank),
        )
        for view, theta in enumerate(scan.theta_degrees)
    )
    write_table(path, _VIEW_COLUMNS, rows)


def _command(out: Path, options: SimulateOptions) -> str:
    words = ["manyviews", "nano", "reconstruct", str(out / SCAN_FILE)]
    if options.warp == "mass" and options.deformation != "none":
        words += ["--warp", "mass"]
    return shlex.join([*words, "--out", str(out / "reconstruction")])


def _readme(command: str, scan: SimulatedScan) -> str:
    options = scan.options
    files = {
        SCAN_FILE: "Data Exchange HDF5: views, flats, darks; angles in degrees in the order of acquisition",
        TRUTH_FILE: "the specimen before it moved, minus logarithm of transmission a pixel",
        STILL_FILE: "its projections without motion and noise: what perfect alignment would give back",
    }
    if scan.has_flow:
        brighter = ", and brightened as mass is kept" if scan.kept == "mass" else ""
        files[FLOW_FILE] = (
            "flow (view, 2, z, x) in pixels, along x, then z: a measured view is the one without motion, read"
            f" at places moved by it{brighter}"
        )
    else:
        files[MIDDLE_FILE] = "the specimen in the middle of its deformation; no flow says all that happened"
        files[MEAN_FLOW_FILE] = (
            "flow (view, 2, z, x) in pixels, the mean along rays of what moved, by mass: the nearest that a"
            " flow of projections comes"
        )
    if scan.pattern is not None and scan.kept == "mass":
        files[PUSH_FILE] = "(2, z, x) where the mass of each pixel has gone at the end"
    files[VIEWS_FILE] = "angle, deformation, shift and turn of each view"
    files["simulate.toml"] = "all options, and what followed from them"
    listed = "\n".join(f"{name:24}{what}" for name, what in files.items())
    extent = "" if options.deformation == "none" else f" by up to {scan.amount:.3g} pixels"
    deformed = {"flow": "projections deform", "object": "the specimen deforms", "none": "nothing deforms"}
    size = f"{scan.shape[1]} x {scan.shape[0]}"
    turns = f"{options.rotations} rotations, {options.scan}"
    return f"""Simulated scan: {options.views} views of {size} pixels, {turns}.
While it is scanned, {deformed[options.deformation]}{extent}.
The rotation axis is at column {scan.center:g}, the centre of the first being 0.

{listed}

Reconstruct with

{command}
"""


def _record(scan: SimulatedScan) -> dict[str, Any]:
    """What ``simulate.toml`` holds."""
    options = scan.options
    given = {item.name: getattr(options, item.name) for item in fields(options)}
    made = {
        "center": scan.center,
        "deformation_pixels": scan.amount,
        "density_scale": scan.scale,
        "signal_std": scan.signal_std,
        "jumps_at_views": [view + 1 for view in scan.motion.jumps],
        "blank_views": [view + 1 for view in scan.blank],
    }
    return {"manyviews": manyviews.__version__, "options": given, "made": made}
