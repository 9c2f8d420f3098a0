"""Tilt images that are a file each, read as one stack from what names them."""

import gzip

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from manyviews.errors import InputError
from manyviews.io.mrc import MrcStack, write_mrc
from manyviews.io.tilt_stack import ListedStack, open_stack, open_stacks
from manyviews.runs.fingerprint import files_fingerprint

QUICK = settings(max_examples=60, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture])
TILTS = [0.0, 3.0, -3.0, 6.5]  # in the order in which they were taken
NAMES = [f"TS_01_{i:03d}_{tilt:.1f}.mrc" for i, tilt in enumerate(TILTS)]
IMAGES = np.arange(4 * 3 * 5, dtype=np.float32).reshape(4, 3, 5)


@pytest.fixture
def folder(tmp_path):
    """A folder with four images."""
    for name, image in zip(NAMES, IMAGES, strict=True):
        write_mrc(tmp_path / name, image, 4.0, is_volume=False)
    return tmp_path


def written(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def star(rows, labels=("rlnMicrographName", "rlnTomoNominalStageTiltAngle", "rlnTomoNominalTiltAxisAngle")):
    head = "\n".join(f"_{label} #{number}" for number, label in enumerate(labels, start=1))
    return "\n# version 50001\n\ndata_TS_01\n\nloop_\n" + head + "\n" + "\n".join(rows) + "\n\n"


def mdoc(names, key="SubFramePath", order=None):
    sections = [
        f"[ZValue = {i}]\nTiltAngle = {TILTS[i]}\n{key} = {names[i]}\n" for i in order or range(len(names))
    ]
    return "PixelSpacing = 4.0\n\n[T = SerialEM: a microscope]\n\n" + "\n".join(sections)


KINDS = {
    "names.txt": "\n".join(NAMES) + "\n",
    "remarks.lst": "# in the order of the angles\n\n" + "\r\n".join(NAMES),
    "angles.txt": "".join(f"{name}  {tilt}\n" for name, tilt in zip(NAMES, TILTS, strict=True)),
    "relion5.star": star([f"{name} {tilt} 85.3" for name, tilt in zip(NAMES, TILTS, strict=True)]),
    "warp.tomostar": star(
        [
            f"../warp/{name.replace('.mrc', '.eer')} {tilt} 85.3"
            for name, tilt in zip(NAMES, TILTS, strict=True)
        ],
        ("wrpMovieName", "wrpAngleTilt", "wrpAxisAngle"),
    ),
    "frames.mdoc": mdoc([rf"X:\frames\{name.replace('.mrc', '.eer')}" for name in NAMES]),
    "tiff.mrc.mdoc": mdoc([name.replace(".mrc", ".tif") for name in NAMES]),
    "images.mdoc": mdoc(NAMES, "ImageFile"),
    "unordered.mdoc": mdoc(NAMES, "ImageFile", order=[2, 0, 3, 1]),
    "series.mdoc": "".join(
        f"[Image = {name}]\nTiltAngle = {tilt}\n\n" for name, tilt in zip(NAMES, TILTS, strict=True)
    ),
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_list_gives_the_images_in_its_order(folder, name):
    path = written(folder / name, KINDS[name])
    if name == "tiff.mrc.mdoc":  # the movies themselves are there too
        for image in NAMES:
            (folder / image.replace(".mrc", ".tif")).write_bytes(b"II*\0" + bytes(2000))
    stack = open_stack(path)
    assert stack.shape == (4, 3, 5)
    assert stack.pixel_size == pytest.approx((4.0, 4.0, 4.0))
    assert np.array_equal(stack.read(), IMAGES)
    assert np.array_equal(stack.read([3, 1]), IMAGES[[3, 1]])
    assert stack.path == path
    assert [file.name for file in stack.files] == [path.name, *NAMES]
    tilts = stack.header.tilt_angles()
    has_tilts = name not in ("names.txt", "remarks.lst")
    assert tilts is None if not has_tilts else tilts.tolist() == TILTS
    assert isinstance(stack, ListedStack)
    assert stack.listed_axis == (85.3 if "star" in name else None)
    is_elsewhere = name in ("warp.tomostar", "frames.mdoc", "tiff.mrc.mdoc")
    assert any("found elsewhere" in text for text in stack.header.warnings) == is_elsewhere


def test_relions_names_are_from_its_project_folder(folder):
    rows = [f"{name} {tilt} 85.3" for name, tilt in zip(NAMES, TILTS, strict=True)]
    path = written(folder / "AlignTiltSeries" / "job004" / "tilt_series" / "TS_01.star", star(rows))
    stack = open_stack(path)
    assert np.array_equal(stack.read([2]), IMAGES[[2]])
    assert not stack.header.warnings


def test_warps_averages_lie_beside_its_movies(tmp_path):
    (tmp_path / "frames" / "average").mkdir(parents=True)
    for name, image in zip(NAMES, IMAGES, strict=True):
        write_mrc(tmp_path / "frames" / "average" / name, image, 4.0)
        (tmp_path / "frames" / name.replace(".mrc", ".tif")).write_bytes(b"II*\0" + bytes(2000))
    rows = [f"../frames/{name.replace('.mrc', '.tif')} 0" for name in NAMES]
    path = written(tmp_path / "tomostar" / "TS_01.tomostar", star(rows, ("wrpMovieName", "wrpAngleTilt")))
    assert np.array_equal(open_stack(path).read(), IMAGES)


def test_sections_of_stacks_may_be_named(folder):
    write_mrc(folder / "two.mrc", IMAGES[2:], 4.0, is_volume=False)
    stack = open_stack(written(folder / "l.txt", f"2@two.mrc\n{NAMES[0]}\n1@two.mrc\n"))
    assert np.array_equal(stack.read(), IMAGES[[3, 0, 2]])
    for bad, words in (("3@two.mrc", "image 3 of .* has 2"), ("0@two.mrc", "counted from 1"),
                       ("two.mrc", "holds 2 images where the list names one")):  # fmt: skip
        with pytest.raises(InputError, match=words) as caught:
            open_stack(written(folder / "l.txt", f"{NAMES[0]}\n{bad}\n"))
        assert "line 2" in str(caught.value)


def test_images_may_be_compressed_or_of_other_types(folder):
    (folder / "z.mrc.gz").write_bytes(gzip.compress((folder / NAMES[1]).read_bytes()))
    write_mrc(folder / "short.mrc", IMAGES[2].astype(np.int16), 4.0)
    stack = open_stack(written(folder / "l.txt", f"{NAMES[0]}\nz.mrc.gz\nshort.mrc\n"))
    assert np.array_equal(stack.read(), IMAGES[:3])
    assert stack.stored_bytes == 2 * (1024 + 60) + 1024 + 30


def test_a_list_is_known_again_and_its_images_too(folder):
    path = written(folder / "l.txt", "\n".join(NAMES))
    before = files_fingerprint(open_stack(path).files)
    assert files_fingerprint(open_stack(path).files) == before
    assert files_fingerprint((folder / NAMES[0],)).startswith("size:")  # one file, as ever
    write_mrc(folder / NAMES[3], IMAGES[3] + 1, 4.0, overwrite=True)
    assert files_fingerprint(open_stack(path).files) != before
    written(path, "\n".join(NAMES[::-1]))
    assert files_fingerprint(open_stack(path).files) != before


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a.mrc\n", "line 1: the image 'a.mrc' is neither there nor beside the list"),
        (f"{NAMES[0]}\n{NAMES[0]}\n", "line 2: names .* again, after line 1"),
        (f"{NAMES[0]}\nsub/{NAMES[0]}\n", "would both be the file"),
        ("-60.0\n-57.0\n", "holds numbers, not names of images"),
        ("# nothing\n", "names 0 images"),
        (
            "data_x\nloop_\n_rlnTomoName\n_rlnTomoTiltSeriesStarFile\nTS_01 t/TS_01.star\n",
            "e.g. t/TS_01.star",
        ),
        ("data_x\nloop_\n_rlnImageName\n1@a.mrcs\n", "table of particles.*manyviews particles"),
        ("data_x\nloop_\n_rlnTomoYTilt\n1.0\n", "neither rlnMicrographName nor wrpMovieName"),
        (
            "ImageFile = big.mrc\n[ZValue = 0]\nTiltAngle = 1\n",
            "line 2: names no image.*give the stack big.mrc",
        ),
        ("[FrameSet = 0]\nTiltAngle = -9.99\n", "names no image of its own"),
        (f"[ZValue = x]\nSubFramePath = {NAMES[0]}\n", "'x' is not a finite number"),
        ("small.mrc\nother.mrc\n", "6 x 6 pixels but .* is 5 x 3"),
        ("small.mrc\npicture.tif\n", "TIFF"),
    ],
)
def test_what_cannot_be_a_list_is_said_in_one_sentence(folder, text, words):
    write_mrc(folder / "small.mrc", IMAGES[0], 4.0)
    write_mrc(folder / "other.mrc", np.zeros((6, 6), np.float32), 4.0)
    (folder / "picture.tif").write_bytes(b"II*\0" + bytes(2000))
    with pytest.raises(InputError, match=words) as caught:
        open_stack(written(folder / "l.txt", text))
    assert "\n" not in str(caught.value)


