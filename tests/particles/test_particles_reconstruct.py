"""From a table with poses to maps, curves and a summary; what cannot be reconstructed is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from manyviews.errors import InputError
from manyviews.io.mrc import read_mrc, write_mrc
from manyviews.io.particle_images import ParticleImages
from manyviews.io.relion_particles import read_relion_particles, write_relion_particles
from manyviews.metrics.fsc import FscCurve, fsc
from manyviews.options import RunOptions
from manyviews.particles import reconstruct as job
from manyviews.particles.known_poses import resolve_reconstruction
from manyviews.particles.options import ParticleOptions, ReconstructOptions, SimulateOptions
from manyviews.particles.reconstruct import reconstruct
from manyviews.particles.simulate import simulate

pytestmark = pytest.mark.usefixtures("blank_pictures")

BOX, PIXEL = 20, 8.0


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("particles")
    simulate(SimulateOptions(box=BOX, pixel_size=PIXEL, count=300, snr=0.5, seed=4), folder)
    return folder


@pytest.fixture
def table(data):
    return read_relion_particles(data / "truth.star")


def resolved(table, **options):
    return resolve_reconstruction(ReconstructOptions(**options), table, BOX)


def run_job(star, out, **options):
    given = ReconstructOptions(threads=1, **options)
    return reconstruct(ParticleOptions(star), given, RunOptions(out, quiet=True))


@pytest.mark.pictures
@pytest.mark.usefixtures("one_thread")
def test_from_a_table_to_a_run(data, tmp_path, monkeypatch, capsys):
    run, truth = tmp_path / "run", read_mrc(data / "truth.mrc")[0]
    options = {"diameter": 130.0, "reference": data / "truth.mrc"}
    result = run_job(data / "truth.star", run, **options)
    volume, header = read_mrc(run / "volume.mrc")
    assert header.pixel_size[0] == pytest.approx(PIXEL)
    assert np.all(fsc(volume, truth, PIXEL).correlation[1:6] > 0.9)
    first, second, mask = (read_mrc(run / f"{name}.mrc")[0] for name in ("half1", "half2", "mask"))
    again = FscCurve.read_csv(run / "fsc.csv")
    np.testing.assert_allclose(again.correlation, fsc(first, second, PIXEL, mask=mask).correlation, atol=1e-5)
    assert np.abs(first[mask == 0]).max() > 0  # not masked, as postprocessing wants them
    assert FscCurve.read_csv(run / "fsc_reference.csv").correlation[1] > 0.9
    assert result.summary["particles"] == 300
    assert 2 * PIXEL <= result.summary["resolution_fsc05_with_the_reference_angstrom"] < 30
    page = result.report.read_text()
    assert "<h2>Resolution</h2>" in page
    assert "names no halves" in page
    assert "warning: the table names no halves" in capsys.readouterr().err
    monkeypatch.setattr(job, "own_images", None)  # a finished run reads nothing
    assert run_job(data / "truth.star", run, **options).summary == result.summary


@pytest.mark.usefixtures("one_thread")
def test_images_in_files_give_the_same_bits(data, tmp_path):
    run_job(data / "truth.star", tmp_path / "memory")
    run_job(data / "truth.star", tmp_path / "files", memory=1e-6, scratch=tmp_path)
    volumes = [(tmp_path / name / "volume.mrc").read_bytes()[1024:] for name in ("memory", "files")]
    assert volumes[0] == volumes[1]


def test_the_plan_follows_the_table(data, table):
    plan = resolved(table, diameter=130.0, reference=data / "truth.mrc")
    assert (plan.box, plan.pixel_size, plan.radius) == (ParticleImages(table).box, PIXEL, 9)


def test_halves_are_the_tables_or_odd_and_even_ones(table):
    plan = resolved(table)
    assert list(plan.halves[:4]) == [1, 2, 1, 2]
    assert "names no halves" in plan.warnings[0]
    half = np.repeat([1, 2], 150)
    plan = resolved(replace(table, half=half))
    assert (list(plan.halves), plan.warnings) == (list(half), ())


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("halves", [False, True])
def test_copies_agree_in_one_half_only(data, table, tmp_path, halves):
    """Every other row is a copy of the one before: odd and even rows would agree in their noise."""
    rows = np.repeat(np.arange(150), 2)
    once, twice = table.select(np.arange(150)), table.select(rows)
    if halves:
        twice = replace(twice, half=np.arange(300) % 2 + 1)
    write_relion_particles(data / "once.star", replace(once, half=None), overwrite=True)
    write_relion_particles(data / "twice.star", twice, overwrite=True)
    alone = run_job(data / "once.star", tmp_path / "once").summary
    found = run_job(data / "twice.star", tmp_path / "twice").summary
    name = "resolution_fsc0143_of_the_halves_angstrom"
    assert found[name] == pytest.approx(alone[name], rel=0.15)
    assert found["copies_of_other_particles"] == 150
    said = " ".join(found["warnings"])
    assert "150 particles are copies of others, from the same image of the same stack" in said
    assert ("150 particles were moved to the half of their copies" in said) == halves


@pytest.mark.usefixtures("one_thread")
def test_what_cannot_be_used_is_set_aside(data, tmp_path):
    images, _ = read_mrc(data / "particles.mrcs")
    images = images.copy()
    images[7] = 0
    images[20, 10, 10] = 1e5
    (tmp_path / "data").mkdir()
    write_mrc(tmp_path / "data/particles.mrcs", images, PIXEL, is_volume=False)
    star = tmp_path / "data/truth.star"
    star.write_bytes((data / "truth.star").read_bytes())
    clean = run_job(data / "truth.star", tmp_path / "clean", diameter=130.0)
    found = run_job(star, tmp_path / "run", diameter=130.0)
    assert (found.summary["particles"], found.summary["particles_set_aside"]) == (299, 1)
    first, second = (read_mrc(run.run_folder / "volume.mrc")[0] for run in (clean, found))
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] > 0.99
    page = found.report.read_text()
    assert "1 particles set aside" in page
    assert "Hot pixels or X-rays in 1 images" in page


def test_defaults_and_record(table):
    plan = resolved(replace(table, shifts=None), resolution=32.0)
    assert (plan.diameter, plan.radius) == (160.0, 5)
    assert not plan.shifts.any()
    assert plan.record() == {
        "diameter": 160.0, "resolution": 32.0, "radius": 5, "symmetry": "C1", "padding": 2,
        "remove_outliers": False, "reference": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"diameter": 500.0}, "does not go with a box of 160"),
        ({"padding": 5}, "a padding of 5"),
        ({"resolution": 10.0}, "do not reach 10"),
        ({"symmetry": "Q"}, "Q"),
        ({"device": "cuda"}, "run on the CPU"),
    ],
)
def test_options_that_make_no_sense_are_refused(table, options, said):
    with pytest.raises(InputError, match=said):
        resolved(table, **options)


def test_a_table_without_poses_and_a_reference_of_another_size_are_refused(table, tmp_path):
    with pytest.raises(InputError, match="have no poses"):
        resolved(replace(table, angles=None))
    write_mrc(tmp_path / "small.mrc", np.ones((8, 8, 8), np.float32), PIXEL)
    with pytest.raises(InputError, match="8 x 8 x 8 voxels, the map will have 20"):
        resolved(table, reference=tmp_path / "small.mrc")
