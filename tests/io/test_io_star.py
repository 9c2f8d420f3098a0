import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from manyviews.errors import InputError
from manyviews.io import star
from manyviews.io.star import StarBlock, column_numbers, column_whole_numbers, read_star, write_star

QUICK = settings(max_examples=80, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture])
GOOD = "data_optics\n\nloop_\n_a #1\n_b #2 [a remark]\n1 [0.1,2] \n2 'x y'\n\ndata_\n_c 5\n"


def test_blocks_loops_pairs_quotes_and_remarks_are_read(tmp_path):
    path = tmp_path / "a.star"
    path.write_text(GOOD)
    optics, unnamed = read_star(path)
    assert (optics.name, unnamed.name) == ("optics", "")
    assert optics.columns == {"a": ["1", "2"], "b": ["[0.1,2]", "x y"]}
    assert unnamed.columns == {"c": ["5"]}
    assert (len(optics), len(unnamed)) == (2, 1)


def test_windows_line_ends_and_a_byte_order_mark_change_nothing(tmp_path):
    plain, windows = tmp_path / "a.star", tmp_path / "b.star"
    plain.write_text(GOOD)
    windows.write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert read_star(plain) == read_star(windows)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            b"data_x\nloop_\n_a\n_b\n1 2 3\n",
            "line 5: the line holds 3 values where data_x has 2 columns: '1 2 3'",
        ),
        (b"data_x\nloop_\n_a\n_a\n1 2\n", "duplicate"),
        (b"data_x\n_a 1\ndata_x\n_a 1\n", "duplicate"),
        (b"data_x\n_a 1\nloop_\n_b\n1\n2\n", "different lengths"),
        (b"data_x\nsave_y\n_a 1\nsave_\n", "save frame"),
        (b"hello\n", "line 1: is not a STAR file"),
        (b"data_x\nloop_\n_a\nJ\xc3\xa9/x.mrcs\n", "line 4.*beyond ASCII"),
        (b"data_x\n_a 1\0\n", "binary"),
    ],
)
def test_what_is_not_star_is_refused_in_one_sentence(tmp_path, content, words):
    path = tmp_path / "a.star"
    path.write_bytes(content)
    with pytest.raises(InputError, match=words) as caught:
        read_star(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_large_and_missing_files_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "a.star"
    path.write_text(GOOD * 3)
    monkeypatch.setattr(star, "MAXIMUM_STAR_BYTES", 100)
    with pytest.raises(InputError, match="larger"):
        read_star(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_star(tmp_path / "none.star")


def test_numbers_are_checked_with_their_row(tmp_path):
    path = tmp_path / "a.star"
    assert column_numbers(["1", "-2.5e3"], "x", path).tolist() == [1, -2500]
    assert column_whole_numbers(["1", "2.0"], "x", path).tolist() == [1, 2]
    for bad in ("nan", "inf", "1e30", "abc", "1_0", ""):
        with pytest.raises(InputError, match="column x, row 2"):
            column_numbers(["1", bad], "x", path)
    with pytest.raises(InputError, match=r"row 1.*whole"):
        column_whole_numbers(["1.5"], "x", path)


LABELS = st.from_regex(r"rln[A-Za-z0-9]{1,8}", fullmatch=True)
VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12).filter(
    lambda text: not ("'" in text and '"' in text)
)


@QUICK
@given(st.lists(LABELS, min_size=1, max_size=4, unique_by=str.lower), st.data())
def test_whatever_is_written_is_read_again(tmp_path, labels, data):
    rows = data.draw(st.integers(1, 4))
    columns = {label: data.draw(st.lists(VALUES, min_size=rows, max_size=rows)) for label in labels}
    block = StarBlock("particles", columns)
    write_star(tmp_path / "a.star", [block, StarBlock("optics", {"x": ["1"]})], overwrite=True)
    assert read_star(tmp_path / "a.star") == (block, StarBlock("optics", {"x": ["1"]}))


@pytest.mark.parametrize(
    "value", ["", "data_x", "Loop_", "_x", "#x", ";x", "$x", "'x", "a b", "[1,2]", "1@a.mrcs"]
)
def test_values_that_look_like_something_else_are_quoted(tmp_path, value):
    write_star(tmp_path / "a.star", [StarBlock("x", {"a": ["1", value], "b": ["1", "2"]})])
    (block,) = read_star(tmp_path / "a.star")
    assert block.columns["a"] == ["1", value]


def test_starfile_reads_what_is_written(tmp_path):
    starfile = pytest.importorskip("starfile")
    path = tmp_path / "a.star"
    write_star(path, [StarBlock("particles", {"rlnImageName": ["1@a.mrcs", "2@a.mrcs"], "rlnX": ["1", "2"]})])
    table = starfile.read(path)
    assert table["rlnImageName"].tolist() == ["1@a.mrcs", "2@a.mrcs"]
    assert table["rlnX"].tolist() == [1, 2]
    assert "# version 30001" in path.read_text()


@pytest.mark.parametrize("value", ["a\nb", "\u00e9", "a \"b'c", "a\0"])
def test_values_that_cannot_be_written_are_refused(tmp_path, value):
    with pytest.raises(InputError, match="cannot stand"):
        write_star(tmp_path / "a.star", [StarBlock("x", {"a": [value]})])
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten_unasked(tmp_path):
    path = tmp_path / "a.star"
    block = StarBlock("x", {"a": ["1"]})
    write_star(path, [block])
    with pytest.raises(InputError, match="exists already"):
        write_star(path, [block])
    write_star(path, [block], overwrite=True)


@QUICK
@given(st.binary(max_size=200), st.integers(0, len(GOOD)), st.integers(0, 20))
def test_damage_gives_blocks_or_one_sentence(tmp_path, noise, start, length):
    path = tmp_path / "a.star"
    path.write_bytes(GOOD[:start].encode() + noise + GOOD[start + length :].encode())
    try:
        blocks = read_star(path)
    except InputError:
        return
    assert all(len({len(values) for values in block.columns.values()}) <= 1 for block in blocks)


TABLE = "data_particles\n\nloop_\n_rlnImageName #1\n_rlnDefocusU #2\n_rlnAnglePsi #3\n"
ROWS = ["1@a.mrcs 100.5 1", "2@a.mrcs 200.5 2", "3@a.mrcs 300.5 3", "4@a.mrcs 400.5 4"]


@pytest.mark.parametrize(
    ("rows", "line", "words"),
    [
        ([*ROWS[:2], "9", *ROWS[2:]], 9, "holds 1 value where data_particles has 3 columns: '9'; take out"),
        ([*ROWS[:2], "9 9", *ROWS[2:]], 9, "holds 2 values where data_particles has 3 columns: '9 9'"),
        (
            [ROWS[0], "2@a.mrcs 200.5", *ROWS[2:]],
            8,
            "holds 2 values .*: '2@a.mrcs 200.5'; take out .* or add",
        ),
        ([ROWS[0], "2@a.mrcs 200.5 2 7", *ROWS[2:]], 8, "holds 4 values"),
        # The number of values is right in the end, and a parser is content: all rows between are shifted.
        ([ROWS[0], "2@a.mrcs 200.5 2 7", ROWS[2], "4@a.mrcs 400.5"], 8, "holds 4 values"),
        ([ROWS[0], "2@a.mrcs 200.5", ROWS[2], "4@a.mrcs 400.5 4 7"], 8, "holds 2 values"),
        ([ROWS[0], "9 9 9 9 9 9", ROWS[2]], 8, "holds 6 values"),
        (
            [*ROWS[:3], "4@a.mrcs 40"],
            10,
            "holds 2 values .* is the last one: the file seems to be cut off; copy",
        ),
        (
            [f"{row} 5" for row in ROWS],
            7,
            "every row of data_particles holds 4 values but it names 3 columns",
        ),
        ([f"{row} 5 6" for row in ROWS[:3]], 7, "every row of data_particles holds 5 values"),
        (
            [ROWS[0], "2@a.mrcs #200.5 2", *ROWS[2:]],
            8,
            "holds 1 value .*what follows # is a remark: quote it",
        ),
        ([ROWS[0], "2@a.mrcs 'a b c' 2 7", *ROWS[2:]], 8, "holds 4 values"),
        ([ROWS[0], "x" * 500, *ROWS[2:]], 8, r"'x+\.\.\.'"),
        (
            [ROWS[0], "2@a.mrcs data_1/a.mrc 2", *ROWS[2:]],
            8,
            r"'data_1/a.mrc' begins like a reserved word.*quote it",
        ),
        (
            ["data_1/a.mrc 5 1", *ROWS],
            7,
            r"'data_1/a.mrc' begins like a reserved word.*quote it: \"data_1/a.mrc\"",
        ),
        ([ROWS[0], "2@a.mrcs 200.5 loop_", *ROWS[2:]], 8, "'loop_' begins like a reserved word"),
        ([ROWS[0], "2@a.mrcs stop_ 2", *ROWS[2:]], 8, "'stop_' begins like a reserved word"),
        ([ROWS[0], "2@a.mrcs GLOBAL_ 2", *ROWS[2:]], 8, "'GLOBAL_' begins like a reserved word"),
        ([ROWS[0], "2@a.mrcs save_x 2", *ROWS[2:]], 8, "'save_x' begins like a reserved word"),
        ([ROWS[0], "2@a.mrcs _x 2", *ROWS[2:]], 8, "'_x' begins like a reserved word"),
    ],
)
def test_the_line_that_is_no_row_is_named(tmp_path, rows, line, words):
    path = tmp_path / "a.star"
    path.write_text(TABLE + "\n".join(rows) + "\n\n")
    with pytest.raises(InputError, match=words) as caught:
        read_star(path)
    assert f"line {line}:" in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "text",
    [
        TABLE + "\n".join(ROWS) + "\n",
        TABLE + "\n\n# a remark\n".join(ROWS) + " # at the end\n\n\ndata_b # next\n_x 1\n",
        TABLE + "\n".join(row.replace(" ", "\n") for row in ROWS) + "\n",  # all rows broken alike
        TABLE + "\n".join(row.replace(" ", "\n", 1) for row in ROWS) + "\n",
        TABLE.replace("\n", "\r\n") + "\r\n".join(ROWS) + "\r\n",
        TABLE + "\n".join(row.replace(" ", "\t") for row in ROWS) + "\nstop_\n",
        TABLE + "\n".join(ROWS) + "\n\ndata_y\n\nloop_ # of two\n_p\n_q\n1 'data_ x'\n\"loop_\" 2\n",
        TABLE + "\n".join(ROWS[:3]) + "\n;4@a.mrcs\n;\n400.5 4\n",
    ],
)
def test_rows_that_are_right_are_left_alone(tmp_path, text):
    path = tmp_path / "a.star"
    path.write_bytes(text.encode())
    block = read_star(path)[0]
    assert block.columns["rlnImageName"][:3] == ["1@a.mrcs", "2@a.mrcs", "3@a.mrcs"]
    assert block.columns["rlnDefocusU"] == ["100.5", "200.5", "300.5", "400.5"]
    assert block.columns["rlnAnglePsi"] == ["1", "2", "3", "4"]


