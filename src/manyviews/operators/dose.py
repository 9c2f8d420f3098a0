"""How fine detail fades in an electron beam: the critical dose of Grant & Grigorieff.

Grant T, Grigorieff N (2015) eLife 4:e06980: signal at spatial frequency k has fallen by
``exp(-N / (2 Nc(k)))`` after a dose N, with ``Nc(k) = 0.24499 k^-1.6649 + 2.8141``
electrons per square angstrom at 300 kV, k in 1/angstrom; at 200 kV Nc is 0.8 of that.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from manyviews.errors import InputError

Float64 = NDArray[np.float64]

_FACTOR, _POWER, _LEAST = 0.24499, -1.6649, 2.8141
_KILOVOLTS = {300.0: 1.0, 200.0: 0.8}
_SAME_KILOVOLTS = 10.0


def critical_dose(frequency: ArrayLike, voltage_kv: float) -> Float64:
    """Critical dose in electrons per square angstrom at frequencies in 1/angstrom; infinite at zero.

    `InputError` for a voltage that it was not measured for: other than 300 and 200 kV, within 10 kV.
    """
    scale = next((s for kv, s in _KILOVOLTS.items() if abs(kv - voltage_kv) <= _SAME_KILOVOLTS), None)
    if scale is None:
        raise InputError(
            f"how detail fades with dose is known for 300 and 200 kV, not for {voltage_kv:g} kV",
            where="--dose-weighting",
            fix="leave it out",
        )
    k = np.asarray(frequency, dtype=np.float64)
    with np.errstate(divide="ignore"):
        return np.asarray(scale * (_FACTOR * k**_POWER + _LEAST), dtype=np.float64)


def fading(frequency: ArrayLike, dose: float, voltage_kv: float) -> Float64:
    """What is left of the signal at ``frequency`` after ``dose``: ``exp(-N / (2 Nc))``."""
    return np.asarray(np.exp(-0.5 * dose / critical_dose(frequency, voltage_kv)), dtype=np.float64)
