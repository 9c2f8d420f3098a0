"""The tilt job end to end, from files to files, on specimens of a few beads."""

import csv
import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest

from manyviews.errors import InputError
from manyviews.geometry.views import TiltGeometry
from manyviews.io.mrc import read_header, read_mrc, write_mrc
from manyviews.options import RunOptions
from manyviews.runs.events import read_events
from manyviews.simulate.phantoms import Gaussians
from manyviews.tilt.check import check
from manyviews.tilt.cost.schedule import Schedule
from manyviews.tilt.options import METHODS, ReconstructOptions, SeriesOptions
from manyviews.tilt.reconstruct import make_run_schedule, reconstruct
from manyviews.tilt.series.images import ImageSource

pytestmark = pytest.mark.usefixtures("blank_pictures")

PIXEL = 4.0
TILTS = np.linspace(-60.0, 60.0, 9)
SHAPE = (12, 30, 34)
BEADS = np.array([[6.0, -4.0, 2.0], [-8.0, 5.0, -2.0], [2.0, 9.0, 1.0]])  # x, y, z in voxels


def series(folder, *, shape=SHAPE, axes=(0.0, 90.0)):
    """Stacks of exact projections of the beads, their angles, and the true volume."""
    folder.mkdir(exist_ok=True)
    phantom = Gaussians.isotropic(np.array([1.0, 0.8, 1.2]), BEADS * PIXEL, 1.5 * PIXEL)
    stacks, angles = [], []
    for number, axis in enumerate(axes):
        images = phantom.project(TiltGeometry.from_tilt_axis(TILTS, axis), shape[1:], PIXEL)
        stacks.append(folder / f"{number}.mrc")
        angles.append(folder / f"{number}.tlt")
        write_mrc(stacks[-1], images, PIXEL, is_volume=False)
        angles[-1].write_text("\n".join(map(str, TILTS)))
    write_mrc(folder / "truth.mrc", phantom.density(shape, PIXEL), PIXEL)
    return SeriesOptions(stacks=tuple(stacks), tilt_angles=tuple(angles), axis_angle=tuple(axes))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return series(tmp_path_factory.mktemp("tiny"))


def quiet_run(out, **more):
    return RunOptions(out, quiet=True, **more)


OPTIONS = ReconstructOptions(thickness=SHAPE[0], device="cpu")


def rows_of(path):
    with open(path, newline="") as handle:
        return list(csv.DictReader(handle))


@pytest.mark.pictures
@pytest.mark.parametrize("method", METHODS)
def test_every_method_leaves_a_whole_run(method, tiny, tmp_path):
    reference = tiny.stacks[0].with_name("truth.mrc")
    options = replace(OPTIONS, method=method, reference=reference)
    result = reconstruct(tiny, options, quiet_run(tmp_path / "run"))
    run = result.run_folder
    header = read_header(run / "volume.mrc")
    assert header.shape == SHAPE
    assert header.is_volume
    np.testing.assert_allclose(header.pixel_size, PIXEL, rtol=1e-6)
    rows = rows_of(run / "ncc.csv")
    assert list(rows[0]) == ["view", "series", "section", "axis_degrees", "tilt_degrees", "ncc"]
    assert [float(row["tilt_degrees"]) for row in rows] == [*TILTS, *TILTS]
    assert [row["axis_degrees"] for row in rows] == ["0.0"] * 9 + ["90.0"] * 9
    assert np.mean([float(row["ncc"]) for row in rows]) > 0.9
    summary = json.loads((run / "summary.json").read_text())
    assert summary == json.loads(json.dumps(result.summary))
    assert (summary["method"], summary["volume_voxels"]) == (method, [34, 30, 12])
    assert summary["ncc_with_the_reference"] > 0.6
    assert summary["peak_memory_bytes"] > 0
    assert all(re.fullmatch("[a-z0-9_]+", name) for name in summary)
    assert len(rows_of(run / "fsc.csv")) == 34 // 2 + 1
    assert result.report.read_text().startswith("<!")
    kinds = [event["kind"] for event in read_events(run / "events.jsonl")]
    assert (kinds[0], kinds[-2], kinds[-1]) == ("start", "stop", "done")
    assert not (run / "checkpoint").exists()
    assert not list(run.glob(".*"))


