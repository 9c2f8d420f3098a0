"""Correction of single images, and what the whole job makes of the options."""

import numpy as np
import pytest
import torch

from manyviews.cli.main import main
from manyviews.errors import InputError
from manyviews.geometry.views import TiltGeometry
from manyviews.io.mrc import read_mrc
from manyviews.operators.contrast_transfer import Optics
from manyviews.operators.dose import fading
from manyviews.operators.view_transfer import ViewTransfer
from manyviews.simulate.phantoms import Gaussians
from manyviews.simulate.transferred import transferred_views
from manyviews.tilt.ctf.apply import refuse_unfit
from manyviews.tilt.ctf.correct import make_correction
from manyviews.tilt.options import ReconstructOptions, SimulateOptions
from manyviews.tilt.plan import resolve_plan
from manyviews.tilt.simulate import simulate

SHAPE, PIXEL = (48, 384), 2.0


def points_in_a_plane(hand):
    """A tilted layer of points far from the edges, perfect and with contrast transfer."""
    rng = np.random.default_rng(2)
    places = rng.uniform(-1, 1, (60, 3)) * [640.0, 30.0, 0.0]
    points = Gaussians.isotropic(np.ones(60), places, 1.6)
    geometry = TiltGeometry.from_tilt_axis([60.0])
    transfer = ViewTransfer(Optics.make(100.0, 2.7, 0.07, [[6000.0, 6000.0]]), np.zeros(1), hand)
    perfect = points.project(geometry, SHAPE, PIXEL)[0]
    return geometry, transfer, perfect, next(transferred_views(points, geometry, SHAPE, PIXEL, transfer))


def corrected(how, geometry, transfer, image):
    correct = make_correction(how, transfer, geometry, SHAPE, PIXEL, 0.1)
    return correct(np.array([0]), torch.from_numpy(image)[None])[0].numpy()


def correlation(a, b):
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


@pytest.mark.parametrize("how", ["phase-flip", "wiener"])
def test_strips_bring_points_back_and_the_wrong_hand_does_not(how):
    geometry, transfer, perfect, image = points_in_a_plane(1)
    wrong = ViewTransfer(transfer.optics, transfer.dose, -1)
    flat = ViewTransfer(transfer.optics, transfer.dose, 0)
    right = correlation(corrected(how, geometry, transfer, image), perfect)
    assert right > correlation(corrected(how, geometry, flat, image), perfect) + 0.05
    assert right > correlation(corrected(how, geometry, wrong, image), perfect) + 0.15
    assert right > correlation(image, perfect) + 0.5


def test_the_level_of_an_image_stays_when_phases_are_flipped():
    geometry, transfer, _, image = points_in_a_plane(1)
    raised = corrected("phase-flip", geometry, transfer, image + 100.0)
    np.testing.assert_allclose(raised - 100.0, corrected("phase-flip", geometry, transfer, image), atol=1e-3)


def test_dose_alone_is_a_filter_of_each_view():
    geometry, _, perfect, _ = points_in_a_plane(0)
    optics = Optics.make(200.0, 2.7, 0.07, [[6000.0, 6000.0]])
    weighted = corrected("none", geometry, ViewTransfer(optics, np.array([40.0]), 0), perfect)
    spectrum, before = np.abs(np.fft.rfft2(weighted)), np.abs(np.fft.rfft2(perfect))
    expected = fading(5 / (SHAPE[1] * PIXEL), 40.0, 200.0)
    assert spectrum[0, 5] / before[0, 5] == pytest.approx(expected, rel=1e-3)
    assert spectrum[0, 0] == pytest.approx(before[0, 0], rel=1e-4)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    options = SimulateOptions(
        phantom="cell", size=(64, 24), thickness=16, pixel_size=2.0, axes=(0.0,), tilt_step=20.0,
        detail=1.0, defocus=6000.0, defocus_spread=300.0, astigmatism=200.0, dose_per_view=3.0, noise=0.1,
    )  # fmt: skip
    return simulate(options, tmp_path_factory.mktemp("ctf") / "data")


def run(data, out, *more):
    stack = data.stacks[0]
    words = ["tilt", "reconstruct", str(stack), "--axis-angle", "0", "--thickness", "16", "--out", str(out)]
    words += ["--quiet", "--threads", "1", *(() if "wbp" in more else ("--iterations", "4"))]
    return main([*words, *map(str, more)])


@pytest.mark.parametrize(
    "more",
    [
        ("--ctf", "phase-flip", "--defocus-hand", "-1"),
        ("--ctf", "wiener", "--defocus-hand", "none", "--dose-weighting"),
        ("--ctf", "3d", "--defocus-hand", "+1", "--dose-weighting"),
        ("--ctf", "3d", "--method", "wbp"),
        ("--dose-per-view", "3"),
    ],
)
def test_every_correction_runs(data, tmp_path, more):
    assert run(data, tmp_path / "run", *more) == 0
    volume = read_mrc(tmp_path / "run" / "volume.mrc")[0]
    assert np.isfinite(volume).all()
    assert volume.std() > 0


@pytest.mark.parametrize(
    "more",
    [
        ("--damping", "0.5"),
        ("--method", "consensus", "--subsets", "2"),
        ("--method", "admm", "--total-variation", "0.01"),
    ],
)
def test_the_true_model_explains_the_images_best(data, tmp_path, more):
    errors = {}
    for how in ("none", "3d"):
        out = tmp_path / how
        assert run(data, out, "--ctf", how, "--reference", data.truth, *more) == 0
        volume, truth = read_mrc(out / "volume.mrc")[0], read_mrc(data.truth)[0]
        errors[how] = np.linalg.norm(volume - truth) / np.linalg.norm(truth)
    assert errors["3d"] < 0.97 * errors["none"]


def test_check_tells_numbers_sources_and_the_hand(data, capsys):
    stack = data.stacks[0]
    words = ["tilt", "check", str(stack), "--axis-angle", "0", "--thickness", "16", "--ctf", "3d"]
    assert main([*words, "--dose-weighting"]) == 0
    told = capsys.readouterr().out
    for text in (
        "contrast transfer",
        "_CTF.txt",
        "voltage: 300 kV",
        "rlnTomoHand",
        "levels of defocus",
        "dose of stack 1: 1.5 to 19.5",
    ):
        assert text in told


def test_the_command_of_the_simulation_says_it_all(data):
    for words in ("--ctf 3d", "--defocus-hand -1", "--dose-weighting", "axis-000_CTF.txt"):
        assert words in data.command


def test_other_hands_and_files_are_other_runs(data, tmp_path, capsys):
    assert run(data, tmp_path / "run", "--ctf", "phase-flip", "--defocus-hand", "-1") == 0
    assert run(data, tmp_path / "run", "--ctf", "phase-flip", "--defocus-hand", "+1") == 2
    assert "hand" in capsys.readouterr().err


def test_what_3d_cannot_do_is_refused(data):
    from dataclasses import replace

    from manyviews.tilt.options import SeriesOptions
    from manyviews.tilt.series.images import ImageSource
    from manyviews.tilt.series.resolve import resolve_series

    source = ImageSource(resolve_series(SeriesOptions(stacks=data.stacks, axis_angle=(0.0,))))
    plan = resolve_plan(ReconstructOptions(thickness=16, ctf="3d"), source)
    refuse_unfit(plan)
    with pytest.raises(InputError, match="row sums"):
        refuse_unfit(replace(plan, method="sirt", sirt_form="normalised"))
