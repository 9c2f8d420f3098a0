"""What went wrong, in words a user can act on."""

from __future__ import annotations

from os import PathLike, fspath


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
        place = ", ".join(part for part in (self.path, self.where) if part)
        return f"{place}: {self.what}" if place else self.what

    def _sentence(self) -> str:
        return f"{self.problem}; {self.fix}" if self.fix else self.problem


class DivergedError(ManyviewsError):
    """An iteration produced NaN, infinity or a constant volume."""
