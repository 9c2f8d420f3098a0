"""Look at subtomograms before they are aligned: what is there, whether it will do, what it will take."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manyviews.geometry.symmetry import symmetry_rotations
from manyviews.io.sizes import format_bytes
from manyviews.operators.fourier_points import shells
from manyviews.parallel.launch import local_threads
from manyviews.parallel.world import SingleWorld
from manyviews.runs.memory import available_memory_bytes
from manyviews.runs.progress import format_seconds
from manyviews.subtomo.align_options import AlignOptions
from manyviews.subtomo.chosen import Chosen, choose_subtomograms, chosen_priors, known_poses
from manyviews.subtomo.estimate import Cost, estimate_cost, expected_reach, visible_shell
from manyviews.subtomo.inputs import Subtomograms, open_subtomograms
from manyviews.subtomo.load import Faulty, read_fourier_subtomograms, usable_volume
from manyviews.subtomo.maps import read_maps
from manyviews.subtomo.options import SubtomogramOptions
from manyviews.subtomo.plan import Plan, resolve_plan
from manyviews.subtomo.pose_search import search_grid
from manyviews.subtomo.volumes import FourierSubtomograms, background_mask
from manyviews.subtomo.warnings import check_ranks, data_warnings
from manyviews.subtomo.wedge.transfer import is_measured
from manyviews.subtomo.wedge_told import SeenWedge, seen_wedges

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_SAMPLE = 100
_LEAST_SAMPLE = 5
_MOST_VOXELS = 2**26  # of a sample, read in about ten seconds
_SHOWN_SHELLS = 8
_PARALLEL_SHARE = 0.85  # of perfect, with a few threads


@dataclass(frozen=True)
class GreyLevels:
    """Of ``sampled`` subtomograms that can be used.

    Attributes
    ----------
    background, noise
        Median mean and median standard deviation outside of the particle.
    noise_spread
        Spread of the standard deviations over their mean.
    signal_to_noise
        ``(radius + 1,)`` power of the signal over that of the noise in each shell, where it was measured; 0
        for shell 0.
    """

    sampled: int
    background: float
    noise: float
    noise_spread: float
    signal_to_noise: Float64


@dataclass(frozen=True)
class Checked:
    """What `check` found.

    ``looked_at`` volumes were searched for faults, and ``faulty`` have some; ``reach`` is where the halves
    would stop agreeing with known poses, cycles per box, a guess; ``cost`` is of one of ``ranks`` processes
    with so many ``threads``; ``warnings`` are sentences.
    """

    given: Subtomograms
    plan: Plan
    chosen: Chosen
    looked_at: int
    grey: GreyLevels
    wedges: tuple[SeenWedge, ...]
    reach: int
    cost: Cost
    ranks: int
    threads: int
    warnings: tuple[str, ...]

    @property
    def faulty(self) -> tuple[Faulty, ...]:
        """Those that a run would set aside, as far as they were looked at."""
        return self.chosen.faulty

    def lines(self) -> list[str]:
        """All of it in words, for a terminal."""
        return [
            *_data_lines(self.given, self.plan, self.chosen),
            *self._wedge_lines(),
            "",
            *self._volume_lines(),
            "",
            *self._plan_lines(),
            *self._cost_lines(),
            *([f"warning: {text}" for text in self.warnings] or ["no warnings"]),
        ]

    def _resolution(self, radius: float) -> str:
        return f"{self.plan.resolution(radius):.3g} A"

    def _wedge_lines(self) -> Iterator[str]:
        yield f"wedge: {self.given.transfers.told}"
        for one in self.wedges:
            seen = one.measured
            yield f"  seen in the mean power of {seen.particles} particles: {seen.described()}"
        if not self.wedges:
            yield "  too few particles to see it in their mean power"

    def _volume_lines(self) -> Iterator[str]:
        grey, count = self.grey, len(self.given)
        rest = "" if self.looked_at == count else f" of {count} (--all-volumes for all)"
        faulty = f"{len(self.faulty)} set aside" if self.faulty else "none is damaged or constant"
        yield f"volumes looked at: {self.looked_at}{rest}; {faulty}"
        yield f"background: {grey.background:.3g}, noise {grey.noise:.3g} +- {grey.noise_spread:.0%}"
        yield "signal to noise (power, where it was measured) by resolution"
        ratio = grey.signal_to_noise
        shown = np.unique(np.geomspace(2, len(ratio) - 1, _SHOWN_SHELLS).round().astype(int))
        yield "  " + " ".join(f"{self._resolution(shell):>8}" for shell in shown.tolist())
        yield "  " + " ".join(f"{ratio[shell]:8.2g}" for shell in shown.tolist())
        visible = visible_shell(ratio, grey.sampled)
        if visible < 2:
            yield "no signal is seen in single subtomograms"
            return
        yield (
            f"signal is seen up to {self._resolution(visible)}; with all poses known exactly, halves would "
            f"agree to about {self._resolution(self.reach)} (a guess)"
        )

    def _plan_lines(self) -> Iterator[str]:
        plan, options = self.plan, self.plan.options
        begin = "random orientations" if options.reference is None else options.reference.name
        if options.reference is None and options.known_poses:
            begin = "the poses of the table"
        elif plan.draws > 1:
            begin = f"the best of {plan.draws} draws of random orientations"
        yield (
            f"plan: {options.search} search, {options.method}, particle of {plan.diameter:.4g} A, "
            f"{options.symmetry}, from {begin} at {self._resolution(plan.start_radius)}, at most "
            f"{self._resolution(plan.radius)}"
        )
        grid = search_grid(plan.search, max(self.cost.radii), plan.box)
        yield (
            f"  {len(grid.rotations)} rotations {grid.spacing_degrees:.3g} degrees apart x "
            f"{len(grid.shifts)} shifts up to {plan.shift_range:.3g} A, {options.candidates} candidates"
        )
        radii = self.cost.radii
        yield (
            f"  {len(radii)} iterations at most; poses looked for up to {self._resolution(radii[0])} at "
            f"first, {self._resolution(radii[-1])} in the end"
        )
        yield f"  halves by {options.halves}: {_counts(self.chosen.halves)}{self._sharing()}"

    def _sharing(self) -> str:
        plan = self.plan
        if plan.options.merged:
            return "; both are aligned to their common map, so their agreement is too good"
        if plan.joined_radius > 0:
            return f"; they share what is coarser than {self._resolution(plan.joined_radius)}"
        return "; they share nothing"

    def _cost_lines(self) -> Iterator[str]:
        cost, free = self.cost, available_memory_bytes()
        room = "" if free is None else f"; {format_bytes(free)} is free"
        each = "" if self.ranks == 1 else f" for each of {self.ranks} processes"
        yield (
            f"memory: about {format_bytes(cost.data_bytes + cost.working_bytes)}{each}, of it "
            f"{format_bytes(cost.data_bytes)} for the subtomograms{room}"
        )
        if cost.seconds is None:
            yield f"time: not estimated for {self.plan.options.search} search with {self.plan.options.method}"
            return
        share = 1 if self.threads == 1 else _PARALLEL_SHARE
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        wall = format_seconds(cost.seconds / (self.threads * share))
        yield f"time: about {wall} on {threads}{each}, if the machine does nothing else"


def check(
    particles: SubtomogramOptions, options: AlignOptions, *, all_volumes: bool = False, ranks: int = 1
) -> Checked:
    """Read the table and a sample of the volumes, and plan an alignment without running it.

    Parameters
    ----------
    particles, options
        As for `manyviews.subtomo.align.align`.
    all_volumes
        Search every volume for faults, not the sample only.
    ranks
        Processes of this machine to plan for.

    Raises
    ------
    InputError
        As an alignment would.
    """
    given = open_subtomograms(particles)
    check_ranks(ranks, len(given))
    plan = resolve_plan(options, len(given), given.box, given.pixel_size)
    read_maps(options, plan.box, plan.pixel_size)
    sample = sampled(len(given), given.box)
    data, grey, faulty = _looked_at(given, plan, sample)
    others = np.setdiff1d(np.arange(len(given)), sample) if all_volumes else np.zeros(0, np.int64)
    faulty += _faults(given, others)
    bad = [one.number for one in faulty]
    chosen, _ = choose_subtomograms(
        SingleWorld(), given, plan, np.setdiff1d(np.arange(len(given)), bad), faulty
    )
    known_poses(given, chosen, plan)
    wedges = tuple(seen_wedges(given, chosen.places))
    reach = min(plan.radius, expected_reach(grey.signal_to_noise, len(chosen.places), grey.sampled))
    return Checked(
        given=given,
        plan=plan,
        chosen=chosen,
        looked_at=len(sample) + len(others),
        grey=grey,
        wedges=wedges,
        reach=reach,
        cost=estimate_cost(plan, len(chosen.places), len(given.transfers), reach, ranks),
        ranks=ranks,
        threads=options.threads or max(1, local_threads(SingleWorld()) // ranks),
        warnings=(
            *given.warnings,
            *chosen.warnings,
            *data_warnings(data, plan),
            *(one.warning for one in wedges if one.warning),
        ),
    )


def sampled(count: int, box: int) -> Int64:
    """Places of a hundred subtomograms spread over a table, of fewer where they are large."""
    most = max(_LEAST_SAMPLE, min(_SAMPLE, _MOST_VOXELS // box**3))
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


def _looked_at(
    given: Subtomograms, plan: Plan, sample: Int64
) -> tuple[FourierSubtomograms, GreyLevels, list[Faulty]]:
    mask = background_mask(given.box, plan.diameter / plan.pixel_size)
    levels: dict[int, tuple[float, float]] = {}

    def read(number: int) -> Float32:
        volume = given.read(number)
        if volume.shape == mask.shape:
            mean = float(np.average(volume, weights=mask))
            square = float(np.average((volume - mean) ** 2, weights=mask))
            levels[number] = mean, square**0.5
        return volume

    data, kept, faulty = read_fourier_subtomograms(
        read,
        sample,
        given.transfers,
        pixel_size=given.pixel_size,
        radius=plan.radius,
        diameter=plan.diameter,
        world=SingleWorld(),
    )
    means, noise = np.array([levels[number] for number in kept.tolist()]).reshape(-1, 2).T
    grey = GreyLevels(
        sampled=len(kept),
        background=float(np.median(means)) if len(kept) else 0.0,
        noise=float(np.median(noise)) if len(kept) else 0.0,
        noise_spread=float(noise.std() / max(noise.mean(), 1e-30)) if len(kept) else 0.0,
        signal_to_noise=signal_to_noise(data),
    )
    return data, grey, faulty


def signal_to_noise(data: FourierSubtomograms) -> Float64:
    """``(radius + 1,)`` power of what was measured over that of the background, less 1; 0 in shell 0."""
    shell = shells(data.points)
    total, counts = np.zeros(data.radius + 1), np.zeros(data.radius + 1)
    for number in range(len(data)):
        measured = is_measured(data.transfers[data.transfer_index[number]])
        power = np.abs(data.values[number][measured]) ** 2
        total += np.bincount(shell[measured], power, data.radius + 1)
        counts += np.bincount(shell[measured], minlength=data.radius + 1)
    ratio = np.maximum(total / np.maximum(counts, 1) - 1, 0.0)
    return np.where(counts > 0, ratio, 0.0)


def _faults(given: Subtomograms, numbers: Int64) -> list[Faulty]:
    found = []
    for number in numbers.tolist():
        volume, reason = usable_volume(given.read, number, given.box)
        if volume is None:
            found.append(Faulty(number, reason))
    return found


# --- words ---


def _data_lines(given: Subtomograms, plan: Plan, chosen: Chosen) -> Iterator[str]:
    table, box = given.table, plan.box
    tomograms = len(table.tomograms)
    where = f", in {_many(tomograms, 'tomogram')}" if tomograms else ""
    yield f"particles: {len(table)}{where}"
    side = box * plan.pixel_size
    yield f"volumes: {box} x {box} x {box} voxels of {plan.pixel_size:g} A, {side:.4g} A wide"
    if table.angles is not None:
        yield f"poses: in the table, {'used' if plan.options.known_poses else 'not used (--known-poses)'}"
    yield from _prior_lines(given, plan, chosen)
    if table.filament is not None:
        _, groups = np.unique(np.stack([_tomogram(given), table.filament]), axis=1, return_inverse=True)
        yield f"filaments: {len(np.unique(groups[table.filament != 0]))}"
    if table.half is not None:
        used = "used" if plan.options.halves == "table" else "not used (--halves table)"
        yield f"halves: in the table, {_counts(table.half)}, {used}"
    if plan.options.symmetry != "C1":
        yield f"symmetry: {plan.options.symmetry}, {len(symmetry_rotations(plan.options.symmetry))} rotations"


def _prior_lines(given: Subtomograms, plan: Plan, chosen: Chosen) -> Iterator[str]:
    priors = chosen_priors(given, chosen, plan)
    if priors is None:
        angles = given.table.prior_angles
        if angles is not None and np.isfinite(angles).any():
            yield "priors of orientations: in the table, not used"
        return
    parts = []
    for place, name in enumerate(("rot", "tilt", "psi")):
        known = np.isfinite(priors.angles[:, place])
        if known.any():
            sigma = float(np.median(priors.sigmas[known, place]))
            many = "all" if known.all() else str(int(known.sum()))
            parts.append(f"{name} of {many} +- {sigma:g} degrees")
    yield f"priors of orientations: {', '.join(parts)}"


def _tomogram(given: Subtomograms) -> Int64:
    index = given.table.tomogram_index
    return np.zeros(len(given), np.int64) if index is None else index


def _counts(half: Int64) -> str:
    return f"{int((half == 1).sum())} and {int((half == 2).sum())}"


def _many(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"
