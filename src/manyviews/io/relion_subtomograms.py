"""RELION's STAR files of subtomograms: version 3 (one volume a particle) and 4 to 5 (``rlnTomo...``), read.

Sources: RELION 5 ``particle_set.cpp`` (positions, turned boxes, ``A_box (A X)``), ``tomogram_set.cpp`` (the
middle of a tomogram is its size / 2 voxels from the first), ``subtomo.cpp`` (boxes cut turned by
``rlnTomoSubtomogramRot`` and so on), ``metadata_label.h``. Written by
`manyviews.io.relion_subtomogram_writer`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from manyviews.errors import InputError, quoted
from manyviews.io.particle_stacks import locate_stacks
from manyviews.io.relion_pixel_size import (
    PIXEL_SIZE_LABELS,
    Sources,
    Told,
    position_pixel_size,
    resolve_pixel_size,
)
from manyviews.io.star import StarBlock, column_numbers, column_whole_numbers, is_cut_within_line, read_star
from manyviews.io.subtomogram_table import Float64, Int64, SubtomogramTable

ANGLES = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
BOX_ANGLES = ("rlnTomoSubtomogramRot", "rlnTomoSubtomogramTilt", "rlnTomoSubtomogramPsi")
PRIORS = ("rlnAngleRotPrior", "rlnAngleTiltPrior", "rlnAnglePsiPrior")
SIGMAS = ("manyviewsPriorSigmaRot", "manyviewsPriorSigmaTilt", "manyviewsPriorSigmaPsi")
"""Our own: RELION has one sigma for all particles, in its command line."""

SHIFTS = ("rlnOriginXAngst", "rlnOriginYAngst", "rlnOriginZAngst")
POSITION = ("rlnCoordinateX", "rlnCoordinateY", "rlnCoordinateZ")
CENTRED = ("rlnCenteredCoordinateXAngst", "rlnCenteredCoordinateYAngst", "rlnCenteredCoordinateZAngst")
TOMOGRAM, MICROGRAPH = "rlnTomoName", "rlnMicrographName"
VOLUME, WEIGHTS = "rlnImageName", "rlnCtfImage"
VISIBLE, STACKS = "rlnTomoVisibleFrames", "rlnTomoSubTomosAre2DStacks"
WHOLE = {
    "half": "rlnRandomSubset",
    "class_number": "rlnClassNumber",
    "filament": "rlnHelicalTubeID",
    "number": "rlnTomoParticleId",
    "parent": "manyviewsParent",
}
NUMBERS = {"weight": "manyviewsWeight", "score": "rlnParticleFigureOfMerit"}
PREMULTIPLIED = "rlnCtfDataAreCtfPremultiplied"
BOX = "rlnImageSize"

_PIXEL_SHIFTS = ("rlnOriginX", "rlnOriginY", "rlnOriginZ")
_OTHER_SCORE = "rlnAutopickFigureOfMerit"
_FLAT = "holds 2-D stacks of the tilt images (rlnTomoSubTomosAre2DStacks), not volumes"


@dataclass(frozen=True)
class _Particles:
    """The block of the particles, and what is needed to complain about it."""

    path: Path
    block: StarBlock
    optics: StarBlock | None
    told: Told

    def __len__(self) -> int:
        return len(self.block)

    def has(self, *labels: str) -> bool:
        return all(label in self.block.columns for label in labels)

    def texts(self, label: str) -> list[str]:
        return self.block.columns[label]

    def numbers(self, label: str) -> Float64:
        return column_numbers(self.texts(label), label, self.path)

    def whole(self, label: str) -> Int64:
        return column_whole_numbers(self.texts(label), label, self.path)

    def optional(self, label: str) -> Float64 | None:
        return self.numbers(label) if self.has(label) else None

    def three(self, labels: Sequence[str], absent: float = 0.0) -> Float64 | None:
        """``(N, 3)``; None where no column is there; what lacks is ``absent``, said aloud if that is 0."""
        missing = [label for label in labels if not self.has(label)]
        if len(missing) == 3:
            return None
        if missing and absent == 0:
            self.told.warnings.append(f"{', '.join(missing)} {_is(missing)} missing and taken as 0")
        filled = [np.full(len(self), absent) if label in missing else self.numbers(label) for label in labels]
        return np.stack(filled, axis=1)


def read_relion_subtomograms(
    path: Path,
    *,
    pixel_size: float | None = None,
    default_pixel_size: float | None = None,
    tomogram_pixel_size: float | None = None,
    data_root: Path | None = None,
    with_volumes: bool = True,
) -> SubtomogramTable:
    """Read the particles of a STAR file; nothing but ``rlnImageName`` must be there.

    Parameters
    ----------
    path
        The STAR file.
    pixel_size
        Angstrom, of the subtomograms; left out: what the file says, else the MRC headers.
    default_pixel_size
        Angstrom, where none of these says anything.
    tomogram_pixel_size
        Angstrom, in which ``rlnCoordinateX`` and so on count; left out: what the file says.
    data_root
        The folder to which names of volumes are relative; left out: that of the file or one above it.
    with_volumes
        Whether the volumes must be there. Where not, a table of positions is enough.

    Raises
    ------
    InputError
        If it lists no particles, a column holds something else than it should, or a volume is missing, is one
        of a stack of images, or lies outside the folder.
    """
    path = Path(path)
    particles = _particles(path)
    is_flat = _are_stacks(particles)
    files = _files(particles, data_root, must_exist=with_volumes, is_flat=is_flat)
    sources = Sources(particles.block, particles.optics, path, files.volumes if with_volumes else ())
    size = resolve_pixel_size(sources, pixel_size, default_pixel_size, particles.told)
    counts_voxels = particles.has(POSITION[0]) and not particles.has(*CENTRED)
    told = particles.told if counts_voxels else Told()
    position_size = position_pixel_size(sources, tomogram_pixel_size, size, told)
    tomograms, index = _tomograms(particles)
    coordinates, centred = _coordinates(particles, position_size)
    return SubtomogramTable(
        pixel_size=size,
        shifts=_shifts(particles, size),
        volumes=files.volumes,
        volume_names=files.names,
        weights=files.weights,
        weight_names=files.weight_names,
        tomograms=tomograms,
        tomogram_index=index,
        coordinates=coordinates,
        origin="centre" if centred else "corner",
        tomogram_pixel_size=position_size,
        angles=particles.three(ANGLES),
        box_angles=particles.three(BOX_ANGLES),
        prior_angles=particles.three(PRIORS, np.nan),
        prior_sigmas=particles.three(SIGMAS, np.nan),
        half=_halves(particles),
        weight=particles.optional(NUMBERS["weight"]),
        score=_score(particles),
        number=_whole(particles, "number"),
        class_number=_whole(particles, "class_number"),
        filament=_whole(particles, "filament"),
        parent=_whole(particles, "parent"),
        visible_tilts=_visible_tilts(particles),
        ctf_premultiplied=_premultiplied(particles),
        optics={} if particles.optics is None else dict(particles.optics.columns),
        extra=_others(particles, is_flat),
        box=_box(particles),
        notes=tuple(particles.told.notes),
        warnings=(*particles.told.warnings, *_copies(files.names), *_end_warning(path)),
    )


def _particles(path: Path) -> _Particles:
    blocks = read_star(path)
    wanted = (VOLUME, TOMOGRAM, *POSITION, *CENTRED)
    found = [
        block
        for block in blocks
        if block.name != "optics" and any(label in block.columns for label in wanted)
    ]
    if not found:
        raise InputError(
            f"lists no subtomograms: neither {VOLUME} nor positions are in it",
            path=path,
            fix="give a STAR file of particles",
        )
    block = next((block for block in found if block.name == "particles"), found[0])
    if len(block) == 0:
        raise InputError("holds no particles", path=path, fix="give a STAR file of particles")
    if "rlnTomoTiltSeriesStarFile" in block.columns:
        raise InputError(
            "lists tomograms, not particles", path=path, fix="give the particles of these tomograms"
        )
    optics = next((block for block in blocks if block.name == "optics"), None)
    general = next((block for block in blocks if STACKS in block.columns), None)
    if general is not None and general is not block:
        columns = {**block.columns, STACKS: general.columns[STACKS][:1] * len(block)}
        block = StarBlock(block.name, columns)
    return _Particles(path, block, optics, Told())


def _are_stacks(particles: _Particles) -> bool:
    """Whether the images are 2-D: stacks of tilt images of RELION 5."""
    if particles.has(STACKS) and particles.whole(STACKS).any():
        return True
    dimensions = particles.optics.columns.get("rlnImageDimensionality", []) if particles.optics else []
    return bool(dimensions) and not any(text.strip() == "3" for text in dimensions)


@dataclass(frozen=True)
class _Files:
    """The volumes and their weights, as in `SubtomogramTable`."""

    volumes: tuple[Path, ...] = ()
    names: tuple[str, ...] = ()
    weights: tuple[Path | None, ...] = ()
    weight_names: tuple[str, ...] = ()


def _files(particles: _Particles, data_root: Path | None, *, must_exist: bool, is_flat: bool) -> _Files:
    """The volumes that the particles name; none where they need not exist and there are none."""
    if must_exist and is_flat:
        raise InputError(_FLAT, path=particles.path, fix="extract 3-D subtomograms")
    if must_exist and not particles.has(VOLUME):
        raise InputError(
            f"the column {VOLUME} is missing: it lists positions, not subtomograms",
            path=particles.path,
            fix="cut them out with `manyviews subtomo extract`",
        )
    if is_flat or not particles.has(VOLUME):
        return _Files()
    names = _volume_names(particles, VOLUME)
    volumes = _located(names, particles, data_root, must_exist)
    return _Files(volumes, names, *_weights(particles, data_root, must_exist))


def _volume_names(particles: _Particles, label: str) -> tuple[str, ...]:
    names = []
    for row, text in enumerate(particles.texts(label)):
        name = text.removesuffix(":mrc")
        if "@" in name or name.endswith((".mrcs", ":mrcs")):
            raise InputError(
                f"{quoted(text)} is an image of a stack, not a volume",
                path=particles.path,
                where=f"column {label}, row {row + 1}",
                fix="name one volume a particle, .mrc or .em",
            )
        names.append(name)
    return tuple(names)


def _located(
    names: Sequence[str], particles: _Particles, data_root: Path | None, must_exist: bool
) -> tuple[Path, ...]:
    unique = list(dict.fromkeys(names))
    found = locate_stacks(unique, source=particles.path, data_root=data_root, must_exist=must_exist)
    particles.told.warnings.extend(found.warnings)
    where = dict(zip(unique, found.paths, strict=True))
    return tuple(where[name] for name in names)


def _weights(
    particles: _Particles, data_root: Path | None, must_exist: bool
) -> tuple[tuple[Path | None, ...], tuple[str, ...]]:
    """The weight volumes and their names, None and empty where a particle has none."""
    if not particles.has(WEIGHTS):
        return (), ()
    names = tuple("" if name in ("None", "") else name for name in _volume_names(particles, WEIGHTS))
    there = [name for name in names if name]
    if not there:
        return (), ()
    paths = dict(zip(there, _located(there, particles, data_root, must_exist), strict=True))
    return tuple(paths.get(name) for name in names), names


def _tomograms(particles: _Particles) -> tuple[tuple[str, ...], Int64 | None]:
    label = next((label for label in (TOMOGRAM, MICROGRAPH) if particles.has(label)), None)
    if label is None:
        return (), None
    texts = particles.texts(label)
    names = {name: index for index, name in enumerate(dict.fromkeys(texts))}
    return tuple(names), np.array([names[name] for name in texts], dtype=np.int64)


def _coordinates(particles: _Particles, pixel_size: float) -> tuple[Float64 | None, bool]:
    """Angstrom, and whether they count from the middle of the tomogram."""
    if particles.has(*CENTRED):
        if particles.has(*POSITION):
            particles.told.warnings.append(
                f"{CENTRED[0]} and so on are used, not {POSITION[0]}: RELION does the same"
            )
        return particles.three(CENTRED), True
    for labels in (CENTRED, POSITION):
        missing = [label for label in labels if not particles.has(label)]
        if 0 < len(missing) < 3:
            raise InputError(
                f"the column {missing[0]} is missing", path=particles.path, fix="give all three coordinates"
            )
    found = particles.three(POSITION)
    return None if found is None else found * pixel_size, False


def _shifts(particles: _Particles, pixel_size: float) -> Float64:
    """Angstrom: from angstrom columns, else from 3.0's columns in pixels, else 0."""
    shifts = particles.three(SHIFTS)
    if shifts is not None:
        return shifts
    pixels = particles.three(_PIXEL_SHIFTS)
    return np.zeros((len(particles), 3)) if pixels is None else pixels * pixel_size


