"""Rows of STAR loops by their lines: which one has another number of values than the loop has columns.

STAR itself does not mind where lines end, so a stray value shifts all that follow it into other columns: the
number of values is still right if another row lacks one. The programs of the field write one row a line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_TOKEN = re.compile(r"""'.*?'(?=\s|$)|".*?"(?=\s|$)|#.*|[^\s]+""")
_RESERVED = re.compile(r"(?:data_|save_|[_$])|(?:loop_|stop_|global_)$", re.IGNORECASE)
_KEYWORD = re.compile(r"(data_|save_)\S*|loop_|stop_|global_")
_FIRST_LETTERS = "dDsSlLgG_; \t"
"""With which lines begin that may be no row."""
_SHOWN = 60
_ROWS_COMPARED = 10
_LONGEST_ROWS = 1 << 16
_LONGEST_QUOTED_LINE = 10_000


@dataclass(frozen=True)
class RowFault:
    """What is wrong with a line, counted from 1, and what to do."""

    line: int
    what: str
    fix: str


@dataclass
class _Loop:
    """A loop while its lines are walked through."""

    block: str
    tags: int = 0
    values: int = 0
    lines: int = 0
    whole_rows: int = 0
    in_order: bool = True  # rows begin where lines begin
    other: tuple[int, int, str] | None = None  # line, values and text of the first line that is no row
    counts: set[int] = field(default_factory=set)

    def add(self, number: int, count: int, text: str) -> None:
        """One line of values."""
        before = self.values % self.tags
        if before + count > self.tags:
            self.in_order = False
        self.values += count
        self.lines += 1
        self.counts.add(count)
        if count == self.tags:
            self.whole_rows += 1
        elif self.other is None:
            self.other = (number, count, text)

    def fault(self, last_line: int) -> RowFault | None:
        """What is wrong with its rows, if something is; a row may be broken over lines if all are."""
        if self.other is None or (not self.whole_rows and self.in_order and self.values % self.tags == 0):
            return None
        line, count, text = self.other
        table, columns = f"data_{self.block}", _count(self.tags, "column")
        if len(self.counts) == 1 and self.lines > 1:
            return RowFault(
                line,
                f"every row of {table} holds {_count(count, 'value')} but it names {columns}",
                "name a column for each value",
            )
        what = f"the line holds {_count(count, 'value')} where {table} has {columns}: {_shown(text)}"
        if re.search(r"\s#", text):
            return RowFault(line, what, "what follows # is a remark: quote it if it is a value")
        if line == last_line and count < self.tags and self.lines > 1:
            return RowFault(
                line, f"{what}, and is the last one: the file seems to be cut off", "copy it again"
            )
        return RowFault(line, what, "take out what does not belong there or add what is missing")


def find_row_fault(text: str, *, is_parsed: bool = False) -> RowFault | None:
    """The first line of a loop that is no row of it, or has a reserved word as value; None if there is none.

    ``is_parsed`` says that a parser was content, which leaves less to look for. A quote that is left open is
    not looked into.
    """
    loops: list[_Loop] = []
    faults: list[RowFault] = []
    last = 0
    for loop, last, line in _rows(text, loops):
        words = _words(line)
        if words is None:
            return None
        if words and words[0].lower().startswith("data_") and loop.tags == 1 and len(words) == 1:
            faults.append(_reserved(last, words[0]))
            break
        if not is_parsed and (reserved := next(filter(_RESERVED.match, words), None)):
            faults.append(_reserved(last, reserved))
            break
        if words:
            loop.add(last, len(words), line)
    faults += [fault for loop in loops if (fault := loop.fault(last)) is not None]
    if not is_parsed and not faults:
        faults += _single_values(text)
    return min(faults, key=lambda fault: fault.line, default=None)