@pytest.mark.parametrize("method", ["cg", "consensus", "sirt"])
def test_more_iterations_come_nearer_to_the_images(method, tiny, tmp_path):
    ends = []
    for count in (2, 8):
        options = replace(OPTIONS, method=method, iterations=count)
        result = reconstruct(tiny, options, quiet_run(tmp_path / str(count)))
        ends.append(result.summary["exact_objective"])
    assert ends[1] < ends[0]


def test_a_finished_run_is_left_alone(tiny, tmp_path, capsys):
    out = tmp_path / "run"
    first = reconstruct(tiny, OPTIONS, quiet_run(out))
    stamps = {name: (out / name).stat().st_mtime_ns for name in ("volume.mrc", "ncc.csv", "summary.json")}
    events = (out / "events.jsonl").read_bytes()
    capsys.readouterr()
    again = reconstruct(tiny, OPTIONS, RunOptions(out))
    assert "nothing to do" in capsys.readouterr().err
    assert again.summary == json.loads(json.dumps(first.summary))
    assert stamps == {name: (out / name).stat().st_mtime_ns for name in stamps}
    assert (out / "events.jsonl").read_bytes() == events


def test_other_options_are_refused_by_name_until_overwrite(tiny, tmp_path):
    out = tmp_path / "run"
    reconstruct(tiny, OPTIONS, quiet_run(out))
    before = (out / "volume.mrc").read_bytes()
    other = replace(OPTIONS, method="sirt", iterations=2)
    said = (
        "other options: damping_by_frequency was True, now False, iterations was 15, now 2, method was 'cg'"
    )
    with pytest.raises(InputError, match=said) as caught:
        reconstruct(tiny, other, quiet_run(out))
    assert caught.value.path == str(out)
    assert (out / "volume.mrc").read_bytes() == before
    reconstruct(tiny, other, quiet_run(out, overwrite=True))
    assert (out / "volume.mrc").read_bytes() != before
    assert json.loads((out / "summary.json").read_text())["method"] == "sirt"


def test_other_geometry_is_refused(tiny, tmp_path):
    out = tmp_path / "run"
    reconstruct(tiny, OPTIONS, quiet_run(out))
    with pytest.raises(InputError, match="other input files: geometry"):
        reconstruct(replace(tiny, axis_angle=(0.0, 89.0)), OPTIONS, quiet_run(out))


def test_same_command_same_bytes(tiny, tmp_path):
    volumes = [
        (reconstruct(tiny, OPTIONS, quiet_run(tmp_path / name)).run_folder / "volume.mrc").read_bytes()
        for name in "ab"
    ]
    assert volumes[0] == volumes[1]


@pytest.mark.parametrize("shape", [(12, 30, 34), (11, 31, 33), (13, 41, 24)])
def test_sizes_odd_even_and_not_square(shape, tmp_path):
    result = reconstruct(
        series(tmp_path / "data", shape=shape, axes=(0.0, 45.0)),
        replace(OPTIONS, thickness=shape[0]),
        quiet_run(tmp_path / "run"),
    )
    assert_beads(result, BEADS)


def test_binning(tmp_path):
    data = series(tmp_path / "data", shape=(24, 60, 68))
    result = reconstruct(data, replace(OPTIONS, thickness=24, bin=2), quiet_run(tmp_path / "run"))
    header = read_header(result.run_folder / "volume.mrc")
    assert header.shape == (12, 30, 34)
    np.testing.assert_allclose(header.pixel_size, 2 * PIXEL, rtol=1e-6)
    assert_beads(result, BEADS / 2, radius=2)


