import io
import struct
import time
import tracemalloc
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fake_world import outcomes, results
from manyviews.errors import InputError
from manyviews.io import mrc as module
from manyviews.io.mrc import (
    HEADER_BYTES,
    MrcStack,
    MrcWriter,
    read_header,
    read_mrc,
    write_mrc,
    write_mrc_slabs,
)
from manyviews.parallel.world import shares

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "tilt"
QUICK = settings(max_examples=60, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture])


def array(dtype, shape=(3, 4, 5)):
    values = np.arange(np.prod(shape)).reshape(shape) - (10 if np.dtype(dtype).kind in "if" else 0)
    return values.astype(dtype)


def raw_file(path, *, order="<", mode=2, shape=(2, 3, 4), data=None, lengths=None, extended=b"", edit=None):
    """An MRC file written by hand, field by field."""
    sections, rows, columns = shape
    raw = bytearray(HEADER_BYTES)
    struct.pack_into(order + "10i", raw, 0, columns, rows, sections, mode, 0, 0, 0, columns, rows, sections)
    struct.pack_into(order + "3f", raw, 40, *(lengths or (columns * 2.0, rows * 2.0, sections * 2.0)))
    struct.pack_into(order + "3i", raw, 64, 1, 2, 3)
    struct.pack_into(order + "i", raw, 92, len(extended))
    raw[208:214] = b"MAP " + (b"\x44\x44" if order == "<" else b"\x11\x11")
    if edit:
        edit(raw)
    code = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}.get(mode, "f4")
    values = array(code, shape) if data is None else data
    path.write_bytes(bytes(raw) + extended + values.astype(np.dtype(order + code)).tobytes())
    return path


@pytest.mark.parametrize("dtype", ["float32", "int16", "uint16", "float16"])
def test_written_file_is_read_by_mrcfile_and_by_us(tmp_path, dtype):
    path = tmp_path / "a.mrc"
    write_mrc(path, array(dtype), (1.5, 1.5, 3.0), labels=["first", "second"])
    with mrcfile.open(path) as oracle:
        assert np.array_equal(oracle.data, array(dtype))
        assert oracle.data.dtype == np.dtype(dtype)
        assert oracle.is_volume()
        assert [float(oracle.voxel_size[k]) for k in "xyz"] == [1.5, 1.5, 3.0]
        for name, value in (("dmin", "min"), ("dmax", "max"), ("dmean", "mean"), ("rms", "std")):
            expected = getattr(array(dtype).astype(np.float64), value)()
            assert float(oracle.header[name]) == pytest.approx(expected, rel=1e-5)
    assert mrcfile.validate(path, print_file=io.StringIO())
    data, header = read_mrc(path)
    assert data.dtype == np.float32
    assert np.array_equal(data, array(dtype).astype(np.float32))
    assert header.shape == (3, 4, 5)
    assert header.pixel_size == pytest.approx((1.5, 1.5, 3.0))
    assert header.labels == ("first", "second")
    assert header.is_volume


