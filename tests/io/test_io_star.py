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
