"""Every format that anything reads: its name, whole files of it, and what reads it for a user."""

from __future__ import annotations

import bz2
import gzip
import os
import socket
import tempfile
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fuzzing import job_runs, nano_run, samples, scans, subtomo_run
from fuzzing.defocus import DEFOCUS, read_defocus
from fuzzing.particle_tables import read_cs, read_star
from manyviews.io.aretomo import read_aln
from manyviews.io.imod import read_angle_table, read_angles, read_xf
from manyviews.io.mdoc import read_mdoc
from manyviews.io.mrc import MrcStack, read_mrc, write_mrc
from manyviews.io.positions import read_positions
from manyviews.io.relion_tomo import read_tilt_series_star
from manyviews.io.subtomogram_formats import read_subtomograms, write_subtomograms
from manyviews.io.subtomogram_table import SubtomogramTable
from manyviews.io.tables import read_columns
from manyviews.io.text import read_shifts
from manyviews.io.volume_files import read_volume
from manyviews.metrics.fsc import FscCurve
from manyviews.particles import report as particle_report
from manyviews.particles.report_data import read_learning, read_spread
from manyviews.report.build import build_report
from manyviews.report.data import convergence, read_run
from manyviews.report.sections import Sections
from manyviews.report.sphere import read_fields
from manyviews.report.words import verdict
from manyviews.runs.checkpoint import load_checkpoint, save_checkpoint
from manyviews.runs.events import EventLog
from manyviews.runs.folder import RunFolder, is_finished
from manyviews.runs.lock import release_lock, take_lock
from manyviews.runs.placement import Placement
from manyviews.runs.record import changes, make_record, read_record, refuse_other_run
from manyviews.runs.toml import dump_toml
from manyviews.simulate.atoms import atoms_to_density
from manyviews.simulate.specimens import specimen
from manyviews.subtomo.report import sections as subtomo_sections
from manyviews.tilt import report as tilt_report
from manyviews.tilt.options import SeriesOptions
from manyviews.tilt.report import ncc_curves
from manyviews.tilt.series.images import ImageSource
from manyviews.tilt.series.resolve import resolve_series

Read = Callable[[Path, bool], object]
Prepare = Callable[[Path], Path]


@dataclass(frozen=True)
class Format:
    """A format.

    ``seeds`` are whole files; ``prepare`` fills an empty folder with what lies beside the file, and tells
    where the file lies. ``read`` is told whether to draw pictures too, where the format has any (``draws``),
    which takes a second.
    """

    name: str
    seeds: Callable[[], list[bytes]]
    prepare: Prepare
    read: Read
    binary: bool = False
    draws: bool = False


# --- tilt series ---


def _beside_a_stack(name: str) -> Prepare:
    def prepare(folder: Path) -> Path:
        write_mrc(folder / "a.mrc", np.ones((4, 5, 6), np.float32), 7.88, is_volume=False)
        for angles in ("a.tlt", "a.xtilt"):
            (folder / angles).write_bytes(samples.ANGLES)
        for number in range(4):  # what lists name
            write_mrc(folder / f"t{number}.mrc", np.ones((5, 6), np.float32), 7.88, is_volume=False)
        return folder / name

    return prepare


def _series(reader: Callable[[Path], object] | None, option: str) -> Read:
    """By itself, where there is a reader, and as an option of a series."""

    def read(path: Path, drawn: bool) -> None:
        stack = path.parent / "a.mrc"
        given = {"tilt_angles": (path.parent / "a.tlt",), option: (path,)} if option else {}
        axis = {"axis_angle": (10.0,)} if option == "transform" else {}  # else what the files say of it
        if reader is not None:
            reader(path)
        resolve_series(SeriesOptions(stacks=(stack,), **axis, **given))

    return read


def _read_list(path: Path, drawn: bool) -> None:
    """A list of images as the stack."""
    series = resolve_series(SeriesOptions(stacks=(path,)))
    ImageSource(series).read()


