import shlex
import tomllib

import numpy as np
import pytest

from manyviews.errors import InputError
from manyviews.geometry.views import TiltGeometry
from manyviews.io.imod import read_angles, read_xf
from manyviews.io.mdoc import read_mdoc
from manyviews.io.mrc import read_header, read_mrc
from manyviews.simulate.specimens import specimen
from manyviews.tilt.options import SimulateOptions
from manyviews.tilt.simulate import simulate

SMALL = SimulateOptions(
    size=(48, 40), thickness=20, pixel_size=6.0, axes=(0.0, 90.0), tilt_min=-40, tilt_max=40, tilt_step=20
)


def options(**changes):
    from dataclasses import replace

    return replace(SMALL, **changes)


def test_writes_stacks_angles_truth_and_command(tmp_path):
    seen = []
    made = simulate(SMALL, tmp_path / "data", lambda *what: seen.append(what))
    names = {path.name for path in made.folder.iterdir()}
    stems = ("axis-000", "axis-090")
    assert names == {f"{stem}{end}" for stem in stems for end in (".mrc", ".rawtlt", ".mrc.mdoc")} | {
        "truth.mrc",
        "simulate.toml",
        "README.txt",
    }
    assert made.views == 10
    for stack, axis in zip(made.stacks, (0, 90), strict=True):
        header = read_header(stack)
        assert header.shape == (5, 40, 48)
        assert not header.is_volume
        np.testing.assert_allclose(header.pixel_size, 6.0)
        np.testing.assert_allclose(read_angles(stack.with_suffix(".rawtlt")), [-40, -20, 0, 20, 40])
        assert read_mdoc(stack.with_name(stack.name + ".mdoc")).axis_degrees == axis
    assert read_header(made.truth).shape == (20, 40, 48)
    assert made.command in (made.folder / "README.txt").read_text()
    words = shlex.split(made.command)
    assert words[:5] == ["manyviews", "tilt", "reconstruct", *map(str, made.stacks)]
    assert words[5:8] == ["--axis-angle", "0", "90"]
    assert "--transform" not in words
    assert seen[-1] == ("axis-090.mrc", 5, 5)
    assert tomllib.loads((made.folder / "simulate.toml").read_text())["options"]["seed"] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_images_are_the_exact_projections_of_the_specimen(tmp_path):
    made = simulate(SMALL, tmp_path / "data")
    phantom = specimen("cell", (20, 40, 48), 6.0, 0, outline="rectangle")
    np.testing.assert_allclose(read_mrc(made.truth)[0], phantom.density((20, 40, 48), 6.0))
    for stack, axis in zip(made.stacks, (0.0, 90.0), strict=True):
        geometry = TiltGeometry.from_tilt_axis([-40, -20, 0, 20, 40], axis)
        np.testing.assert_allclose(read_mrc(stack)[0], phantom.project(geometry, (40, 48), 6.0))


def test_untilted_images_of_all_axes_are_the_sum_of_the_truth(tmp_path):
    made = simulate(SMALL, tmp_path / "data")
    expected = read_mrc(made.truth)[0].sum(0)
    for stack in made.stacks:
        # the slab keeps 4 sigma from its faces, so a little of every Gaussian's foot is outside the volume
        np.testing.assert_allclose(read_mrc(stack)[0][2], expected, atol=1e-3 * expected.max())


def test_same_seed_same_bytes_other_seed_other_noise(tmp_path):
    noisy = options(noise=0.5, drift=0.1, shift_error=1.0)
    one, two = (simulate(noisy, tmp_path / name) for name in ("one", "two"))
    other = simulate(options(noise=0.5, drift=0.1, shift_error=1.0, seed=5), tmp_path / "other")
    for name in ("axis-000.mrc", "axis-090.xf", "truth.mrc"):
        assert (one.folder / name).read_bytes() == (two.folder / name).read_bytes()
        assert (one.folder / name).read_bytes() != (other.folder / name).read_bytes()


