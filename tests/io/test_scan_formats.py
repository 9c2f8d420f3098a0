"""Scans of every format: the same counts and angles come out, whatever held them."""

import shutil

import h5py
import numpy as np
import pytest
import tifffile

from manyviews.errors import InputError
from manyviews.io.mrc import write_mrc
from manyviews.io.scan_formats import read_field, read_scan_file
from scan_example import ROWS, counts, fields, write_data_exchange, write_nexus, write_tiffs

THETA = np.linspace(0.0, 180.0, 19)
WHOLE = slice(0, ROWS)


def images_of(selection):
    return selection.read(np.arange(selection.shape[0]), slice(0, selection.shape[1]))


def same(scan, *, angles=True):
    np.testing.assert_allclose(images_of(scan.projections), counts(THETA), rtol=1e-6)
    if angles:
        np.testing.assert_allclose(scan.theta_degrees, THETA, atol=1e-6)


def test_data_exchange(tmp_path):
    scan = read_scan_file(write_data_exchange(tmp_path / "scan", THETA))
    same(scan)
    flats, darks = fields()
    np.testing.assert_allclose(images_of(scan.flats), flats, rtol=1e-6)
    np.testing.assert_allclose(images_of(scan.darks), darks, rtol=1e-6)
    part = scan.projections.read(np.array([3, 4, 9]), slice(2, 5))
    np.testing.assert_allclose(part, counts(THETA)[[3, 4, 9], 2:5], rtol=1e-6)
    assert scan.files == (tmp_path / "scan",)


def test_angles_of_tomoscan_and_radians_that_say_so(tmp_path):
    path = write_data_exchange(tmp_path / "a.h5", THETA, theta=False)
    with h5py.File(path, "a") as file:
        for name, value in (("rotation_start", 5.0), ("rotation_step", 10.0), ("num_angles", 19)):
            file[f"process/acquisition/rotation/{name}"] = [value]
        place = "measurement/instrument/detection_system/objective/resolution"
        file[place] = [0.65]
        file[place].attrs["units"] = "microns"
    scan = read_scan_file(path)
    np.testing.assert_allclose(scan.theta_degrees, 5.0 + 10.0 * np.arange(19))
    assert scan.pixel_size_nm == pytest.approx(650.0)
    assert "no /exchange/theta" in scan.notes[0]
    with h5py.File(path, "a") as file:
        file["exchange/theta"] = np.deg2rad(THETA)
        file["exchange/theta"].attrs["units"] = "rad"
    scan = read_scan_file(path)
    np.testing.assert_allclose(scan.theta_degrees, THETA)
    assert "turned into degrees" in scan.notes[0]


def test_nexus_by_its_image_key(tmp_path):
    scan = read_scan_file(write_nexus(tmp_path / "a.nxs", THETA))
    same(scan)
    assert (scan.flats.shape[0], scan.darks.shape[0]) == (4, 4)
    np.testing.assert_allclose(scan.flats.read(np.array([3]), WHOLE)[0], fields()[0][1], rtol=1e-6)
    assert scan.pixel_size_nm == pytest.approx(6.5)
    assert "19 projections, 4 flats, 4 darks" in scan.notes[0]


def test_invalid_frames_are_left_out_and_return_views_marked(tmp_path):
    key = [1, 2, *[0] * 10, 3, *[0] * 9]
    control = [1, 2, *[0] * 10, 3, *[0] * 7, -1, -1]
    scan = read_scan_file(write_nexus(tmp_path / "a.nxs", THETA, key=key, control=control))
    same(scan)
    assert np.flatnonzero(scan.is_return).tolist() == [17, 18]
    assert "1 invalid" in scan.notes[0]


def test_angles_behind_a_link_that_is_broken_are_missing_and_why(tmp_path):
    path = write_nexus(tmp_path / "a.nxs", THETA, angles=False)
    with h5py.File(path, "a") as file:
        file["entry/data"] = h5py.Empty("f")
        del file["entry/data"]
        data = file.create_group("entry/data")
        data.attrs["NX_class"], data.attrs["axes"] = "NXdata", ["rotation", ".", "."]
        data["rotation"] = h5py.ExternalLink("stage.h5", "/angle")
    scan = read_scan_file(path)
    assert scan.theta_degrees is None
    assert "'stage.h5', which is not there" in scan.theta_source