def test_names_that_begin_like_blocks_are_never_lost(tmp_path):
    path = tmp_path / "a.star"
    for name in ("data_1/a.mrc", "data_1.mrcs", "save_x.mrc"):
        path.write_text(f"data_m\nloop_\n_rlnMicrographName\na.mrc\n{name}\n")
        with pytest.raises(InputError, match=r"line 5: .*reserved word.*quote it"):
            read_star(path)
    path.write_text('data_m\nloop_\n_rlnMicrographName\na.mrc\n"data_1/a.mrc"\n')
    assert read_star(path)[0].columns["rlnMicrographName"] == ["a.mrc", "data_1/a.mrc"]
    path.write_text("data_m\n_rlnMicrographName data_1/a.mrc\n")
    with pytest.raises(InputError, match=r"line 2: .*reserved word.*quote it"):
        read_star(path)


@pytest.mark.parametrize(
    ("rows", "end", "is_cut"),
    [
        ([f"{row} " for row in ROWS[:3]], "4@a.mrcs 400.5 1", True),  # RELION ends rows with a blank
        ([f"{row} " for row in ROWS[:3]], "4@a.mrcs 400.5 14 ", False),
        ([f"{row}.125" for row in ROWS[:3]], "4@a.mrcs 400.5 1.1", True),
        ([f"{row}.125" for row in ROWS[:3]], "4@a.mrcs 400.5 1.", True),
        ([f"{row}.125" for row in ROWS[:3]], "4@a.mrcs 400.5 17", True),
        ([f"{row}.125" for row in ROWS[:3]], "4@a.mrcs 400.5 17.125", False),
        (ROWS[:3], ROWS[3], False),  # nobody can tell
        ([f"{row} " for row in ROWS], "# the end", False),
        ([f"{row} " for row in ROWS], "data_y\n_x 1.5", False),
    ],
)
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_a_file_cut_off_within_its_last_value(tmp_path, rows, end, is_cut, line_end):
    path = tmp_path / "a.star"
    path.write_bytes((TABLE + "\n".join([*rows, end])).replace("\n", line_end).encode())
    if is_cut:
        with pytest.raises(
            InputError, match=r"line 10: the file seems to be cut off within its last row: '4@a"
        ):
            read_star(path)
        path.write_bytes(path.read_bytes() + line_end.encode())  # which says that it is whole
    assert len(read_star(path)[0]) == 4


