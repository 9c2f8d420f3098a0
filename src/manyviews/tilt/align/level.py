"""Views of one binning, fitted step by step: what a step needs, how far it may go, which views count."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.geometry.views import TiltGeometry, rotation_y, rotation_z
from manyviews.kernels import select
from manyviews.operators.convolution import Convolution
from manyviews.operators.normal_preconditioner import normal_preconditioner
from manyviews.operators.tilt_projector import TiltProjector, spline_coefficients
from manyviews.operators.view_kernel import make_kernel
from manyviews.tilt.align.fit import (
    AXIS,
    BACKGROUND,
    COMPONENTS,
    OFFSET,
    SHIFT_U,
    SHIFT_V,
    TURN,
    Slopes,
    joint_step,
    shift_slopes,
)
from manyviews.tilt.align.frames import Frames, LevelImages, make_frames

Float64 = NDArray[np.float64]
Shape3 = tuple[int, int, int]

_LONGEST_SHIFT = 1.5  # pixels of a step
_LONGEST_TURN = 2.0  # degrees of a step, of a whole series
_COVERED = 0.5, 0.9  # of the longest ray: where rays begin to count, and where they count fully
_PROBE_DEGREES = 0.5
_NO_TURN_DEGREES = 1e-7
_LEAST_GAIN, _MOST_GAIN = 1e-3, 2.0  # of a view's contrast, relative to that of the others


@dataclass(frozen=True)
class Freedom:
    """What may move: the shifts of every view always, more where asked for.

    ``rotation``: the images of every view by themselves. Of each series ``(series,)``: ``axis``, the
    direction of its tilt axis; ``turn``, all its images against the volume; ``offset``, its tilt offset.
    """

    axis: tuple[bool, ...] = ()
    turn: tuple[bool, ...] = ()
    offset: tuple[bool, ...] = ()
    rotation: bool = False


@dataclass(frozen=True)
class Fitted:
    """A volume, the poses that go with it (pixels of the level), and how well each view is explained.

    ``correlation (view,)`` is of images and projections, NaN before the first step; ``misfit`` the part of
    the images' energy that is left, ``moved`` how far the last step moved the views, rms in pixels.
    """

    volume: torch.Tensor
    geometry: TiltGeometry
    weights: Float64
    correlation: Float64
    misfit: float = float("nan")
    moved: float = float("nan")


@dataclass(frozen=True)
class Level:
    """Images of one binning and the volume they are explained by.

    ``damping`` is in units of one view, ``iterations`` are those of a step. ``rows (v,)`` of the frames count
    by these weights; None: all.
    """

    images: LevelImages
    volume_shape: Shape3
    shape: tuple[int, int]
    damping: float
    iterations: int
    rows: NDArray[np.float32] | None = None

    @property
    def damping_added(self) -> float:
        """In the units of the normal operator."""
        return self.damping * self.volume_shape[0]

    def start(self, geometry: TiltGeometry, weights: Float64) -> Fitted:
        """Nothing yet; ``geometry`` in pixels of the level."""
        blank = np.full(len(geometry), np.nan)
        return Fitted(torch.zeros(self.volume_shape), geometry, weights, blank)

    def frames(self, geometry: TiltGeometry) -> tuple[Frames, TiltProjector]:
        """The images in their frames, and the projector of these."""
        frames = make_frames(self.images, geometry, self.shape)
        projector = TiltProjector(frames.geometry, self.volume_shape, self.shape)
        covered = projector.forward(torch.ones(self.volume_shape))
        longest = covered.amax(dim=(1, 2), keepdim=True).clamp_(min=1e-6)
        low, high = _COVERED
        weights = frames.weights * covered.div_(longest).sub_(low).div_(high - low).clamp_(0.0, 1.0)
        if self.rows is not None:
            weights = weights * torch.from_numpy(self.rows)[:, None]
        return replace(frames, weights=weights), projector

    @cached_property
    def _preconditioners(self) -> dict[bytes, Convolution]:
        return {}

    def preconditioner(self, projector: TiltProjector, weights: Float64) -> Convolution:
        """Nearly the inverse of the normal operator; axes that turned by little make no difference."""
        axes = np.array([group.axis_degrees for group in projector.groups])
        key = np.round(np.concatenate([axes, weights])).tobytes()
        if key not in self._preconditioners:
            kernel = make_kernel(projector.groups, weights, self.volume_shape, circulant=True)
            self._preconditioners.clear()
            self._preconditioners[key] = normal_preconditioner(
                kernel, self.volume_shape, 0.0, self.damping_added
            )
        return self._preconditioners[key]

    def step(self, fitted: Fitted, freedom: Freedom) -> Fitted:
        """Volume and poses after one step, and how well the step before explained the views."""
        frames, projector = self.frames(fitted.geometry)
        view_weights = torch.from_numpy(fitted.weights).float()[:, None, None]
        model = projector.forward(fitted.volume)
        pixel_weights = frames.weights * frames.weights
        begun = bool(fitted.volume.any())
        frames = replace(frames, images=levelled(frames.images, model, pixel_weights, scale=begun))
        left = frames.images - model
        correlation = correlations(frames.images, model, pixel_weights)
        energy = float((view_weights * pixel_weights * frames.images**2).sum())
        misfit = float((view_weights * pixel_weights * left**2).sum()) / max(energy, 1e-30)
        slopes = self._slopes(model, frames.geometry, fitted.volume, freedom if begun else None)
        found = joint_step(
            projector, fitted.volume, left, pixel_weights * view_weights, slopes,
            self.preconditioner(projector, fitted.weights), self.damping_added, self.iterations,
        )  # fmt: skip
        if not begun:
            return replace(fitted, volume=found.volume)
        motions = found.motions.copy()
        apart = np.flatnonzero(fitted.weights == 0)
        motions[apart, :2] = own_shifts(frames.images[apart], model[apart], pixel_weights[apart])
        motions = limited(motions)
        geometry = moved_geometry(fitted.geometry, frames.cameras, frames.geometry, motions)
        geometry, volume = self._axis_kept(geometry, found.volume, fitted.geometry)
        counted = fitted.weights > 0
        moved = _length(motions[counted], min(self.shape))
        return Fitted(volume, geometry, fitted.weights, correlation, misfit, moved)

    def left_out(self, geometry: TiltGeometry, weights: Float64, folds: int) -> tuple[Float64, Float64]:
        """How each view agrees with a volume of the others: correlations, and shifts ``(view, 2)`` in pixels.

        Every ``folds``-th view is left out at a time. The shifts, along u and v of the frames, are how far a
        view lies from where the others say.
        """
        found, shifts = np.zeros(len(geometry)), np.zeros((len(geometry), 2))
        frames, projector = self.frames(geometry)
        pixel_weights = frames.weights * frames.weights
        nothing = Slopes(
            torch.zeros((len(geometry), 0, *self.shape)), np.zeros((len(geometry), 0), int), (), 0
        )
        for fold in range(folds):
            held = np.arange(fold, len(geometry), folds)
            kept = weights.copy()
            kept[held] = 0.0
            counted = torch.from_numpy(kept).float()[:, None, None] * pixel_weights
            step = joint_step(
                projector, torch.zeros(self.volume_shape), frames.images, counted, nothing,
                self.preconditioner(projector, kept), self.damping_added, self.iterations,
            )  # fmt: skip
            model = projector.select(held).forward(step.volume)
            seen = levelled(frames.images[held], model, pixel_weights[held], scale=True)
            own = seen, model, pixel_weights[held]
            found[held], shifts[held] = correlations(*own), -own_shifts(*own)
        return found, shifts

    def volume(self, geometry: TiltGeometry, weights: Float64) -> torch.Tensor:
        """The volume that explains the views as they are."""
        return self.step(self.start(geometry, weights), Freedom()).volume

    def _axis_kept(
        self, geometry: TiltGeometry, volume: torch.Tensor, before: TiltGeometry
    ) -> tuple[TiltGeometry, torch.Tensor]:
        """Turn the volume so that the first axis lies in it as it did: the images say nothing of that."""
        away = float(geometry.axis_degrees[0] - before.axis_degrees[0])
        if abs(away) < _NO_TURN_DEGREES:
            return geometry, volume
        # what was seen at X is seen at Rz(-away) X
        cosine, sine = np.cos(np.deg2rad(away)), np.sin(np.deg2rad(away))
        linear = np.array([[cosine, sine], [-sine, cosine]])
        middle = np.array(self.volume_shape[1:]) // 2
        start = middle - linear @ middle
        maps = torch.from_numpy(np.concatenate([linear, start[:, None]], axis=1)[None])
        kernels = select.affine(volume.device)
        turned_volume = kernels.resample_spline(spline_coefficients(volume), maps, self.volume_shape[1:])
        kept = turned_volume[: self.volume_shape[0]].contiguous()
        return turned(geometry, AXIS, -away), kept

    def _slopes(
        self, model: torch.Tensor, frames: TiltGeometry, volume: torch.Tensor, freedom: Freedom | None
    ) -> Slopes:
        views = len(frames)
        if freedom is None:
            return Slopes.at_rest(views, self.shape)
        images = shift_slopes(model)
        unknown = np.full((views, COMPONENTS), -1)
        unknown[:, :2] = np.arange(2 * views).reshape(views, 2)
        if freedom.rotation:
            unknown[:, TURN] = 2 * views + np.arange(views)
        unknown[:, BACKGROUND] = (3 + COMPONENTS) * views + np.arange(views)
        columns = [images[:, SHIFT_U], images[:, SHIFT_V], images[:, TURN], torch.ones_like(model)]
        kept = [SHIFT_U, SHIFT_V, TURN, BACKGROUND]
        of_series = {TURN: freedom.turn, OFFSET: freedom.offset, AXIS: freedom.axis}
        for component, wanted in of_series.items():
            if not any(wanted):
                continue
            free = np.array(wanted)[frames.series]
            if component == TURN and freedom.rotation:
                continue  # each view has its own
            unknown[free, component] = (3 + component) * views + frames.series[free]
            if component != TURN:
                probe = self._probe(frames, volume, component)
                columns.append(probe + images[:, TURN] if component == AXIS else probe)
                kept.append(component)
        compact = unknown[:, kept]
        used, places = np.unique(compact[compact >= 0], return_inverse=True)
        compact[compact >= 0] = places
        return Slopes(torch.stack(columns, dim=1), compact, tuple(kept), len(used))

    def _probe(self, frames: TiltGeometry, volume: torch.Tensor, component: int) -> torch.Tensor:
        """Slope of the projections by a turn of the volume, by the difference of two projections."""
        seen = [
            TiltProjector(turned(frames, component, sign * _PROBE_DEGREES), self.volume_shape, self.shape)
            for sign in (1.0, -1.0)
        ]
        difference = seen[0].forward(volume) - seen[1].forward(volume)
        return difference / float(2.0 * np.deg2rad(_PROBE_DEGREES))


def turned(geometry: TiltGeometry, component: int, degrees: float | Float64) -> TiltGeometry:
    """Views of a volume that is turned: about the tilt axis (`OFFSET`), or about the beam (`AXIS`).

    ``degrees`` may be one a view. The direction of the axis in the volume follows.
    """
    angles = np.broadcast_to(np.asarray(degrees, dtype=np.float64), len(geometry))
    turns = np.tile(np.eye(4), (len(geometry), 1, 1))
    for turn, angle, axis in zip(turns, angles, geometry.axis_degrees, strict=True):
        if component == OFFSET:
            turn[:3, :3] = rotation_z(axis) @ rotation_y(angle) @ rotation_z(-axis)
        else:
            turn[:3, :3] = rotation_z(-angle)
    axes = geometry.axis_degrees + (angles if component == AXIS else 0.0)
    tilts = geometry.tilt_degrees + (angles if component == OFFSET else 0.0)
    return replace(geometry, matrices=geometry.matrices @ turns, axis_degrees=axes, tilt_degrees=tilts)


def _length(motions: Float64, side: int) -> float:
    """Rms in pixels of what motions ``(view, component)`` do a quarter of a side from the middle."""
    if not len(motions):
        return 0.0
    turns = np.abs(motions[:, TURN] + motions[:, AXIS]) * side / 4
    return float(np.sqrt((motions[:, :2] ** 2).sum(axis=1).mean() + (turns**2).mean()))


def limited(motions: Float64) -> Float64:
    """No step so long that slopes say nothing of where it ends."""
    found = motions.copy()
    length = np.hypot(found[:, 0], found[:, 1])
    found[:, :2] *= np.minimum(1.0, _LONGEST_SHIFT / np.maximum(length, 1e-12))[:, None]
    most = np.deg2rad(_LONGEST_TURN)
    found[:, 2:] = np.clip(found[:, 2:], -most, most)
    return found


def moved_geometry(
    geometry: TiltGeometry, cameras: Float64, frames: TiltGeometry, motions: Float64
) -> TiltGeometry:
    """Poses after motions ``(view, component)`` in the frames: pixels along u and v, then radians."""
    seen = frames
    for component in (OFFSET, AXIS):
        seen = turned(seen, component, np.rad2deg(motions[:, component]))
    moves = np.tile(np.eye(4), (len(geometry), 1, 1))
    for move, motion in zip(moves, motions, strict=True):
        move[:3, :3] = rotation_z(float(np.rad2deg(motion[TURN] + motion[AXIS])))
        move[:2, 3] = motion[:2]
    return replace(seen, matrices=cameras @ moves @ seen.matrices)


def levelled(
    images: torch.Tensor, model: torch.Tensor, weights: torch.Tensor, *, scale: bool
) -> torch.Tensor:
    """Images ``(view, v, u)`` with the background, and if asked the contrast, of their projections.

    The contrast of all together stays as it is.
    """
    total = weights.sum(dim=(1, 2), keepdim=True).clamp_(min=1e-30)
    mean = (weights * images).sum(dim=(1, 2), keepdim=True) / total
    own = (weights * model).sum(dim=(1, 2), keepdim=True) / total
    gain = torch.ones_like(mean)
    if scale:
        shared = (weights * (images - mean) * (model - own)).sum(dim=(1, 2), keepdim=True)
        gain = shared / (weights * (model - own) ** 2).sum(dim=(1, 2), keepdim=True).clamp_(min=1e-30)
        gain = gain.clamp_(min=_LEAST_GAIN)
        gain = (gain / gain.median()).clamp_(1.0 / _MOST_GAIN, _MOST_GAIN)
    return (images - mean) / gain + own


def own_shifts(images: torch.Tensor, model: torch.Tensor, weights: torch.Tensor) -> Float64:
    """``(view, 2)`` by which to move each projection ``(view, v, u)`` to lie on its image, u then v.

    One step of Gauss-Newton, each view by itself.
    """
    slopes = shift_slopes(model)[:, :2]
    matrix = torch.einsum("vcyx,vdyx,vyx->vcd", slopes, slopes, weights).double().numpy()
    force = torch.einsum("vcyx,vyx->vc", slopes, (images - model) * weights).double().numpy()
    floor = 1e-6 * np.trace(matrix, axis1=1, axis2=2)[:, None, None] + 1e-30
    return np.asarray(np.linalg.solve(matrix + floor * np.eye(2), force[:, :, None])[:, :, 0])


def correlations(images: torch.Tensor, model: torch.Tensor, weights: torch.Tensor) -> Float64:
    """``(view,)`` weighted correlation of images and projections ``(view, v, u)``."""
    total = weights.sum(dim=(1, 2), keepdim=True).clamp_(min=1e-30)
    images = images - (weights * images).sum(dim=(1, 2), keepdim=True) / total
    model = model - (weights * model).sum(dim=(1, 2), keepdim=True) / total
    shared = (weights * images * model).sum(dim=(1, 2))
    sizes = (weights * images**2).sum(dim=(1, 2)) * (weights * model**2).sum(dim=(1, 2))
    return np.asarray((shared / sizes.sqrt().clamp_(min=1e-30)).double().numpy())