def _one(data: bytes) -> Callable[[], list[bytes]]:
    return lambda: [data]


_SERIES = (
    ("tlt", "b.tlt", samples.ANGLES, read_angles, "tilt_angles"),
    ("tlt with order and dose", "b_TLT.txt", samples.ANGLE_COLUMNS, read_angle_table, "tilt_angles"),
    ("rawtlt beside the stack", "a.rawtlt", samples.ANGLES, None, ""),
    ("xtilt", "b.xtilt", samples.ANGLES, read_angles, "x_tilt"),
    ("xf", "b.xf", samples.XF, read_xf, "transform"),
    ("shifts, text", "b.txt", samples.SHIFTS, read_shifts, "shifts"),
    ("shifts, JSON", "b.json", samples.SHIFTS_JSON, read_shifts, "shifts"),
    ("tilt.com", "tilt.com", samples.TILT_COM, None, "tilt_angles"),
    ("mdoc", "a.mrc.mdoc", samples.MDOC, read_mdoc, ""),
    ("mdoc of Tomography 5", "a.mrc.mdoc", samples.MDOC_TOMO5, read_mdoc, ""),
    ("aln", "b.aln", samples.ALN, read_aln, "tilt_angles"),
    ("tomo STAR", "b.star", samples.TOMO_STAR, read_tilt_series_star, "tilt_angles"),
)  # fmt: skip

_LISTS = (
    ("text", "l.txt", samples.LIST),
    ("mdoc", "l.mdoc", samples.LIST_MDOC),
    ("RELION", "l.star", samples.LIST_STAR),
    ("Warp", "l.tomostar", samples.LIST_TOMOSTAR),
)

# --- images, particles, models ---


def _mrc_seeds() -> list[bytes]:
    found = []
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "a.mrc"
        for kind in (np.float32, np.float16):
            write_mrc(
                path, np.arange(120, dtype=kind).reshape(4, 5, 6), 7.88, is_volume=False, overwrite=True
            )
            found.append(path.read_bytes())
    # extended headers of the kinds that tell angles: SerialEM's, FEI's, Agard's
    plain = bytearray(found[0])
    for kind, counts, bytes_each in ((b"SERI", (2, 1), 2), (b"FEI1", (0, 0), 768), (b"AGAR", (0, 32), 128)):
        header = plain[:1024]
        header[92:96] = (4 * bytes_each).to_bytes(4, "little")
        header[104:108] = kind
        header[128:132] = b"".join(n.to_bytes(2, "little") for n in counts)
        one = bytearray(bytes_each)
        one[:2] = (1500).to_bytes(2, "little")
        if kind == b"FEI1":
            one[:12] = b"".join(n.to_bytes(4, "little") for n in (bytes_each, 0, 1 << 7))
            one[100:108] = np.float64(12.5).tobytes()
        found.append(bytes(header + one * 4 + plain[1024:]))
    return found


def _compressed_mrc_seeds() -> list[bytes]:
    whole = _mrc_seeds()[:2]
    return [gzip.compress(whole[0], mtime=0), bz2.compress(whole[1])]


def _read_mrc(path: Path, drawn: bool) -> None:
    stack = MrcStack(path)
    stack.header.tilt_angles()
    read_mrc(path)


def _with_stack(name: str) -> Prepare:
    def prepare(folder: Path) -> Path:
        images = np.ones((samples.CRYOSPARC_PARTICLES, 8, 8), np.float32)
        write_mrc(folder / "a.mrcs", images, 1.5, is_volume=False)
        return folder / name

    return prepare


def _alone(name: str) -> Prepare:
    return lambda folder: folder / name


def _read_model(path: Path, drawn: bool) -> None:
    specimen(str(path), (40, 48, 48), 4.0, 0)
    density = atoms_to_density(path, (24, 28, 30), 4.0)
    assert np.isfinite(density).all()


# --- subtomograms ---

_SUBTOMOGRAMS = 12


