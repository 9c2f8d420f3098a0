"""A dozen small subtomograms in files, what a quick alignment is told, and an alignment of them."""

from __future__ import annotations

from pathlib import Path

from alignment_example import PHANTOM, density

from manyviews.io.mrc import write_mrc
from manyviews.io.relion_subtomograms import read_relion_subtomograms
from manyviews.options import RunOptions
from manyviews.simulate.phantoms import Gaussians
from manyviews.subtomo.align import align
from manyviews.subtomo.align_options import AlignOptions
from manyviews.subtomo.options import SubtomogramOptions
from manyviews.subtomo.simulate import simulate
from manyviews.subtomo.simulate_options import SimulateOptions

SIDE, PIXEL, COUNT = 20, 6.0, 12
SMALL = Gaussians(PHANTOM.amplitude, PHANTOM.centre * 0.85, PHANTOM.covariance * 0.8)
QUICK = AlignOptions(
    start_resolution=30.0, diameter=84.0, shift_range=12.0, candidates=3, iterations=4, threads=1
)
WORDS = (
    "--start-resolution", "30", "--diameter", "84", "--shift-range", "12", "--candidates", "3",
    "--iterations", "4", "--threads", "1", "--quiet",
)  # fmt: skip
"""`QUICK` on the command line."""


def write_example(folder: Path, count: int = COUNT, snr: float = 4.0, seed: int = 3) -> Path:
    """Simulate into a new folder; its ``particles.star``, beside which the truth lies."""
    source = folder.with_name(f"{folder.name}-specimen.mrc")
    write_mrc(source, density(SMALL, SIDE), PIXEL, overwrite=True)
    made = simulate(
        SimulateOptions(
            specimen=str(source), box=SIDE, pixel_size=PIXEL, count=count, snr=snr, tilt_step=3.0,
            shift_range=6.0, seed=seed,
        ),
        folder,
    )  # fmt: skip
    return made.particles


def run(particles: Path, out: Path, options: AlignOptions = QUICK, *, world=None, **given):
    """An alignment of the example; ``given`` are options of the run."""
    told = RunOptions(out=out, quiet=True, **given)
    return align(SubtomogramOptions(particles=particles), options, told, world=world)


def poses_of(star: Path, root: Path | None = None):
    """The table of a run or of the truth; ``root`` is the folder of the volumes' names."""
    return read_relion_subtomograms(star, data_root=root)
