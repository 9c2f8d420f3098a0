"""RELION itself goes on from what a refinement leaves, by the commands that the run tells."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from manyviews.alignment.map_alignment import soft_sphere
from manyviews.cli.main import main
from manyviews.io.mrc import read_mrc
from manyviews.io.relion_particles import read_relion_particles
from manyviews.metrics.fsc import fsc
from manyviews.particles.options import SimulateOptions
from manyviews.particles.simulate import simulate

PROGRAMS = ("relion_reconstruct", "relion_postprocess", "relion_refine")
BOX, PIXEL = 32, 6.0
DIAMETER = ("--diameter", "150", "--threads", "1")
SHELL = 1 / (BOX * PIXEL)

pytestmark = [
    pytest.mark.skipif(not all(map(shutil.which, PROGRAMS)), reason="RELION is not on the path"),
    pytest.mark.usefixtures("blank_pictures"),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A project, and in it a refinement from the truth at low resolution."""
    project = tmp_path_factory.mktemp("project with blanks")
    simulate(SimulateOptions(box=BOX, pixel_size=PIXEL, count=400, snr=0.3, seed=3), project / "data")
    out = project / "refined"
    words = ["particles", "refine", str(project / "data/particles.star"), "--start"]
    words += [str(project / "data/truth.mrc"), "--out", str(out), *DIAMETER]
    assert main(words) == 0
    return out


def typed(run, program):
    """What happens if the user types what the run told."""
    [command] = re.findall(rf"\bcd .*{program} .*", (run / "log.txt").read_text())
    return finished(["bash", "-ec", command], Path("/")), run.with_name(f"{run.name}-relion")


def started(run, *words):
    """A program of RELION in the folder of the images; what it printed."""
    return finished(words, run.parent / "data")


def finished(words, folder):
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def agreement(first, second):
    """Correlation by shell within the particle."""
    return fsc(first, second, PIXEL, mask=soft_sphere(BOX, 14.0, 3.0)).correlation


def test_relion_reconstructs_the_map_of_our_table(run, tmp_path):
    _, folder = typed(run, "relion_reconstruct")
    volume, header = read_mrc(folder / "reconstruct.mrc")
    assert header.pixel_size == pytest.approx([PIXEL] * 3)
    star, root = str(run / "particles.star"), str(run.parent / "data")
    words = ["particles", "reconstruct", star, "--data-root", root, "--out", str(tmp_path / "map"), *DIAMETER]
    assert main([*words, "--quiet"]) == 0
    assert agreement(volume, read_mrc(tmp_path / "map/volume.mrc")[0])[:8].min() > 0.98
    for half in (1, 2):
        made = tmp_path / f"half{half}.mrc"
        started(run, "relion_reconstruct", "--i", star, "--o", str(made), "--ctf", "--subset", str(half))
        ours = read_mrc(tmp_path / f"map/half{half}.mrc")[0]
        other = read_mrc(tmp_path / f"map/half{3 - half}.mrc")[0]
        theirs = read_mrc(made)[0]
        # noise included, to which the other half has no likeness
        assert agreement(theirs, ours)[:13].min() > 0.9
        assert np.abs(agreement(theirs, other)[11:13]).max() < 0.5


def test_relion_finds_our_resolution(run):
    told, folder = typed(run, "relion_postprocess")
    [theirs] = re.findall(r"FINAL RESOLUTION:\s+([\d.]+)", told)
    ours = json.loads((run / "summary.json").read_text())["resolution_as_relion_counts_angstrom"]
    assert abs(1 / float(theirs) - 1 / ours) < 1.01 * SHELL
    volume, header = read_mrc(folder / "postprocess.mrc")
    assert volume.shape == (BOX,) * 3
    assert header.pixel_size == pytest.approx([PIXEL] * 3)


def test_relion_refines_from_our_table_and_we_from_its(run, tmp_path, capsys):
    star, start = str(run / "particles.star"), str(run / "volume.mrc")
    words = ["relion_refine", "--i", star, "--ref", start, "--o", str(tmp_path / "run"), "--iter", "1"]
    words += ["--skip_align", "--ctf", "--particle_diameter", "150", "--ini_high", "30", "--zero_mask"]
    started(run, *words, "--flatten_solvent", "--norm", "--scale", "--pad", "2", "--j", "1")
    theirs = read_mrc(tmp_path / "run_it001_class001.mrc")[0]
    assert agreement(theirs, read_mrc(start)[0])[:6].min() > 0.95
    back = tmp_path / "run_it001_data.star"
    ours = read_relion_particles(run / "particles.star", with_images=False)
    kept = read_relion_particles(back, with_images=False)
    assert "manyviewsAngleSpreadDegrees" in kept.extra
    assert sorted(map(kept.image_name, range(400))) == sorted(map(ours.image_name, range(400)))
    capsys.readouterr()
    assert main(["particles", "check", str(back), "--data-root", str(run.parent / "data")]) == 0
    assert "poses: in the table" in capsys.readouterr().out


def test_a_run_says_nothing_of_other_programs_if_quiet(run, tmp_path, capsys):
    words = ["particles", "reconstruct", str(run.parent / "data/truth.star"), "--out", str(tmp_path / "map")]
    assert main([*words, *DIAMETER, "--quiet"]) == 0
    told = capsys.readouterr()
    assert "relion" not in (told.out + told.err).lower()
    assert "relion_postprocess" in (tmp_path / "map/log.txt").read_text()