def _a_table() -> SubtomogramTable:
    numbers = np.arange(3.0 * _SUBTOMOGRAMS).reshape(_SUBTOMOGRAMS, 3)
    order = np.arange(_SUBTOMOGRAMS)
    return SubtomogramTable(
        pixel_size=2.0, shifts=numbers / 7, angles=numbers + 1, coordinates=numbers * 5 + 100,
        tomograms=("1", "2"), tomogram_index=order % 2, number=order + 1, half=order % 2 + 1,
        parent=order // 3, class_number=order % 3, score=numbers[:, 0] / 100, box_angles=numbers / 3,
        prior_angles=numbers, visible_tilts=((True, False, True),) * _SUBTOMOGRAMS,
        volumes=tuple(Path(f"v{n + 1}.mrc") for n in order.tolist()),
        weights=(Path("w.mrc"),) * _SUBTOMOGRAMS,
    )  # fmt: skip


def _table_seeds(kind: str, name: str) -> Callable[[], list[bytes]]:
    def seeds() -> list[bytes]:
        with tempfile.TemporaryDirectory() as folder:
            write_subtomograms(Path(folder) / name, _a_table(), kind)  # type: ignore[arg-type]
            return [(Path(folder) / name).read_bytes()]

    return seeds


def _with_volumes(name: str) -> Prepare:
    def prepare(folder: Path) -> Path:
        for number in range(1, _SUBTOMOGRAMS + 1):
            write_mrc(folder / f"v{number}.mrc", np.ones((4, 4, 4), np.float32), 2.0)
        write_mrc(folder / "w.mrc", np.ones((4, 4, 4), np.float32), 2.0)
        return folder / name

    return prepare


def _read_table_of_subtomograms(path: Path, drawn: bool) -> None:
    """As a user does, and what was read can be written again."""
    table = read_subtomograms(path, default_pixel_size=2.0, with_volumes=False)
    for kind, name in (("dynamo", "out.tbl"), ("relion-tomo", "out.star")):
        write_subtomograms(path.parent / name, table, kind, overwrite=True)  # type: ignore[arg-type]
    assert len(read_subtomograms(path, default_pixel_size=2.0)) == len(table)


def _em_seeds() -> list[bytes]:
    from manyviews.io.em_volume import write_em

    with tempfile.TemporaryDirectory() as folder:
        write_em(Path(folder) / "a.em", np.arange(120.0).reshape(4, 5, 6))
        return [(Path(folder) / "a.em").read_bytes()]


_POSITIONS = b"tomogram,x,y,z\na,1,2,3\nb,4,5.5,6\na,7e1,8,-9\n"

# --- runs ---

JOBS = {
    "tilt": ("tilt reconstruct", "cg", tilt_report.sections),
    "particles": ("particles abinitio", "stochastic-em", particle_report.sections),
}


def _run(kind: str, name: str) -> Prepare:
    """A finished run of a kind, without its volume, which is slow to draw and is read as MRC elsewhere."""

    def prepare(folder: Path) -> Path:
        job, method, _ = JOBS[kind]
        for file, data in (
            ("run.toml", samples.run_toml(job, method)), ("events.jsonl", samples.events(kind)),
            ("summary.json", samples.SUMMARY), ("log.txt", samples.LOG), ("fsc.csv", samples.FSC),
        ):  # fmt: skip
            (folder / file).write_bytes(data)
        own = (
            {"ncc.csv": samples.NCC, "geometry.csv": samples.GEOMETRY}
            if kind == "tilt"
            else {"directions.csv": samples.DIRECTIONS, "spread.csv": samples.SPREAD}
        )
        for file, data in own.items():
            (folder / file).write_bytes(data)
        return folder / name

    return prepare


def _report(kind: str) -> Read:
    """The data of a report, with its pictures if they are to be drawn: it tells of damage and goes on."""
    sections = JOBS[kind][2]

    def read(path: Path, drawn: bool) -> None:
        if drawn:
            _page(path.parent, sections)
        job_runs.shown(path.parent)
        run = read_run(path.parent)
        verdict(run)
        convergence(run)
        if kind == "particles":
            read_learning(run)
            read_fields(path.parent / "directions.csv", "particles")
            read_spread(path.parent / "spread.csv")
            FscCurve.read_csv(path.parent / "fsc.csv")
        else:
            ncc_curves(path.parent / "ncc.csv")

    return read


