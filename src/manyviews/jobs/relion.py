"""Commands of RELION that go on with what a job has left; the user types them.

What RELION writes goes into a folder beside that of the run, which holds nothing but what the run wrote.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from manyviews.runs.map_names import HALF1_FILE, HALF2_FILE, MASK_FILE


def postprocess_command(folder: Path, pixel_size: float) -> str:
    """How ``relion_postprocess`` finishes the half maps of a run, voxels of ``pixel_size`` angstrom.

    Without a folder in the name of its results it writes maps, and then ends with an error.
    """
    run = Path(os.path.abspath(folder))
    halves = [os.path.join(run.name, name) for name in (HALF1_FILE, HALF2_FILE, MASK_FILE)]
    words = ["relion_postprocess", "--i", halves[0], "--i2", halves[1], "--mask", halves[2]]
    return _told(run.parent, run, [*words, "--angpix", f"{pixel_size:.8g}", "--o"], "postprocess")


def reconstruct_command(table: Path, project: Path, symmetry: str = "C1") -> str:
    """How ``relion_reconstruct`` makes a map of a run's STAR file, from the folder where it finds images."""
    run = Path(os.path.abspath(table)).parent
    words = ["relion_reconstruct", "--i", os.path.relpath(run / table.name, project), "--ctf"]
    words += [] if symmetry.upper() == "C1" else ["--sym", symmetry]
    return _told(Path(os.path.abspath(project)), run, [*words, "--o"], "reconstruct.mrc")


def _told(start: Path, run: Path, words: list[str], result: str) -> str:
    """To be typed anywhere: enter ``start``, make the folder for the ``result``, whose name comes last."""
    beside = os.path.relpath(run.with_name(f"{run.name}-relion"), start)
    commands = (["cd", str(start)], ["mkdir", "-p", beside], [*words, os.path.join(beside, result)])
    return " && ".join(map(shlex.join, commands))