@pytest.mark.parametrize("how", [{"noise": 0.5}, {"snr": 4.0}])
def test_noise_has_the_strength_asked_for_and_no_pattern(tmp_path, how):
    clean = read_mrc(simulate(options(), tmp_path / "clean").stacks[0])[0]
    noisy = read_mrc(simulate(options(**how), tmp_path / "noisy").stacks[0])[0]
    noise = noisy - clean
    assert noise.std() == pytest.approx(0.5 * clean[2].std(), rel=0.03)
    assert abs(noise.mean()) < 0.05 * noise.std()
    pairs = np.corrcoef(noise.reshape(5, -1)) - np.eye(5)
    assert np.abs(pairs).max() < 0.1


def test_drift_is_a_recorded_gain_and_offset(tmp_path):
    clean = simulate(options(), tmp_path / "clean")
    drifted = simulate(options(drift=0.2), tmp_path / "drifted")
    record = tomllib.loads((drifted.folder / "simulate.toml").read_text())
    for before, after in zip(clean.stacks, drifted.stacks, strict=True):
        levels = record["stacks"][after.stem]
        gain, offset = (np.array(levels[name])[:, None, None] for name in ("gain", "offset"))
        np.testing.assert_allclose(
            read_mrc(after)[0], gain * read_mrc(before)[0] + offset, rtol=1e-5, atol=1e-4
        )
        assert np.ptp(gain) > 0.01
        assert np.abs(gain - 1).max() <= 0.2


def test_transform_file_brings_misaligned_images_back(tmp_path):
    from scipy.ndimage import affine_transform

    wide = {"size": (64, 64), "axes": (0.0,)}
    aligned = read_mrc(simulate(options(**wide), tmp_path / "aligned").stacks[0])[0]
    made = simulate(options(**wide, shift_error=2.0, axis_error=5.0), tmp_path / "raw")
    raw = read_mrc(made.stacks[0])[0]
    rows = read_xf(made.stacks[0].with_suffix(".xf"))
    assert "--transform" in made.command
    assert abs(np.rad2deg(np.arcsin(rows[0, 2]))) > 0.1
    middle = 63 / 2  # IMOD turns about the middle of the image
    for before, image, row in zip(aligned, raw, rows, strict=True):
        # x' = A (x - middle) + d + middle, arrays are (y, x), and scipy wants aligned to raw
        forward = row[:4].reshape(2, 2)[::-1, ::-1]
        back = np.linalg.inv(forward)
        shift = middle - back @ (row[[5, 4]] + middle)
        found = affine_transform(image, back, shift, order=5)
        # the tilt axis of IMOD is half a pixel from ours, so only the untilted view stays where it was
        assert np.corrcoef(found.ravel(), before.ravel())[0, 1] > 0.97
        assert (
            np.corrcoef(found.ravel(), before.ravel())[0, 1]
            > np.corrcoef(image.ravel(), before.ravel())[0, 1]
        )


def test_files_alone_lead_back_to_the_exact_geometry(tmp_path):
    from manyviews.tilt.options import SeriesOptions
    from manyviews.tilt.series.resolve import resolve_series

    made = simulate(options(axes=(0.0, -45.0), shift_error=2.0, axis_error=5.0), tmp_path / "data")
    assert made.stacks[1].name == "axis-m045.mrc"
    given = SeriesOptions(
        stacks=made.stacks,
        axis_angle=(0.0, -45.0),
        transform=tuple(stack.with_suffix(".xf") for stack in made.stacks),
    )
    geometry = resolve_series(given).geometry
    projected = specimen("cell", (20, 40, 48), 6.0, 0, outline="circle").project(geometry, (40, 48), 6.0)
    images = np.concatenate([read_mrc(stack)[0] for stack in made.stacks])
    np.testing.assert_allclose(images, projected, atol=1e-4 * images.max())


def test_int16_is_scaled_by_the_recorded_factor(tmp_path):
    real = read_mrc(simulate(options(), tmp_path / "real").stacks[0])[0]
    made = simulate(options(dtype="int16"), tmp_path / "whole")
    stored, header = read_mrc(made.stacks[0])
    assert header.mode == 1
    scale = tomllib.loads((made.folder / "simulate.toml").read_text())["grey_levels"]["scale"]
    np.testing.assert_allclose(stored, real * scale, atol=0.51)


def test_extended_specimen_fills_the_tilted_field(tmp_path):
    wide = {"size": (64, 64), "axes": (0.0,), "tilt_min": -60.0, "tilt_max": 60.0, "tilt_step": 60.0}
    ends = [
        read_mrc(simulate(options(**wide, extended=extended), tmp_path / str(extended)).stacks[0])[0][
            0, :, :8
        ]
        for extended in (False, True)
    ]
    assert ends[0].max() < 0.05 * ends[1].max()


