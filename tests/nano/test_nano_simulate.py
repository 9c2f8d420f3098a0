"""``nano simulate``: what it writes, that it is what it says, and what is refused."""

from __future__ import annotations

import shlex
import tomllib
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from manyviews.cli.main import main
from manyviews.errors import InputError
from manyviews.io.data_exchange_writer import write_data_exchange
from manyviews.io.mrc import MrcStack, read_mrc
from manyviews.nano.scan.options import ScanOptions
from manyviews.nano.scan.scan import open_scan
from manyviews.nano.simulate import simulate, simulate_arrays
from manyviews.nano.simulate_options import SimulateOptions
from manyviews.operators.radon import Radon
from manyviews.simulate.deformation import read_at

SMALL = SimulateOptions(
    size=(40, 32), views=12, rotations=2, noise_free=True, deformation_percent=5.0, seed=3
)
WRITTEN = {"README.txt", "scan.h5", "simulate.toml", "truth.mrc", "truth_projections.mrc", "truth_views.csv"}


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def normalised(path: Path):
    with h5py.File(path) as file:
        data, flats, darks = (file[f"exchange/{name}"][...] for name in ("data", "data_white", "data_dark"))
        dark = darks.mean(axis=0)
        return -np.log((data - dark) / (flats.mean(axis=0) - dark)), file["exchange/theta"][...]


def test_writes_a_scan_and_the_truth(tmp_path: Path):
    seen = []
    made = simulate(replace(SMALL, drift=1.0), tmp_path / "data", lambda *what: seen.append(what))
    assert set(files_of(made.folder)) == WRITTEN | {"truth_flow.npy"}
    arrays = simulate_arrays(replace(SMALL, drift=1.0))
    projections, theta = normalised(made.scan)
    np.testing.assert_allclose(projections, arrays.projections, atol=2e-4)
    np.testing.assert_allclose(theta, [*range(0, 360, 60), *range(380, 740, 60)])
    np.testing.assert_array_equal(read_mrc(made.truth)[0], arrays.truth)
    assert arrays.truth.shape == (32, 40, 40)
    still = MrcStack(made.folder / "truth_projections.mrc")
    np.testing.assert_array_equal(still.read(), arrays.still)
    assert still.pixel_size == pytest.approx((200, 200, 200))
    np.testing.assert_array_equal(np.load(made.folder / "truth_flow.npy"), arrays.flow)
    assert seen[-1] == ("scan.h5", 12, 12)
    assert shlex.split(made.command)[:4] == ["manyviews", "nano", "reconstruct", str(made.scan)]
    record = tomllib.loads((made.folder / "simulate.toml").read_text())
    assert record["made"]["center"] == made.center == 19.5
    assert record["made"]["deformation_pixels"] == pytest.approx(2.0)


def test_measured_views_are_still_ones_read_along_the_flow():
    motion = {"jitter": 0.5, "roll": 1.0, "jumps": 1, "jump_pixels": 2.0}
    made = simulate_arrays(replace(SMALL, specimen="tissue", **motion))
    for view in range(12):
        wanted = read_at(made.still[view], made.flow[view].astype(float))
        assert np.linalg.norm(made.projections[view] - wanted) < 0.01 * np.linalg.norm(wanted)
    assert np.abs(made.flow).max() > 2


def test_the_truth_projects_to_the_still_views():
    made = simulate_arrays(replace(SMALL, specimen="tissue", center=20.0))
    # at 0 degrees rays run along y
    np.testing.assert_allclose(made.still[0], made.truth.sum(axis=1), atol=2e-3)
    assert made.still[0].max() == pytest.approx(1.0)


@pytest.mark.parametrize(("size", "center"), [((40, 32), 20.7), ((37, 24), 17.25)])
def test_still_views_are_what_the_radon_transform_makes_of_the_truth(size, center):
    made = simulate_arrays(replace(SMALL, size=size, specimen="tissue", center=center, deformation="none"))
    radon = Radon(made.theta_degrees, size[1], size[0], center)
    projected = radon.forward(torch.from_numpy(made.truth)).numpy()
    assert np.linalg.norm(projected - made.still) < 0.01 * np.linalg.norm(made.still)


def test_mass_is_kept_where_it_is_asked_for(tmp_path: Path):
    kept = simulate(replace(SMALL, warp="mass"), tmp_path / "kept")
    moved = simulate_arrays(SMALL)
    projections, _ = normalised(kept.scan)
    mass = projections.sum(axis=(1, 2))
    assert mass[6:] == pytest.approx(np.full(6, mass[0]), rel=5e-3)
    assert np.ptp(moved.projections.sum(axis=(1, 2)) / mass[0]) > 0.03
    assert "--warp mass" in kept.command
    push, pull = (np.load(kept.folder / name) for name in ("truth_push.npy", "truth_flow.npy"))
    back = np.stack([read_at(part, push.astype(float)) for part in pull[-1].astype(float)])
    np.testing.assert_allclose(back[:, 3:-3, 3:-3], -push[:, 3:-3, 3:-3], atol=0.01)