def test_quiet_says_nothing_and_otherwise_progress_is_told(tiny, tmp_path, capsys):
    reconstruct(tiny, OPTIONS, quiet_run(tmp_path / "quiet"))
    out, err = capsys.readouterr()
    assert out == ""
    assert "reconstruct: " not in err
    reconstruct(tiny, OPTIONS, RunOptions(tmp_path / "told"))
    assert "reconstruct: 15 of 15" in capsys.readouterr().err


def test_excluded_views_do_not_count(tiny, tmp_path):
    images = read_mrc(tiny.stacks[0])[0]
    images[3] = 1e4  # would spoil everything
    spoiled = tmp_path / "spoiled.mrc"
    write_mrc(spoiled, images, PIXEL, is_volume=False)
    data = replace(tiny, stacks=(spoiled, tiny.stacks[1]), exclude=("1:4", "2:1-2"))
    result = reconstruct(data, OPTIONS, quiet_run(tmp_path / "run"))
    rows = rows_of(result.run_folder / "ncc.csv")
    kept = [(row["series"], int(row["section"])) for row in rows]
    # counted from 1, as in exclude
    assert kept == [("1", n) for n in range(1, 10) if n != 4] + [("2", n) for n in range(3, 10)]
    seen = rows_of(result.run_folder / "geometry.csv")
    assert [int(row["view"]) for row in seen] == list(range(1, 16))
    assert [(row["series"], int(row["section"])) for row in seen] == kept
    assert_beads(result, BEADS)


@pytest.mark.pictures
def test_dark_specimens(tiny, tmp_path):
    stacks = []
    for stack in tiny.stacks:
        stacks.append(tmp_path / stack.name)
        write_mrc(stacks[-1], 7.0 - read_mrc(stack)[0], PIXEL, is_volume=False)
    options = replace(OPTIONS, invert_contrast=True, normalise="background")
    result = reconstruct(replace(tiny, stacks=tuple(stacks)), options, quiet_run(tmp_path / "run"))
    assert_beads(result, BEADS)


