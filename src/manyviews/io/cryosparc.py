"""cryoSPARC's particle tables (``.cs``): structured arrays in numpy's file format, one record a particle.

Sources: cryoSPARC's guide (fields of particle outputs); the conventions of its poses are those in which two
independent readers agree, pyem's ``csparc2star`` and cryoDRGN's ``parse_pose_csparc``: the rotation by the
axis-angle vector is the transpose of RELION's A, and shifts have RELION's sign, in pixels.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from manyviews.errors import InputError
from manyviews.io.compressed import compression_of
from manyviews.io.particle_stacks import check_stacks, find_imported_name, locate_stacks
from manyviews.io.particle_table import OpticsGroup, ParticleTable
from manyviews.io.text import LARGEST_NUMBER

UID_LABEL = "cryosparcUid"
"""Column of STAR files with the number that cryoSPARC knows a particle by."""

_LONGEST_HEADER = 65_536
_STREAM_MAGIC = b"\x94CSDAT"
_OPTICS = ("ctf/accel_kv", "ctf/cs_mm", "ctf/amp_contrast")
_DEFOCUS = ("ctf/df1_A", "ctf/df2_A", "ctf/df_angle_rad")
_UNUSED = ("ctf/shift_A", "ctf/tilt_A", "ctf/trefoil_A", "ctf/tetra_A", "ctf/anisomag")
_NO_CTF = (300.0, 0.0, 1.0)


@dataclass(frozen=True)
class _Fields:
    """The fields of one or two files, checked when asked for."""

    path: Path
    fields: Mapping[str, NDArray[Any]]
    count: int

    def __contains__(self, name: str) -> bool:
        return name in self.fields

    def require(self, *names: str) -> None:
        missing = [name for name in names if name not in self.fields]
        if missing:
            raise InputError(
                f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing",
                path=self.path,
                fix=f"give cryoSPARC's passthrough file too{_passthrough_beside(self.path)}",
            )

    def numbers(self, name: str, width: int = 1, default: float | None = None) -> NDArray[np.float64]:
        """A field as float64 ``(N,)`` or ``(N, width)``, finite."""
        shape = (self.count, width) if width > 1 else (self.count,)
        if name not in self.fields and default is not None:
            return np.full(shape, default)
        self.require(name)
        values = self.fields[name]
        if values.dtype.kind not in "fiu" or values.shape != shape:
            what = f"field {name} is not of {width} number{'s' if width > 1 else ''} a particle"
            raise InputError(what, path=self.path)
        with np.errstate(invalid="ignore"):  # NaN of a kind that is told of; refused below
            numbers = values.astype(np.float64)
        bad = ~(np.abs(numbers) <= LARGEST_NUMBER)  # NaN too
        if bad.any():
            row = int(np.argwhere(bad)[0][0])
            what = "is not a finite number of ordinary size"
            raise InputError(what, path=self.path, where=f"field {name}, particle {row + 1}")
        return numbers

    def whole(self, name: str, largest: int, width: int = 1) -> NDArray[np.int64]:
        numbers = self.numbers(name, width)
        bad = (numbers != np.rint(numbers)) | (numbers < 0) | (numbers > largest)
        if bad.any():
            row = int(np.argwhere(bad)[0][0])
            what = f"is not a whole number from 0 to {largest}"
            raise InputError(what, path=self.path, where=f"field {name}, particle {row + 1}")
        return numbers.astype(np.int64)

    def texts(self, name: str) -> list[str]:
        self.require(name)
        values = self.fields[name]
        if values.dtype.kind not in "SU" or values.ndim != 1:
            raise InputError(f"field {name} is not text", path=self.path)
        return [v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in values.tolist()]


def _passthrough_beside(path: Path) -> str:
    """What a user who does not know of such files may look for."""
    beside = sorted(other for other in path.parent.glob("*passthrough*.cs") if other != path)
    return f": --passthrough {beside[0]}" if beside else " (--passthrough)"


def read_cryosparc_particles(
    path: Path,
    *,
    passthrough: Path | None = None,
    data_root: Path | None = None,
    with_images: bool = True,
    ctf: bool = True,
) -> ParticleTable:
    """Read the particles of a cryoSPARC ``.cs`` file.

    Parameters
    ----------
    path
        The file.
    passthrough
        A second file with fields that the first lacks, its particles matched by their ``uid``.
    data_root
        cryoSPARC's project folder, within which all images must lie, links followed; see `locate_stacks`.
    with_images
        Whether the stacks must be there; their headers are checked.
    ctf
        False: CTF fields are not needed and not read, and images are taken as free of a CTF.

    Raises
    ------
    InputError
        If a file is damaged or of another kind, lacks a field, holds something impossible, or names an image
        that does not exist or lies outside the project.
    """
    path = Path(path)
    fields = _read_fields(path)
    if passthrough is not None:
        fields = _joined(fields, _read_fields(Path(passthrough)))
    fields.require("blob/path", "blob/idx", "blob/psize_A", *((*_OPTICS, *_DEFOCUS) if ctf else ()))
    names, stack_index = _stack_names(fields, data_root)
    optics, optics_index = _optics(fields, ctf=ctf)
    zeros = np.zeros(fields.count)
    defocus = np.stack([fields.numbers(name) if ctf else zeros for name in _DEFOCUS[:2]], axis=1)
    stacks = locate_stacks(names, source=path, data_root=data_root, must_exist=with_images)
    table = ParticleTable(
        stacks=stacks.paths,
        stack_names=names,
        stack_index=stack_index,
        section=fields.whole("blob/idx", 10**9),
        optics=optics,
        optics_index=optics_index,
        defocus=defocus,
        defocus_angle=np.rad2deg(fields.numbers(_DEFOCUS[2])) if ctf else zeros,
        phase_shift=np.rad2deg(fields.numbers("ctf/phase_shift_rad", default=0.0)) if ctf else zeros,
        b_factor=fields.numbers("ctf/bfactor", default=0.0) if ctf else zeros,
        scale=fields.numbers("ctf/scale", default=1.0) if ctf else np.ones(fields.count),
        angles=_angles(fields),
        shifts=_shifts(fields),
        half=fields.whole("alignments3D/split", 1) + 1 if "alignments3D/split" in fields else None,
        contrast_sign=_contrast_sign(fields),
        extra={UID_LABEL: [str(uid) for uid in fields.fields["uid"].tolist()]} if "uid" in fields else {},
        records=as_records(fields.fields, fields.count),
        warnings=(*(_warnings(fields) if ctf else ()), *stacks.warnings),
    )
    return check_stacks(table, source=path) if with_images else table


def as_records(fields: Mapping[str, NDArray[Any]], count: int) -> NDArray[Any]:
    """Fields ``(N, ...)`` by name as a structured array ``(N,)`` in their order, those without bytes not."""
    kept = {name: values for name, values in fields.items() if values.dtype.itemsize}
    made = np.empty(count, [(name, values.dtype, values.shape[1:]) for name, values in kept.items()])
    for name, values in kept.items():
        made[name] = values
    return made


def _read_fields(path: Path) -> _Fields:
    try:
        with open(path, "rb") as handle:
            records = _read_records(handle, path)
    except OSError as error:
        raise InputError(
            f"cannot be read ({error.strerror or error})", path=path, fix="check the name and the permissions"
        ) from error
    fields = {name: records[name] for name in records.dtype.names or ()}
    return _Fields(path, fields, len(records))


def _read_records(handle: BinaryIO, path: Path) -> NDArray[Any]:
    """The array of records; sizes are checked before anything is allocated and no object is unpickled."""
    fix = "give a particles.cs file as cryoSPARC writes it"
    start = handle.read(8)
    if compression := compression_of(start):
        raise InputError(f"is compressed by {compression}", path=path, fix="decompress it first")
    if start.startswith(_STREAM_MAGIC):
        raise InputError(
            "is in cryoSPARC's compressed stream format",
            path=path,
            fix="save it in numpy's with cryosparc-tools",
        )
    if start not in (b"\x93NUMPY\x01\x00", b"\x93NUMPY\x02\x00"):
        raise InputError("is not a cryoSPARC table", path=path, fix=fix)
    header = np.lib.format.read_array_header_1_0 if start[6] == 1 else np.lib.format.read_array_header_2_0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy's remark on headers of Python 2
            shape, _, dtype = header(handle, max_header_size=_LONGEST_HEADER)
    except (
        Exception
    ) as error:  # what numpy raises on a damaged header is not documented, and is of many kinds
        raise InputError("has a damaged header", path=path, fix=fix) from error
    if dtype.names is None or dtype.hasobject or len(shape) != 1 or dtype.itemsize == 0:
        raise InputError("is not a table of records of numbers and text", path=path, fix=fix)
    present = os.fstat(handle.fileno()).st_size - handle.tell()
    if shape[0] <= 0 or shape[0] * dtype.itemsize > present:
        what = f"promises {shape[0]} particles of {dtype.itemsize} bytes but {present} bytes follow"
        raise InputError(what if shape[0] > 0 else "holds no particles", path=path, fix="copy it again")
    return np.fromfile(handle, dtype=dtype, count=shape[0])


def _joined(first: _Fields, second: _Fields) -> _Fields:
    """The fields of both, for the particles of the first in their order."""
    for fields in (first, second):
        fields.require("uid")
        if fields.fields["uid"].dtype.kind not in "iu" or fields.fields["uid"].ndim != 1:
            raise InputError("field uid is not of whole numbers", path=fields.path)
    wanted, offered = first.fields["uid"], second.fields["uid"]
    order = np.argsort(offered, kind="stable")
    place = np.clip(np.searchsorted(offered, wanted, sorter=order), 0, len(offered) - 1)
    rows = order[place]
    missing = int(np.count_nonzero(offered[rows] != wanted))
    if missing:
        raise InputError(
            f"lacks {missing} of the {first.count} particles of {first.path}",
            path=second.path,
            fix="give the passthrough file of the same job",
        )
    added = {name: values[rows] for name, values in second.fields.items() if name not in first}
    return _Fields(first.path, {**first.fields, **added}, first.count)


def _stack_names(fields: _Fields, data_root: Path | None) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    paths = fields.texts("blob/path")
    found: dict[str, int] = {}
    index = np.array([found.setdefault(path, len(found)) for path in paths], dtype=np.int64)
    names = tuple(find_imported_name(name, source=fields.path, data_root=data_root) for name in found)
    return names, index


def _optics(fields: _Fields, *, ctf: bool) -> tuple[tuple[OpticsGroup, ...], NDArray[np.int64]]:
    """Groups that agree in microscope, pixel size and box, split further by cryoSPARC's exposure group."""
    group = (
        fields.whole("ctf/exp_group_id", 2**32) if "ctf/exp_group_id" in fields else np.zeros(fields.count)
    )
    microscope = [
        fields.numbers(name) if ctf else np.full(fields.count, value)
        for name, value in zip(_OPTICS, _NO_CTF, strict=True)
    ]
    boxes = fields.whole("blob/shape", 1 << 16, 2) if "blob/shape" in fields else np.zeros((fields.count, 2))
    columns = [group, *microscope, fields.numbers("blob/psize_A"), boxes[:, 0], boxes[:, 1]]
    rows, index = np.unique(np.stack(columns, axis=1), axis=0, return_inverse=True)
    return tuple(_group(row, fields.path) for row in rows.tolist()), index.reshape(-1).astype(np.int64)