def find_cut(text: str) -> RowFault | None:
    """Whether the text ends within its last row, though no value is missing: in form it differs from others.

    RELION ends every row with a blank; others write as many decimals in one row as in the next.
    """
    if not text or text[-1] in "\r\n":
        return None
    *before, last = text[-_LONGEST_ROWS:].splitlines()
    rows = [line for line in before[1:] if len(line.split()) == len(last.split()) > 0][-_ROWS_COMPARED:]
    if len(rows) < 2:
        return None
    end_in_blank = all(line[-1].isspace() for line in rows)
    decimals = {len(line.split()[-1].partition(".")[2]) for line in rows}
    is_shorter = len(decimals) == 1 and len(last.split()[-1].partition(".")[2]) < decimals.pop()
    if last.lstrip()[0] in "#_" or last[-1].isspace() or not (end_in_blank or is_shorter):
        return None
    what = f"the file seems to be cut off within its last row: {_shown(last)}"
    return RowFault(text.count("\n") + 1, what, "copy it again, or end the line if it is whole")


def _single_values(text: str) -> Iterator[RowFault]:
    """Reserved words as values outside of loops."""
    for number, line in _content(text):
        words = (_words(line) or []) if line.startswith("_") else []
        if len(words) == 2 and _RESERVED.match(words[1]):
            yield _reserved(number, words[1])


def _rows(text: str, loops: list[_Loop]) -> Iterator[tuple[_Loop, int, str]]:
    """The lines of values with their loop and number; the loops are added to ``loops``."""
    loop: _Loop | None = None
    block, in_text = "", False
    for number, line in _content(text):
        if loop is not None and loop.values and line[0] not in _FIRST_LETTERS:
            yield loop, number, line  # by far the most
            continue
        if in_text or line.startswith(";"):
            in_text = in_text != line.startswith(";")
            if loop is not None and loop in loops:
                loops.remove(loop)  # values of several lines: its rows are not counted
            loop = None
            continue
        words = line.split(None, 2)
        first = words[0].lower()
        is_alone = len(words) == 1 or words[1].startswith("#")
        if is_alone and _KEYWORD.fullmatch(first) and not _is_image_name(first, loop):
            block = words[0][5:] if first.startswith("data_") else block
            loop = _Loop(block) if first == "loop_" else None
        elif loop is not None and first.startswith("_"):
            if loop.values:
                loop = None  # a value by itself, after the loop
                continue
            loop.tags += 1
            if loop.tags == 1:
                loops.append(loop)
        elif loop is not None and loop.tags:
            yield loop, number, line


def _is_image_name(word: str, loop: _Loop | None) -> bool:
    """Whether what looks like the beginning of a block is a name in the only column of a loop."""
    return loop is not None and loop.tags == 1 and bool(re.search(r"/|\.(mrcs?|tiff?|eer|st)$", word))


def _content(text: str) -> Iterator[tuple[int, str]]:
    """Number and text of every line that is neither empty nor a remark; the text is not copied as a whole."""
    start, number, length = 0, 0, len(text)
    while start < length:
        end = text.find("\n", start)
        end = length if end < 0 else end
        number += 1
        line = text[start:end].rstrip()
        if line and line[0] != "#" and (line[0] > " " or not line.lstrip().startswith("#")):
            yield number, line
        start = end + 1


def _words(line: str) -> list[str] | None:
    """The values of a line, quotes and all; None if a quote is left open, or the line is too long to tell."""
    if "'" not in line and '"' not in line and "#" not in line:
        return line.split()
    if len(line) > _LONGEST_QUOTED_LINE:
        return None
    found = [word for word in _TOKEN.findall(line) if not word.startswith("#")]
    is_open = any(word[0] in "'\"" and (len(word) < 2 or word[-1] != word[0]) for word in found)
    return None if is_open else found


def _reserved(line: int, word: str) -> RowFault:
    shown = _shown(word)
    what = f"{shown} begins like a reserved word of STAR where a value was expected"
    return RowFault(line, what, f'quote it: "{word[:_SHOWN]}"')


def _shown(text: str) -> str:
    plain = " ".join(text.split())
    return repr(plain if len(plain) <= _SHOWN else plain[: _SHOWN - 3] + "...")


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"
