"""Tables of runs that align or refine, or choose a prior: whole files, and what reads them for a page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fuzzing import samples, subtomo_run
from manyviews.api.run import Run
from manyviews.io.mrc import write_mrc
from manyviews.particles.refine import report as refine_report
from manyviews.report.build import build_report
from manyviews.report.data import read_run
from manyviews.report.sections import Sections
from manyviews.tilt import report as tilt_report
from manyviews.tilt.align import report as align_report
from manyviews.tilt.options import SeriesOptions
from manyviews.tilt.series.alignment_table import ALIGNMENT_FILE
from manyviews.tilt.series.resolve import resolve_series

_STACK_SECTIONS = 4  # of a.mrc
_MAPS = ("volume.mrc", "local_resolution.mrc", "locally_filtered.mrc", "mask.mrc")


@dataclass(frozen=True)
class JobRun:
    """What a job leaves: tables by name, and the sections of its page."""

    job: str
    method: str
    sections: Sections
    files: dict[str, bytes]

    def beside(self, name: str) -> Callable[[Path], Path]:
        """All tables of a run, in a folder that holds it, with maps of a few voxels."""

        def prepare(folder: Path) -> Path:
            (folder / "run.toml").write_bytes(samples.run_toml(self.job, self.method))
            write_mrc(folder / "a.mrc", np.ones((_STACK_SECTIONS, 5, 6), np.float32), 7.88, is_volume=False)
            for number, file in enumerate(_MAPS):
                values = np.sin(np.arange(512.0) + number).astype(np.float32).reshape(8, 8, 8)
                write_mrc(folder / file, values + np.float32(20.0), 4.0)
            for file, data in self.files.items():
                (folder / file).write_bytes(data)
            return folder / name

        return prepare

    def reading(self, name: str) -> Callable[[Path, bool], object]:
        """A file of such a run as its page shows it, and as the next job takes it."""

        def read(path: Path, drawn: bool) -> None:
            try:
                if drawn:
                    build_report(path.parent, self.sections)
                else:
                    tuple(self.sections(read_run(path.parent)))
            except Exception as error:
                raise AssertionError(f"no page of a damaged run: {type(error).__name__}: {error}") from error
            if name == ALIGNMENT_FILE:
                resolve_series(SeriesOptions(stacks=(path.parent / "a.mrc",), alignment=path.parent))

        return read


def _table(head: str, rows: list[str]) -> bytes:
    return "\n".join([head, *rows, ""]).encode()


_ALIGN = {
    ALIGNMENT_FILE: _table(
        "stack,file,section,used,axis_degrees,tilt_degrees,x_tilt_degrees,rotation_degrees,shift_x_angstrom,"
        "shift_y_angstrom,moved_x_pixels,moved_y_pixels,correlation",
        [f"1,a.mrc,{n},{int(n != 2)},10,{20 * n - 50},0,0.5,{3 * n},-4,{n},-1.5,0.9" for n in range(1, 5)],
    ),
    "residuals.csv": _table(
        "stack,section,tilt_degrees,used,correlation_before,correlation_after,residual_pixels",
        [f"1,{n},{20 * n - 50},{int(n != 2)},0.3,0.8,0.2{n}" for n in range(1, 5)],
    ),
}
_PRIOR = {
    "prior.csv": _table(
        "total_variation,non_negative,held_out_error,standard_error,chosen",
        ["0,0,0.5,0.01,0", "1,0,0.4,0.01,0", "2,0,0.3,0.01,1", "2,1,0.35,0.01,0"],
    ),
}
_REFINE = {
    **{name: subtomo_run.TABLES[name] for name in ("fsc.csv", "directional_fsc.csv")},
    "guinier.csv": _table(
        "frequency_per_angstrom,log_amplitude,log_amplitude_weighted,line",
        [f"{0.01 * n},{5 - n},{4.5 - n},{'' if n < 3 else 4.6 - n}" for n in range(1, 7)],
    ),
    "local_resolution.csv": _table(
        "from_angstrom,to_angstrom,cubic_angstrom", [f"{n},{n + 1},{100 * n}" for n in range(20, 25)]
    ),
    "contrast.csv": _table("group,particles,contrast", ["a,20,1.1", "b,30,0.93"]),
}
RUNS = {
    "alignment": JobRun("tilt align", "projection-matching", align_report.sections, _ALIGN),
    "prior": JobRun("tilt reconstruct", "admm", tilt_report.sections, _PRIOR),
    "refinement": JobRun("particles refine", "em", refine_report.sections, _REFINE),
}


def shown(folder: Path) -> None:
    """As a notebook shows a run: nothing in the folder stops that."""
    assert Run(folder)._repr_html_().startswith("<p><b>")
    assert repr(Run(folder)).startswith("Run(")
