"""A run folder, finished or not, as an object: its map, tables and figures, read when asked for."""

from __future__ import annotations

import warnings
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from html import escape
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError, shortened
from manyviews.io.mrc import read_header, read_mrc
from manyviews.io.nested import parse_json
from manyviews.io.tables import read_columns
from manyviews.metrics.fsc import FscCurve
from manyviews.report.words import summary_entry
from manyviews.runs.events import Event, read_events
from manyviews.runs.record import RUN_FILE, read_record

if TYPE_CHECKING:
    from manyviews.io.particle_table import ParticleTable
    from manyviews.io.subtomogram_table import SubtomogramTable
    from manyviews.runs.state import StateValue

_MAPPED_FROM_BYTES = 2**28
_LONGEST_WHY = 400
# Of the reports of the jobs, the first that is there; that of an alignment of tilt series is an image.
_MAP_PICTURES = ("slices", "maps", "abinitio_slices", "after")


@dataclass(frozen=True)
class Run:
    """What a run folder holds. All of it but the volume is read anew each time, so a run may still go on."""

    folder: Path

    @cached_property
    def volume(self) -> NDArray[np.float32]:
        """The map ``(z, y, x)``, read once; one of 256 MiB or more is mapped, and cannot be changed."""
        return read_map(self._there("volume.mrc", "has no volume yet"))

    @property
    def pixel_size(self) -> float:
        """Angstrom, of the volume."""
        path = self._there("volume.mrc", "has no volume yet")
        size = read_header(path).pixel_size
        if size is None:
            raise InputError("its header holds no pixel size", path=path)
        return float(size[0])

    @property
    def job(self) -> str:
        """What ran, e.g. ``tilt reconstruct``."""
        return str(self._record["job"])

    @property
    def options(self) -> dict[str, Any]:
        """Every option as it was resolved; those left out have no entry."""
        return dict(self._record["options"])

    @property
    def summary(self) -> dict[str, Any]:
        """Key figures by name; empty before the run is done."""
        path = self.folder / "summary.json"
        try:
            found = parse_json(path.read_bytes()) if path.exists() else {}
            if not isinstance(found, dict):
                raise ValueError("it is no table of names and values")
        except (ValueError, OSError) as error:
            raise InputError(f"cannot be read ({shortened(error)})", path=path) from error
        return found

    @property
    def tables(self) -> dict[str, dict[str, NDArray[Any]]]:
        """The CSV files: table by file name without suffix, column by its heading."""
        return {path.stem: read_columns(path) for path in sorted(self.folder.glob("*.csv"))}

    @property
    def events(self) -> list[Event]:
        """What happened: ``start``, one ``iteration`` each with its measures, ``stop``, ``done``."""
        return read_events(self.folder / "events.jsonl")

    @property
    def finished(self) -> bool:
        """Whether the run is done and its results are still there."""
        from manyviews.runs.folder import is_finished  # not above: loads torch

        return is_finished(self.folder)

    @property
    def halves(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The maps ``(z, y, x)`` of the two halves of the data, as `volume` is read."""
        first, second = (self._there(f"half{number}.mrc", "has no maps of halves") for number in (1, 2))
        return read_map(first), read_map(second)

    @property
    def fsc(self) -> FscCurve:
        """How far the two halves agree, by shell of resolution."""
        curve = FscCurve.read_csv(self._there("fsc.csv", "has no correlation of halves"))
        if curve is None:
            raise InputError("holds no correlation", path=self.folder / "fsc.csv")
        return curve

    @property
    def poses(self) -> ParticleTable | SubtomogramTable:
        """The particles with their angles and shifts, of a run over single particles or subtomograms."""
        path = self._there("particles.star", "has no poses of particles")
        if self.job.startswith("subtomo"):
            from manyviews.io.relion_subtomograms import read_relion_subtomograms

            return read_relion_subtomograms(path, with_volumes=False)
        from manyviews.io.relion_particles import read_relion_particles

        return read_relion_particles(path, with_images=False)

    @property
    def report(self) -> Path:
        """The report, to be opened in a browser; while the run goes on it may not be there yet."""
        return self.folder / "report.html"

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages of which there are checkpoints, that of the newest last."""
        folders = [path for path in (self.folder / "checkpoint").glob("[!.]*-*") if path.is_dir()]
        return tuple(dict.fromkeys(path.name.rpartition("-")[0] for path in sorted(folders, key=_written)))

    def state(self, stage: str | None = None) -> dict[str, StateValue] | None:
        """Arrays and numbers of the newest whole checkpoint, of a stage or of the last one with any.

        None without one, as after the end of a run. A damaged one is told in a warning and passed over.
        """
        from manyviews.runs.checkpoint import load_checkpoint

        for name in reversed(self.stages) if stage is None else (stage,):
            found = load_checkpoint(self.folder, lambda text: warnings.warn(text, stacklevel=4), stage=name)
            if found is not None:
                return found[0]
        return None

    @property
    def _record(self) -> dict[str, Any]:
        record = read_record(self.folder)
        if record is None:
            raise InputError(
                f"is not a run folder ({RUN_FILE} is missing)",
                path=self.folder,
                fix="give the folder that was the run's out",
            )
        return record

    def _there(self, name: str, otherwise: str) -> Path:
        path = self.folder / name
        if not path.exists():
            raise InputError(f"{otherwise} ({name} is missing)", path=self.folder)
        return path

    def _progress(self) -> str:
        """How far the run is, in a few words."""
        if self.finished:
            return "finished"
        counts = [event.get("iteration") for event in self.events if event.get("kind") == "iteration"]
        return f"not finished, {counts[-1] if counts else 0} iterations done"

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r}: {_or_why(lambda: self.job)}, {_or_why(self._progress)})"

    def _repr_html_(self) -> str:
        """For notebooks: the job, how far it is, key figures, central slices; what is damaged is named."""
        rows = "".join(
            f"<tr><th style='text-align:left'>{escape(name)}</th><td>{escape(text)}</td></tr>"
            for name, text in (("run folder", str(self.folder)), *self._figures())
        )
        state = f"<b>{escape(_or_why(lambda: self.job))}</b>: {escape(_or_why(self._progress))}"
        return f"<p>{state}</p><table>{rows}</table>{self._picture()}"

    def _figures(self) -> list[tuple[str, str]]:
        """Key figures as people write them, or why there are none."""
        try:
            return [summary_entry(str(name), value) for name, value in self.summary.items()]
        except Exception as error:
            return [("summary", shortened(error, _LONGEST_WHY))]

    def _picture(self) -> str:
        """The map as the report shows it; nothing where it shows none yet."""
        for name in _MAP_PICTURES:
            try:
                picture = (self.folder / "figures" / f"{name}.png").read_bytes()
            except OSError:
                continue
            encoded = b64encode(picture).decode()
            return f"<img alt='{name}' style='max-width:100%' src='data:image/png;base64,{encoded}'>"
        return ""


def open_run(folder: str | PathLike[str]) -> Run:
    """Open the folder of a run, finished, interrupted or still going on; `InputError` if it is none."""
    run = Run(Path(folder))
    _ = run.job
    return run


def _written(path: Path) -> float:
    """When, in seconds; long ago for what a run that goes on has just removed."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _or_why(told: Callable[[], str]) -> str:
    """What is told, or why it cannot be: what a notebook shows by itself is no place for a traceback."""
    try:
        return told()
    except Exception as error:
        return f"not to be read ({shortened(error, _LONGEST_WHY)})"


def read_map(path: Path) -> NDArray[np.float32]:
    """A map, checked for NaN; a large one of float32 mapped, which takes no time and no memory."""
    header = read_header(path)
    if header.needed_bytes < _MAPPED_FROM_BYTES or header.compression or header.dtype != np.float32:
        return read_mrc(path)[0]
    mapped: NDArray[np.float32] = header.map_pixels()
    return mapped