def _group(row: list[float], path: Path) -> OpticsGroup:
    number, voltage, aberration, contrast, pixel_size, rows, columns = row
    if rows != columns:
        raise InputError(f"the images are {columns:g} x {rows:g} pixels, not square", path=path)
    try:
        return OpticsGroup(
            name=f"exposureGroup{number:.0f}",
            voltage_kv=voltage,
            # Stored in single precision: 2.7 comes as 2.700000048.
            spherical_aberration_mm=round(aberration, 6),
            amplitude_contrast=round(contrast, 6),
            pixel_size=round(pixel_size, 6),
            image_size=int(rows) or None,
        )
    except InputError as error:
        raise InputError(error.what, path=path, fix="correct it in cryoSPARC") from error


def _angles(fields: _Fields) -> NDArray[np.float64] | None:
    """``(N, 3)`` rot, tilt, psi in degrees.

    The axis-angle vector's matrix is A', and A' is ``from_euler("ZYZ", (rot, tilt, psi))``.
    """
    if "alignments3D/pose" not in fields:
        return None
    rotations = Rotation.from_rotvec(fields.numbers("alignments3D/pose", 3))
    with warnings.catch_warnings():
        # At tilt 0 or 180 only the sum of rot and psi is known: scipy says so and picks one.
        warnings.simplefilter("ignore", UserWarning)
        return np.asarray(rotations.as_euler("ZYZ", degrees=True), dtype=np.float64)


def _shifts(fields: _Fields) -> NDArray[np.float64] | None:
    if "alignments3D/shift" not in fields:
        return None
    name = "alignments3D/psize_A" if "alignments3D/psize_A" in fields else "blob/psize_A"
    return fields.numbers("alignments3D/shift", 2) * fields.numbers(name)[:, np.newaxis]


def _contrast_sign(fields: _Fields) -> NDArray[np.int64] | None:
    if "blob/sign" not in fields:
        return None
    signs = fields.numbers("blob/sign")
    if not np.all(np.abs(signs) == 1):
        raise InputError("a contrast sign is neither 1 nor -1", path=fields.path, where="field blob/sign")
    return signs.astype(np.int64)


def _warnings(fields: _Fields) -> tuple[str, ...]:
    found = []
    for name in _UNUSED:
        values = fields.fields.get(name)
        if values is not None and values.dtype.kind in "fiu" and np.any(values != 0):
            found.append(name.removeprefix("ctf/"))
    return (f"aberrations that cryoSPARC fitted ({', '.join(found)}) are not read",) if found else ()
