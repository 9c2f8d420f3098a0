"""Sixty damaged files of every format: nothing but our own sentences, quick, in little memory.

``benchmarks/fuzz.py`` reads two thousand.
"""

import pytest

from drawn_once import figure_functions, once
from fuzzing.formats import FORMATS
from fuzzing.harness import fuzz
from fuzzing.mutations import BINARY, TEXT

FILES = 60


@pytest.fixture
def drawn_where_damaged(monkeypatch, drawn, pictures):
    """Of all pictures of a page, those of data that no page of this file had yet are drawn.

    Most pages have the same whole files beside the damaged one.
    """
    from manyviews.report import style

    draw = style.figure_png

    def png(figure):
        if figure not in pictures:
            pictures[figure] = draw(figure)
        return pictures[figure]

    monkeypatch.setattr(style, "figure_png", png)
    for module, name, make in figure_functions():
        monkeypatch.setattr(module, name, once(make, drawn))


@pytest.fixture(scope="module")
def pictures():
    """PNG files of figures; these are kept, as `drawn` gives them again."""
    return {}


@pytest.mark.usefixtures("drawn_where_damaged")
@pytest.mark.parametrize("format", FORMATS, ids=lambda format: format.name)
def test_damaged_files_are_read_or_refused_in_a_sentence(format, tmp_path):
    tally = fuzz(format, tmp_path, FILES)
    told = "\n".join(f"{kind}: {where[-1500:]}" for kind, (_, where) in tally.examples.items())
    assert not tally.failures, told
    assert tally.read + tally.refused == tally.files == FILES


def test_whole_files_of_every_format_are_read(tmp_path):
    for number, format in enumerate(FORMATS):
        folder = tmp_path / str(number)
        folder.mkdir()
        file = format.prepare(folder)
        for data in format.seeds():
            file.write_bytes(data)
            format.read(file, False)


@pytest.mark.parametrize("mutation", [*TEXT, *BINARY], ids=lambda mutation: mutation.__name__)
def test_mutations_change_files_and_do_so_again(mutation):
    from random import Random

    data = b"# comment\n1.5 -2 a=[3, 4]\nword 7e3, other\n" * 3
    changed = [mutation(data, Random(seed)) for seed in range(20)]
    assert sum(one != data for one in changed) > 10
    assert changed == [mutation(data, Random(seed)) for seed in range(20)]


def test_what_a_reader_does_wrong_is_counted(tmp_path):
    from dataclasses import replace

    from fuzzing.formats import Format

    def read(path, drawn):
        if path.read_bytes() == b"1 2\n":
            return
        raise IndexError("x")

    bad = Format("bad", lambda: [b"1 2\n"], lambda folder: folder / "a", read)
    tally = fuzz(bad, tmp_path, 20)
    assert tally.failures["IndexError"] > 10

    def hungry(path, drawn):
        if path.read_bytes() != b"1 2\n":
            bytearray(3 * 2**30)

    assert fuzz(replace(bad, read=hungry), tmp_path, 5).failures["MemoryError"] > 0
