"""Scans as MRC stacks, with tilts from the extended header or a list beside the stack."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manyviews.io.frames import Float64, Int64, ScanFile, check_shape, everything
from manyviews.io.mrc_header import MrcHeader, read_header
from manyviews.io.tiff_series import angles_beside

_ANGSTROM = 0.1  # nm
_METRE = 1e9  # nm
_FEI = "FEI1", "FEI2"
_FEI_AXIS, _FEI_PIXEL = 140, 156  # bytes of doubles
_AGARD_BYTES, _AGARD_SECTIONS, _AGARD_AXIS, _AGARD_PIXEL = 128, 1024, 10, 11


@dataclass(frozen=True)
class MrcFrames:
    """Sections of an MRC file; see `manyviews.io.frames.Frames`."""

    header: MrcHeader

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(frame, row, column)``."""
        return self.header.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the numbers, in the byte order of this machine."""
        return self.header.dtype.newbyteorder("=")

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that hold them."""
        return (self.header.path,)

    def read(self, frames: Int64, rows: slice) -> NDArray[Any]:
        """Rows of the given frames ``(k, row, column)``; `InputError` where they cannot be read."""
        pixels = self.header.map_pixels()
        images = np.empty((len(frames), len(range(*rows.indices(self.shape[1]))), self.shape[2]), self.dtype)
        for place, frame in enumerate(frames.tolist()):
            images[place] = pixels[frame, rows]
        return images


def read_mrc_scan(path: Path) -> ScanFile:
    """What a stack and the list of angles beside it say; no image is read. `InputError` as of
    `read_header`.
    """
    header = read_header(path)
    check_shape(header.shape, path, "header")
    theta, source, notes = _theta(header)
    axis, pixel_size = _fei_values(header)
    pixel_source = "the extended header"
    if pixel_size is None:
        pixel_size, pixel_source = _header_pixel_size(header), "the header"
    return ScanFile(
        path=path,
        kind="MRC stack",
        projections=everything(MrcFrames(header)),
        theta_degrees=theta,
        theta_source=source,
        pixel_size_nm=pixel_size,
        pixel_size_source=pixel_source,
        axis_angle_degrees=axis,
        notes=notes,
        warnings=tuple(f"{path.name}: {text}" for text in header.warnings),
    )


def _theta(header: MrcHeader) -> tuple[Float64 | None, str, tuple[str, ...]]:
    """Of a list called as the stack is, else of the extended header."""
    own = header.tilt_angles()
    beside, source, _ = angles_beside(header.path.parent, header.path.name.split(".")[0])
    if beside is not None and header.path.name.split(".")[0] == Path(source).name.split(".")[0]:
        if own is None or len(beside) != len(own):
            return beside, source, ()
        apart = float(np.abs(beside - own).max())
        same = "which are the same" if apart < 0.05 else f"which differ by up to {apart:.3g} degrees"
        return beside, source, (f"angles: {source}, not those of the extended header, {same}",)
    if own is not None:
        return own, f"the extended header of {header.path.name}", ()
    return None, "there are none in its extended header, and no list that is called as the stack is", ()


def _header_pixel_size(header: MrcHeader) -> float | None:
    """In nm; 1 angstrom is what programs write that do not know."""
    if header.pixel_size is None or abs(header.pixel_size[0] - 1.0) < 1e-6 or header.pixel_size[0] <= 0:
        return None
    return header.pixel_size[0] * _ANGSTROM


def _fei_values(header: MrcHeader) -> tuple[float | None, float | None]:
    """Axis in degrees and pixel size in nm from the extended header of FEI's programs, new or of 2003.

    An axis of exactly 0 is one that was not filled in.
    """
    raw = header.extended_bytes() if header.data_offset > 1024 else b""
    order = header.byte_order
    if header.extended_type in _FEI and len(raw) >= _FEI_PIXEL + 8:
        (flags,) = struct.unpack_from(order + "I", raw, 8)
        (axis,) = struct.unpack_from(order + "d", raw, _FEI_AXIS)
        (size,) = struct.unpack_from(order + "d", raw, _FEI_PIXEL)
        return _axis(axis if flags & (1 << 12) else 0.0), _nanometres(size if flags & (1 << 14) else 0.0)
    is_fei = any("fei" in label.lower() for label in header.labels)
    if is_fei and not header.extended_type and len(raw) == _AGARD_BYTES * _AGARD_SECTIONS:
        values = np.frombuffer(raw, order + "f4", count=_AGARD_BYTES // 4).astype(np.float64)
        return _axis(float(values[_AGARD_AXIS])), _nanometres(float(values[_AGARD_PIXEL]))
    return None, None


def _axis(degrees: float) -> float | None:
    return degrees if np.isfinite(degrees) and 0 < abs(degrees) <= 360 else None


def _nanometres(metres: float) -> float | None:
    return metres * _METRE if np.isfinite(metres) and 1e-13 < metres < 1e-3 else None