def _visible_tilts(particles: _Particles) -> tuple[tuple[bool, ...], ...]:
    """RELION's lists ``[1,0,1]``."""
    if not particles.has(VISIBLE):
        return ()
    known: dict[str, tuple[bool, ...]] = {}
    for row, text in enumerate(particles.texts(VISIBLE)):
        if text in known:
            continue
        words = text.strip().removeprefix("[").removesuffix("]").split(",")
        if not all(word.strip() in ("0", "1") for word in words) or "1" not in text:
            raise InputError(
                f"{quoted(text)} is not a list of zeros and ones with a 1 in it",
                path=particles.path,
                where=f"column {VISIBLE}, row {row + 1}",
                fix="extract the particles again",
            )
        known[text] = tuple(word.strip() == "1" for word in words)
    return tuple(known[text] for text in particles.texts(VISIBLE))


def _halves(particles: _Particles) -> Int64 | None:
    label = WHOLE["half"]
    if not particles.has(label):
        return None
    halves = particles.whole(label)
    if not halves.any():
        return None  # 0 is how RELION says that none were drawn
    bad = (halves < 1) | (halves > 2)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise InputError(
            f"half set {halves[row]} is neither 1 nor 2",
            path=particles.path,
            where=f"column {label}, row {row + 1}",
            fix="correct the table",
        )
    return halves


