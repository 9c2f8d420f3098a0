"""A particle table as cryoSPARC's: records in numpy's file format, as `manyviews.io.cryosparc` reads them.

What came from cryoSPARC goes back with all its fields but the poses: ``uid``, ``blob/*`` and ``ctf/*`` stay
as they were, so that cryoSPARC finds its particles again. Conventions and their sources are the reader's.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from manyviews.errors import InputError, quoted
from manyviews.io.atomic import atomic_path
from manyviews.io.cryosparc import UID_LABEL, as_records
from manyviews.io.particle_table import ParticleTable

_EXPOSURE_GROUP = re.compile(r"exposureGroup(\d{1,9})")
_WRITTEN = ("alignments3D/split", "alignments3D/shift", "alignments3D/pose", "alignments3D/psize_A")
_UID_DIGITS = 20

Fields = dict[str, NDArray[Any]]


def write_cryosparc_particles(path: Path, table: ParticleTable, *, overwrite: bool = False) -> None:
    """Write the table as a ``.cs`` file.

    Poses are ``alignments3D/pose``, the axis-angle vector of A', and ``alignments3D/shift`` in pixels of
    ``alignments3D/psize_A``, the images' own; ``alignments3D/split`` is written where there are halves. Other
    fields are those of `ParticleTable.records`; without, they are made of the table, less its beam tilt and
    higher aberrations, and ``uid`` of the column `UID_LABEL`, or of the images' names.

    Raises
    ------
    InputError
        If the file exists already or cannot be written, or a number is none that cryoSPARC could have given.
    """
    records = table.records
    if records is None:
        fields = _fields_of_table(table, path)
    else:
        fields = {name: records[name] for name in records.dtype.names or ()}
    if table.angles is not None:
        fields = {name: values for name, values in fields.items() if name not in _WRITTEN}
        fields |= _alignments(table)
    if "uid" not in fields:
        fields = {"uid": _uids(table, path), **fields}
    made = as_records(fields, len(table))
    with atomic_path(path, overwrite=overwrite) as temporary, open(temporary, "wb") as handle:
        np.lib.format.write_array(handle, made, allow_pickle=False)


def lost_in_cryosparc(table: ParticleTable) -> tuple[str, ...]:
    """What a ``.cs`` file made of the table does not tell, one sentence each."""
    if table.records is not None:
        return ()
    used = [table.optics[index] for index in np.unique(table.optics_index)]
    aberrations = any(
        np.any(group.beam_tilt_mrad) or any(group.odd_zernike) or any(group.even_zernike)
        or not np.allclose(group.magnification, np.eye(2)) for group in used
    )  # fmt: skip
    sentences = {
        "beam tilt, higher aberrations and anisotropic magnification are not written": aberrations,
        "that the images were multiplied by their CTF is not written": any(
            group.ctf_premultiplied for group in used
        ),
        f"columns of the STAR file without a field of their own are not written ({len(table.extra)})": bool(
            set(table.extra) - {UID_LABEL}
        ),
    }
    return tuple(text for text, is_so in sentences.items() if is_so)


def _fields_of_table(table: ParticleTable, path: Path) -> Fields:
    """All fields but those of poses."""
    names = table.stack_names or tuple(str(stack) for stack in table.stacks)
    stacks = np.array([name.encode("utf-8") for name in names], dtype=np.bytes_)
    sizes = np.array([group.image_size or 0 for group in table.optics], np.uint32)[table.optics_index]
    sign = np.ones(len(table)) if table.contrast_sign is None else table.contrast_sign
    single = {
        "blob/psize_A": table.per_particle("pixel_size"),
        "blob/sign": sign,
        "ctf/accel_kv": table.per_particle("voltage_kv"),
        "ctf/cs_mm": table.per_particle("spherical_aberration_mm"),
        "ctf/amp_contrast": table.per_particle("amplitude_contrast"),
        "ctf/df1_A": table.defocus[:, 0],
        "ctf/df2_A": table.defocus[:, 1],
        "ctf/df_angle_rad": np.deg2rad(table.defocus_angle),
        "ctf/phase_shift_rad": np.deg2rad(table.phase_shift),
        "ctf/bfactor": table.b_factor,
        "ctf/scale": table.scale,
    }
    return {
        "uid": _uids(table, path),
        "blob/path": stacks[table.stack_index],
        "blob/idx": _whole(table.section, "section", path),
        "blob/shape": np.stack([sizes, sizes], axis=1),
        "ctf/exp_group_id": _exposure_groups(table)[table.optics_index],
        **{name: values.astype(np.float32) for name, values in single.items()},
    }


def _alignments(table: ParticleTable) -> Fields:
    """The poses; at tilt 0 and 180, where Euler angles are not unique, the rotation is."""
    assert table.angles is not None
    pixel_size = table.per_particle("pixel_size").astype(np.float32)
    shifts = np.zeros((len(table), 2)) if table.shifts is None else table.shifts
    # the axis-angle vector's matrix is A', which is from_euler("ZYZ", (rot, tilt, psi))
    pose = Rotation.from_euler("ZYZ", table.angles, degrees=True).as_rotvec()
    found: Fields = {
        "alignments3D/shift": (shifts / pixel_size[:, np.newaxis].astype(np.float64)).astype(np.float32),
        "alignments3D/pose": pose.astype(np.float32),
        "alignments3D/psize_A": pixel_size,
    }
    if table.half is not None:
        found["alignments3D/split"] = (table.half - 1).astype(np.uint32)
    return found


def _exposure_groups(table: ParticleTable) -> NDArray[np.uint32]:
    """``(G,)``: cryoSPARC's numbers where all groups are named by them and no two alike, else from 1."""
    matches = [_EXPOSURE_GROUP.fullmatch(group.name) for group in table.optics]
    numbers = [int(match[1]) for match in matches if match is not None]
    if len(set(numbers)) < len(table.optics):
        numbers = list(range(1, len(table.optics) + 1))
    return np.array(numbers, dtype=np.uint32)