def _subtomo_run(name: str) -> Prepare:
    """A finished run over subtomograms, without its maps."""

    def prepare(folder: Path) -> Path:
        (folder / "run.toml").write_bytes(samples.run_toml("subtomo align", "sag"))
        subtomo_run.write_run(folder)
        return folder / name

    return prepare


def _subtomo_report(name: str) -> Read:
    """A table of such a run, or its page."""

    def read(path: Path, drawn: bool) -> None:
        if drawn:
            _page(path.parent, subtomo_sections)
        subtomo_run.READERS[name](path)

    return read


def _page(folder: Path, sections: Sections) -> None:
    try:
        build_report(folder, sections)
    except Exception as error:
        raise AssertionError(f"no page of a damaged run: {type(error).__name__}: {error}") from error


def _read_table(path: Path, drawn: bool) -> None:
    _report("tilt")(path, drawn)
    read_columns(path)


def _read_run_toml(path: Path, drawn: bool) -> None:
    if drawn:
        _page(path.parent, JOBS["tilt"][2])
    job_runs.shown(path.parent)
    new = tomllib.loads(samples.run_toml("tilt reconstruct", "cg").decode())
    old = read_record(path.parent)
    if old is not None:
        refuse_other_run(path.parent, old, new)
        changes(old, new)


def _read_events(kind: str) -> Read:
    job, method, _ = JOBS[kind]

    def read(path: Path, drawn: bool) -> None:
        _report(kind)(path, drawn)
        folder = path.parent
        is_finished(folder)
        if drawn:  # opening a folder looks up versions, which takes time
            with _open(folder) as run:
                _ = run.results
            (folder / "run.toml").write_bytes(samples.run_toml(job, method))
        log = EventLog(path)
        log.rewind("reconstruct", 2)
        log.append("iteration", {"stage": "reconstruct", "iteration": 3})

    return read


def _open(folder: Path) -> RunFolder:
    (folder / "run.toml").write_text(dump_toml(make_record("count", {}, {}, ["count"], None, 1)))
    return RunFolder.open(folder, job="count", options={}, inputs={}, command=["count"])


def _lock_seeds() -> list[bytes]:
    return [samples.LOCK.replace(b"HOST", socket.gethostname().encode())]


def _read_lock(path: Path, drawn: bool) -> None:
    os.utime(path, (0, 0))  # long ago: a damaged one is nobody's
    take_lock(path.parent)
    release_lock(path.parent)


_STATE = {
    "volume": np.arange(60, dtype=np.float32).reshape(5, 4, 3),
    "random": np.arange(9, dtype=np.uint8),
    "step": 0.1,
    "name": "toy",
}


def _checkpoint_seeds(name: str) -> Callable[[], list[bytes]]:
    def seeds() -> list[bytes]:
        with tempfile.TemporaryDirectory() as folder:
            return [_checkpoint(name)(Path(folder)).read_bytes()]

    return seeds


def _checkpoint(name: str) -> Prepare:
    def prepare(folder: Path) -> Path:
        save_checkpoint(folder, _STATE, 3, placement=Placement.alone())
        return folder / "checkpoint/main-000003" / name

    return prepare


def _read_checkpoint(path: Path, drawn: bool) -> None:
    found = load_checkpoint(path.parents[2], placement=Placement.alone())
    if found is None:
        return
    assert found[0].keys() == _STATE.keys()
    assert all(np.array_equal(found[0][name], value) for name, value in _STATE.items())


def _drawing(name: str, kind: str, file: str, data: bytes, read: Read | None = None) -> Format:
    return Format(name, _one(data), _run(kind, file), read or _report(kind), draws=True)


