"""Small files of the names that the tutorials and how-tos use, made once, and only if a page names them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from manyviews.cli.main import main

PIXEL_SIZE = 10.0
_TILT = ("tilt", "simulate", "--size", "48", "--thickness", "20", "--tilt-step", "8", "--noise", "0.2")
COUNT, BOX = 60, 24
_PARTICLES = ("--box", BOX, "--pixel-size", PIXEL_SIZE, "--count", COUNT, "--snr", "1")
TILT_COM = "$tilt -StandardInput\nInputProjections a.ali\nTILTFILE a.tlt\nTHICKNESS 20\n"


def run(*words: str | float | Path) -> None:
    """A command of ours, which must end well."""
    assert main([str(word) for word in (*words, "--quiet")]) == 0, words


def make_tilt_series(folder: Path) -> None:
    """Raw stacks a.mrc, b.mrc of axes at right angles, their .tlt and .xf; a.ali, aligned, and tilt.com."""
    run(*_TILT, "--axes", "0", "90", "--shift-error", "1", "--axis-error", "2", "--out", folder / "raw")
    run(*_TILT, "--axes", "0", "--out", folder / "aligned")
    for name, axis in (("a", "000"), ("b", "090")):
        shutil.move(folder / "raw" / f"axis-{axis}.mrc", folder / f"{name}.mrc")
        shutil.move(folder / "raw" / f"axis-{axis}.rawtlt", folder / f"{name}.tlt")
        shutil.move(folder / "raw" / f"axis-{axis}.xf", folder / f"{name}.xf")
    shutil.move(folder / "aligned" / "axis-000.mrc", folder / "a.ali")
    (folder / "tilt.com").write_text(TILT_COM)
    shutil.rmtree(folder / "raw")
    shutil.rmtree(folder / "aligned")


def make_particles(folder: Path) -> None:
    """particles.star, its stack, the same as .cs and passthrough.cs, reference.mrc, run1 of true poses."""
    run("particles", "simulate", *_PARTICLES, "--out", folder / "made")
    for name in ("particles.star", "particles.mrcs", "truth.star"):
        shutil.move(folder / "made" / name, folder / name)
    shutil.move(folder / "made" / "truth.mrc", folder / "reference.mrc")
    shutil.rmtree(folder / "made")
    run(
        "particles",
        "reconstruct",
        folder / "truth.star",
        "--diameter",
        "180",
        "--out",
        folder / "run1",
    )
    write_cryosparc(folder)


def write_cryosparc(folder: Path) -> None:
    """particles.cs (images and poses) and passthrough.cs (CTF), of the particles in ``truth.star``."""
    uid = np.arange(1, COUNT + 1, dtype=np.uint64)
    names = [
        ("uid", "u8"),
        ("blob/path", "S40"),
        ("blob/idx", "u4"),
        ("blob/shape", "u4", (2,)),
        ("blob/psize_A", "f4"),
    ]
    names += [("blob/sign", "f4"), ("alignments3D/split", "u4"), ("alignments3D/shift", "f4", (2,))]
    names += [("alignments3D/pose", "f4", (3,)), ("alignments3D/psize_A", "f4")]
    table = np.zeros(COUNT, dtype=names)
    table["uid"], table["blob/path"], table["blob/idx"] = uid, b"particles.mrcs", np.arange(COUNT)
    table["blob/shape"], table["blob/psize_A"], table["blob/sign"] = BOX, PIXEL_SIZE, 1
    table["alignments3D/split"], table["alignments3D/psize_A"] = np.arange(COUNT) % 2, PIXEL_SIZE
    table["alignments3D/pose"] = np.random.default_rng(0).normal(size=(COUNT, 3))
    optics = {"exp_group_id": 1, "accel_kv": 300, "cs_mm": 2.7, "amp_contrast": 0.1, "scale": 1, "bfactor": 0}
    optics |= {"df1_A": 15000, "df2_A": 15000, "df_angle_rad": 0, "phase_shift_rad": 0}
    through = np.zeros(COUNT, dtype=[("uid", "u8"), *((f"ctf/{name}", "f4") for name in optics)])
    through["uid"] = uid
    for name, value in optics.items():
        through[f"ctf/{name}"] = value
    for name, records in (("particles.cs", table), ("passthrough.cs", through)):
        with (folder / name).open("wb") as file:
            np.save(file, records)


def make_scan(folder: Path) -> None:
    """scan.h5, of a specimen that moves."""
    run("nano", "simulate", "--size", "32", "--views", "32", "--out", folder / "made")
    shutil.move(folder / "made" / "scan.h5", folder / "scan.h5")
    shutil.rmtree(folder / "made")


def make_subtomograms(folder: Path) -> None:
    """subtomograms/particles.star."""
    run("subtomo", "simulate", "--box", "24", "--count", "6", "--out", folder / "subtomograms")


MAKERS: dict[str, Callable[[Path], None]] = {
    r"\b[ab]\.(mrc|ali|tlt|xf)\b|\btilt\.com\b": make_tilt_series,
    r"(?<!/)\bparticles\.(star|cs)\b|\breference\.mrc\b|\brun1\b": make_particles,
    r"\bscan\.h5\b": make_scan,
    r"\bsubtomograms/": make_subtomograms,
}


def put_files(page: str, folder: Path, made: Path) -> None:
    """Put what a page names into ``folder``; ``made`` keeps what was made for pages before.

    A folder of a run is put there only where the page makes none of that name.
    """
    for pattern, make in MAKERS.items():
        if not re.search(pattern, page):
            continue
        kept = made / make.__name__
        if not kept.is_dir():
            kept.mkdir()
            make(kept)
        for path in kept.iterdir():
            if path.is_dir() and f"--out {path.name}" in page:
                continue
            copy = shutil.copytree if path.is_dir() else shutil.copy2
            copy(path, folder / path.name)
