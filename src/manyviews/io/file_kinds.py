"""What a file is, told by its first bytes, and what to do with one that is not MRC.

Sources: the formats' own specifications of their signatures; for DigitalMicrograph's DM3 and DM4 and for
SPIDER, which have none, the sizes at their beginning that agree with each other.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from manyviews.io.hdf5 import SIGNATURE as HDF5_SIGNATURE

PROBE_BYTES = 1024
"""How much of a file `foreign_kind` and `likely_kind` want to see."""


@dataclass(frozen=True)
class FileKind:
    """A format by its ``name``, as in ``"is <name>, not MRC"``, and what the user can do about it."""

    name: str
    fix: str


_SAVE_AS_MRC = "save the grey values as an MRC file"
_DIGITAL_MICROGRAPH = "convert it with IMOD: dm2mrc IN OUT.mrc"
_TIFF = FileKind("a TIFF file", "convert it with IMOD: tif2mrc IN.tif OUT.mrc, and give --pixel-size")
_EER = FileKind(
    "an EER movie", "give the motion-corrected images that RELION, MotionCor3 or Warp make of it, as MRC"
)
_HDF5 = FileKind(
    "an HDF5 file (EMD, HDF or IMS)",
    "save it as MRC in the program that wrote it, or with EMAN2: e2proc2d.py IN OUT.mrc",
)
TEXT = FileKind("text", "give the MRC file itself")

_SIGNATURES: tuple[tuple[bytes, FileKind], ...] = (
    (HDF5_SIGNATURE, _HDF5),
    (b"II*\0", _TIFF),
    (b"MM\0*", _TIFF),
    (b"II+\0", _TIFF),
    (b"MM\0+", _TIFF),
    (b"II\x97\x01", FileKind("an SER file of TIA", "save it as MRC in TIA or Velox")),
    (b"\x89PNG", FileKind("a PNG picture", _SAVE_AS_MRC)),
    (b"\xff\xd8\xff", FileKind("a JPEG picture", _SAVE_AS_MRC)),
    (b"GIF8", FileKind("a GIF picture", _SAVE_AS_MRC)),
    (b"%PDF", FileKind("a PDF document", TEXT.fix)),
    (b"SIMPLE  =", FileKind("a FITS file", "convert it to MRC")),
    (b"NRRD000", FileKind("an NRRD file", "convert it to MRC")),
    (b"PK\x03\x04", FileKind("a zip archive", "unzip it first")),
    (b"7z\xbc\xaf\x27\x1c", FileKind("a 7z archive", "unpack it first: 7z x FILE")),
    (b"\xfd7zXZ\0", FileKind("compressed by xz", "decompress it first: unxz FILE")),
    (b"\x28\xb5\x2f\xfd", FileKind("compressed by zstd", "decompress it first: unzstd FILE")),
    (b"\x04\x22\x4d\x18", FileKind("compressed by lz4", "decompress it first: unlz4 FILE")),
    (b"\x1f\x9d", FileKind("compressed by compress", "decompress it first: uncompress FILE")),
    (b"\x93NUMPY", FileKind("an array of numpy", "save it as MRC: manyviews.write_mrc")),
    (b"\x94CSDAT", FileKind("a cryoSPARC table", "give the images it names")),
    (b"version https://git-lfs", FileKind("a pointer of Git LFS", "fetch the file itself: git lfs pull")),
)


def foreign_kind(start: bytes, path: Path) -> FileKind | None:
    """The format of a file that begins with ``start``, if its signature cannot be the size of an MRC file.

    None for MRC and for what is not known. ``path`` tells formats apart that share a signature.
    """
    if start[257:262] == b"ustar" and start[208:212] != b"MAP ":
        return FileKind("a tar archive", "unpack it first: tar xf FILE")
    for signature, kind in _SIGNATURES:
        if start.startswith(signature):
            return _EER if kind is _TIFF and path.suffix.lower() == ".eer" else kind
    if start and is_text(start):
        return _text_kind(start)
    return None


def likely_kind(start: bytes, path: Path) -> FileKind | None:
    """The format of a file that is known not to be MRC already, by weaker marks; None if unknown."""
    if start[:3] == b"\0\0\0" and start[3:4] in (b"\x03", b"\x04") and start[208:212] != b"MAP ":
        return FileKind(f"a DM{start[3]} file of DigitalMicrograph", _DIGITAL_MICROGRAPH)
    if _is_spider(start):
        return FileKind("a SPIDER file", "convert it with EMAN2: e2proc2d.py IN OUT.mrc")
    by_suffix = {
        ".em": FileKind("an EM file", "convert it with EMAN2: e2proc3d.py IN OUT.mrc"),
        ".img": FileKind("an IMAGIC file", "convert it with EMAN2: e2proc2d.py IN OUT.mrc"),
        ".hed": FileKind("an IMAGIC header", "convert it with EMAN2: e2proc2d.py IN OUT.mrc"),
        ".raw": FileKind("a file without a header", "convert it with IMOD: raw2mrc"),
    }
    return by_suffix.get(path.suffix.lower())


def is_text(start: bytes) -> bool:
    """Whether the beginning of a file is text; no MRC header is, for the zeros in it."""
    return not any(byte < 32 and byte not in b"\t\n\r\f" for byte in start)


def _text_kind(start: bytes) -> FileKind:
    if start.lstrip()[:1] == b"<":
        return FileKind("a web page or XML", "download or export the MRC file itself")
    return TEXT


def _is_spider(start: bytes) -> bool:
    """SPIDER's header is of floats: records, their length, and the product of both agree."""
    if len(start) < 92:
        return False
    for order in "<>":
        values = struct.unpack_from(order + "23f", start)
        columns, records, header_bytes, record_bytes = values[11], values[12], values[21], values[22]
        if 0 < columns < 1 << 24 and record_bytes == 4 * columns and header_bytes == records * record_bytes:
            return True
    return False
