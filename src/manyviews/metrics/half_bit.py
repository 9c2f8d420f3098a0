"""The lines that a Fourier shell correlation of halves is read against: so much information in every sample.

Van Heel and Schatz, J. Struct. Biol. 151 (2005) 250, eqs. 13 to 17. A sample of the whole holds half a bit
at a signal-to-noise ratio of sqrt(2) - 1 (0.2071 in each half), one bit at a ratio of 1 (0.5 in each). The
fewer samples a shell has, the more of them agree by chance.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

# of eq. 17, as printed: numerator and its part with 1 / sqrt(n), denominator and its part
_HALF_BIT = (0.2071, 1.9102, 1.2071, 0.9102)
_ONE_BIT = (0.5, 2.4142, 1.5, 1.4142)


def half_bit(samples: Float64) -> Float64:
    """The half-bit line where shells have so many independent samples: 0.1716 for very many, 1 for one."""
    return _line(samples, _HALF_BIT)


def one_bit(samples: Float64) -> Float64:
    """The one-bit line: 1/3 for very many samples, 1 for one."""
    return _line(samples, _ONE_BIT)


def effective_samples(samples: Float64, volume_share: float) -> Float64:
    """How many samples of shells are independent if the specimen fills this share of the volume.

    A transform of what is compact is smooth, and determined by as many samples a volume of reciprocal space
    as the specimen, not the box, has room. At least one a shell. `ValueError` for a share that is none.
    """
    if not 0.0 < volume_share <= 1.0:
        raise ValueError(f"{volume_share} is no share of a volume")
    return np.asarray(np.maximum(1.0, volume_share * np.asarray(samples, dtype=np.float64)))


def _line(samples: Float64, terms: tuple[float, float, float, float]) -> Float64:
    root = np.sqrt(np.maximum(samples, 1.0))
    above, above_part, below, below_part = terms
    return np.asarray((above + above_part / root) / (below + below_part / root), dtype=np.float64)