@pytest.mark.parametrize("dtype", ["int8", "int16", "uint16", "float32", "float16"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_files_of_mrcfile_are_read_in_both_byte_orders(tmp_path, dtype, order):
    path = tmp_path / "a.mrc"
    with mrcfile.new(path) as oracle:
        oracle.set_data(array(dtype).astype(np.dtype(dtype).newbyteorder(order)))
        oracle.voxel_size = 2.5
    data, header = read_mrc(path)
    assert np.array_equal(data, array(dtype).astype(np.float32))
    assert header.byte_order == order or dtype == "int8"
    assert header.pixel_size == pytest.approx((2.5,) * 3)


def test_byte_order_survives_a_wrong_machine_stamp(tmp_path):
    def lie(raw):
        raw[212:214] = b"\x44\x44"

    data, header = read_mrc(raw_file(tmp_path / "a.mrc", order=">", mode=1, edit=lie))
    assert header.byte_order == ">"
    assert np.array_equal(data, array("i2", (2, 3, 4)).astype(np.float32))


@pytest.mark.parametrize(("flags", "signed"), [(1, True), (0, False)])
def test_imod_flag_says_whether_bytes_are_signed(tmp_path, flags, signed):
    def stamp(raw):
        struct.pack_into("<2i", raw, 152, 1146047817, flags)

    data = np.full((1, 2, 2), -1, dtype=np.int8)
    path = raw_file(tmp_path / "a.mrc", mode=0, shape=(1, 2, 2), data=data, edit=stamp)
    assert np.all(read_mrc(path)[0] == (-1 if signed else 255))


def test_sections_are_read_in_the_order_asked_for(tmp_path):
    path = raw_file(tmp_path / "a.mrc", shape=(5, 3, 4))
    stack = MrcStack(path)
    assert np.array_equal(stack.read([3, 0]), array("f4", (5, 3, 4))[[3, 0]])
    with pytest.raises(InputError, match="section 5"):
        stack.read([5])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_bad_pixel_is_refused_with_its_section(tmp_path, bad):
    data = array("f4", (3, 4, 4))
    data[2, 1, 1] = bad
    stack = MrcStack(raw_file(tmp_path / "a.mrc", shape=data.shape, data=data))
    stack.read([0, 1])
    with pytest.raises(InputError, match="section 3"):
        stack.read()


def set_int(offset, value):
    return lambda raw: struct.pack_into("<i", raw, offset, value)


def set_float(offset, value):
    return lambda raw: struct.pack_into("<f", raw, offset, value)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (set_int(12, 4), "mode 4"),
        (set_int(12, 101), "mode 101"),
        (set_int(0, 0), "no sense"),
        (set_int(8, -1), "no sense"),
        (set_int(64, 3), "order 3, 2, 3"),
        (set_int(92, -4), "negative"),
        (set_int(92, 1 << 30), "promises"),
        (set_float(40, float("nan")), "cell size"),
        (set_float(44, -1.0), "cell size"),
        (set_float(40, float("inf")), "cell size"),
    ],
)
def test_bad_headers_are_refused(tmp_path, edit, words):
    with pytest.raises(InputError, match=words):
        read_header(raw_file(tmp_path / "a.mrc", edit=edit))


def test_a_zero_pixel_size_is_none(tmp_path):
    assert read_header(raw_file(tmp_path / "a.mrc", edit=set_float(40, 0.0))).pixel_size is None


def test_a_file_that_shrinks_after_opening_is_refused(tmp_path):
    path = raw_file(tmp_path / "a.mrc")
    stack = MrcStack(path)
    path.write_bytes(path.read_bytes()[:1030])
    with pytest.raises(InputError, match="any more"):
        stack.read()


