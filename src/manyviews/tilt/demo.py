"""The demonstration: a small four-axis data set, simulated in place, reconstructed with the truth at hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from manyviews.errors import InputError
from manyviews.jobs.run import JobResult
from manyviews.options import RunOptions
from manyviews.runs.progress import Progress
from manyviews.tilt.options import ReconstructOptions, SeriesOptions, SimulateOptions
from manyviews.tilt.reconstruct import reconstruct
from manyviews.tilt.simulate import simulate

DEMO_DATA = SimulateOptions(
    phantom="cell",
    size=(192, 192),
    thickness=48,
    pixel_size=8.0,
    axes=(0.0, 45.0, 90.0, 135.0),
    tilt_min=-60.0,
    tilt_max=60.0,
    tilt_step=3.0,
    noise=0.3,
    seed=1,
)


def demo(
    out: Path,
    *,
    data_options: SimulateOptions = DEMO_DATA,
    overwrite: bool = False,
    quiet: bool = False,
    command: Sequence[str] = (),
) -> JobResult:
    """Simulate into ``out/data``, reconstruct into ``out/reconstruction`` by the default method.

    Data of an earlier demonstration are used again, and its run goes on or is reported as it ended, unless
    ``overwrite``. ``command`` is the command line, for the record.

    Raises
    ------
    InputError
        If the folder is in other use or cannot be written.
    """
    data = out / "data"
    _simulate_once(data, data_options, overwrite=overwrite, quiet=quiet)
    series = SeriesOptions(
        stacks=tuple(sorted(data.glob("axis-*.mrc"))), axis_angle=tuple(sorted(data_options.axes))
    )
    if len(series.stacks) != len(data_options.axes):
        raise InputError("its stacks are not those of the demo", path=data, fix="give --overwrite")
    options = ReconstructOptions(thickness=data_options.thickness, reference=data / "truth.mrc")
    run = RunOptions(out / "reconstruction", overwrite=overwrite, quiet=quiet, command=tuple(command))
    return reconstruct(series, options, run)


def _simulate_once(folder: Path, options: SimulateOptions, *, overwrite: bool, quiet: bool) -> None:
    """Simulate, unless it was done before; the folder appears whole, so one file stands for all."""
    if (folder / "simulate.toml").exists() and not overwrite:
        return
    with Progress(quiet=quiet) as progress:
        progress.start("simulating", len(options.axes) + 1)
        files: list[str] = []

        def count_files(name: str, done: int, total: int) -> None:
            if done == total:
                files.append(name)
                progress.update(len(files))

        simulate(replace(options, overwrite=overwrite), folder, count_files)
