"""How the contrast transfer enters a reconstruction, and which reconstructions cannot have it yet."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.geometry.view_depth import DepthPlane
from manyviews.operators.contrast_transfer import ctf_values
from manyviews.operators.transfer_projector import layers_of
from manyviews.operators.view_transfer import ViewTransfer, defocus_levels
from manyviews.tilt.cost.transfer import TransferCosts
from manyviews.tilt.ctf.correct import Correction, make_correction
from manyviews.tilt.ctf.hand import HandTest, find_hand
from manyviews.tilt.ctf.transfer import ResolvedTransfer
from manyviews.tilt.plan import Plan
from manyviews.tilt.series.images import ImageSource
from manyviews.tilt.series.normalise import PreparedImages

_RADII = 256

_CANNOT_BE_TOLD = (
    "the hand of the defocus gradient cannot be told from the images: one defocus is taken for all of an "
    "image; give --defocus-hand +1 or -1 if you know it"
)


def refuse_unfit(plan: Plan) -> None:
    """Refuse what the three-dimensional correction cannot do, with an `InputError`."""
    if plan.ctf == "3d" and plan.method == "sirt" and plan.sirt_form == "normalised":
        raise InputError(
            "3d has no row sums for normalised SIRT", where="--ctf", fix="use --sirt-form landweber"
        )


def settle_hand(resolved: ResolvedTransfer, source: ImageSource) -> HandTest:
    """The hand that the images tell, if they do, and how they tell it."""

    def read(views: NDArray[np.int64]) -> torch.Tensor:
        return torch.from_numpy(source.read(views))

    geometry = source.binned_geometry
    return find_hand(read, geometry, resolved.transfer, source.shape[1:], source.pixel_size)


def agree_on_hand(resolved: ResolvedTransfer, told: int | None) -> tuple[int, tuple[str, ...]]:
    """The hand to take where no option says one, and what to warn of.

    ``told`` is what the images tell, which counts more than a file; 0 where neither tells.
    """
    listed = resolved.listed_hand
    if told is None and listed is None:
        return 0, (_CANNOT_BE_TOLD,)
    if told is None:
        assert listed is not None
        return listed, (f"hand {listed:+d} is taken from {resolved.listed_by}: the images cannot tell",)
    if listed == -told:
        return told, (f"the images speak for hand {told:+d} and {resolved.listed_by} says {listed:+d}",)
    return told, ()


def transfer_costs(
    plan: Plan, resolved: ResolvedTransfer | None, source: ImageSource
) -> TransferCosts | None:
    """What the filters of a run will take; a hand that is not known yet may be any."""
    if resolved is None or not resolved.has_ctf:
        return None
    transfer = resolved.transfer if resolved.hand is not None else resolved.with_hand(1).transfer
    geometry, in_projection = source.binned_geometry, plan.ctf == "3d"
    shape = (plan.volume_shape[0], *source.shape[1:])
    return TransferCosts.of(transfer, geometry, shape, source.pixel_size, in_projection=in_projection)


def correction_of(plan: Plan, resolved: ResolvedTransfer | None, source: ImageSource) -> Correction | None:
    """What is done to every image before it is used; None: nothing."""
    if resolved is None or plan.ctf == "3d":
        return None
    return make_correction(
        plan.ctf,
        resolved.transfer,
        source.binned_geometry,
        source.shape[1:],
        source.pixel_size,
        plan.wiener_constant,
    )


def before_transfer(images: PreparedImages, transfer: ViewTransfer, source: ImageSource) -> PreparedImages:
    """Images whose signal is that of the specimen before the microscope has taken most of it away.

    Of a specimen with as much power in every octave of frequency, which is nearly so of real ones, the images
    keep the mean over octaves of the squared transfer: so much less is the noise, over the specimen's signal,
    than over what is left of it.
    """
    nyquist = 0.5 / source.pixel_size
    radius = np.geomspace(2 / (min(source.shape[1:]) * source.pixel_size), nyquist, _RADII)
    points = np.stack([radius, np.zeros(_RADII)], axis=1)
    kept = float(ctf_values(transfer.optics, points, 1, 1.0).double().square().mean())
    return replace(images, noise_to_signal=kept * images.noise_to_signal)


def check_transfer(
    resolved: ResolvedTransfer, source: ImageSource, plan: Plan
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Lines and warnings for ``tilt check``: numbers and sources, the hand, strips and slabs."""
    refuse_unfit(plan)
    lines, warnings = list(resolved.lines), list(resolved.warnings)
    if not resolved.has_ctf:
        return tuple(lines), tuple(warnings)
    test = settle_hand(resolved, source)
    lines.append(test.words)
    if resolved.hand is None:
        hand, doubts = agree_on_hand(resolved, test.hand)
        found = resolved.with_hand(hand)
        warnings += doubts
    else:
        lines.append(f"  --defocus-hand {plan.defocus_hand} holds")
        found = resolved
        if test.hand is not None and resolved.hand == -test.hand:
            warnings.append(
                f"the images speak for hand {test.hand:+d} and --defocus-hand says {plan.defocus_hand}"
            )
    lines.append(_layer_line(found.transfer, source, plan))
    return tuple(lines), tuple(warnings)


def _layer_line(transfer: ViewTransfer, source: ImageSource, plan: Plan) -> str:
    """How finely defocus is followed."""
    distance = transfer.level_distance(source.pixel_size)
    most = 1
    for matrix in source.binned_geometry.matrices:
        span = DepthPlane.of(matrix).span(source.shape[1:], source.pixel_size)
        low, high = sorted(transfer.gradient * end for end in span)
        most = max(most, len(defocus_levels(low, high, distance)))
    line = f"up to {most} levels of defocus over an image, {distance:.0f} A apart at most"
    if plan.ctf != "3d":
        return line
    slices = transfer.layer_slices(source.binned_geometry, source.pixel_size)
    layers = len(layers_of(plan.volume_shape[0], slices))
    return f"{line}; {layers} layer{'s' if layers > 1 else ''} of the specimen"