@pytest.mark.parametrize("phantom", ["gaussians", "ellipsoids"])
def test_other_phantoms(tmp_path, phantom):
    made = simulate(options(phantom=phantom, axes=(22.5,)), tmp_path / "data")
    assert made.stacks[0].name == "axis-022.5.mrc"
    images = read_mrc(made.stacks[0])[0].sum((1, 2), dtype=np.float64)
    assert np.ptp(images) < 0.03 * images.mean()


def test_molecules_from_a_file(tmp_path):
    atom = "ATOM  {0:5d}  CA  ALA A{0:4d}    {1:8.3f}{2:8.3f}{3:8.3f}  1.00 20.00           C\n"
    model = tmp_path / "model.pdb"
    model.write_text("".join(atom.format(i, 3.0 * i, 2.0 * i, -1.0 * i) for i in range(1, 6)))
    made = simulate(options(phantom=str(model), size=(64,)), tmp_path / "data")
    assert read_mrc(made.truth)[0].max() > 0
    with pytest.raises(InputError, match="does not fit"):
        simulate(options(phantom=str(model), pixel_size=0.5), tmp_path / "more")
    assert not (tmp_path / "more").exists()


def test_nothing_is_overwritten_unasked(tmp_path):
    folder = tmp_path / "data"
    simulate(options(shift_error=1.0), folder)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        simulate(SMALL, folder)
    simulate(options(overwrite=True, axes=(0.0,)), folder)
    assert (folder / "notes.txt").read_text() == "mine"
    assert not list(folder.glob("axis-090*"))
    assert not list(folder.glob("*.xf"))


def test_a_failure_leaves_no_folder(tmp_path):
    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(SMALL, tmp_path / "data", stop)
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        simulate(SMALL, tmp_path / "file")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": (0, 10)}, "--size: 0 is too small"),
        ({"size": (1, 2, 3)}, "--size: 3 numbers are no size"),
        ({"axes": ()}, "no axis"),
        ({"axes": (45.0, 45.0)}, "twice"),
        ({"thickness": 0}, "--thickness: 0 is too small"),
        ({"thickness": 4}, "too small"),
        ({"pixel_size": 0.0}, "--pixel-size: 0 is too small; give a number above 0"),
        ({"tilt_min": 50.0}, "--tilt-min: tilts from 50 to"),
        ({"tilt_max": 90.0}, "--tilt-max: 90 is too large; give a number above -90 and below 90"),
        ({"tilt_step": 0.0}, "--tilt-step: "),
        ({"noise": -1.0}, "--noise: "),
        ({"snr": 0.0}, "--snr: "),
        ({"snr": 1.0, "noise": 1.0}, "two ways"),
        (
            {"seed": -1},
            "--seed: -1 is too small; .* from 0 on and below 9223372036854775808",
        ),
        ({"seed": 10**400}, "--seed: 10+\\.\\.\\. is too large"),
        ({"phantom": "teapot"}, "no phantom 'teapot'"),
        ({"phantom": "missing.pdb"}, "cannot be read"),
    ],
)
def test_impossible_options_are_told(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        simulate(options(**change), tmp_path / "data")
    assert not list(tmp_path.iterdir())


def test_bad_views_are_blocked_or_upside_down_and_listed(tmp_path):
    good, _ = read_mrc(simulate(SMALL, tmp_path / "good").stacks[0])
    made = simulate(options(bad_views=0.4), tmp_path / "bad")
    listed = tomllib.loads((made.folder / "simulate.toml").read_text())["stacks"]["axis-000"]["bad_sections"]
    assert {kind: len(sections) for kind, sections in listed.items()} == {"blocked": 1, "elsewhere": 1}
    images, _ = read_mrc(made.stacks[0])
    for section in range(1, 6):
        image, untouched = images[section - 1], good[section - 1]
        if section in listed["blocked"]:
            assert not image.any()
        elif section in listed["elsewhere"]:
            np.testing.assert_array_equal(image, untouched[::-1])
        else:
            np.testing.assert_array_equal(image, untouched)
