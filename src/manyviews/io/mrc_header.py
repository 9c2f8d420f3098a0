"""MRC headers (MRC2014 and IMOD's variants), checked against the file before anything is allocated.

Sources: Cheng et al., J. Struct. Biol. 192 (2015) 146 (MRC2014); IMOD's ``mrc_format.txt`` (signed bytes,
SerialEM extended header); the FEI/Thermo Fisher EPU extended header (FEI1, FEI2).
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError

HEADER_BYTES = 1024
MODES = {0: "u1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}
"""Pixel types that are read; mode 0 is ``i1`` where the IMOD flag or MRC2014 says signed."""

_IMOD_STAMP = 1146047817
_LARGEST_SIDE = 1 << 24
LABELS = 10
LABEL_BYTES = 80


@dataclass(frozen=True)
class MrcHeader:
    """What an MRC header says, checked against the file.

    Attributes
    ----------
    path
        The file.
    shape
        ``(sections, rows, columns)``.
    mode
        0 bytes, 1 int16, 2 float32, 6 uint16, 12 float16.
    dtype
        numpy type of the pixels with the byte order of the file.
    pixel_size
        ``(x, y, z)`` in angstrom, or None where the header has zeros.
    data_offset
        First byte of the pixels.
    byte_order
        ``"<"`` or ``">"``.
    is_volume
        True where ISPG says volume (1 or 401 upwards), False for a stack of images (0).
    labels
        Text labels.
    extended_type
        Four letters such as ``FEI1`` or ``SERI``, empty where there is none.
    extended_counts
        The two short integers of the SerialEM layout: bytes a section and its bit flags.
    warnings
        What is odd but harmless.
    """

    path: Path
    shape: tuple[int, int, int]
    mode: int
    dtype: np.dtype[Any]
    pixel_size: tuple[float, float, float] | None
    data_offset: int
    byte_order: str
    is_volume: bool
    labels: tuple[str, ...]
    extended_type: str
    extended_counts: tuple[int, int]
    warnings: tuple[str, ...] = ()

    def extended_bytes(self) -> bytes:
        """The extended header as stored, read when asked for."""
        with open(self.path, "rb") as handle:
            handle.seek(HEADER_BYTES)
            return handle.read(self.data_offset - HEADER_BYTES)

    def tilt_angles(self) -> NDArray[np.float64] | None:
        """Tilt angle in degrees of every section from the extended header, or None where it has none."""
        size = self.data_offset - HEADER_BYTES
        if size == 0:
            return None
        if self.extended_type in ("FEI1", "FEI2"):
            return self._fei_tilt_angles()
        if self.extended_type == "SERI" or (not self.extended_type and self._looks_like_serialem(size)):
            return self._serialem_tilt_angles()
        if self.extended_type == "AGAR" or (not self.extended_type and size == 1024 * 128):
            return self._agard_tilt_angles()
        return None

    def _looks_like_serialem(self, size: int) -> bool:
        step, flags = self.extended_counts
        return step > 0 and 0 < flags < 64 and step == _serialem_bytes(flags) and size >= step * self.shape[0]

    def _strided(self, step: int, offset: int, code: str) -> NDArray[np.float64] | None:
        """One number of every section from the extended header; None where too short or not finite."""
        data = self.extended_bytes()
        width = struct.calcsize(code)
        if offset < 0 or step < offset + width or len(data) < step * self.shape[0]:
            return None
        values = [
            struct.unpack_from(self.byte_order + code, data, i * step + offset)[0]
            for i in range(self.shape[0])
        ]
        angles = np.array(values, dtype=np.float64)
        return angles if bool(np.all(np.isfinite(angles))) else None

    def _fei_tilt_angles(self) -> NDArray[np.float64] | None:
        data = self.extended_bytes()
        if len(data) < 12:
            return None
        step, _, bitmask = struct.unpack_from(self.byte_order + "iiI", data)
        # Bit 7 of the first bitmask says that the alpha tilt (byte 100, double, degrees) was filled in.
        return self._strided(step, 100, "d") if bitmask & (1 << 7) else None

    def _serialem_tilt_angles(self) -> NDArray[np.float64] | None:
        step, flags = self.extended_counts
        if step <= 0 or not flags & 1:
            return None
        hundredths = self._strided(step, 0, "h")
        return None if hundredths is None else hundredths / 100

    def _agard_tilt_angles(self) -> NDArray[np.float64] | None:
        integers, reals = self.extended_counts
        angles = self._strided(4 * (integers + reals) or 128, 4 * integers, "f")
        return angles if angles is not None and np.any(angles) else None


def _serialem_bytes(flags: int) -> int:
    """Bytes a section of the SerialEM extended header takes for the given bit flags (IMOD mrc_format.txt)."""
    return sum(width for bit, width in enumerate((2, 6, 4, 2, 2, 4)) if flags & (1 << bit))


def _problem(path: Path, where: str, what: str, fix: str = "check that this is an MRC file") -> InputError:
    return InputError(what, path=path, where=where, fix=fix)


def _byte_order(raw: bytes, path: Path) -> str:
    """``"<"`` or ``">"``: the order in which sizes and mode make sense; the machine stamp breaks a tie."""
    stamp = {0x44: "<", 0x11: ">"}.get(raw[212])
    plausible = [order for order in "<>" if _plausible(raw, order)]
    if not plausible:
        raise _problem(
            path, "bytes 0-15", "the size and mode of the images make no sense in either byte order"
        )
    return stamp if stamp in plausible else plausible[0]


def _plausible(raw: bytes, order: str) -> bool:
    columns, rows, sections, mode = struct.unpack_from(order + "4i", raw)
    sides_ok = all(0 < side < _LARGEST_SIDE for side in (columns, rows, sections))
    return sides_ok and 0 <= mode < 256


def _axis_order(raw: bytes, order: str, path: Path) -> tuple[str, ...]:
    axes = struct.unpack_from(order + "3i", raw, 64)
    if axes == (1, 2, 3):
        return ()
    if axes == (0, 0, 0):
        return ("MAPC, MAPR, MAPS are 0; taken as 1, 2, 3",)
    raise _problem(
        path,
        "bytes 64-75",
        f"the axes are stored in the order {axes[0]}, {axes[1]}, {axes[2]}",
        "rewrite the file with columns, rows, sections in the order 1, 2, 3",
    )


def _pixel_type(raw: bytes, order: str, mode: int, path: Path) -> np.dtype[Any]:
    if mode not in MODES:
        names = ", ".join(str(known) for known in MODES)
        raise _problem(
            path, "bytes 12-15", f"mode {mode} is not supported", f"convert to one of modes {names}"
        )
    code = MODES[mode]
    if mode == 0:
        imod_stamp, imod_flags = struct.unpack_from(order + "2i", raw, 152)
        # IMOD: bit 0 of imodFlags says signed. Without its stamp, MRC2014 (NVERSION 20140 on) says signed.
        version = struct.unpack_from(order + "i", raw, 108)[0]
        is_imod = imod_stamp == _IMOD_STAMP
        signed = bool(imod_flags & 1) if is_imod else 20140 <= version < 30000
        code = "i1" if signed else "u1"
    return np.dtype(order + code)


def _pixel_size(raw: bytes, order: str, path: Path) -> tuple[float, float, float] | None:
    intervals = struct.unpack_from(order + "3i", raw, 28)
    lengths = struct.unpack_from(order + "3f", raw, 40)
    if not all(math.isfinite(length) and length >= 0 for length in lengths):
        raise _problem(
            path,
            "bytes 40-51",
            f"the cell size {lengths} is negative or not a number",
            "correct the pixel size in the header (IMOD: alterheader -del)",
        )
    if any(length == 0 for length in lengths) or any(count <= 0 for count in intervals):
        return None
    x, y, z = (length / count for length, count in zip(lengths, intervals, strict=True))
    return x, y, z


def _check_size(
    path: Path, shape: tuple[int, int, int], dtype: np.dtype[Any], offset: int
) -> tuple[str, ...]:
    """Compare header and file before anything is allocated."""
    needed = offset + math.prod(shape) * dtype.itemsize
    present = path.stat().st_size
    if present < needed:
        raise InputError(
            f"the header promises {needed} bytes ({shape[0]} sections of {shape[1]} x {shape[2]})"
            f" but the file has {present}",
            path=path,
            fix="the file is truncated or its header is damaged; copy it again",
        )
    return (f"{present - needed} bytes after the last section are ignored",) if present > needed else ()


def _labels(raw: bytes, order: str) -> tuple[str, ...]:
    count = min(max(struct.unpack_from(order + "i", raw, 220)[0], 0), LABELS)
    texts = (raw[224 + i * LABEL_BYTES : 224 + (i + 1) * LABEL_BYTES] for i in range(count))
    return tuple(text.decode("latin-1").rstrip("\0 ").strip() for text in texts)


def read_header(path: Path) -> MrcHeader:
    """Read and check the header; no pixel is touched.

    Raises
    ------
    InputError
        If the file cannot be read, is not MRC, has an unsupported mode or axis order, a bad pixel size, or is
        smaller than its header says.
    """
    path = Path(path)
    try:
        with open(path, "rb") as handle:
            raw = handle.read(HEADER_BYTES)
    except OSError as error:
        raise InputError(
            f"cannot be read ({error.strerror or error})", path=path, fix="check the name and the permissions"
        ) from error
    if len(raw) < HEADER_BYTES:
        raise _problem(path, "header", f"the file has {len(raw)} bytes but an MRC header alone has 1024")
    order = _byte_order(raw, path)
    columns, rows, sections, mode = struct.unpack_from(order + "4i", raw)
    shape = (sections, rows, columns)
    extended = struct.unpack_from(order + "i", raw, 92)[0]
    if extended < 0:
        raise _problem(path, "bytes 92-95", f"the extended header has a negative size ({extended})")
    dtype = _pixel_type(raw, order, mode, path)
    warnings = _axis_order(raw, order, path)
    warnings += _check_size(path, shape, dtype, HEADER_BYTES + extended)
    space_group = struct.unpack_from(order + "i", raw, 88)[0]
    extended_type = raw[104:108].decode("latin-1").strip("\0 ")
    return MrcHeader(
        path=path,
        shape=shape,
        mode=mode,
        dtype=dtype,
        pixel_size=_pixel_size(raw, order, path),
        data_offset=HEADER_BYTES + extended,
        byte_order=order,
        is_volume=space_group == 1 or space_group >= 401,
        labels=_labels(raw, order),
        extended_type=extended_type if extended_type.isalnum() and len(extended_type) == 4 else "",
        extended_counts=struct.unpack_from(order + "2h", raw, 128),
        warnings=warnings,
    )