FORMATS: tuple[Format, ...] = (
    *(
        Format(name, _one(data), _beside_a_stack(file), _series(reader, option))
        for name, file, data, reader, option in _SERIES
    ),
    *(
        Format(f"list of images, {name}", _one(data), _beside_a_stack(file), _read_list)
        for name, file, data in _LISTS
    ),
    *(Format(name, _one(data), _beside_a_stack(file), read_defocus) for name, file, data in DEFOCUS),
    Format("MRC", _mrc_seeds, _alone("a.mrc"), _read_mrc, binary=True),
    Format("MRC, compressed", _compressed_mrc_seeds, _alone("a.mrc"), _read_mrc, binary=True),
    Format("particle STAR 3.0", _one(samples.STAR_30), _with_stack("p.star"), read_star),
    Format("particle STAR 3.1", _one(samples.STAR_31), _with_stack("p.star"), read_star),
    Format("cs", lambda: [samples.cryosparc()], _with_stack("p.cs"), read_cs, binary=True),
    Format("EM", _em_seeds, _alone("v.em"), lambda path, drawn: read_volume(path), binary=True),
    *(
        Format(
            f"subtomograms, {kind}",
            _table_seeds(kind, name),
            _with_volumes(name),
            _read_table_of_subtomograms,
            binary=name.endswith(".em"),
        )
        for kind, name in (
            ("relion", "p.star"), ("relion-tomo", "p.star"), ("dynamo", "p.tbl"), ("em", "p.em"),
            ("stopgap", "p.star"),
        )
    ),
    *(
        Format(f"scan, {kind}", scans.seeds(write), scans.beside(name), scans.read_scan, binary=True)
        for kind, name, write in scans.SCANS
    ),
    Format("scan, angles", _one(scans.ANGLES), scans.beside("s.txt"), scans.read_angles),
    Format("positions", _one(_POSITIONS), _alone("p.csv"), lambda path, drawn: read_positions(path)),
    Format("PDB", _one(samples.PDB), _alone("m.pdb"), _read_model),
    Format("mmCIF", _one(samples.MMCIF), _alone("m.cif"), _read_model),
    _drawing("run.toml", "tilt", "run.toml", samples.run_toml("tilt reconstruct", "cg"), _read_run_toml),
    *(
        _drawing(f"events.jsonl, {kind}", kind, "events.jsonl", samples.events(kind), _read_events(kind))
        for kind in JOBS
    ),
    _drawing("summary.json", "particles", "summary.json", samples.SUMMARY),
    _drawing("log.txt", "tilt", "log.txt", samples.LOG),
    _drawing("ncc.csv", "tilt", "ncc.csv", samples.NCC, _read_table),
    _drawing("geometry.csv", "tilt", "geometry.csv", samples.GEOMETRY, _read_table),
    _drawing("fsc.csv", "particles", "fsc.csv", samples.FSC),
    _drawing("directions.csv", "particles", "directions.csv", samples.DIRECTIONS),
    _drawing("spread.csv", "particles", "spread.csv", samples.SPREAD),
    *(
        Format(f"subtomo, {name}", _one(data), _subtomo_run(name), _subtomo_report(name), draws=True)
        for name, data in subtomo_run.TABLES.items()
    ),
    *(
        Format(
            f"scan run, {name}", _one(data), nano_run.beside(name), nano_run.reading(name), draws=True,
            binary=name.endswith("npy"),
        )
        for name, data in nano_run.FILES.items()
    ),
    *(
        Format(f"{kind}, {name}", _one(data), run.beside(name), run.reading(name), draws=True)
        for kind, run in job_runs.RUNS.items() for name, data in run.files.items()
    ),
    Format("lock", _lock_seeds, _alone("lock"), _read_lock),
    *(
        Format(
            f"checkpoint, {name}", _checkpoint_seeds(name), _checkpoint(name), _read_checkpoint,
            binary=not name.endswith("json"),
        )
        for name in ("manifest.json", "state.json", "parts.sha256", "volume.npy")
    ),
)  # fmt: skip