def test_truncated_file_and_trailing_bytes(tmp_path):
    path = raw_file(tmp_path / "a.mrc")
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(InputError, match="truncated"):
        read_header(path)
    path.write_bytes(whole + b"xx")
    assert read_header(path).warnings
    path.write_bytes(whole[:1000])
    with pytest.raises(InputError, match="1000 bytes"):
        read_header(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_header(tmp_path / "none.mrc")


def test_a_header_claiming_terabytes_is_refused_quickly_and_with_little_memory(tmp_path):
    def bomb(raw):
        struct.pack_into("<3i", raw, 0, 1 << 20, 1 << 20, 1000)

    path = raw_file(tmp_path / "a.mrc", edit=bomb)
    tracemalloc.start()
    start = time.perf_counter()
    with pytest.raises(InputError, match="promises"):
        MrcStack(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert time.perf_counter() - start < 1
    assert peak < 1 << 20


def test_tilt_angles_of_a_serialem_extended_header(tmp_path):
    angles = [-60.0, 0.25, 59.99]
    extended = b"".join(struct.pack("<hi", round(a * 100), 7) for a in angles)

    def serialem(raw):
        raw[104:108] = b"SERI"
        struct.pack_into("<2h", raw, 128, 6, 1 | 32)

    header = read_header(raw_file(tmp_path / "a.mrc", shape=(3, 2, 2), extended=extended, edit=serialem))
    assert header.tilt_angles() == pytest.approx(angles)


@pytest.mark.parametrize("kind", [b"FEI1", b"FEI2"])
def test_tilt_angles_of_an_fei_extended_header(tmp_path, kind):
    from mrcfile.dtypes import get_ext_header_dtype

    blocks = np.zeros(3, dtype=get_ext_header_dtype(kind, "<"))
    blocks["Metadata size"] = blocks.dtype.itemsize
    blocks["Bitmask 1"] = 1 << 7
    blocks["Alpha tilt"] = [-30, 0, 30]

    def fei(raw):
        raw[104:108] = kind

    path = raw_file(tmp_path / "a.mrc", shape=(3, 2, 2), extended=blocks.tobytes(), edit=fei)
    assert read_header(path).tilt_angles() == pytest.approx([-30, 0, 30])
    blocks["Bitmask 1"] = 0
    path = raw_file(tmp_path / "a.mrc", shape=(3, 2, 2), extended=blocks.tobytes(), edit=fei)
    assert read_header(path).tilt_angles() is None


def test_tilt_angles_of_an_agard_extended_header(tmp_path):
    blocks = np.zeros((1024, 32), dtype="<f4")
    blocks[:2, 0] = [-5, 5]
    path = raw_file(tmp_path / "a.mrc", extended=blocks.tobytes())
    assert read_header(path).tilt_angles() == pytest.approx([-5, 5])


def test_slabs_give_the_same_file_as_the_whole(tmp_path):
    data = np.random.default_rng(1).normal(3, 2, (7, 4, 5)).astype(np.float32)
    write_mrc(tmp_path / "whole.mrc", data, 2.0)
    with MrcWriter(tmp_path / "slabs.mrc", data.shape, 2.0) as writer:
        for first in range(0, 7, 3):
            writer.write(data[first : first + 3])
    whole, slabs = (tmp_path / "whole.mrc").read_bytes(), (tmp_path / "slabs.mrc").read_bytes()
    assert whole[1024:] == slabs[1024:]
    assert struct.unpack_from("<3f", whole, 76) == pytest.approx(struct.unpack_from("<3f", slabs, 76))


def test_a_failed_write_leaves_nothing_and_nothing_is_overwritten(tmp_path):
    path = tmp_path / "a.mrc"
    with pytest.raises(InputError, match="1 of 2 sections"), MrcWriter(path, (2, 2, 2), 1.0) as writer:
        writer.write(np.zeros((1, 2, 2)))
    with pytest.raises(RuntimeError), MrcWriter(path, (2, 2, 2), 1.0):
        raise RuntimeError
    with pytest.raises(InputError, match="NaN"):
        write_mrc(path, np.full((2, 2, 2), np.nan), 1.0)
    with (
        pytest.raises(InputError, match="too large for float16"),
        MrcWriter(path, (1, 2, 2), 1.0, dtype=np.float16) as writer,
    ):
        writer.write(np.full((1, 2, 2), 1e9))
    with pytest.raises(InputError, match="pixel size"):
        write_mrc(path, np.zeros((2, 2, 2)), 0.0)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match="cannot be written"):
        write_mrc(tmp_path / "none" / "a.mrc", np.zeros((2, 2, 2)), 1.0)
    write_mrc(path, np.zeros((2, 2, 2)), 1.0)
    with pytest.raises(InputError, match="exists already"):
        write_mrc(path, np.ones((2, 2, 2)), 1.0)
    write_mrc(path, np.ones((2, 2)), 1.0, overwrite=True, is_volume=False)
    data, header = read_mrc(path)
    assert data.shape == (1, 2, 2)
    assert not header.is_volume


def write_slab(path, data, world, slabs=None, **options):
    """Ranks of several groups hold the same slabs."""
    own = shares(len(data), slabs or world.size)[world.rank % (slabs or world.size)]
    write_mrc_slabs(path, data[own], own.start, len(data), (1.5, 1.5, 3.0), world, **options)


@pytest.mark.parametrize(("ranks", "slabs"), [(1, 1), (2, 2), (3, 3), (4, 2), (7, 7), (9, 9)])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int16", "uint8", "float16"])
def test_ranks_write_the_same_file_as_one(tmp_path, ranks, slabs, dtype):
    data = (100 * np.random.default_rng(1).normal(3, 2, (7, 4, 5))).astype(dtype)
    write_mrc(tmp_path / "whole.mrc", data, (1.5, 1.5, 3.0), labels=["x"])
    results(ranks, lambda world: write_slab(tmp_path / "slabs.mrc", data, world, slabs, labels=["x"]))
    assert (tmp_path / "whole.mrc").read_bytes() == (tmp_path / "slabs.mrc").read_bytes()
    assert len(list(tmp_path.iterdir())) == 2


def test_slabs_of_one_process_take_no_second_copy(tmp_path):
    data = np.ones((64, 256, 256), np.float64)
    tracemalloc.start()
    write_mrc_slabs(tmp_path / "a.mrc", data.transpose(0, 2, 1), 0, 64, 1.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < data.nbytes / 8
    assert read_header(tmp_path / "a.mrc").shape == (64, 256, 256)


@pytest.mark.parametrize("rank", [0, 2])
def test_a_failure_of_one_rank_is_told_on_all_and_leaves_nothing(tmp_path, rank):
    data = np.ones((7, 4, 5))
    data[3 * rank, 0, 0] = np.nan
    (tmp_path / "a.mrc").write_text("before")
    errors = outcomes(3, lambda world: write_slab(tmp_path / "a.mrc", data, world, overwrite=True))
    assert all(isinstance(error, InputError) for error in errors)
    assert all(f"sections {3 * rank + 1} to {3 * rank + 1} hold NaN" in str(error) for error in errors)
    assert all(("rank 2" in str(error)) == (rank > 0) for error in errors)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mrc"]
    errors = outcomes(3, lambda world: write_slab(tmp_path / "a.mrc", data, world))
    assert all("exists already" in str(error) for error in errors)
    errors = outcomes(3, lambda world: write_slab(tmp_path / "none" / "a.mrc", data, world))
    assert all("cannot be written (No such file" in str(error) for error in errors)
    assert (tmp_path / "a.mrc").read_text() == "before"


def test_a_header_that_cannot_be_written_is_told_on_all(tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise InputError("no")

    monkeypatch.setattr(module, "_header_bytes", fail)
    errors = outcomes(2, lambda world: write_slab(tmp_path / "a.mrc", np.ones((4, 2, 2)), world))
    assert [str(error) for error in errors] == ["no"] * 2
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_on_all_ranks(small_disk):
    data = np.ones((6, 300, 300), np.float32)
    errors = outcomes(2, lambda world: write_slab(small_disk / "a.mrc", data, world))
    assert all("a.mrc: cannot be written (No space left on device)" in str(error) for error in errors)
    assert list(small_disk.iterdir()) == []


def test_slabs_that_do_not_make_up_a_volume_are_refused(tmp_path):
    def work(world, first, shape, dtype=np.float32):
        write_mrc_slabs(tmp_path / "a.mrc", np.ones(shape, dtype), first, 4, 1.0, world)

    for broken in (
        lambda world: work(world, 3 * world.rank, (2, 3, 3)),
        lambda world: work(world, world.rank, (2, 3, 3)),
        lambda world: work(world, 0, (2, 3, 3)),
        lambda world: work(world, 2 * world.rank, (2, 3, 3 + world.rank)),
        lambda world: work(world, 2 * world.rank, (2, 3, 3), [np.int16, np.float32][world.rank]),
    ):
        assert all(isinstance(error, ValueError) for error in outcomes(2, broken))
    assert all(
        "pixel size" in str(error)
        for error in outcomes(
            2,
            lambda world: write_mrc_slabs(
                tmp_path / "a.mrc", np.ones((2, 3, 3)), 2 * world.rank, 4, 0.0, world
            ),
        )
    )
    assert list(tmp_path.iterdir()) == []


@QUICK
@given(data=st.binary(max_size=2000))
def test_any_bytes_give_only_input_errors(tmp_path, data):
    path = tmp_path / "fuzz.mrc"
    path.write_bytes(data)
    with pytest.raises(InputError):
        read_mrc(path)


@QUICK
@given(offset=st.integers(0, HEADER_BYTES - 1), value=st.binary(min_size=1, max_size=8))
def test_damaged_headers_give_only_input_errors(tmp_path, offset, value):
    path = raw_file(tmp_path / "fuzz.mrc")
    raw = bytearray(path.read_bytes())
    raw[offset : offset + len(value)] = value
    path.write_bytes(raw)
    try:
        stack = MrcStack(path)
        stack.header.tilt_angles()
        stack.read()
    except InputError:
        pass


def test_published_haadf_series():
    path = SHARED / "openncem-haadf" / "L2083-K-4-1_haadf.mrc"
    if not path.exists():
        pytest.skip("shared HAADF series not present")
    data, header = read_mrc(path)
    assert header.shape == (16, 256, 256)
    assert header.mode == 6
    assert header.pixel_size == pytest.approx((130.814,) * 3, rel=1e-4)
    with mrcfile.open(path) as oracle:
        assert np.array_equal(data, oracle.data.astype(np.float32))


@pytest.mark.parametrize(
    ("mode", "words"),
    [(101, "packed 4-bit"), (3, "complex"), (4, "complex"), (16, "colours"), (7, "mode 7 is not supported")],
)
def test_modes_that_are_not_read_are_called_by_name(tmp_path, mode, words):
    with pytest.raises(InputError, match=words) as caught:
        read_header(raw_file(tmp_path / "a.mrc", edit=set_int(12, mode)))
    assert f"mode {mode}" in str(caught.value)


def axes_file(path, volume, axes, **more):
    """``volume`` (z, y, x) stored with ``axes`` (MAPC, MAPR, MAPS), what columns, rows, sections are."""
    stored = volume.transpose([3 - axis for axis in axes[::-1]])

    def edit(raw):
        struct.pack_into("<3i", raw, 64, *axes)
        struct.pack_into("<3i", raw, 28, *volume.shape[::-1])
        struct.pack_into("<3f", raw, 40, *(n * s for n, s in zip(volume.shape[::-1], (1, 2, 3), strict=True)))

    return raw_file(path, shape=stored.shape, data=stored, edit=edit, **more)


@pytest.mark.parametrize("axes", [(3, 2, 1), (2, 1, 3), (1, 3, 2), (2, 3, 1), (3, 1, 2), (1, 2, 3)])
def test_axes_in_any_order_are_put_in_the_order_x_y_z(tmp_path, axes):
    volume = array("f4", (2, 3, 4))
    data, header = read_mrc(axes_file(tmp_path / "a.mrc", volume, axes))
    assert np.array_equal(data, volume)
    assert header.shape == (2, 3, 4)
    assert header.pixel_size == pytest.approx((1.0, 2.0, 3.0))
    assert bool(header.warnings) == (axes != (1, 2, 3))
    assert np.array_equal(MrcStack(tmp_path / "a.mrc").read([1]), volume[1:])


def test_axes_in_another_order_are_said_and_agree_with_mrcfile(tmp_path):
    path = axes_file(tmp_path / "a.mrc", array("f4", (2, 3, 4)), (3, 2, 1))
    assert "MAPC, MAPR, MAPS are 3, 2, 1" in read_header(path).warnings[0]
    with mrcfile.open(path) as oracle:  # which gives the array as stored
        assert np.array_equal(oracle.data.T, read_mrc(path)[0])


def test_angles_of_sections_as_stored_are_not_taken_for_those_of_others(tmp_path):
    path = axes_file(tmp_path / "a.mrc", array("f4", (2, 2, 2)), (3, 2, 1), extended=struct.pack("<2h", 1, 2))
    raw = bytearray(path.read_bytes())
    raw[104:108] = b"SERI"
    struct.pack_into("<2h", raw, 128, 2, 1)
    path.write_bytes(raw)
    assert read_header(path).tilt_angles() is None


@pytest.mark.parametrize("axes", [(1, 1, 3), (0, 2, 3), (4, 5, 6), (-1, 2, 3)])
def test_axes_that_are_none_are_refused(tmp_path, axes):
    def edit(raw):
        struct.pack_into("<3i", raw, 64, *axes)

    with pytest.raises(InputError, match="axes are stored in the order"):
        read_header(raw_file(tmp_path / "a.mrc", edit=edit))


@pytest.mark.parametrize(
    "counts",
    [(-5, 100), (5, -100), (-18688, 18720), (32767, 32767), (-9344, 9376), (-1, 40), (32767, -32735)],
)
def test_impossible_counts_of_an_extended_header_give_no_angles(tmp_path, counts):
    def agard(raw):
        raw[104:108] = b"AGAR"
        struct.pack_into("<2h", raw, 128, *counts)

    path = raw_file(tmp_path / "a.mrc", shape=(3, 2, 2), extended=bytes(768), edit=agard)
    assert read_header(path).tilt_angles() is None
