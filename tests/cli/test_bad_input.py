"""Input that cannot be used: one line on standard error, exit code 2, and nothing lost or left behind."""

import json
import shutil
import struct
import subprocess

import numpy as np
import pytest

from manyviews.cli.main import main
from manyviews.geometry.views import TiltGeometry
from manyviews.io.mrc import HEADER_BYTES, read_mrc, write_mrc
from manyviews.simulate.phantoms import Gaussians

pytestmark = pytest.mark.usefixtures("blank_pictures")

PIXEL = 4.0
SHAPE = (12, 30, 34)
TILTS = np.linspace(-60.0, 60.0, 9)
BEADS = np.array([[6.0, -4.0, 2.0], [-8.0, 5.0, -2.0]])  # x, y, z in voxels
PHANTOM = Gaussians.isotropic([1.0, 0.7], BEADS * PIXEL, 1.5 * PIXEL)
LARGE_FIELDS = (0, 4, 8)  # bytes of the numbers of columns, rows, sections


def images(*, shape=SHAPE):
    return PHANTOM.project(TiltGeometry.from_tilt_axis(TILTS), shape[1:], PIXEL)


def stack(folder, name="a", *, data=None, pixel_size=PIXEL, tilts=TILTS):
    path = folder / f"{name}.mrc"
    write_mrc(path, images() if data is None else data, pixel_size, is_volume=False)
    path.with_suffix(".rawtlt").write_text("\n".join(map(str, tilts)) + "\n")
    return path


def words(out, *stacks, thickness=SHAPE[0], options=()):
    given = [] if thickness is None else ["--thickness", str(thickness)]
    return [
        "tilt", "reconstruct", *map(str, stacks), "--out", str(out), "--quiet", "--device", "cpu", *given,
        *options,
    ]  # fmt: skip


@pytest.fixture
def refused(capsys):
    """Run a command line, check how it is refused, and return the sentence."""

    def run(arguments):
        assert main(arguments) == 2
        out, err = capsys.readouterr()
        assert out == ""
        errors = [line for line in err.splitlines() if line.startswith("manyviews: ")]
        assert len(errors) == 1
        assert err.endswith(errors[0] + "\n")
        assert errors[0].startswith("manyviews: error: ")
        assert "Traceback" not in err
        return errors[0]

    return run


@pytest.fixture
def out(tmp_path):
    """A run folder that must not be made."""
    folder = tmp_path / "run"
    yield folder
    assert not folder.exists()


def patched(path, offset, data):
    raw = bytearray(path.read_bytes())
    raw[offset : offset + len(data)] = data
    path.write_bytes(raw)
    return path


def test_angle_count_not_matching(tmp_path, out, refused):
    angles = tmp_path / "other.tlt"
    angles.write_text("\n".join(map(str, TILTS[:-1])))
    said = refused(words(out, stack(tmp_path), options=("--tilt-angles", str(angles))))
    assert "a.mrc" in said
    assert "9 sections" in said
    assert "other.tlt gives 8 tilt angles" in said


def test_angle_file_missing_or_nonsense(tmp_path, out, refused):
    path = stack(tmp_path)
    said = refused(words(out, path, options=("--tilt-angles", str(tmp_path / "none.tlt"))))
    assert "none.tlt" in said
    (tmp_path / "text.tlt").write_text("\n".join(["-10", "ten", *["1"] * 7]))
    said = refused(words(out, path, options=("--tilt-angles", str(tmp_path / "text.tlt"))))
    assert "text.tlt" in said
    assert "line 2" in said


def as_big_endian(path, *, stamp=True):
    raw = path.read_bytes()
    header = np.frombuffer(raw[:HEADER_BYTES], "<i4").astype(">i4").tobytes()
    labels = raw[224:HEADER_BYTES]
    mark = (b"MAP " + bytes((0x11, 0x11, 0, 0))) if stamp else raw[208:216]
    body = np.frombuffer(raw[HEADER_BYTES:], "<f4").astype(">f4").tobytes()
    path.write_bytes(header[:208] + mark + header[216:224] + labels + body)
    return path


@pytest.mark.parametrize("stamp", [True, False])
def test_the_other_byte_order_is_read_right(stamp, tmp_path, capsys):
    """Also where the machine stamp says the opposite of what the numbers say."""
    results = []
    for name in ("little", "big"):
        folder = tmp_path / name
        folder.mkdir()
        path = stack(folder)
        if name == "big":
            as_big_endian(path, stamp=stamp)
        assert main(words(tmp_path / f"run-{name}", path)) == 0
        results.append((tmp_path / f"run-{name}" / "volume.mrc").read_bytes())
    assert results[0] == results[1]


