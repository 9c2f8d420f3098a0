"""The command: two half maps in files to a run folder, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from half_map_example import BOX, PIXEL, ball, molecule, noise_halves, with_noise
from manyviews.api.run import open_run
from manyviews.cli.main import main
from manyviews.io.mrc import read_mrc, write_mrc
from manyviews.io.star import read_star
from manyviews.metrics.fsc import fsc
from manyviews.metrics.masked_fsc import FscCurves
from manyviews.particles.postprocess_results import RESULTS
from manyviews.runs.record import read_record

pytestmark = pytest.mark.usefixtures("blank_pictures", "one_thread")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("halves")
    for number, half in enumerate(with_noise(molecule(), 2.0, 1), start=1):
        write_mrc(folder / f"half{number}.mrc", half, PIXEL)
    write_mrc(folder / "mask.mrc", ball(15, 6).astype(np.float32), PIXEL)
    return folder


def run(data, out, *words, halves=("half1.mrc", "half2.mrc"), quiet=("--quiet",)):
    paths = [str(data / name) for name in halves]
    return main(["particles", "postprocess", *paths, "--out", str(out), *quiet, "--threads", "1", *words])


@pytest.mark.pictures
def test_from_half_maps_to_a_run(data, tmp_path, capsys):
    out = tmp_path / "run"
    assert run(data, out) == 0
    printed = capsys.readouterr().out
    assert "resolution at FSC 0.143 of the halves" in printed
    assert "Å²" in printed
    assert {path.name for path in out.iterdir()} >= set(RESULTS)
    for number in (1, 2):
        given, kept = (read_mrc(folder / f"half{number}.mrc")[0] for folder in (data, out))
        np.testing.assert_array_equal(given, kept)
    curves = FscCurves.read_csv(out / "fsc.csv")
    halves = [read_mrc(data / f"half{number}.mrc")[0] for number in (1, 2)]
    mask, header = read_mrc(out / "mask.mrc")
    assert header.pixel_size[0] == pytest.approx(PIXEL)
    np.testing.assert_allclose(curves.unmasked.correlation, fsc(*halves, PIXEL).correlation, atol=1e-5)
    np.testing.assert_allclose(
        curves.masked.correlation, fsc(*halves, PIXEL, mask=mask).correlation, atol=1e-5
    )
    local = read_mrc(out / "local_resolution.mrc")[0]
    assert np.all(local[mask < 0.4] == 0)
    assert np.median(local[local > 0]) > 4
    done = open_run(out)
    assert done.summary["mask"] == "automatic"
    assert done.volume.shape == (BOX,) * 3
    assert done.fsc.first_crossing(0.143) == pytest.approx(
        done.summary["resolution_fsc0143_of_the_halves_angstrom"], abs=0.01
    )
    page = (out / "report.html").read_text()
    for title in ("Maps", "Surface", "Resolution", "Mask", "Resolution by direction", "Local resolution"):
        assert f"<h2>{title}</h2>" in page
    assert "<h2>Guinier plot</h2>" in page
    assert "Rosenthal" in page


def test_relion_finds_its_columns(data, tmp_path):
    out = tmp_path / "run"
    assert run(data, out, "--mask", str(data / "mask.mrc")) == 0
    general, shells, guinier = read_star(out / "postprocess.star")
    assert (general.name, shells.name, guinier.name) == ("general", "fsc", "guinier")
    assert general.columns["rlnUnfilteredMapHalf1"] == ["half1.mrc"]
    corrected = [float(value) for value in shells.columns["rlnFourierShellCorrelationCorrected"]]
    angstrom = [float(value) for value in shells.columns["rlnAngstromResolution"]]
    assert angstrom[0] == 999.0
    assert len(corrected) == BOX // 2 + 1
    below = next(shell for shell, value in enumerate(corrected) if value < 0.143)
    assert float(general.columns["rlnFinalResolution"][0]) == pytest.approx(angstrom[below - 1], rel=1e-5)
    np.testing.assert_allclose(
        [float(value) for value in shells.columns["rlnFourierShellCorrelationMaskedMaps"]],
        FscCurves.read_csv(out / "fsc.csv").masked.correlation,
        atol=1e-6,
    )
    assert len(guinier.columns["rlnResolutionSquared"]) > 5


def test_options_are_kept_and_a_finished_run_is_not_repeated(data, tmp_path, capsys):
    out = tmp_path / "run"
    words = ("--b-factor", "-30", "--mask", str(data / "mask.mrc"), "--symmetry", "C2", "--pixel-size", "2.5")
    assert run(data, out, *words) == 0
    options = read_record(out)["options"]
    assert (options["b_factor"], options["symmetry"], options["pixel_size"]) == (-30.0, "C2", 2.5)
    assert open_run(out).summary["b_factor_square_angstrom"] == -30
    assert "has no symmetry C2" in capsys.readouterr().err
    assert run(data, out, *words, quiet=()) == 0
    assert "nothing to do" in capsys.readouterr().err
    assert run(data, out, "--b-factor", "-31", *words[2:]) == 2
    assert "b_factor" in capsys.readouterr().err
    assert run(data, out, "--b-factor", "-31", "--overwrite", *words[2:]) == 0


def test_noise_is_told_and_leaves_no_sharpened_map(data, tmp_path, capsys):
    for number, half in enumerate(noise_halves(3), start=1):
        write_mrc(tmp_path / f"noise{number}.mrc", half, PIXEL)
    out = tmp_path / "run"
    assert run(tmp_path, out, halves=("noise1.mrc", "noise2.mrc")) == 0
    said = capsys.readouterr()
    assert "there is no resolution" in said.err
    assert open_run(out).summary["resolution_fsc0143_of_the_halves_angstrom"] == "none"
    assert not (out / "sharpened.mrc").exists()
    assert (out / "report.html").exists()


@pytest.fixture(scope="module")
def faulty(data):
    """Maps that cannot be used, beside the good ones."""
    half = read_mrc(data / "half2.mrc")[0]
    write_mrc(data / "small.mrc", half[1:, 1:, 1:], PIXEL)
    write_mrc(data / "slab.mrc", half[:20], PIXEL)
    write_mrc(data / "coarse.mrc", half, 1.5 * PIXEL)
    write_mrc(data / "constant.mrc", np.ones_like(half), PIXEL)
    write_mrc(data / "tiny.mrc", half[:8, :8, :8], PIXEL)
    write_mrc(data / "everything.mrc", np.ones_like(half), PIXEL)
    write_mrc(data / "empty.mrc", ball(1.5, 1.0).astype(np.float32), PIXEL)
    bad = half.copy()
    bad[3, 4, 5] = 7.0
    write_mrc(data / "nan.mrc", bad, PIXEL)
    with open(data / "nan.mrc", "r+b") as handle:
        handle.seek(1024 + 4 * (3 * BOX * BOX + 4 * BOX + 5))
        handle.write(np.float32(np.nan).tobytes())
    write_mrc(data / "sizeless.mrc", half, 0.0 + 1e-30)
    return data


@pytest.mark.parametrize(
    ("halves", "words", "sentence"),
    [
        (("half1.mrc", "half1.mrc"), (), "the halves are the same map"),
        (("half1.mrc", "small.mrc"), (), "39 x 39 x 39"),
        (("slab.mrc", "slab.mrc"), (), "not a cube"),
        (("tiny.mrc", "tiny.mrc"), (), "fewer than 16"),
        (("half1.mrc", "coarse.mrc"), (), "its voxels are 3 angstrom"),
        (("half1.mrc", "constant.mrc"), (), "constant"),
        (("half1.mrc", "nan.mrc"), (), "1 voxels are NaN"),
        (("half1.mrc", "nowhere.mrc"), (), "nowhere.mrc"),
        (("half1.mrc", "half2.mrc"), ("--mask", "{data}/small.mrc"), "39 x 39 x 39"),
        (("half1.mrc", "half2.mrc"), ("--mask", "{data}/half1.mrc"), "not from 0 outside to 1 inside"),
        (("half1.mrc", "half2.mrc"), ("--mask", "{data}/empty.mrc"), "nearly empty"),
        (("half1.mrc", "half2.mrc"), ("--mask", "{data}/everything.mrc"), "constant"),
        (("half1.mrc", "half2.mrc"), ("--symmetry", "Q"), "Q"),
        (("half1.mrc", "half2.mrc"), ("--local-threshold", "1"), "is too large"),
        (("half1.mrc", "half2.mrc"), ("--b-factr", "1"), "did you mean --b-factor"),
    ],
)
def test_bad_input_gives_one_sentence_and_no_run(faulty, tmp_path, capsys, halves, words, sentence):
    out = tmp_path / "run"
    assert run(faulty, out, *(word.format(data=faulty) for word in words), halves=halves) == 2
    said = capsys.readouterr().err.strip()
    assert sentence in said
    assert said.count("\n") == 0
    assert "Traceback" not in said
    assert not out.exists()