def test_a_line_of_open_quotes_takes_no_time(tmp_path):
    path = tmp_path / "a.star"
    path.write_text(TABLE + "'a " * 200_000 + "\n")
    start = time.perf_counter()
    with pytest.raises(InputError, match="close the quote"):
        read_star(path)
    assert time.perf_counter() - start < 5


def test_what_is_quoted_is_not_reserved(tmp_path):
    path = tmp_path / "a.star"
    path.write_text(TABLE + "1@a.mrcs 'x data_y' 'loop_'\n2@a.mrcs 2\n")
    with pytest.raises(InputError, match="line 8: the line holds 2 values"):
        read_star(path)


def test_what_eman2_has_in_the_place_of_a_star_file_is_named(tmp_path):
    lines = "#LSX\n# This file is in fast LST format.\n# 27\n0\tparticles/a__ctf_flip.hdf\n"
    (tmp_path / "set.lst").write_text(lines)
    with pytest.raises(InputError, match=r"set of EMAN2, .*make a STAR file of it with e2refinetorelion3d"):
        read_star(tmp_path / "set.lst")
    (tmp_path / "a.hdf").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(64))
    with pytest.raises(InputError, match="HDF5 file, as of EMAN2, not text; give the STAR file"):
        read_star(tmp_path / "a.hdf")
