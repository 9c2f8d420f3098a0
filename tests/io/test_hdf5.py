"""HDF5 files of others: what links lead to, inside the folder and outside, and sets that hold less than
they say.
"""

import h5py
import numpy as np
import pytest

from manyviews.errors import InputError
from manyviews.io.frames import everything
from manyviews.io.hdf5 import locate, open_frames, read_numbers

SHAPE = (6, 4, 5)
DATA = np.arange(120.0, dtype=np.float32).reshape(SHAPE)


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "scan"
    (made / "parts").mkdir(parents=True)
    return made


def write(path, name="data", data=DATA, **how):
    with h5py.File(path, "w") as file:
        file.create_dataset(name, data=data, **how)
    return path


def read(path, name="data"):
    place = locate(path, name)
    frames = open_frames(place, path.resolve().parent)
    return everything(frames).read(np.arange(frames.shape[0]), slice(None)), frames


@pytest.mark.parametrize("how", [{}, {"chunks": (1, 4, 5)}, {"chunks": (4, 3, 2), "compression": "gzip"}])
def test_any_layout_reads_the_same(folder, how):
    """Also chunks that do not divide the shape."""
    found, frames = read(write(folder / "a.h5", **how))
    np.testing.assert_array_equal(found, DATA)
    np.testing.assert_array_equal(frames.read(np.array([5, 0, 1, 3]), slice(1, 3)), DATA[[5, 0, 1, 3], 1:3])


def test_links_inside_the_folder_are_followed(folder):
    write(folder / "parts" / "b.h5", "deep/set")
    with h5py.File(folder / "a.h5", "w") as file:
        file["soft"] = h5py.SoftLink("/group/outer/set")
        file.create_group("group")["outer"] = h5py.ExternalLink("parts/b.h5", "/deep")
        file["relative"] = h5py.SoftLink("group/outer/set")
        file["broken"] = h5py.SoftLink("/nothing")
    for name in ("soft", "relative", "/group/outer/set"):
        found, frames = read(folder / "a.h5", name)
        np.testing.assert_array_equal(found, DATA)
        assert frames.files == (folder / "parts" / "b.h5",)
    assert locate(folder / "a.h5", "broken") is None
    assert locate(folder / "a.h5", "soft/more") is None


def test_a_linked_file_that_lies_beside_is_found_and_told(folder):
    write(folder / "b.h5")
    with h5py.File(folder / "a.h5", "w") as file:
        file["data"] = h5py.ExternalLink("gone/b.h5", "/data")
    place = locate(folder / "a.h5", "data")
    assert place.file == folder / "b.h5"
    assert "'gone/b.h5' was found beside" in place.moved


@pytest.mark.parametrize("way", ["relative", "absolute", "symbolic"])
def test_links_out_of_the_folder_are_refused(folder, tmp_path, way):
    outside = write(tmp_path / "secret.h5")
    name = {"relative": "../secret.h5", "absolute": str(outside), "symbolic": "inside.h5"}[way]
    if way == "symbolic":
        (folder / "inside.h5").symlink_to(outside)
    with h5py.File(folder / "a.h5", "w") as file:
        file["data"] = h5py.ExternalLink(name, "/data")
    with pytest.raises(InputError, match="outside its folder and is not followed"):
        locate(folder / "a.h5", "data")


def test_circles_and_missing_files(folder):
    with h5py.File(folder / "a.h5", "w") as file:
        file["one"], file["two"] = h5py.SoftLink("/two"), h5py.SoftLink("/one")
        file["self"] = h5py.ExternalLink("a.h5", "/self")
        file["gone"] = h5py.ExternalLink("gone.h5", "/data")
    for name in ("one", "self"):
        with pytest.raises(InputError, match="leads through too many links"):
            locate(folder / "a.h5", name)
    with pytest.raises(InputError, match=r"links to 'gone.h5', which is not there"):
        locate(folder / "a.h5", "gone")


def virtual(path, sources, shape=SHAPE):
    layout = h5py.VirtualLayout(shape, np.float32)
    for number, name in enumerate(sources):
        layout[3 * number : 3 * number + 3, :4, :5] = h5py.VirtualSource(name, "data", (3, 4, 5))
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("data", layout)
    return path


def test_virtual_sets_inside_the_folder(folder):
    for number in range(2):
        write(folder / "parts" / f"{number}.h5", data=DATA[3 * number : 3 * number + 3])
    found, frames = read(virtual(folder / "a.h5", ["parts/0.h5", "parts/1.h5"]))
    np.testing.assert_array_equal(found, DATA)
    assert len(frames.files) == 3


def test_virtual_sets_that_lack_parts_are_refused(folder, tmp_path, monkeypatch):
    write(folder / "0.h5", data=DATA[:3])
    for sources, shape, said in (
        (["0.h5", "1.h5"], SHAPE, r"links to '1.h5', which is not there"),
        (["0.h5", "../1.h5"], SHAPE, "outside its folder"),
        (["0.h5"], SHAPE, "maps 50 % of its images"),
        (["0.h5"], (10**6, 10**4, 10**4), "maps .* % of its images"),
    ):
        write(tmp_path / "1.h5", data=DATA[3:])
        path = virtual(folder / "a.h5", sources, shape)
        with pytest.raises(InputError, match=said):
            read(path)
    monkeypatch.setenv("HDF5_VDS_PREFIX", str(tmp_path))
    with pytest.raises(InputError, match="HDF5_VDS_PREFIX"):
        read(virtual(folder / "a.h5", ["0.h5", "0.h5"]))


