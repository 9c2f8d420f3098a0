"""A look at the pixels of all particles before any of them is used: specks, faults, what they are like."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.io.particle_images import ParticleImages
from manyviews.kernels.specks import Specks, find_specks, noise_deviation
from manyviews.parallel.world import SingleWorld, World, shares
from manyviews.particles.images.load import background_mask
from manyviews.random import Stream, generator

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

REMAINS = 3.0
"""Standard deviations of the noise that a speck is cut down to where it is not replaced."""
SIGNS = 8
_BLANK_SHARE = 0.2  # of an image: neighbours that are equal, beyond what is usual
_UNLIKE_FACTOR, _UNLIKE_DEVIATIONS = 3.0, 10.0
_CLIPPED = 8.0  # standard deviations, in the mean of all images
_MOST_FAULTY = 0.5
FAULTS = (
    "",
    "has pixels that are NaN or infinite",
    "is blank: all its pixels are the same",
    "has a blank background: the pixels outside the particle are the same",
    "is partly blank: many neighbouring pixels are the same",
    "is unlike the others in contrast or noise",
)
_NOT_FINITE, _BLANK, _NO_BACKGROUND, _PARTLY, _UNLIKE = range(1, len(FAULTS))
# what is measured of an image, and where it stands
_FIGURES = (
    "background",
    "noise",
    "middle",
    "variance",
    "energy",
    "grain",
    "equal",
    "specks",
    "highest",
    "fault",
)


@dataclass(frozen=True)
class Look:
    """What was found in the images of a table of particles.

    Attributes
    ----------
    looked
        ``(n,)`` the particles that were looked at, from 0, ascending; what follows is of these.
    background, noise, middle, variance
        ``(n,)`` mean and standard deviation outside the particle, how much brighter the middle is, and the
        variance of the image; all with its specks cut down.
    specks, highest
        ``(n,)`` pixels in specks of an image's own, and the largest excess of one, standard deviations.
    fault
        ``(n,)`` what makes an image useless, one of `FAULTS`; 0: nothing.
    signs
        ``(n, SIGNS)`` sums of the pixels under random signs, over the noise: alike in images that are copies,
        whatever was added to them or multiplied them, slopes included.
    stuck
        ``(k, 2)`` row and column of pixels that stand out of the mean of the images.
    """

    looked: Int64
    background: Float64
    noise: Float64
    middle: Float64
    variance: Float64
    specks: Int64
    highest: Float64
    fault: Int64
    signs: Float64
    stuck: Int64

    def select(self, chosen: NDArray[np.integer] | NDArray[np.bool_]) -> Look:
        """The same of some of the images that were looked at."""
        names = ("looked", "background", "noise", "middle", "variance", "specks", "highest", "fault", "signs")
        return replace(self, **{name: getattr(self, name)[chosen] for name in names})


def look_at(
    images: ParticleImages,
    numbers: Int64,
    diameter: float,
    world: World | None = None,
    tell: Callable[[int], None] = lambda done: None,
) -> Look:
    """Look at some particles, a few of them in memory at a time; the ranks of ``world`` share them.

    Parameters
    ----------
    images, numbers
        All particles, and ``(n,)`` which of them, ascending.
    diameter
        Of the particle, angstrom: what is outside is background.
    tell
        Told how many images this rank has done.

    Raises
    ------
    InputError
        If an image cannot be read, or more than half of the images have a fault: then the file has one.
    """
    world = world or SingleWorld()
    mask = background_mask(images.box, diameter / images.pixel_size)
    signs = _random_signs(images.box)
    found, sums = np.zeros((len(numbers), len(_FIGURES))), np.zeros((len(numbers), SIGNS))
    total, used, done = np.zeros((images.box, images.box)), np.zeros(1), 0
    own = shares(len(numbers), world.size)[world.rank]
    for particles, block in images.blocks(numbers[own], finite=False):
        places = np.searchsorted(numbers, particles)
        clean, found[places] = _measure(block, mask)
        sums[places] = np.einsum("nyx,yxs->ns", clean, signs, optimize=True)
        sums[places] /= np.maximum(found[places, 5], 1e-30)[:, None] * images.box
        _add_standardised(clean, found[places], total, used)
        done += len(particles)
        tell(done)
    for measured in (found, sums, total, used):
        measured[...] = world.sum(torch.from_numpy(measured)).numpy()
    figures = dict(zip(_FIGURES, found.T, strict=True))
    stuck = find_specks((total / max(1.0, used[0])).astype(np.float32)[None])
    fault = _judge(figures)
    _refuse_faulty_files(images, numbers, fault)
    look = Look(
        looked=numbers,
        fault=fault,
        signs=sums,
        stuck=np.stack([stuck.row, stuck.column], axis=1),
        specks=figures["specks"].astype(np.int64),
        **{name: figures[name] for name in ("background", "noise", "middle", "variance", "highest")},
    )
    return _count_again(images, look, world) if len(look.stuck) else look


def mend(images: Float32, stuck: Int64, speckled: NDArray[np.bool_], remaining: float) -> None:
    """Replace stuck pixels, and cut down the specks of the images ``(n,)`` that are known to have some.

    Specks keep ``remaining`` standard deviations of the noise; 0: they are replaced by the median around.
    """
    _replace_stuck(images, stuck)
    if speckled.any():
        some = images[speckled]
        find_specks(some).mend(some, remaining)
        images[speckled] = some


def _replace_stuck(images: Float32, stuck: Int64) -> None:
    """Give pixels the median of those around them that are not stuck."""
    box = images.shape[1]
    known = np.ones((box, box), bool)
    known[stuck[:, 0], stuck[:, 1]] = False
    for row, column in stuck.tolist():
        near = np.s_[max(0, row - 2) : row + 3, max(0, column - 2) : column + 3]
        images[:, row, column] = np.median(images[:, *near][:, known[near]], axis=1)


def _count_again(images: ParticleImages, look: Look, world: World) -> Look:
    """Specks of images less the pixels that are stuck in all of them."""
    speckled = np.flatnonzero(look.specks)
    counted = np.zeros((2, len(look.looked)))
    own = speckled[shares(len(speckled), world.size)[world.rank]]
    for particles, block in images.blocks(look.looked[own], finite=False):
        places = np.searchsorted(look.looked, particles)
        block[look.fault[places] == _NOT_FINITE] = 0
        _replace_stuck(block, look.stuck)
        counted[:, places] = _count(find_specks(block), len(block))
    specks, highest = world.sum(torch.from_numpy(counted)).numpy()
    return replace(look, specks=specks.astype(np.int64), highest=highest)


def _count(specks: Specks, images: int) -> Float64:
    """``(2, images)``: pixels of specks, and the largest excess of one, standard deviations."""
    highest = np.zeros(images)
    np.maximum.at(highest, specks.image, np.abs(specks.excess) / np.maximum(specks.noise, 1e-30))
    return np.stack([np.bincount(specks.image, minlength=images), highest])


def _random_signs(box: int) -> Float32:
    """``(box, box, SIGNS)`` of plus and minus 1, less the plane that fits them best."""
    signs = generator(0, Stream.IMAGE_SIGNS).integers(0, 2, (box * box, SIGNS)) * 2.0 - 1.0
    along = (np.arange(box) - (box - 1) / 2) / box
    plane = np.stack([np.ones((box, box)), *np.meshgrid(along, along)]).reshape(3, -1).T
    orthogonal, _ = np.linalg.qr(plane)
    signs -= orthogonal @ (orthogonal.T @ signs)
    return signs.reshape(box, box, SIGNS).astype(np.float32)


def _measure(block: Float32, mask: Float32) -> tuple[Float32, Float64]:
    """Images with specks cut down and what cannot be used set to zero, and ``(n, figure)`` of them."""
    bad = ~np.isfinite(block).all(axis=(1, 2))
    block[bad] = 0
    equal = np.maximum(
        np.mean(block[:, :, 1:] == block[:, :, :-1], axis=(1, 2)),
        np.mean(block[:, 1:] == block[:, :-1], axis=(1, 2)),
    )
    blank = block.min(axis=(1, 2)) == block.max(axis=(1, 2))
    grain = noise_deviation(block)
    specks = find_specks(block, grain)
    specks.mend(block, REMAINS)
    count, highest = _count(specks, len(block))
    outside, inside = mask / mask.sum(), (1 - mask) / (1 - mask).sum()
    mean = np.einsum("nyx,yx->n", block, outside)
    away = block - mean[:, None, None]
    noise = np.sqrt(np.einsum("nyx,nyx,yx->n", away, away, outside))
    middle = np.einsum("nyx,yx->n", away, inside)
    variance = block.var(axis=(1, 2))
    energy = np.sqrt(np.einsum("nyx,nyx->n", away, away) / mask.size)
    # the deviation of equal values is not always zero
    even = ~bad & ~blank & (_spread_outside(block, mask) == 0)
    fault = np.select([bad, blank, even], [_NOT_FINITE, _BLANK, _NO_BACKGROUND], 0)
    columns = (mean, noise, middle, variance, energy, grain, equal, count, highest, fault)
    return block, np.stack(columns, axis=1).astype(np.float64)


def _spread_outside(block: Float32, mask: Float32) -> Float32:
    """How far apart the pixels outside the particle are, ``(n,)``."""
    outside = block[:, mask > 0]
    return np.asarray(outside.max(axis=1) - outside.min(axis=1), dtype=np.float32)


def _add_standardised(images: Float32, figures: Float64, total: Float64, used: Float64) -> None:
    """Add images of background mean 0 and spread 1 to their sum, none of them much at a pixel."""
    mean, noise, fault = figures[:, 0], figures[:, 1], figures[:, -1]
    fit = (fault == 0) & (noise > 0)
    some = (images[fit] - mean[fit, None, None]) / noise[fit, None, None]
    total += np.clip(some, -_CLIPPED, _CLIPPED).sum(axis=0)
    used += int(fit.sum())


def _judge(figures: dict[str, Float64]) -> Int64:
    """``(n,)`` fault of each image: its own, or against what is usual among all."""
    fault = figures["fault"].astype(np.int64)
    fault[(fault == 0) & (figures["noise"] <= 0)] = _NO_BACKGROUND
    if (fault == 0).any():
        usual = np.median(figures["equal"][fault == 0])
        fault[(fault == 0) & (figures["equal"] > usual + _BLANK_SHARE)] = _PARTLY
    fit = fault == 0
    noise = np.where(fit, figures["noise"], 1.0)
    for measured in (figures["energy"], figures["grain"]):
        ratio = np.log(np.maximum(measured, 1e-30) / noise)
        if not fit.any():
            break
        away = np.abs(ratio - np.median(ratio[fit]))
        limit = max(np.log(_UNLIKE_FACTOR), _UNLIKE_DEVIATIONS * 1.4826 * float(np.median(away[fit])))
        fault[fit & (away > limit)] = _UNLIKE
    return fault


def _refuse_faulty_files(images: ParticleImages, numbers: Int64, fault: Int64) -> None:
    bad = np.flatnonzero(fault)
    if len(bad) <= _MOST_FAULTY * len(numbers):
        return
    first = int(numbers[bad[0]])
    others = f", and {len(bad) - 1} others have faults too" if len(bad) > 1 else ""
    raise InputError(
        f"{images.name(first)} {FAULTS[fault[bad[0]]]}{others}",
        path=images.table.stacks[int(images.table.stack_index[first])],
        fix="extract the images again, or give a table without them",
    )
