"""MRC headers (MRC2014 and IMOD's variants), checked against the file before anything is allocated.

Files may be compressed by gzip or bzip2. Where MAPC, MAPR and MAPS say that the axes are stored in another
order than x, y, z, they are put in that order: a section is a plane of one z, in a volume and in a stack.

Sources: Cheng et al., J. Struct. Biol. 192 (2015) 146 (MRC2014); IMOD's ``mrc_format.txt`` (signed bytes,
SerialEM extended header); the FEI/Thermo Fisher EPU extended header (FEI1, FEI2).
"""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.io.compressed import compression_of, decompressed, open_plain
from manyviews.io.file_kinds import PROBE_BYTES, foreign_kind, likely_kind
from manyviews.io.sizes import format_bytes

HEADER_BYTES = 1024
MODES = {0: "u1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}
"""Pixel types that are read; mode 0 is ``i1`` where the IMOD flag or MRC2014 says signed."""

_OTHER_MODES = {
    3: ("complex numbers", "transform it back, or save the real part as mode 2"),
    4: ("complex numbers", "transform it back, or save the real part as mode 2"),
    16: ("colours", "save grey values as mode 0 or 2"),
    101: ("packed 4-bit numbers", "unpack it with IMOD: newstack -mode 1 IN OUT"),
}
_IN_ORDER = (1, 2, 3)
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
        ``(sections, rows, columns)``, which are z, y, x.
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
    compression
        ``"gzip"``, ``"bzip2"`` or nothing.
    stored_axes
        MAPC, MAPR, MAPS: which of x, y, z (1, 2, 3) runs along the columns, rows and sections of the file.
    listed_tilts
        Tilt angles in degrees that came with a list of images, one a section (`manyviews.io.image_list`).
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
    compression: str = ""
    stored_axes: tuple[int, int, int] = _IN_ORDER
    listed_tilts: tuple[float, ...] = ()

    @property
    def needed_bytes(self) -> int:
        """Size of the file, without what may follow the last section."""
        return self.data_offset + math.prod(self.shape) * self.dtype.itemsize

    def plain_bytes(self) -> mmap.mmap:
        """The content of a compressed file, and one byte more if something follows the last section."""
        return decompressed(self.path, self.needed_bytes + 1)

    def map_pixels(self) -> NDArray[Any]:
        """The pixels ``(sections, rows, columns)`` in the file's own type, mapped and not read yet.

        `InputError` if the file is not there any more, or has become shorter.
        """
        # The stored array runs over (MAPS, MAPR, MAPC), each of which is x, y or z.
        lengths = self.shape[::-1]
        stored = tuple(lengths[axis - 1] for axis in self.stored_axes[::-1])
        order = tuple(self.stored_axes[::-1].index(axis) for axis in (3, 2, 1))
        try:
            if self.compression:
                count = math.prod(self.shape)
                flat = np.frombuffer(self.plain_bytes(), self.dtype, count=count, offset=self.data_offset)
                return flat.reshape(stored).transpose(order)
            # Mapped anew at each call, so that no file stays open between reads. As a plain array, without
            # memmap's bookkeeping at every index.
            mapped = np.memmap(self.path, dtype=self.dtype, mode="r", offset=self.data_offset, shape=stored)
            return np.asarray(mapped).transpose(order)
        except (OSError, ValueError) as error:
            raise InputError(
                f"cannot be read any more ({error})", path=self.path, fix="copy it again"
            ) from error

    def extended_bytes(self) -> bytes:
        """The extended header as stored, read when asked for."""
        with open_plain(self.path) as handle:
            handle.seek(HEADER_BYTES)
            return handle.read(self.data_offset - HEADER_BYTES)

    def tilt_angles(self) -> NDArray[np.float64] | None:
        """Tilt angle in degrees of every section from the extended header, or None where it has none."""
        if self.listed_tilts:
            return np.array(self.listed_tilts, dtype=np.float64)
        size = self.data_offset - HEADER_BYTES
        if size == 0 or self.stored_axes[2] != 3:  # an extended header speaks of sections as stored
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


def _axis_order(raw: bytes, order: str, path: Path) -> tuple[tuple[int, int, int], tuple[str, ...]]:
    """MAPC, MAPR, MAPS, and what to say about them."""
    axes: tuple[int, int, int] = struct.unpack_from(order + "3i", raw, 64)
    if axes == _IN_ORDER:
        return axes, ()
    if axes == (0, 0, 0):
        return _IN_ORDER, ("MAPC, MAPR, MAPS are 0; taken as 1, 2, 3",)
    listed = ", ".join(map(str, axes))
    if sorted(axes) == list(_IN_ORDER):
        said = (
            f"MAPC, MAPR, MAPS are {listed}: the axes are put in the order x, y, z, and sections lie along z"
        )
        return axes, (said,)
    raise _problem(
        path,
        "bytes 64-75",
        f"the axes are stored in the order {listed}",
        "rewrite the file with columns, rows, sections in the order 1, 2, 3",
    )


def _pixel_type(raw: bytes, order: str, mode: int, path: Path) -> np.dtype[Any]:
    if mode in _OTHER_MODES:
        content, fix = _OTHER_MODES[mode]
        raise _problem(path, "bytes 12-15", f"holds {content} (mode {mode}), which are not read", fix)
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


def _check_size(header: MrcHeader) -> tuple[str, ...]:
    """Compare header and file before anything is allocated; what to say about the difference."""
    path, needed = header.path, header.needed_bytes
    present = len(header.plain_bytes()) if header.compression else path.stat().st_size
    if present < needed:
        sections, rows, columns = header.shape
        raise InputError(
            f"the header promises {needed} bytes ({sections} sections of {rows} x {columns})"
            f" but the file has {present}",
            path=path,
            fix="the file is truncated or its header is damaged; copy it again",
        )
    more = "more" if header.compression else f"{present - needed}"
    return (f"{more} bytes after the last section are ignored",) if present > needed else ()


def _labels(raw: bytes, order: str) -> tuple[str, ...]:
    count = min(max(struct.unpack_from(order + "i", raw, 220)[0], 0), LABELS)
    texts = (raw[224 + i * LABEL_BYTES : 224 + (i + 1) * LABEL_BYTES] for i in range(count))
    return tuple(text.decode("latin-1").rstrip("\0 ").strip() for text in texts)


def read_header(path: Path) -> MrcHeader:
    """Read and check the header; no pixel is touched, but a compressed file is decompressed.

    Raises
    ------
    InputError
        If the file cannot be read, is not MRC, has an unsupported mode or axis order, a bad pixel size, or is
        smaller than its header says. A format that is known by its first bytes is named.
    """
    path = Path(path)
    start = _start(path)
    compression = compression_of(start)
    if compression:
        with open_plain(path) as plain:
            start = plain.read(HEADER_BYTES)
    if kind := foreign_kind(start, path):
        raise InputError(f"is {kind.name}, not MRC", path=path, fix=kind.fix)
    try:
        return _read_header(start, path, compression)
    except InputError as error:
        if kind := likely_kind(start, path):
            raise InputError(f"looks like {kind.name}, not MRC", path=path, fix=kind.fix) from error
        raise


def _start(path: Path) -> bytes:
    """The first bytes of a file as stored."""
    try:
        with open(path, "rb") as handle:
            return handle.read(max(HEADER_BYTES, PROBE_BYTES))
    except IsADirectoryError as error:
        raise InputError("is a folder", path=path, fix="name the MRC file in it") from error
    except OSError as error:
        raise InputError(
            f"cannot be read ({error.strerror or error})", path=path, fix="check the name and the permissions"
        ) from error
    except ValueError as error:
        raise InputError("is not a possible file name", path=path, fix="check the name") from error


def _read_header(raw: bytes, path: Path, compression: str) -> MrcHeader:
    if len(raw) < HEADER_BYTES:
        raise _problem(path, "header", f"the file has {len(raw)} bytes but an MRC header alone has 1024")
    order = _byte_order(raw, path)
    columns, rows, sections, mode = struct.unpack_from(order + "4i", raw)
    extended = struct.unpack_from(order + "i", raw, 92)[0]
    if extended < 0:
        raise _problem(path, "bytes 92-95", f"the extended header has a negative size ({extended})")
    dtype = _pixel_type(raw, order, mode, path)
    axes, warnings = _axis_order(raw, order, path)
    x, y, z = (length for _, length in sorted(zip(axes, (columns, rows, sections), strict=True)))
    space_group = struct.unpack_from(order + "i", raw, 88)[0]
    extended_type = raw[104:108].decode("latin-1").strip("\0 ")
    header = MrcHeader(
        path=path,
        shape=(z, y, x),
        mode=mode,
        dtype=dtype,
        pixel_size=_pixel_size(raw, order, path),
        data_offset=HEADER_BYTES + extended,
        byte_order=order,
        is_volume=space_group == 1 or space_group >= 401,
        labels=_labels(raw, order),
        extended_type=extended_type if extended_type.isalnum() and len(extended_type) == 4 else "",
        extended_counts=struct.unpack_from(order + "2h", raw, 128),
        compression=compression,
        stored_axes=axes,
    )
    warnings += _check_size(header)
    if compression:
        size = format_bytes(header.needed_bytes)
        warnings += (f"is compressed by {compression}: each process decompresses it to {size} in TMPDIR",)
    return replace(header, warnings=warnings)
