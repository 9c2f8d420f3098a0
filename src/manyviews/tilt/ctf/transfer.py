"""The contrast transfer of all views of a series, from options and files, before any image is read."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from manyviews.errors import InputError
from manyviews.operators.contrast_transfer import Optics
from manyviews.operators.dose import critical_dose
from manyviews.operators.view_transfer import ViewTransfer
from manyviews.tilt.ctf.defocus import StackDefocus, stack_defocus
from manyviews.tilt.ctf.dose import stack_dose
from manyviews.tilt.options import ReconstructOptions
from manyviews.tilt.series.inputs import named_after
from manyviews.tilt.series.resolve import ResolvedSeries

_USUAL = {"voltage": 300.0, "spherical_aberration": 2.7, "amplitude_contrast": 0.07}
_UNITS = {"voltage": " kV", "spherical_aberration": " mm", "amplitude_contrast": ""}
_IN_TABLE = {
    "voltage": "voltage_kv",
    "spherical_aberration": "spherical_aberration_mm",
    "amplitude_contrast": "amplitude_contrast",
}
_HANDS = {"+1": 1, "-1": -1, "none": 0, "auto": None}


@dataclass(frozen=True)
class ResolvedTransfer:
    """Contrast transfer of the views of a series.

    Attributes
    ----------
    transfer
        Of the views in their order, its hand 0 as long as that is not known.
    hand
        1, -1, 0 for one defocus all over an image; None: to be found in the images.
    has_ctf
        Whether there is any contrast transfer; else the dose alone.
    listed_hand, listed_by
        The hand that a file says, or None, and the file: for where the images do not tell.
    lines, warnings
        What was taken from where, and what the user should know.
    """

    transfer: ViewTransfer
    hand: int | None
    has_ctf: bool
    lines: tuple[str, ...]
    warnings: tuple[str, ...]
    listed_hand: int | None = None
    listed_by: str = ""

    def digest(self) -> str:
        """Tells one contrast transfer from another."""
        known = (self.hand, self.has_ctf)
        beside = (self.listed_hand, self.transfer.slope)
        digest = hashlib.sha256(repr(known if beside == (None, 1.0) else known + beside).encode())
        for values in (*vars(self.transfer.optics).values(), self.transfer.dose):
            digest.update(np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()

    def with_hand(self, hand: int) -> ResolvedTransfer:
        """The same, the hand being known."""
        return replace(self, transfer=replace(self.transfer, hand=hand), hand=hand)


def resolve_transfer(options: ReconstructOptions, series: ResolvedSeries) -> ResolvedTransfer | None:
    """Defocus, microscope and dose of every view; None where nothing is to be corrected.

    Raises
    ------
    InputError
        If a file is missing, damaged or that of another series, or an option has no use.
    """
    weighted = options.weighs_dose
    has_ctf = options.ctf != "none"
    if not has_ctf:
        _refuse_needless(options)
        if not weighted:
            return None
    stacks = stack_defocus(series, options.defocus) if has_ctf else []
    lines = [f"defocus of stack {number + 1}: {stack.words}" for number, stack in enumerate(stacks)]
    warnings = [
        f"stack {number + 1}: defocus is nominal, from {stack.table.source}: the true one may differ by "
        "hundreds of nanometres"
        for number, stack in enumerate(stacks)
        if stack.table.is_nominal
    ]
    microscope = {name: _settled(name, options, stacks, lines, warnings) for name in _USUAL}
    optics = _optics(series, stacks, microscope)
    dose = _dose(options, series, lines) if weighted else np.zeros(len(optics))
    if weighted:
        critical_dose(0.1, microscope["voltage"])  # refuses a voltage that it is not known for
    hand = _HANDS[options.defocus_hand] if has_ctf else 0
    listed, listed_by = _one_of("hand", stacks)
    slope, slope_by = _one_of("defocus_slope", stacks)
    if slope not in (None, 1.0):
        lines.append(f"slope of the defocus: {slope:g} for each angstrom of depth, {slope_by}")
    return ResolvedTransfer(
        ViewTransfer(optics, dose, hand or 0, 1.0 if slope is None else slope),
        hand,
        has_ctf,
        tuple(lines),
        tuple(warnings),
        None if listed is None else int(listed),
        listed_by,
    )


def _said(name: str, stacks: list[StackDefocus]) -> list[tuple[str, float]]:
    """Files and what they say, each once."""
    tables = [stack.table for stack in stacks]
    pairs = ((table.told_by, getattr(table, name)) for table in tables)
    return list(dict.fromkeys((path, float(value)) for path, value in pairs if value is not None))


def _one_of(name: str, stacks: list[StackDefocus]) -> tuple[float | None, str]:
    """What the tables of all stacks say, and the first that does; `InputError` if they differ."""
    said = _said(name, stacks)
    if len({value for _, value in said}) > 1:
        different = " and ".join(f"{value:g} ({path})" for path, value in said)
        raise InputError(
            f"the stacks have different values of {name.replace('_', ' ')}: {different}",
            where="--defocus",
            fix="reconstruct them one by one, or correct the file that is wrong",
        )
    return (said[0][1], said[0][0]) if said else (None, "")


def _refuse_needless(options: ReconstructOptions) -> None:
    """Options of the contrast transfer without any."""
    needless = {
        "--defocus": bool(options.defocus),
        "--defocus-hand": options.defocus_hand != "auto",
        "--spherical-aberration": options.spherical_aberration is not None,
        "--amplitude-contrast": options.amplitude_contrast is not None,
    }
    for name, given in needless.items():
        if given:
            raise InputError(
                "has no use without a correction", where=name, fix="give --ctf phase-flip, wiener or 3d"
            )


def _settled(
    name: str,
    options: ReconstructOptions,
    stacks: list[StackDefocus],
    lines: list[str],
    warnings: list[str],
) -> float:
    """A number of the microscope: the option's, else what the files say, else the usual one."""
    said = _said(_IN_TABLE[name], stacks)
    given, unit, words = getattr(options, name), _UNITS[name], name.replace("_", " ")
    values = sorted({value for _, value in said})
    if given is None and len(values) > 1:
        raise InputError(
            f"the files say {' and '.join(f'{value:g}' for value in values)}{unit}",
            where=f"--{name.replace('_', '-')}",
            fix="say which holds",
        )
    value = given if given is not None else values[0] if values else _USUAL[name]
    source = "option" if given is not None else said[0][0] if said else "taken for granted"
    others = [f"overruled: {path}: {other:g}{unit}" for path, other in said if other != value]
    lines.append(f"{words}: {value:g}{unit}, {source if source != 'option' else 'from option'}")
    lines += [f"  {other}" for other in others]
    if given is None and not values and name == "voltage":
        warnings.append(f"no file says the voltage: {value:g} kV is taken for granted; see --voltage")
    return float(value)


