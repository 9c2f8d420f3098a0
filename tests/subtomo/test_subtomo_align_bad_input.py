"""What `subtomo align` cannot use: one sentence, exit code 2; single particles are set aside."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from align_run_example import COUNT, PIXEL, QUICK, SIDE, SMALL, WORDS, run, write_example
from alignment_example import density

from manyviews.cli.main import main
from manyviews.io.mrc import HEADER_BYTES, read_mrc, write_mrc

pytestmark = pytest.mark.usefixtures("blank_pictures", "one_thread")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return write_example(tmp_path_factory.mktemp("subtomograms") / "data")


@pytest.fixture
def particles(made, tmp_path):
    """A copy that a test may spoil."""
    shutil.copytree(made.parent, tmp_path / "data")
    return tmp_path / "data" / "particles.star"


@pytest.fixture
def refused(capsys, tmp_path):
    """Run `subtomo align` and return the sentence by which it is refused."""

    def run(particles, *words):
        given = ["subtomo", "align", str(particles), "--out", str(tmp_path / "out"), *WORDS]
        assert main([*given, *map(str, words)]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        errors = [line for line in err.splitlines() if line.startswith("manyviews: error: ")]
        assert len(errors) == 1
        assert "Traceback" not in err
        assert not (tmp_path / "out" / "run.toml").exists()
        return errors[0]

    return run


def volume(particles, number):
    return particles.with_name("volumes") / f"{number:06d}.mrc"


def set_aside(folder):
    """Particle and reason of every row."""
    with (folder / "set_aside.csv").open() as file:
        return {int(row["particle"]): row["reason"] for row in csv.DictReader(file)}


def with_nan(path):
    """Make one voxel of a file NaN, which `write_mrc` refuses to."""
    with path.open("r+b") as file:
        file.seek(HEADER_BYTES + 4 * 4210)
        file.write(np.float32(np.nan).tobytes())


def spoil(particles):
    """Damage half a dozen volumes, each in its own way; what is said of each."""
    good = read_mrc(volume(particles, 1))[0]
    for number, bad in (
        (2, good[2:, 2:, 2:]),
        (3, np.full_like(good, 7)),
        (4, np.zeros_like(good)),
        (6, good[4:]),
    ):
        write_mrc(volume(particles, number), np.ascontiguousarray(bad), PIXEL, overwrite=True)
    with_nan(volume(particles, 5))
    whole = volume(particles, 7).read_bytes()
    volume(particles, 7).write_bytes(whole[: len(whole) // 2])
    volume(particles, 8).write_bytes(b"no volume")
    return {
        2: "it has 18 x 18 x 18 voxels, not 20 along each side", 3: "constant", 4: "constant", 5: "NaN",
        6: "it has 20 x 20 x 16 voxels, not 20 along each side", 7: "000007.mrc", 8: "000008.mrc",
    }  # fmt: skip


@pytest.mark.usefixtures("no_page")
def test_bad_volumes_are_set_aside_and_the_others_go_on(particles, tmp_path):
    expected = spoil(particles)
    options = replace(QUICK, reference=particles.with_name("truth.mrc"), iterations=1)
    done = run(particles, tmp_path / "run", options)
    found = set_aside(tmp_path / "run")
    assert set(found) == set(expected)
    for number, words in expected.items():
        assert words in found[number], number
        assert "\n" not in found[number]
    assert done.summary["particles"] == COUNT - 7
    assert done.summary["particles_set_aside"] == 7
    told = [text for text in done.summary["warnings"] if "set aside" in text]
    assert len(told) == 1
    assert told[0].startswith(
        "7 of 12 subtomograms cannot be used and are set aside (set_aside.csv): subtomogram 2"
    )
    assert "and 4 more" in told[0]
    assert np.isfinite(read_mrc(tmp_path / "run" / "volume.mrc")[0]).all()


@pytest.mark.usefixtures("no_page")
def test_weights_that_cannot_be_used_are_set_aside_with_their_particles(particles, tmp_path):
    """The first of the table among them; the others are read."""
    wedge = read_mrc(particles.with_name("weights") / "wedge.mrc")[0]
    bad = particles.with_name("weights") / "small.mrc"
    write_mrc(bad, np.ascontiguousarray(wedge[2:, 2:, 2:]), PIXEL)
    lines = particles.read_text().splitlines()
    rows = [place for place, line in enumerate(lines) if "weights/wedge.mrc" in line]
    for place in (rows[0], rows[4]):
        lines[place] = lines[place].replace("weights/wedge.mrc", "weights/small.mrc")
    particles.write_text("\n".join(lines) + "\n")
    options = replace(QUICK, reference=particles.with_name("truth.mrc"), iterations=1)
    done = run(particles, tmp_path / "run", options)
    assert done.summary["particles"] == COUNT - 2
    found = set_aside(tmp_path / "run")
    assert set(found) == {1, 5}
    assert all("18 x 18 x 18" in reason and "small.mrc" in reason for reason in found.values())


def test_weights_none_of_which_can_be_used(particles, refused):
    wedge = particles.with_name("weights") / "wedge.mrc"
    write_mrc(wedge, np.ones((18, 18, 18), np.float32), PIXEL, overwrite=True)
    assert "18 x 18 x 18" in refused(particles)


def test_nothing_left(particles, refused):
    for number in range(1, COUNT):
        write_mrc(volume(particles, number), np.zeros((SIDE,) * 3, np.float32), PIXEL, overwrite=True)
    told = refused(particles)
    assert "no more than 1 of 12 subtomograms can be used" in told
    assert "subtomogram 1: it is constant" in told


def test_no_wedge(particles, refused):
    star = particles.with_name("names.star")
    names = [f"volumes/{number:06d}.mrc" for number in range(1, COUNT + 1)]
    star.write_text("\n".join(["data_", "", "loop_", "_rlnImageName #1", *names, ""]))
    told = refused(star)
    assert "missing wedge" in told
    assert "--tilt-range -60 60" in told


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--diameter", "130"], "a particle of 130 angstrom does not go with a box of 120 angstrom"),
        (["--symmetry", "X9"], "X9"),
        (["--tilt-range", "10"], "--tilt-range"),
        (["--tilt-range", "60", "-60"], "tilt"),
        (["--shift-range", "70"], "70 angstrom"),
        (["--resolution", "5"], "voxels of 6 angstrom do not reach 5 angstrom"),
        (["--halves", "tomogram"], "--halves tomogram"),
        (["--halves", "filament"], "--halves filament"),
        (["--min-distance", "30"], "--min-distance"),
        (["--hands", "both"], "--hands both"),
        (["--pixel-size", "-1"], "--pixel-size"),
    ],
)  # fmt: skip
def test_options_that_make_no_sense(made, refused, words, sentence):
    assert sentence in refused(made, *words)


def test_one_tomogram_cannot_be_halved(particles, refused):
    lines = particles.read_text().splitlines()
    label = next(place for place, line in enumerate(lines) if line.startswith("_rlnImageName"))
    count = sum(line.startswith("_rln") for line in lines[lines.index("data_particles") :])
    rows = [
        place
        for place, line in enumerate(lines)
        if line.strip().startswith("volumes/") or "volumes/0" in line
    ]
    lines = [f"{line} tomo1" if place in rows else line for place, line in enumerate(lines)]
    last = max(place for place, line in enumerate(lines[: rows[0]]) if line.startswith("_rln"))
    assert label <= last
    lines.insert(last + 1, f"_rlnMicrographName #{count + 1}")
    particles.write_text("\n".join(lines) + "\n")
    told = refused(particles, "--halves", "tomogram")
    assert "all particles are of one tomogram" in told
    assert "--halves particle" in told


def test_a_reference_that_does_not_go_with_the_particles(particles, refused, tmp_path):
    path = tmp_path / "map.mrc"
    for data, size, words in (
        (density(SMALL, 24), PIXEL, "it has 24 x 24 x 24 voxels, the particles have 20"),
        (density(SMALL, SIDE), 4.0, "it has voxels of 4 angstrom, the particles of 6"),
        (np.zeros((SIDE,) * 3, np.float32), PIXEL, "is empty"),
    ):
        write_mrc(path, np.asarray(data, np.float32), size, overwrite=True)
        told = refused(particles, "--reference", path)
        assert words in told
        assert "map.mrc" in told
    write_mrc(path, 3 * density(SMALL, SIDE).astype(np.float32), PIXEL, overwrite=True)
    told = refused(particles, "--mask", path)
    assert "map.mrc, --mask: its values are from" in told
    with_nan(path)
    assert "1 voxels are NaN" in refused(particles, "--reference", path)
    assert "absent.mrc" in refused(particles, "--reference", tmp_path / "absent.mrc")


def test_a_map_to_compare_with_is_looked_at_before_the_work(particles, refused, tmp_path):
    write_mrc(tmp_path / "map.mrc", density(SMALL, 24), PIXEL)
    for path in ("map.mrc", "absent.mrc"):
        assert path in refused(particles, "--compare", tmp_path / path)


def test_positions_are_no_subtomograms(refused, tmp_path):
    path = tmp_path / "picks.star"
    rows = [f"{x} {2 * x} 30 tomo1" for x in range(20, 40, 5)]
    head = ["_rlnCoordinateX #1", "_rlnCoordinateY #2", "_rlnCoordinateZ #3", "_rlnMicrographName #4"]
    path.write_text("\n".join(["data_", "", "loop_", *head, *rows, ""]))
    told = refused(path, "--pixel-size", "6", "--tilt-range", "-60", "60")
    assert "positions, not subtomograms" in told
    assert "subtomo extract" in told


def test_volumes_that_are_absent(particles, tmp_path, refused):
    for number in range(1, COUNT + 1):
        volume(particles, number).unlink()
    assert "000001.mrc" in refused(particles)


def spoilt_truth(particles, sign=1.0, mirrored=False):
    """The map with its contrast or hand exchanged."""
    found = sign * read_mrc(particles.with_name("truth.mrc"))[0]
    if mirrored:
        found = np.roll(found[::-1, ::-1, ::-1], 1, (0, 1, 2))
    path = particles.with_name("other.mrc")
    write_mrc(path, np.ascontiguousarray(found), PIXEL, overwrite=True)
    return path


def test_inverted_contrast_is_told(particles, tmp_path):
    options = replace(QUICK, reference=spoilt_truth(particles, sign=-1.0), iterations=1)
    done = run(particles, tmp_path / "run", options)
    (told,) = [text for text in done.summary["warnings"] if "look inverted" in text]
    assert told.startswith("the particles look inverted: they fit the inverted map better than the map")
    assert "12 particles looked at" in told
    assert "subtomo extract --invert" in told
    assert told in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.usefixtures("no_page")
def test_the_other_hand_is_told_and_not_taken(particles, tmp_path):
    options = replace(QUICK, reference=spoilt_truth(particles, mirrored=True), iterations=1, hands="both")
    done = run(particles, tmp_path / "run", options)
    assert done.summary["hand_of_the_particles"] == "mirror image of the reference"
    assert done.summary["score_with_the_reference"] < done.summary["score_with_its_mirror_image"]
    (told,) = [text for text in done.summary["warnings"] if "mirror" in text]
    assert "better for" in told
    assert "goes on with the map as it was given" in told
    record = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert record["hand_of_the_particles"] == "mirror image of the reference"
    plain = run(particles, tmp_path / "plain", replace(options, hands="one"))
    assert "hand_of_the_particles" not in plain.summary
    one, other = ((tmp_path / name / "volume.mrc").read_bytes() for name in ("run", "plain"))
    assert one == other


@pytest.mark.usefixtures("no_page")
def test_priors_that_a_search_does_not_use_are_told(particles, tmp_path):
    lines = particles.read_text().splitlines()
    rows = [place for place, line in enumerate(lines) if "volumes/0" in line]
    labels = [line for line in lines[lines.index("data_particles") : rows[0]] if line.startswith("_rln")]
    for place in rows:
        lines[place] += " 90.0"
    lines.insert(rows[0], f"_rlnAngleTiltPrior #{len(labels) + 1}")
    particles.write_text("\n".join(lines) + "\n")
    options = replace(QUICK, reference=particles.with_name("truth.mrc"), iterations=1, search="rotational")
    told = run(particles, tmp_path / "run", options).summary["warnings"]
    assert any("--search rotational does not look at the priors" in text for text in told)
    told = run(particles, tmp_path / "joint", replace(options, search="joint")).summary["warnings"]
    assert not any("does not look at the priors" in text for text in told)


def test_a_gpu_that_is_not_there_or_has_nothing_to_do_is_refused(particles, refused, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert "no usable CUDA device was found" in refused(particles, "--device", "cuda")
    sentence = refused(particles, "--device", "cuda", "--search", "rotational")
    assert "--search rotational computes on the processor only" in sentence