def test_pixel_sizes_that_differ_are_not_taken(folder):
    write_mrc(folder / "other.mrc", IMAGES[0], 2.0)
    stack = open_stack(written(folder / "l.txt", f"{NAMES[0]}\nother.mrc\n"))
    assert stack.pixel_size is None
    assert "pixels of 2 to 4 A, so none is taken" in stack.header.warnings[0]


def test_a_bad_pixel_is_said_of_its_own_file(folder):
    bad = IMAGES[1].copy()
    bad[1, 1] = np.nan
    raw = (folder / NAMES[1]).read_bytes()
    (folder / NAMES[1]).write_bytes(raw[:1024] + bad.tobytes())
    stack = open_stack(written(folder / "l.txt", "\n".join(NAMES)))
    with pytest.raises(InputError, match=rf"{NAMES[1]}, section 2: 1 pixels are NaN"):
        stack.read()


def test_single_images_given_one_by_one_are_told_of_lists(folder):
    paths = [folder / name for name in NAMES]
    with pytest.raises(InputError, match=r"one of 4 files of a single image.*text file"):
        open_stacks(paths)
    write_mrc(folder / "two.mrc", IMAGES[:2], 4.0)
    stacks = open_stacks([folder / "two.mrc", folder / NAMES[0]])
    assert [type(stack) for stack in stacks] == [MrcStack, MrcStack]
    assert open_stacks(paths[:1])[0].shape == (1, 3, 5)