def _optics(series: ResolvedSeries, stacks: list[StackDefocus], microscope: dict[str, float]) -> Optics:
    views = len(series.geometry)
    defocus, angle, phase = np.zeros((views, 2)), np.zeros(views), np.zeros(views)
    for number, stack in enumerate(stacks):
        mine = series.geometry.series == number
        defocus[mine], angle[mine], phase[mine] = stack.defocus, stack.angle, stack.phase_shift
    return Optics.make(
        microscope["voltage"],
        microscope["spherical_aberration"],
        microscope["amplitude_contrast"],
        defocus,
        angle,
        phase,
    )


def _dose(options: ReconstructOptions, series: ResolvedSeries, lines: list[str]) -> np.ndarray:
    dose, angles = np.zeros(len(series.geometry)), series.sources("tilt angles")
    for number, stack in enumerate(series.stacks):
        path = stack.path
        files = (
            *(options.defocus[number : number + 1]),
            *([Path(angles[number])] if number in angles else []),
            *named_after(path, ".mdoc"),
        )
        found, source = stack_dose(series, number, files, options.dose_per_view)
        if found.min() < 0:
            raise InputError("a dose is below zero", path=source, fix="correct it")
        dose[series.geometry.series == number] = found
        lines.append(f"dose of stack {number + 1}: {found.min():g} to {found.max():g} e/A^2, from {source}")
    return dose