def test_an_object_deforms_in_three_dimensions(tmp_path: Path):
    options = replace(SMALL, deformation="object", specimen="ellipsoids")
    made = simulate(options, tmp_path / "data")
    assert set(files_of(made.folder)) == WRITTEN | {"truth_middle.mrc", "truth_mean_flow.npy"}
    arrays = simulate_arrays(options)
    assert not arrays.flow_is_all
    np.testing.assert_array_equal(np.load(made.folder / "truth_mean_flow.npy"), arrays.flow)
    middle = read_mrc(made.folder / "truth_middle.mrc")[0]
    assert 0.2 < np.linalg.norm(middle - arrays.truth) / np.linalg.norm(arrays.truth) < 1.5
    np.testing.assert_allclose(arrays.projections[0], arrays.still[0], atol=1e-4)  # nothing has moved yet
    assert np.abs(arrays.projections[-1] - arrays.still[-1]).max() > 0.1


@pytest.mark.parametrize("specimen", ["tissue", "ellipsoids"])
def test_the_mean_flow_of_an_object_says_most_of_what_happened(specimen):
    options = replace(SMALL, deformation="object", specimen=specimen, drift=1.5, roll=2.0, views=8)
    made = simulate_arrays(options)
    for view in (1, 4, 7):
        along = read_at(made.still[view], made.flow[view].astype(float))
        norms = [np.linalg.norm(made.projections[view] - image) for image in (along, made.still[view])]
        assert norms[0] < 0.7 * norms[1]
    alone = simulate_arrays(replace(options, drift=0.0, roll=0.0))
    assert np.abs(alone.flow).max() <= 2.0  # 5 % of 40 pixels
    assert np.abs(alone.flow[-1]).max() > 0.8
    assert not alone.flow[-1, :, 0, 0].any()


def test_without_deformation_only_noise_remains_and_is_the_same_noise():
    options = replace(SMALL, deformation="none", noise_free=False, background=0.1)
    still, again = simulate_arrays(options), simulate_arrays(options)
    assert np.abs(still.flow).max() == 0
    assert 0.01 < (still.projections - still.still).std() < 0.1
    np.testing.assert_array_equal(still.projections, again.projections)


def test_blank_views_show_the_beam_alone():
    made = simulate_arrays(replace(SMALL, blank_views=3))
    blank = np.flatnonzero(np.abs(made.projections).max(axis=(1, 2)) < 1e-3)
    assert len(blank) == 3
    assert blank[0] > 0
    assert np.ptp(blank) == 2


def test_the_same_seed_gives_the_same_files(tmp_path: Path):
    noisy = replace(SMALL, noise_free=False, jitter=1.0)
    first, second = (files_of(simulate(noisy, tmp_path / name).folder) for name in ("a", "b"))
    for name in first:
        if name != "README.txt":  # which names the folder
            assert first[name] == second[name], name
    with h5py.File(tmp_path / "a" / "scan.h5") as file:
        assert file["exchange/data"].dtype == np.uint16


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"views": 13}, "--views"),
        ({"scan": "timbir", "rotations": 3}, "power of two"),
        ({"size": (40, 32, 30)}, "--size"),
        ({"blank_views": 12}, "--blank-views"),
        ({"deformation_percent": 45.0}, "no room"),
        ({"deformation_percent": 15.0, "control_points": 20}, "folds"),
        ({"center": 4.0}, "no room"),
        ({"photons": 0.0}, "--photons"),
    ],
)
def test_what_is_impossible_is_told(options, what, tmp_path: Path):
    with pytest.raises(InputError, match=what):
        simulate(replace(SMALL, **options), tmp_path / "data")
    assert not list(tmp_path.iterdir())


def test_the_command_prints_where_everything_is(tmp_path: Path, capsys):
    words = ["--size", "24", "--views", "4", "--rotations", "1", "--deformation-percent", "4", "--quiet"]
    assert main(["nano", "simulate", "--out", str(tmp_path / "data"), *words]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == str(tmp_path / "data" / "scan.h5")
    assert printed[2] == "center: 11.5"
    assert main(["nano", "simulate", "--out", str(tmp_path / "data"), *words]) == 2


def test_as_many_views_as_angles_are_written(tmp_path: Path):
    image = np.zeros((1, 3, 4), np.float32)
    for count, what in ((1, "1 views were given for 2 angles"), (3, "does not belong to 2 angles")):
        with pytest.raises(InputError, match=what):
            write_data_exchange(
                tmp_path / "scan.h5", iter([image[0]] * count), [0, 1], flats=image, darks=image,
                pixel_size_nm=1,
            )  # fmt: skip
    assert not list(tmp_path.iterdir())


def test_the_scan_is_read_back_as_it_was_written(tmp_path: Path):
    made = simulate(SMALL, tmp_path / "data")
    scan = open_scan(made.scan, ScanOptions(scan=made.scan))
    assert scan.pixel_size_nm == pytest.approx(20.0)
    np.testing.assert_allclose(scan.theta_degrees, simulate_arrays(SMALL).theta_degrees)