def test_sizes_that_make_sense_in_no_byte_order(tmp_path, out, refused):
    said = refused(words(out, patched(stack(tmp_path), 0, b"\xff\xfe\xfd\xff" * 4)))
    assert "a.mrc" in said
    assert "make no sense in either byte order" in said


def test_no_mrc_file_at_all(tmp_path, out, refused):
    path = tmp_path / "a.mrc"
    path.write_bytes(b"not a picture\0")
    assert "an MRC header alone has 1024" in refused(words(out, path))
    path.write_text("not a picture")
    assert "is text, not MRC" in refused(words(out, path))
    assert "none.mrc" in refused(words(out, tmp_path / "none.mrc"))


@pytest.mark.parametrize("lost", [1, 4000])
def test_truncated(lost, tmp_path, out, refused):
    path = stack(tmp_path)
    path.write_bytes(path.read_bytes()[:-lost])
    said = refused(words(out, path))
    assert "the header promises" in said
    assert "truncated" in said


def test_a_header_that_claims_terabytes(tmp_path, out, refused):
    path = stack(tmp_path)
    for field, size in zip(LARGE_FIELDS, (100_000, 100_000, 1000), strict=True):
        patched(path, field, struct.pack("<i", size))
    said = refused(words(out, path))
    assert "the header promises 40000000001024 bytes" in said


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_pixels_that_are_no_numbers(value, tmp_path, refused):
    path = stack(tmp_path)
    raw = bytearray(path.read_bytes())
    struct.pack_into("<f", raw, HEADER_BYTES + 4 * (4 * 30 * 34 + 5), value)
    path.write_bytes(raw)
    run = tmp_path / "run"
    said = refused(words(run, path))
    assert "a.mrc, section 5: 1 pixels are NaN or infinite" in said
    assert not (run / "volume.mrc").exists()
    assert main(words(tmp_path / "other", path, options=("--exclude", "5"))) == 0


def test_stacks_of_different_sizes(tmp_path, out, refused):
    other = stack(tmp_path, "b", data=images(shape=(12, 28, 34)))
    said = refused(words(out, stack(tmp_path), other, options=("--axis-angle", "0", "90")))
    assert "b.mrc: images are 34 x 28 but those of" in said
    assert "34 x 30" in said


def test_different_pixel_sizes(tmp_path, out, refused):
    other = stack(tmp_path, "b", pixel_size=5.0)
    said = refused(words(out, stack(tmp_path), other, options=("--axis-angle", "0", "90")))
    assert "b.mrc: the pixel size is 5 A but that of" in said
    assert "is 4 A" in said


@pytest.mark.parametrize(
    ("thickness", "parts"),
    [
        (-5, ["--thickness", "leaves no slice"]),
        ("thin", ["--thickness", "'thin' is not a whole number"]),
        (10**9, ["--thickness", "of memory and disk", "are free"]),
    ],
)
def test_thickness(thickness, parts, tmp_path, out, refused):
    said = refused(words(out, stack(tmp_path), thickness=thickness))
    for part in parts:
        assert part in said


@pytest.mark.parametrize("thickness", [None, 0])
def test_a_thickness_that_nobody_knows(thickness, tmp_path, out, refused):
    noise = np.random.Generator(np.random.PCG64(1)).normal(size=images().shape).astype(np.float32)
    said = refused(words(out, stack(tmp_path, data=noise), thickness=thickness))
    assert "--thickness" in said
    assert "is not known" in said


def test_a_thickness_from_the_images_is_told_even_if_quiet(tmp_path, capsys):
    out = tmp_path / "kept"
    assert main(words(out, stack(tmp_path), thickness=None)) == 0
    told = "the images show a specimen"
    assert told in capsys.readouterr().err
    assert any(told in line for line in json.loads((out / "summary.json").read_text())["warnings"])


def test_a_volume_that_fits_but_its_method_does_not(tmp_path, out, refused, monkeypatch):
    from manyviews.jobs import device

    monkeypatch.setattr(device, "available_memory_bytes", lambda: 200 << 20)
    said = refused(words(out, stack(tmp_path)))
    assert "the reconstruction needs about" in said
    assert "200 MiB are free" in said