def _uids(table: ParticleTable, path: Path) -> NDArray[np.uint64]:
    """``(N,)`` different numbers: as the column says, or of the images' names and their repetitions."""
    if UID_LABEL in table.extra:
        return _given_uids(table.extra[UID_LABEL], path)
    seen: dict[str, int] = {}
    uids = np.empty(len(table), dtype=np.uint64)
    for row in range(len(table)):
        name = table.image_name(row)
        seen[name] = seen.get(name, 0) + 1
        digest = hashlib.sha256(f"{name}\n{seen[name]}".encode("utf-8", "surrogateescape")).digest()
        uids[row] = int.from_bytes(digest[:8], "little")
    return uids


def _given_uids(texts: Sequence[str], path: Path) -> NDArray[np.uint64]:
    for row, text in enumerate(texts):
        plain = text.isdecimal() and text.isascii() and len(text) <= _UID_DIGITS
        if not plain or int(text) > np.iinfo(np.uint64).max:
            raise InputError(
                f"{quoted(text)} is no number that cryoSPARC knows a particle by",
                path=path, where=f"column {UID_LABEL}, particle {row + 1}",
                fix="remove the column, so that new numbers are given",
            )  # fmt: skip
    uids = np.array([int(text) for text in texts], dtype=np.uint64)
    if len(np.unique(uids)) < len(uids):
        raise InputError(
            "two particles have the same number", path=path, where=f"column {UID_LABEL}",
            fix="remove the column, so that new numbers are given",
        )  # fmt: skip
    return uids


def _whole(values: NDArray[np.int64], name: str, path: Path) -> NDArray[np.uint32]:
    if values.max() > np.iinfo(np.uint32).max:
        raise InputError(f"{name} {values.max()} is beyond what a .cs file holds", path=path)
    return values.astype(np.uint32)
