"""The whole job with a prior that the data choose, in small boxes."""

import csv
import json

import numpy as np
import pytest
import torch

from manyviews.errors import InputError
from manyviews.geometry.views import TiltGeometry
from manyviews.io.mrc import read_mrc, write_mrc
from manyviews.operators.tilt_projector import TiltProjector
from manyviews.options import RunOptions
from manyviews.tilt.options import ReconstructOptions, SeriesOptions
from manyviews.tilt.reconstruct import reconstruct

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPE, PIXEL, NOISE = (12, 32, 32), 4.0, 0.1
TILTS = np.linspace(-60.0, 60.0, 21)


def bodies(signs):
    volume = np.zeros(SHAPE, np.float32)
    places = ((2, 8, 9), (5, 18, 10), (3, 9, 18), (5, 19, 19), (4, 13, 14))
    for (z, y, x), sign in zip(places, signs, strict=True):
        volume[z : z + 4, y : y + 5, x : x + 5] = sign
    return volume


def blobs():
    """Gaussians two voxels wide."""
    z, y, x = np.indices(SHAPE, dtype=np.float32)
    places = ((4, 10, 11), (7, 20, 12), (5, 11, 21), (6, 22, 22))
    return sum(np.exp(-((z - a) ** 2 + (y - b) ** 2 + (x - c) ** 2) / 8.0) for a, b, c in places)


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    """One axis of 21 tilts, by name: bodies that are all bright, or bright and dark."""
    folder = tmp_path_factory.mktemp("series")
    rng = np.random.default_rng(2)
    found = {}
    same = (1, 1, 1, 1, 1)
    for name, truth in (("bright", bodies(same)), ("both", bodies((1, -1, 1, -1, 1))), ("smooth", blobs())):
        projector = TiltProjector(TiltGeometry.from_tilt_axis(TILTS), SHAPE, SHAPE[1:], PIXEL)
        images = projector.forward(torch.from_numpy(truth)).numpy()
        images = images + NOISE * images[10].std() * rng.normal(size=images.shape)
        write_mrc(folder / f"{name}.mrc", images.astype(np.float32), PIXEL, is_volume=False)
        (folder / f"{name}.rawtlt").write_text("\n".join(map(str, TILTS)))
        write_mrc(folder / f"{name}-truth.mrc", truth, PIXEL)
        found[name] = SeriesOptions(stacks=(folder / f"{name}.mrc",), axis_angle=(0.0,))
    return found


def run(series, name, out, **options):
    reference = series[name].stacks[0].with_name(f"{name}-truth.mrc")
    chosen = ReconstructOptions(
        **{"thickness": SHAPE[0], "device": "cpu", "method": "admm", "reference": reference, **options}
    )
    return reconstruct(series[name], chosen, RunOptions(out, quiet=True))


def table(out):
    with open(out / "prior.csv", newline="") as handle:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(handle)]


@pytest.mark.parametrize(("name", "bound"), [("bright", True), ("both", False)])
def test_the_data_choose_and_the_volume_is_better_for_it(name, bound, series, tmp_path):
    found = run(series, name, tmp_path / "auto").summary
    plain = run(series, name, tmp_path / "cg", method="cg").summary
    error = "relative_error_against_the_reference"
    assert found[error] < 0.6 * plain[error]
    assert found["prior_non_negative"] is bound
    assert found["prior_total_variation"] > 0
    assert found["held_out_error"] < found["held_out_error_without_a_prior"]
    volume = read_mrc(tmp_path / "auto" / "volume.mrc")[0]
    assert (volume.min() >= 0.0) is np.bool_(bound)
    rows = table(tmp_path / "auto")
    assert rows[0]["total_variation"] == 0.0
    assert sum(row["chosen"] for row in rows) == 1.0
    same = [row for row in rows[1:] if bool(row["non_negative"]) is bound]
    assert min(same, key=lambda row: row["held_out_error"])["chosen"] == 1.0
    log = (tmp_path / "auto" / "log.txt").read_text()
    assert str(found["prior"]) in log
    assert f"{found['held_out_views']} held-out views chose total variation" in log
    report = (tmp_path / "auto" / "report.html").read_text()
    assert "chosen by held-out views" in report


def test_a_strength_that_was_given_holds(series, tmp_path):
    found = run(series, "bright", tmp_path / "run", total_variation=0.15)
    assert found.summary["prior_total_variation"] == 0.15
    assert found.summary["prior_non_negative"] is True
    assert {row["total_variation"] for row in table(tmp_path / "run")[1:]} == {0.15}
    assert not any(row["smooth"] for row in table(tmp_path / "run"))
    assert "--total-variation 0.15 holds" in (tmp_path / "run" / "log.txt").read_text()


def test_a_bound_that_was_given_holds(series, tmp_path):
    found = run(series, "both", tmp_path / "run", non_negative=True)
    assert found.summary["prior_non_negative"] is True
    assert all(row["non_negative"] for row in table(tmp_path / "run")[1:])
    assert read_mrc(tmp_path / "run" / "volume.mrc")[0].min() >= 0.0


def test_without_a_prior_noise_says_how_strong_the_damping_is(series, tmp_path):
    out = tmp_path / "run"
    found = run(series, "bright", out, prior="none")
    assert "prior" not in found.summary
    assert found.summary["damping"] > 0.0
    assert not (out / "prior.csv").exists()


def test_too_few_views_are_told_and_all_used(series, tmp_path):
    listed = ",".join(str(section) for section in range(1, 22) if section % 4)
    stacks = SeriesOptions(stacks=series["bright"].stacks, axis_angle=(0.0,), exclude=(listed,))
    options = ReconstructOptions(thickness=SHAPE[0], device="cpu", method="admm")
    found = reconstruct(stacks, options, RunOptions(tmp_path / "run", quiet=True))
    warnings = json.loads((tmp_path / "run" / "summary.json").read_text())["warnings"]
    assert any("no prior was looked for" in text for text in warnings)
    assert found.summary["method"] == "cg"


def test_a_smooth_specimen_is_told(series, tmp_path):
    found = run(series, "smooth", tmp_path / "auto").summary
    error = "relative_error_against_the_reference"
    assert found["prior_smooth"] is True
    assert found["prior_total_variation"] == 0.0
    assert found["prior_non_negative"] is True
    assert "chose a smooth specimen and no voxel below zero" in str(found["prior"])
    rows = table(tmp_path / "auto")
    assert next(row for row in rows if row["chosen"])["smooth"] == 1.0
    plain = run(series, "smooth", tmp_path / "cg", method="cg").summary
    variation = run(series, "smooth", tmp_path / "tv", prior="none", non_negative=True, total_variation=0.5)
    assert found[error] < 0.6 * plain[error]
    assert found[error] < variation.summary[error]


def test_the_smooth_prior_is_there_without_a_search(series, tmp_path):
    found = run(series, "smooth", tmp_path / "run", prior="smooth", non_negative=True).summary
    plain = run(series, "smooth", tmp_path / "cg", method="cg").summary
    error = "relative_error_against_the_reference"
    assert found[error] < 0.6 * plain[error]
    assert found["damping_by_frequency"]
    assert not (tmp_path / "run" / "prior.csv").exists()


def test_a_smooth_prior_needs_noise_by_frequency(series, tmp_path):
    with pytest.raises(InputError, match="not measured by frequency"):
        run(series, "smooth", tmp_path / "run", prior="smooth", damping=1.0)
