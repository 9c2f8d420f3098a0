"""The tables of a run over a scan: whole files, and what reads them."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np

from fuzzing import samples
from manyviews.metrics.fsc import FscCurve
from manyviews.nano import results
from manyviews.nano.report import sections
from manyviews.report.build import build_report

_HEADS = {
    "iterations.csv": "level,iteration,binning,window_pixels,misfit,lagrangian,rho_tomography,rho_gradient,"
    "flow_rms_pixels,flow_seconds,warp_seconds,tomography_seconds",
    "views.csv": "view,theta_degrees,residual_before,residual,flow_rms_pixels,weight,bad,jump",
    "shifts.csv": "view,theta_degrees,shift_x_pixels,shift_z_pixels",
    "pitch.csv": "view,theta_degrees,pitch_degrees",
    "gauge.csv": "slice,cosine,sine,vertical,dilation",
    "trust.csv": "view,theta_degrees,injected_rms_pixels,left_rms_pixels",
    "examples.csv": "view,theta_degrees",
    "fsc.csv": "frequency_per_angstrom,fsc,half_bit,samples",
}
_ROWS = {
    "iterations.csv": [f"1,{n},2,{64 - n},{0.5 / n},{9 / n},0.5,,{n},0.1,0.2,0.3" for n in range(1, 6)],
    "views.csv": [f"{n},{30 * n},0.5,{0.1 + n % 2},1.5,{1 - 0.9 * (n % 2)},{n % 2},0" for n in range(1, 9)],
    "shifts.csv": [f"{n},{30 * n},{0.1 * n},-2" for n in range(1, 9)],
    "pitch.csv": [f"{n},{30 * n},{0.5 * n - 2}" for n in range(1, 9)],
    "gauge.csv": [f"{n},{0.1 * n},1,-2,0.001" for n in range(1, 7)],
    "trust.csv": [f"{n},{30 * n},2,0.25" for n in range(1, 9)],
    "examples.csv": ["1,30", "5,150"],
    "fsc.csv": [f"{0.001 * n},{1 - 0.2 * n},{0.9 - 0.1 * n},{10 * n + 1}" for n in range(5)],
}  # fmt: skip


def _examples() -> bytes:
    handle = io.BytesIO()
    images = np.sin(np.arange(2 * 5 * 6 * 8.0)).astype(np.float32).reshape(2, 5, 6, 8)
    np.save(handle, images, allow_pickle=False)
    return handle.getvalue()


FILES = {
    **{name: "\n".join([head, *_ROWS[name], ""]).encode() for name, head in _HEADS.items()},
    "center.toml": b'center = 15.25\ncenter_unbinned = 31.0\nby = "opposite views"\n',
    "examples.npy": _examples(),
}

READERS: dict[str, Callable[[Path], object]] = {
    "iterations.csv": results.read_iterations,
    "views.csv": results.read_views,
    "shifts.csv": results.read_shifts,
    "pitch.csv": results.read_pitch,
    "gauge.csv": results.read_gauge,
    "trust.csv": results.read_returned,
    "examples.csv": lambda path: results.read_examples(path.parent),
    "examples.npy": lambda path: results.read_examples(path.parent),
    "center.toml": results.read_center,
    "fsc.csv": FscCurve.read_csv,
}


def beside(name: str) -> Callable[[Path], Path]:
    """All of them, in a folder that holds a finished run, without its volumes."""

    def prepare(folder: Path) -> Path:
        (folder / "run.toml").write_bytes(samples.run_toml("nano reconstruct", "oftv"))
        for file, data in FILES.items():
            (folder / file).write_bytes(data)
        return folder / name

    return prepare


def reading(name: str) -> Callable[[Path, bool], object]:
    """A file of such a run, and its page."""

    def read(path: Path, drawn: bool) -> None:
        if drawn:
            try:
                build_report(path.parent, sections)
            except Exception as error:
                raise AssertionError(f"no page of a damaged run: {type(error).__name__}: {error}") from error
        READERS[name](path)

    return read