def _whole(particles: _Particles, field: str) -> Int64 | None:
    return particles.whole(WHOLE[field]) if particles.has(WHOLE[field]) else None


def _score(particles: _Particles) -> Float64 | None:
    found = particles.optional(NUMBERS["score"])
    return particles.optional(_OTHER_SCORE) if found is None else found


def _premultiplied(particles: _Particles) -> bool | None:
    texts = particles.optics.columns.get(PREMULTIPLIED, []) if particles.optics else []
    if not texts:
        return None
    values = column_whole_numbers(texts, PREMULTIPLIED, particles.path)
    if values.any() and not values.all():
        raise InputError(
            "some optics groups are multiplied by their CTF and some are not",
            path=particles.path,
            where=f"column {PREMULTIPLIED}",
            fix="select particles of one kind",
        )
    return bool(values.any())


def _box(particles: _Particles) -> int | None:
    """The one side that the optics groups tell; several are found out from the volumes."""
    texts = particles.optics.columns.get(BOX, []) if particles.optics else []
    sides = set(column_whole_numbers(texts, BOX, particles.path).tolist()) if texts else set()
    return sides.pop() if len(sides) == 1 else None


def _others(particles: _Particles, is_flat: bool) -> dict[str, list[str]]:
    """What has no field of its own; names of 2-D stacks stay text."""
    used = {
        *(TOMOGRAM, MICROGRAPH, VISIBLE, STACKS, *ANGLES, *BOX_ANGLES, *PRIORS, *SIGMAS, *PIXEL_SIZE_LABELS),
        *(SHIFTS, _PIXEL_SHIFTS)[0 if particles.has(SHIFTS[0]) else 1],
        *POSITION,
        *CENTRED,
        *WHOLE.values(),
        *NUMBERS.values(),
        *(() if is_flat else (VOLUME, WEIGHTS)),
    }
    if particles.has(TOMOGRAM):
        used.discard(MICROGRAPH)
    return {label: texts for label, texts in particles.block.columns.items() if label not in used}


def _copies(names: Sequence[str]) -> tuple[str, ...]:
    more = len(names) - len(set(names))
    return (f"{more} particles name a volume that another particle names too",) if more else ()


def _end_warning(path: Path) -> tuple[str, ...]:
    said = "the file ends within a line: is its last row whole, or was the file cut off?"
    return (said,) if is_cut_within_line(path) else ()


def _is(labels: Sequence[str]) -> str:
    return "is" if len(labels) == 1 else "are"
