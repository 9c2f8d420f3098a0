"""What the microscope does to a projection: the contrast transfer function, in RELION's sign.

    CTF(s) = -sin(chi(s) - phase - atan(w / sqrt(1 - w^2))) exp(-B s^2 / 4) scale
    chi(s) = -pi lambda dz(angle) s^2 + pi/2 Cs lambda^3 s^4

``+w`` at zero frequency without a phase plate, so protein is white. Defocus is positive under focus; with
astigmatism ``dz = 1/2 (U + V + (U - V) cos 2(angle - astigmatism))``, angles from the x axis.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from manyviews.errors import InputError

Float64 = NDArray[np.float64]
_VALUES_AT_ONCE = 2**20


def wavelength(voltage_kv: ArrayLike) -> Float64:
    """Electron wavelength in angstrom, relativistic, with RELION's constants."""
    volts = np.asarray(voltage_kv, dtype=np.float64) * 1e3
    return np.asarray(12.2643247 / np.sqrt(volts * (1 + 0.978466e-6 * volts)))


@dataclass(frozen=True)
class Optics:
    """Microscope and defocus of N particles; each field is ``(N,)``.

    Attributes
    ----------
    amplitude_contrast
        w from -1 to 1, where 1 with no defocus or aberration is no CTF at all.
    defocus
        ``(N, 2)`` U and V in angstrom, positive under focus.
    defocus_angle
        Degrees from the x axis to the direction of U.
    phase_shift
        Degrees, of a phase plate.
    b_factor
        Square angstrom.
    """

    voltage_kv: Float64
    spherical_aberration_mm: Float64
    amplitude_contrast: Float64
    defocus: Float64
    defocus_angle: Float64
    phase_shift: Float64
    b_factor: Float64
    scale: Float64

    @classmethod
    def make(
        cls,
        voltage_kv: ArrayLike,
        spherical_aberration_mm: ArrayLike,
        amplitude_contrast: ArrayLike,
        defocus: ArrayLike,
        defocus_angle: ArrayLike = 0.0,
        phase_shift: ArrayLike = 0.0,
        b_factor: ArrayLike = 0.0,
        scale: ArrayLike = 1.0,
    ) -> Optics:
        """From arrays, or numbers that all particles share; see the class for units.

        Raises
        ------
        InputError
            If a voltage is not positive, an amplitude contrast beyond -1 or 1, or anything not finite.
        """
        pairs = np.asarray(defocus, dtype=np.float64).reshape(-1, 2)
        shared = (
            np.array(np.broadcast_to(np.asarray(value, dtype=np.float64), len(pairs)))
            for value in (voltage_kv, spherical_aberration_mm, amplitude_contrast)
        )
        voltage, aberration, contrast = shared
        angle, phase, b, factor = (
            np.array(np.broadcast_to(np.asarray(value, dtype=np.float64), len(pairs)))
            for value in (defocus_angle, phase_shift, b_factor, scale)
        )
        made = cls(voltage, aberration, contrast, pairs, angle, phase, b, factor)
        made._check()
        return made

    def __len__(self) -> int:
        return len(self.defocus)

    def select(self, chosen: NDArray[Any] | slice) -> Optics:
        """Some of the particles."""
        return Optics(**{name: value[chosen] for name, value in vars(self).items()})

    def _check(self) -> None:
        for name, value in vars(self).items():
            if not np.all(np.isfinite(value)):
                raise InputError(f"the {name.replace('_', ' ')} of a particle is not a number")
        if np.any(self.voltage_kv <= 0):
            raise InputError("a voltage is zero or less", fix="give it in kV")
        if np.any(np.abs(self.amplitude_contrast) > 1):
            raise InputError("an amplitude contrast is beyond -1 or 1", fix="give a fraction, e.g. 0.07")


def ctf_values(
    optics: Optics,
    points: NDArray[Any],
    box: int,
    pixel_size: float,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> torch.Tensor:
    """Contrast transfer functions ``(N, P)`` of particles at image frequencies.

    The phase is linear in five functions of frequency (1, s^2, s^2 cos 2a, s^2 sin 2a, s^4), so all phases
    are one product of coefficients and functions, in double precision; memory beyond the result is a few MB.
    ``points (P, 2)`` are (kx, ky) in cycles per ``box`` pixels of ``pixel_size`` angstrom.
    """
    functions, squared = (
        torch.as_tensor(part, device=device) for part in _functions(points, box, pixel_size)
    )
    coefficients = torch.as_tensor(phase_coefficients(optics), device=device)
    decay = torch.as_tensor(-optics.b_factor / 4, device=device)
    scale = torch.as_tensor(optics.scale, device=device)
    out = torch.empty((len(optics), len(points)), dtype=dtype, device=device)
    step = max(1, _VALUES_AT_ONCE // max(1, len(points)))
    for first in range(0, len(optics), step):
        chosen = slice(first, first + step)
        phase = coefficients[chosen] @ functions
        # whole turns off, so that single precision is enough
        phase -= torch.round(phase / (2 * torch.pi)) * (2 * torch.pi)
        out[chosen] = torch.sin(phase.to(dtype)).neg_()
        if bool(torch.any(decay[chosen] != 0)):
            out[chosen] *= torch.exp(decay[chosen, None] * squared).to(dtype)
        if bool(torch.any(scale[chosen] != 1)):
            out[chosen] *= scale[chosen, None].to(dtype)
    return out


def _functions(points: NDArray[Any], box: int, pixel_size: float) -> tuple[Float64, Float64]:
    """``(5, P)`` functions of frequency that the phase is made of, and ``(P,)`` s^2 in 1/angstrom^2."""
    kx, ky = np.asarray(points, dtype=np.float64).T / (box * pixel_size)
    squared = kx**2 + ky**2
    # s^2 cos 2a = kx^2 - ky^2 and s^2 sin 2a = 2 kx ky
    functions = np.stack([np.ones_like(kx), squared, kx**2 - ky**2, 2 * kx * ky, squared**2])
    return functions, squared


def phase_coefficients(optics: Optics) -> Float64:
    """``(N, 5)`` coefficients of `_functions` in ``chi - phase - atan(w / sqrt(1 - w^2))``."""
    length = wavelength(optics.voltage_kv)
    mean = optics.defocus.mean(axis=1)
    astigmatism = (optics.defocus[:, 0] - optics.defocus[:, 1]) / 2
    double_angle = np.deg2rad(2 * optics.defocus_angle)
    contrast = optics.amplitude_contrast
    constant = -np.deg2rad(optics.phase_shift) - np.arctan2(contrast, np.sqrt(1 - contrast**2))
    spherical = math.pi / 2 * optics.spherical_aberration_mm * 1e7 * length**3
    defocus = -math.pi * length
    parts = [
        constant,
        defocus * mean,
        defocus * astigmatism * np.cos(double_angle),
        defocus * astigmatism * np.sin(double_angle),
        spherical,
    ]
    return np.stack(parts, axis=1)
