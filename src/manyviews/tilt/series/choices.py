"""What was settled about a series, from where, and what it was settled against."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Choice:
    """One value that was settled, and what it was settled against.

    ``field`` is ``tilt angles``, ``axis angle`` (degrees), ``pixel size`` (angstrom), ...; stacks count from
    0; ``overruled`` are other sources that said something else, with what they said.
    """

    field: str
    stack: int
    value: str
    source: str
    overruled: tuple[str, ...] = ()


@dataclass
class Notes:
    """Choices and warnings collected on the way."""

    choices: list[Choice] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def warn(self, text: str) -> None:
        """Add a sentence for the user, once."""
        if text not in self.warnings:
            self.warnings.append(text)