def test_a_folder_of_tiffs_as_savu_has_it(tmp_path):
    scan = read_scan_file(write_tiffs(tmp_path / "scan", THETA, extra=3))
    same(scan, angles=False)  # in the order of numbers: raw_2 before raw_10
    assert len(scan.theta_degrees) == 25
    np.testing.assert_allclose(images_of(scan.flats)[0], fields()[0][1], rtol=1e-6)
    np.testing.assert_allclose(images_of(scan.darks)[0], fields()[1][1], rtol=1e-6)
    assert any("flat_1.tiff, by name" in note for note in scan.notes)


def test_flats_and_darks_among_the_projections_and_in_folders(tmp_path):
    folder = write_tiffs(tmp_path / "a", THETA)
    for name in ("flat_1.tiff", "dark_1.tiff", "angles.txt"):
        shutil.move(folder / name, folder / "tiffs" / name)
    scan = read_scan_file(folder / "tiffs")
    same(scan)
    assert scan.flats.shape[0] == scan.darks.shape[0] == 1
    (folder / "tiffs" / "flats").mkdir()
    for number in (1, 2):
        tifffile.imwrite(folder / "tiffs" / "flats" / f"{number}.tif", fields()[0][1].astype(np.float32))
    assert read_scan_file(folder / "tiffs").flats.shape[0] == 3


def test_a_tiff_stack_with_angles_of_its_name(tmp_path):
    path = tmp_path / "scan.tif"
    tifffile.imwrite(path, counts(THETA).astype(np.float32), photometric="minisblack")
    (tmp_path / "other_angles.txt").write_text("1 2 3\n")
    (tmp_path / "scan.txt").write_text("\n".join(map(str, THETA)))
    scan = read_scan_file(path)
    same(scan)
    part = scan.projections.read(np.array([18, 0]), slice(3, 4))
    np.testing.assert_allclose(part, counts(THETA)[[18, 0], 3:4], rtol=1e-6)
    assert scan.kind == "TIFF stack"


def test_a_large_stack_of_imagej(tmp_path):
    """It describes the first image only, and says how many follow."""
    path = tmp_path / "scan.tif"
    tifffile.imwrite(path, counts(THETA).astype(np.float32), imagej=True, truncate=True)
    with tifffile.TiffFile(path) as tiff:
        assert len(tiff.pages) == 1
    scan = read_scan_file(path)
    same(scan, angles=False)
    part = scan.projections.read(np.array([18, 0]), slice(3, 4))
    np.testing.assert_allclose(part, counts(THETA)[[18, 0], 3:4], rtol=1e-6)
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(InputError, match="promises 19 images, for which it is too short"):
        read_scan_file(path)


def test_an_mrc_stack_with_a_rawtlt(tmp_path):
    path = tmp_path / "needle.mrc"
    write_mrc(path, counts(THETA).astype(np.float32), 33.6, is_volume=False)
    (tmp_path / "needle.rawtlt").write_text("\n".join(map(str, THETA)))
    scan = read_scan_file(path)
    same(scan)
    assert scan.pixel_size_nm == pytest.approx(3.36)
    assert scan.flats is None


def with_extended_header(path, extended, kind=b"", label=b""):
    """An MRC stack with these bytes after its header."""
    write_mrc(path, counts(THETA).astype(np.float32), 1.0, is_volume=False)
    raw = bytearray(path.read_bytes())
    raw[92:96], raw[104:108] = len(extended).to_bytes(4, "little"), kind.ljust(4, b"\0")
    raw[220:224], raw[224:304] = (1).to_bytes(4, "little"), label.ljust(80)
    path.write_bytes(raw[:1024] + extended + raw[1024:])
    return path


def test_extended_headers_of_fei_tell_tilts_axis_and_pixel_size(tmp_path):
    new = np.zeros((19, 768), np.uint8)
    new[:, 0:4] = np.frombuffer(np.int32(768).tobytes(), np.uint8)
    new[:, 8:12] = np.frombuffer(np.uint32(1 << 7 | 1 << 12 | 1 << 14).tobytes(), np.uint8)
    new[:, 100:108] = THETA.view(np.uint8).reshape(19, 8)
    new[:, 140:148] = np.frombuffer(np.float64(85.3).tobytes(), np.uint8)
    new[:, 156:164] = np.frombuffer(np.float64(2.5e-9).tobytes(), np.uint8)
    scan = read_scan_file(with_extended_header(tmp_path / "new.mrc", new.tobytes(), b"FEI1"))
    same(scan)
    assert (scan.axis_angle_degrees, scan.pixel_size_nm) == (85.3, pytest.approx(2.5))
    old = np.zeros((1024, 32), np.float32)
    old[:19, 0], old[:19, 10], old[:19, 11] = THETA, 91.0, 3.36e-9
    label = b"Fei Company (c) Copyright 2003"
    scan = read_scan_file(with_extended_header(tmp_path / "old.mrc", old.tobytes(), label=label))
    same(scan)
    assert (scan.axis_angle_degrees, scan.pixel_size_nm) == (91.0, pytest.approx(3.36))
    old[:19, 10] = 0.0  # not filled in
    (tmp_path / "old.mrc").unlink()
    scan = read_scan_file(with_extended_header(tmp_path / "old.mrc", old.tobytes(), label=label))
    assert scan.axis_angle_degrees is None