def test_virtual_sets_that_grow(folder):
    """As detectors write them: mapped without end, of data that grew; or of files named by a pattern."""
    unlimited = h5py.h5s.UNLIMITED
    write(folder / "0.h5", maxshape=(None, 4, 5), chunks=(1, 4, 5))
    layout = h5py.VirtualLayout(SHAPE, np.float32, maxshape=(None, 4, 5))
    source = h5py.VirtualSource("0.h5", "data", SHAPE, maxshape=(None, 4, 5))
    layout[:unlimited] = source[:unlimited]
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_virtual_dataset("data", layout)
    np.testing.assert_array_equal(read(folder / "a.h5")[0], DATA)
    space = h5py.h5s.create_simple(SHAPE, (unlimited, 4, 5))
    space.select_hyperslab((0, 0, 0), (unlimited, 1, 1), (3, 4, 5), (3, 4, 5))
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_virtual(space, b"%b.h5", b"data", h5py.h5s.create_simple((3, 4, 5)))
    with h5py.File(folder / "b.h5", "w") as file:
        h5py.h5d.create(file.id, b"data", h5py.h5t.IEEE_F32LE, space, dcpl=properties)
    (folder / "%b.h5").touch()
    with pytest.raises(InputError, match=r"named by the pattern '%b.h5'"):
        read(folder / "b.h5")


def test_virtual_sets_of_links_and_of_sets_are_refused(folder, tmp_path):
    """The library would follow them anywhere."""
    write(tmp_path / "secret.h5")
    with h5py.File(folder / "0.h5", "w") as file:
        file["data"] = h5py.ExternalLink("../secret.h5", "/data")
    with pytest.raises(InputError, match="not data itself"):
        read(virtual(folder / "a.h5", ["0.h5", "0.h5"]))
    write(folder / "2.h5", data=DATA[:3])
    virtual(folder / "1.h5", ["2.h5", "2.h5"])
    with pytest.raises(InputError, match="not data itself"):
        read(virtual(folder / "a.h5", ["1.h5", "1.h5"]))


def test_raw_data_outside(folder, tmp_path):
    (folder / "in.raw").write_bytes(DATA.tobytes())
    (tmp_path / "out.raw").write_bytes(DATA.tobytes())
    for name in ("in.raw", "../out.raw"):
        with h5py.File(folder / "a.h5", "w") as file:
            file.create_dataset("data", SHAPE, np.float32, external=[(name, 0, DATA.nbytes)])
        if name == "in.raw":
            assert locate(folder / "a.h5", "data") is not None
            frames = open_frames(locate(folder / "a.h5", "data"), folder)
            assert frames.files == (folder / "a.h5", folder / "in.raw")
        else:
            with pytest.raises(InputError, match="outside its folder"):
                read(folder / "a.h5")


def test_what_was_never_written_is_no_data(folder):
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_dataset("chunked", (10**5, 2000, 2000), np.uint16, chunks=(1, 2000, 2000))
        file.create_dataset("plain", (1000, 200, 200), np.uint16)
        part = file.create_dataset("part", SHAPE, np.float32, chunks=(1, 4, 5))
        part[:4] = DATA[:4]
        file.create_dataset("huge chunk", (4, 20000, 20000), np.uint16, chunks=(1, 20000, 20000))
    for name, said in (
        ("chunked", "only 0 of 100000 chunks were ever written"),
        ("plain", "its images are not in the file"),
        ("part", "only 4 of 6 chunks"),
        ("huge chunk", "is stored in chunks of 763 MiB"),
    ):
        with pytest.raises(InputError, match=said):
            read(folder / "a.h5", name)


def test_numbers(folder):
    with h5py.File(folder / "a.h5", "w") as file:
        file["theta"] = [[1.0, 2.0]]
        file["theta"].attrs["units"] = np.bytes_(b"degrees")
        file["nan"], file["text"], file["group/x"] = [1.0, np.nan], "abc", 1
        file.create_dataset("long", (1 << 24,), np.float64)
    values, unit = read_numbers(locate(folder / "a.h5", "theta"), folder)
    assert (values.tolist(), unit) == ([1.0, 2.0], "degrees")
    for name, said in (
        ("nan", "not finite"),
        ("text", "no list of numbers"),
        ("group", "is a group"),
        ("long", "no list of numbers"),
    ):
        with pytest.raises(InputError, match=said):
            read_numbers(locate(folder / "a.h5", name), folder)


def test_files_that_are_damaged(folder):
    path = write(folder / "a.h5")
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(InputError, match="cannot be read as HDF5"):
        locate(path, "data")
    with pytest.raises(InputError, match="is not there"):
        locate(folder / "b.h5", "data")