def test_a_folder_is_said_to_be_one(folder, tmp_path_factory, monkeypatch):
    with pytest.raises(InputError, match=rf"is a folder of 4 MRC files.*{NAMES[0]}.*text file"):
        open_stack(folder)
    one = tmp_path_factory.mktemp("one")
    with pytest.raises(InputError, match="is a folder without MRC files"):
        open_stack(one)
    write_mrc(one / "a.st", IMAGES, 4.0)
    with pytest.raises(InputError, match=r"is a folder, not a stack; give the stack in it, .*a\.st"):
        open_stack(one)
    monkeypatch.chdir(one)
    with pytest.raises(InputError, match=r"\., the folder you are in, is a folder"):
        open_stack("")
    with pytest.raises(InputError, match="is a folder; name the MRC file in it"):
        MrcStack(one)


@QUICK
@given(st.sampled_from(sorted(KINDS)), st.binary(max_size=60), st.integers(0, 400), st.integers(0, 40))
def test_damage_gives_a_stack_or_one_sentence(folder, name, noise, start, length):
    text = KINDS[name].encode()
    path = folder / "damaged"
    path.write_bytes(text[:start] + noise + text[start + length :])
    try:
        stack = open_stack(path)
    except InputError:
        return
    assert stack.read().shape == stack.shape