def test_given_flats(tmp_path):
    folder = write_tiffs(tmp_path / "a", THETA)
    assert read_field([folder / "flat_1.tiff", folder / "dark_1.tiff"]).shape[0] == 2
    assert read_field([folder / "tiffs"]).shape[0] == 19
    write_mrc(tmp_path / "f.mrc", fields()[0].astype(np.float32), 1.0, is_volume=False)
    assert read_field([tmp_path / "f.mrc"]).shape[0] == 3
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="has no TIFF files"):
        read_field([tmp_path / "empty"])


def edited(path, change):
    with h5py.File(path, "a") as file:
        change(file)
    return path


def test_what_is_no_scan_is_said_in_a_sentence(tmp_path):
    text = tmp_path / "a.txt"
    text.write_text("1\n2\n")
    with pytest.raises(InputError, match="is text, no scan"):
        read_scan_file(text)
    with pytest.raises(InputError, match="cannot be read"):
        read_scan_file(tmp_path / "nothing.h5")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no TIFF files with projections"):
        read_scan_file(tmp_path / "empty")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["volume"] = np.zeros((2, 3, 4))
    with pytest.raises(InputError, match=r"neither /exchange/data .* nor an image_key"):
        read_scan_file(tmp_path / "b.h5")


@pytest.mark.parametrize(
    ("name", "shape", "dtype", "said"),
    [
        ("exchange/data", (19, 12), "f4", "have 2 axes, not 3"),
        ("exchange/data", (19, 12, 0), "f4", "19 images of 0 x 12 pixels are promised"),
        ("exchange/data", (2, 3, 4), "c8", "holds 'complex64'"),
        ("exchange/data", (2, 3, 4), "S4", "holds 'bytes32'"),
        ("exchange/theta", (3,), "S4", "is no list of numbers"),
    ],
)
def test_data_of_other_kinds(tmp_path, name, shape, dtype, said):
    def change(file):
        del file[name]
        file[name] = np.zeros(shape, dtype)

    path = edited(write_data_exchange(tmp_path / "a.h5", THETA), change)
    with pytest.raises(InputError, match=said):
        read_scan_file(path)


def test_keys_that_do_not_fit(tmp_path):
    name = "entry/instrument/detector/image_key"

    def keys(values):
        def change(file):
            del file[name]
            file[name] = values

        return edited(write_nexus(tmp_path / "a.nxs", THETA), change)

    for values, said in (
        (np.zeros(5, int), "has 5 entries for 27 frames"),
        (np.ones(27, int), "marks no frame as a projection"),
        (np.full(27, 0.5), "holds other numbers than keys"),
    ):
        with pytest.raises(InputError, match=said):
            read_scan_file(keys(values))
        (tmp_path / "a.nxs").unlink()


def test_tiffs_that_do_not_fit(tmp_path):
    folder = write_tiffs(tmp_path / "a", THETA)
    tifffile.imwrite(folder / "tiffs" / "raw_7.tiff", np.zeros((3, 4), np.float32))
    with pytest.raises(InputError, match=r"raw_7.tiff: is 4 x 3 pixels but raw_0.tiff is 48 x 12"):
        read_scan_file(folder)
    tifffile.imwrite(folder / "tiffs" / "raw_7.tiff", np.zeros((12, 48), np.uint8))
    with pytest.raises(InputError, match=r"raw_7.tiff: holds uint8 but raw_0.tiff float32"):
        read_scan_file(folder)
    tifffile.imwrite(folder / "tiffs" / "raw_7.tiff", np.zeros((12, 48, 3), np.uint8), photometric="rgb")
    with pytest.raises(InputError, match="not grey values"):
        read_scan_file(folder)
    (folder / "tiffs" / "raw_7.tiff").write_bytes(b"II*\0\0\0")
    with pytest.raises(InputError, match=r"raw_7.tiff: cannot be read as TIFF|has 0 images"):
        read_scan_file(folder)
    (folder / "b").mkdir()
    tifffile.imwrite(folder / "b" / "1.tif", np.zeros((12, 48), np.float32))
    with pytest.raises(InputError, match="has no TIFF files but in b, tiffs"):
        read_scan_file(folder)
