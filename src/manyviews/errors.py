"""What went wrong, in words a user can act on."""

from __future__ import annotations

from os import PathLike, fspath

MOST_QUOTED = 80
"""Characters of a value that a sentence quotes; a damaged file may hold megabytes of one."""

_LONGEST_CLAUSE = 300  # a clause may list names
_LONGEST_PLACE = 200


def shortened(text: object, most: int = MOST_QUOTED) -> str:
    """A text on one line, its end cut off; what cannot be printed is written as escapes."""
    whole = str(text)
    line = " ".join(whole[: 4 * most].split())
    plain = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in line)
    return plain if len(plain) <= most and len(whole) <= 4 * most else f"{plain[: most - 3]}..."


def quoted(value: object, most: int = MOST_QUOTED) -> str:
    """A value that is not what it should be, for a sentence: its `repr`, shortened."""
    return shortened(repr(value[: 4 * most] if isinstance(value, str | bytes) else value), most)


class ManyviewsError(Exception):
    """A failure that is told in one sentence; ``exit_code`` is what the command line returns."""

    exit_code = 1


class InputError(ManyviewsError):
    """Something the user gave us cannot be used.

    Parameters
    ----------
    what
        What is wrong and why, one clause, e.g. ``"the stack has 61 sections but 60 tilt angles were given"``.
    path, where
        The file or folder it is about, and line, byte, section or option within it, e.g. ``"line 12"``.
    fix
        What to do about it, one clause in the imperative.
    """

    exit_code = 2

    def __init__(
        self,
        what: str,
        *,
        path: str | PathLike[str] | None = None,
        where: str | None = None,
        fix: str | None = None,
    ) -> None:
        self.what = what
        self.path = None if path is None else fspath(path)
        self.where = where
        self.fix = fix
        super().__init__(self._sentence())

    @property
    def problem(self) -> str:
        """The sentence without what to do about it."""
        path = self.path and self._shortened_path()
        where = self.where and shortened(self.where, _LONGEST_PLACE)
        place = ", ".join(part for part in (path, where) if part)
        what = shortened(self.what, _LONGEST_CLAUSE)
        return f"{place}: {what}" if place else what

    def _sentence(self) -> str:
        return f"{self.problem}; {shortened(self.fix, _LONGEST_CLAUSE)}" if self.fix else self.problem

    def _shortened_path(self) -> str:
        """The path, less its beginning where it is very long: a table may name what no disk can hold."""
        path = self.path or ""
        end = path if len(path) <= _LONGEST_CLAUSE else f"...{path[-_LONGEST_CLAUSE:]}"
        return shortened(end, len(end) * 10)


class DivergedError(ManyviewsError):
    """An iteration produced NaN, infinity or a constant volume."""