def test_unknown_option_and_what_was_meant(tmp_path, out, refused):
    path = stack(tmp_path)
    said = refused(words(out, path, options=("--iteration", "3")))
    assert "unknown option --iteration" in said
    assert "--iterations?" in said
    said = refused(words(out, path, options=("--method", "consensu")))
    assert "did you mean consensus?" in said


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (("--bin", "0"), "bin"),
        (("--bin", "99"), "bin"),
        (("--iterations", "0"), "--iterations"),
        (("--relaxation", "nan"), "relaxation"),
        (("--damping", "-1"), "--damping"),
        (("--subsets", "40", "--method", "consensus"), "9 views cannot be divided into 40 subsets"),
        (("--total-variation", "1"), "leave it out, or use --method admm or consensus"),
        (("--exclude", "1-9"), "every view is left out"),
        (("--axis-angle", "0", "90"), "2 angles were given for 1 stacks"),
        (("--pixel-size", "0"), "--pixel-size: 0 is too small"),
        (("--reference", "none.mrc"), "none.mrc"),
        (("--transform", "none.xf"), "none.xf"),
    ],
)
def test_options_that_cannot_be(options, part, tmp_path, out, refused):
    assert part in refused(words(out, stack(tmp_path), options=options))


def test_blank_images(tmp_path, refused):
    path = stack(tmp_path, data=np.ones((9, 30, 34), np.float32))
    run = tmp_path / "run"
    assert "all images are blank" in refused(words(run, path))
    assert not (run / "volume.mrc").exists()


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_output_folder_of_another_run(tmp_path, refused, capsys):
    path, run = stack(tmp_path), tmp_path / "run"
    assert main(words(run, path)) == 0
    capsys.readouterr()
    before = contents(run)
    said = refused(words(run, path, options=("--iterations", "3")))
    assert "holds a run with other options: iterations was 15, now 3" in said
    assert "--overwrite" in said
    write_mrc(path, images() + 1.0, PIXEL, is_volume=False, overwrite=True)
    assert "other input files: 1: a.mrc changed" in refused(words(run, path))
    after = contents(run)
    assert {name for name in after if after[name] != before.get(name)} <= {"log.txt"}


def test_output_folder_with_other_things(tmp_path, refused):
    run = tmp_path / "run"
    run.mkdir()
    (run / "thesis.txt").write_text("mine")
    said = refused(words(run, stack(tmp_path)))
    assert "is not empty and holds no run" in said
    assert contents(run) == {"thesis.txt": b"mine"}


def test_output_folder_that_is_a_file(tmp_path, refused):
    path = stack(tmp_path)
    (tmp_path / "file").write_text("mine")
    assert "is a file, not a folder" in refused(words(tmp_path / "file", path))
    assert "file" in refused(words(tmp_path / "file" / "run", path))
    assert (tmp_path / "file").read_text() == "mine"


@pytest.fixture
def mounted(tmp_path):
    """Mounts a small disk with the given options; only a privileged user can."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options):
        program = shutil.which("mount")
        command = [str(program), "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        if program is None or subprocess.run(command, capture_output=True, check=False).returncode != 0:
            pytest.skip("this user cannot mount a small disk")
        return folder

    yield mount
    if folder.is_mount():
        subprocess.run(["umount", str(folder)], check=True)


def test_read_only_folder(tmp_path, mounted, refused):
    folder = mounted("ro,size=1m")
    said = refused(words(folder / "run", stack(tmp_path)))
    assert str(folder / "run") in said
    assert "Read-only file system" in said


def test_disk_too_small_for_the_volume(tmp_path, mounted, refused):
    folder = mounted("size=64k")
    said = refused(words(folder / "run", stack(tmp_path), thickness=40))
    assert "the disk has" in said
    assert not (folder / "run" / "volume.mrc").exists()


def test_disk_full_in_the_end_loses_nothing(tmp_path, mounted, refused):
    folder, path = mounted("size=350k"), stack(tmp_path)  # enough for a checkpoint, not for the volume too
    said = refused(words(folder / "run", path))
    assert "No space left on device" in said
    assert list((folder / "run/checkpoint").glob("reconstruct-*"))
    subprocess.run(["mount", "-o", "remount,size=4m", str(folder)], check=True)
    assert main(words(folder / "run", path)) == 0
    assert "reconstruct: done before" in (folder / "run/log.txt").read_text()
    assert read_mrc(folder / "run/volume.mrc")[0].shape == SHAPE
    assert (folder / "run" / "report.html").is_file()