def test_what_does_not_fit_is_refused_before_a_folder_is_made(tiny, tmp_path):
    options = replace(OPTIONS, memory=0.01)
    with pytest.raises(InputError, match=r"needs about .* MiB of memory and --memory allows 10\.2 MiB"):
        reconstruct(tiny, options, quiet_run(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "chosen",
    [
        {"method": "cg"},
        {"method": "admm"},
        {"method": "consensus", "total_variation": 0.2},
        {"method": "cg", "ctf": "3d"},
        {"method": "admm", "ctf": "3d"},
    ],
)
def test_a_run_with_its_volumes_in_files_gives_the_same(chosen, tiny, tmp_path, monkeypatch):
    options = replace(OPTIONS, iterations=6, **chosen)
    if "ctf" in chosen:  # such that the volume has several layers of defocus
        (tmp_path / "thin.defocus").write_text(
            "".join(f"{n + 1} {n + 1} {t} {t} 40{' 2' * (n == 0)}\n" for n, t in enumerate(TILTS))
        )
        optics = {"voltage": 100.0, "spherical_aberration": 0.001, "defocus_hand": "-1"}
        options = replace(options, defocus=(tmp_path / "thin.defocus",) * 2, **optics)
        tiny = replace(tiny, pixel_size=0.5)
    plain = reconstruct(tiny, options, quiet_run(tmp_path / "memory"))
    settled = make_run_schedule

    def in_files(*arguments):
        return replace(settled(*arguments), streamed=True, work_bytes=1 << 20, piece_slices=5)

    monkeypatch.setattr("manyviews.tilt.reconstruct.make_run_schedule", in_files)
    monkeypatch.setattr(Schedule, "lines", lambda schedule: ["in files"])
    streamed = reconstruct(tiny, options, quiet_run(tmp_path / "files"))
    first, second = (read_mrc(result.run_folder / "volume.mrc")[0] for result in (plain, streamed))
    np.testing.assert_allclose(second, first, rtol=0, atol=2e-4 * np.abs(first).max())
    assert not (streamed.run_folder / "scratch").exists()
    for name in ("damping", "damping_by_frequency"):
        assert streamed.summary.get(name) == plain.summary.get(name)


def test_reference_of_another_size(tiny, tmp_path):
    write_mrc(tmp_path / "other.mrc", np.zeros((3, 4, 5), np.float32), PIXEL)
    options = replace(OPTIONS, reference=tmp_path / "other.mrc")
    with pytest.raises(InputError, match="5 x 4 x 3 voxels and the volume will have 34 x 30 x 12"):
        reconstruct(tiny, options, quiet_run(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


# --- where a bead ends up: formulas written out here, without our geometry ---


def seen(bead, tilt, axis):
    """Where a bead (x, y, z) appears from the centre: turned by -axis, tilted about y, turned back."""
    t, a = math.radians(tilt), math.radians(axis)
    x, y = math.cos(a) * bead[0] + math.sin(a) * bead[1], math.cos(a) * bead[1] - math.sin(a) * bead[0]
    x = math.cos(t) * x + math.sin(t) * bead[2]
    return math.cos(a) * x - math.sin(a) * y, math.sin(a) * x + math.cos(a) * y


def image_of(points, shape):
    """Gaussian blobs at (column, row), from 0."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return sum(np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 1.5**2)) for x, y in points)


def assert_beads(result, beads, *, radius=3):
    """Every bead is a maximum of ``volume.mrc``, and the centre of mass around it is where it should be."""
    volume = read_mrc(result.run_folder / "volume.mrc")[0]
    centre = np.array([n // 2 for n in volume.shape])
    for x, y, z in beads:
        expected = centre + np.array([z, y, x])
        place = np.round(expected).astype(int)
        box = tuple(slice(max(0, n - radius), n + radius + 1) for n in place)
        part = volume[box] - np.median(volume)
        part = np.where(part > 0.5 * part.max(), part, 0.0)
        indices = np.indices(part.shape) + np.array([s.start for s in box])[:, None, None, None]
        found = (indices * part).sum(axis=(1, 2, 3)) / part.sum()
        np.testing.assert_allclose(found, expected, atol=0.35)


def write_series(folder, axis, name, *, transforms=None):
    """Images of the beads; raw ones if .xf lines ``(view, 6)`` are given, about the middle (n - 1) / 2."""
    rows, columns = SHAPE[1:]
    images = []
    for view, tilt in enumerate(TILTS):
        points = np.array([seen(bead, tilt, axis) for bead in BEADS])
        if transforms is None:
            places = points + np.array([columns // 2, rows // 2])
        else:
            matrix, shift = transforms[view][:4].reshape(2, 2), transforms[view][4:]
            middle = np.array([(columns - 1) / 2, (rows - 1) / 2])
            places = (points - shift) @ np.linalg.inv(matrix).T + middle
        images.append(image_of(places, SHAPE[1:]))
    write_mrc(folder / f"{name}.mrc", np.array(images, np.float32), PIXEL, is_volume=False)
    (folder / f"{name}.tlt").write_text("\n".join(map(str, TILTS)))
    if transforms is not None:
        np.savetxt(folder / f"{name}.xf", transforms, fmt="%.6f")
    return folder / f"{name}.mrc", folder / f"{name}.tlt"


@pytest.mark.parametrize("axes", [(0.0,), (90.0,), (30.0,), (0.0, 90.0), (-60.0, 0.0, 45.0)])
def test_beads_are_where_they_should_be(axes, tmp_path):
    files = [write_series(tmp_path, axis, f"s{number}") for number, axis in enumerate(axes)]
    stacks, angles = zip(*files, strict=True)
    data = SeriesOptions(stacks=stacks, tilt_angles=angles, axis_angle=axes)
    assert_beads(reconstruct(data, OPTIONS, quiet_run(tmp_path / "run")), BEADS)


@pytest.mark.parametrize("axis", [0.0, 90.0])
def test_beads_of_raw_images_with_transforms(axis, tmp_path):
    generator = np.random.default_rng(3)
    transforms = np.empty((len(TILTS), 6))
    for view in range(len(TILTS)):
        turn = math.radians(12.0 + 0.3 * view)
        transforms[view, :4] = math.cos(turn), math.sin(turn), -math.sin(turn), math.cos(turn)
        transforms[view, 4:] = generator.normal(scale=1.5, size=2)
    stack, angles = write_series(tmp_path, axis, "raw", transforms=transforms)
    data = SeriesOptions(
        stacks=(stack,), tilt_angles=(angles,), axis_angle=(axis,), transform=(tmp_path / "raw.xf",)
    )
    assert_beads(reconstruct(data, OPTIONS, quiet_run(tmp_path / "run")), BEADS)


def test_the_wrong_hand_is_told_apart(tmp_path):
    """Tilts of the wrong sign put a bead at -z: the check above would not pass by luck."""
    stack, angles = write_series(tmp_path, 0.0, "s")
    angles.write_text("\n".join(str(-tilt) for tilt in TILTS))
    data = SeriesOptions(stacks=(stack,), tilt_angles=(angles,), axis_angle=(0.0,))
    result = reconstruct(data, OPTIONS, quiet_run(tmp_path / "run"))
    assert_beads(result, BEADS * (1, 1, -1))
    with pytest.raises(AssertionError):
        assert_beads(result, BEADS)


def test_a_finished_run_is_noticed_before_any_image_is_read(tiny, tmp_path, monkeypatch):
    first = reconstruct(tiny, OPTIONS, quiet_run(tmp_path / "run"))
    monkeypatch.setattr(ImageSource, "read", None)
    assert reconstruct(tiny, OPTIONS, quiet_run(tmp_path / "run")).summary == first.summary


def test_blank_images_leave_no_begun_run_behind_and_nothing_is_overwritten(tiny, tmp_path):
    reconstruct(tiny, OPTIONS, quiet_run(tmp_path / "run"))
    before = (tmp_path / "run/volume.mrc").read_bytes()
    stacks = [tmp_path / f"{number}.mrc" for number in range(2)]
    for stack in stacks:
        write_mrc(stack, np.ones((len(TILTS), *SHAPE[1:]), np.float32), PIXEL, is_volume=False)
    blank = replace(tiny, stacks=tuple(stacks))
    for out in ("new", "run"):
        with pytest.raises(InputError, match="all images are blank"):
            reconstruct(blank, OPTIONS, quiet_run(tmp_path / out, overwrite=True))
    assert not (tmp_path / "new").exists()
    assert (tmp_path / "run/volume.mrc").read_bytes() == before


def test_a_tolerance_ends_the_iteration(tiny, tmp_path):
    options = replace(OPTIONS, method="sirt", iterations=500, tolerance=0.01)
    found = reconstruct(tiny, options, quiet_run(tmp_path / "run"))
    assert found.summary["stopped_because"] == "converged"
    last = read_events(tmp_path / "run/events.jsonl")[-2]
    assert (last["kind"], last["reason"]) == ("stop", "converged")
    assert 2 < last["iteration"] < 500
    assert "Converged after" in found.report.read_text()


def test_what_check_warns_of_is_said_again(tiny, tmp_path, capsys):
    warned = list(check(tiny, OPTIONS).warnings)
    assert any("expect streaks" in text for text in warned)
    found = reconstruct(tiny, OPTIONS, quiet_run(tmp_path / "run"))
    assert found.summary["warnings"] == warned
    told, log = capsys.readouterr().err, (tmp_path / "run/log.txt").read_text()
    for text in warned:
        assert told.count(f"warning: {text}") == 1
        assert f"warning: {text}" in log
