"""From the options that a user gave to the plan of a run, every default resolved."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from manyviews.errors import InputError
from manyviews.io.mrc import read_header
from manyviews.io.particle_images import read_particles
from manyviews.io.particle_table import ParticleTable
from manyviews.jobs.device import resolve_device
from manyviews.options import check_options, foreign_options
from manyviews.particles.em.plan import STARTS, EmPlan
from manyviews.particles.options import AbinitioOptions, ParticleOptions
from manyviews.particles.sagd.priors import PriorName
from manyviews.particles.sagd.sagd import SagdOptions

_FILLED = 0.8  # of the box, where no diameter is given
_SHIFTS_OF_BOX = 1 / 40
MACHINE = ("threads", "memory", "scratch")
_LEAST_PARTICLES = 50
_LEAST_BOX = 16
_PAPER_SCHEDULE_FROM = 10_000  # particles
_RISES_AFTER_THE_LAST = 4


@dataclass(frozen=True)
class Plan:
    """What a run does.

    Lengths are in angstrom; ``box`` is in pixels, ``radius`` the highest frequency that may be used, in
    Fourier pixels. ``em`` has the iterations of stochastic EM; the device is cpu or cuda.
    """

    options: AbinitioOptions
    box: int
    pixel_size: float
    diameter: float
    shift_sigma: float
    radius: int
    em: EmPlan
    device: str = "cpu"

    @property
    def iterations(self) -> int:
        """Of the method; sagd goes on for some time at its last frequency, as in the paper."""
        if self.options.method == "stochastic-em":
            return self.em.iterations
        if self.options.iterations is not None:
            return self.options.iterations
        sagd = sagd_options(self)
        rises = math.ceil((sagd.last_frequency - sagd.first_frequency) / sagd.frequency_step)
        return sagd.raise_every * (rises + _RISES_AFTER_THE_LAST)

    def record(self) -> dict[str, Any]:
        """For ``run.toml``: what changes the result."""
        left_out = {*MACHINE, *foreign_options(AbinitioOptions, self.options.method)}
        given = {key: value for key, value in asdict(self.options).items() if key not in left_out}
        reference = self.options.reference
        resolved = {"diameter": self.diameter, "shift_sigma": self.shift_sigma, "radius": self.radius,
                    "device": self.device}  # fmt: skip
        return {**given, **resolved, "reference": None if reference is None else str(reference)}


def load_table(options: ParticleOptions, *, with_images: bool = True) -> ParticleTable:
    """The particles that the options name; `InputError` if the file cannot be used.

    ``with_images``: the stacks must be there.
    """
    check_options(options)
    given: dict[str, Any] = {"data_root": options.data_root, "ctf": not options.no_ctf}
    given["with_images"] = with_images
    if options.particles.suffix.lower() == ".cs":
        if options.dark_protein or options.pixel_size is not None:
            raise InputError("a .cs file tells contrast and pixel size itself", path=options.particles,
                             fix="leave out --dark-protein and --pixel-size")  # fmt: skip
        given["passthrough"] = options.passthrough
    else:
        if options.passthrough is not None:
            raise InputError("--passthrough is for cryoSPARC .cs files", path=options.particles)
        given |= {"dark_protein": options.dark_protein, "pixel_size": options.pixel_size}
    return read_particles(options.particles, **given)


def sagd_options(plan: Plan) -> SagdOptions:
    """How sagd is run."""
    options = plan.options
    finest = plan.radius / (plan.box * plan.pixel_size)
    chosen = SagdOptions(
        seed=options.seed,
        batch_size=options.batch,
        shift_sigma=plan.shift_sigma,
        last_frequency=min(SagdOptions.last_frequency, finest),
        prior=PriorName(options.prior),
        prior_strength=options.prior_strength,
    )
    few = plan.em.particles < _PAPER_SCHEDULE_FROM
    schedule = options.schedule or ("quick" if few else "paper")
    return chosen.quick() if schedule == "quick" else chosen


def resolve_plan(options: AbinitioOptions, count: int, box: int, pixel_size: float) -> Plan:
    """Resolve every default for ``count`` particles in images of ``box`` pixels of ``pixel_size`` angstrom.

    Raises
    ------
    InputError
        If the options or the data make no sense.
    """
    check_options(options)
    side = box * pixel_size
    check_size(count, box)
    diameter = resolve_diameter(options.diameter, side)
    shift_sigma = resolve_shift_sigma(options.shift_sigma, side)
    radius = fourier_radius(options.resolution, box, pixel_size)
    em = EmPlan(
        particles=count,
        starts=STARTS if options.starts is None else options.starts,
        refinements=options.refinements,
        batch=min(options.batch, count),
        filled=diameter / side,
        most_radius=radius,
    )
    return Plan(options, box, pixel_size, diameter, shift_sigma, radius, em, _device(options))


def _device(options: AbinitioOptions) -> str:
    """cpu or cuda, what is there."""
    if options.method == "sagd" and options.device == "cuda":
        raise InputError(
            "sagd runs on the CPU", where="--device", fix="give --device cpu, or --method stochastic-em"
        )
    return "cpu" if options.method == "sagd" else resolve_device(options.device, triton=False)


def fourier_radius(resolution: float | None, box: int, pixel_size: float) -> int:
    """Highest frequency to use for a resolution in angstrom, Fourier pixels; None: all below Nyquist's.

    `InputError` if the pixels do not reach the resolution, or it is very low.
    """
    most = (box - 1) // 2
    if resolution is None:
        return most
    if not resolution >= 2 * pixel_size:
        raise InputError(
            f"pixels of {pixel_size:g} angstrom do not reach {resolution:g} angstrom",
            fix=f"give --resolution {2 * pixel_size:g} or more",
        )
    radius = min(most, math.floor(box * pixel_size / resolution + 1e-9))
    if radius < 4:
        raise InputError(f"a resolution of {resolution:g} angstrom leaves nothing to see", fix="give less")
    return radius


def check_size(count: int, box: int) -> None:
    """Refuse few particles and small images, with an `InputError`."""
    if count < _LEAST_PARTICLES or box < _LEAST_BOX:
        raise InputError(
            f"{count} images of {box} pixels are too little for a structure",
            fix=f"give at least {_LEAST_PARTICLES} images of at least {_LEAST_BOX} pixels",
        )


def resolve_diameter(given: float | None, side: float) -> float:
    """Diameter of a particle in a box of ``side``, angstrom; `InputError` as of `check_diameter`."""
    diameter = _FILLED * side if given is None else given
    check_diameter(diameter, side)
    return diameter


def resolve_shift_sigma(given: float | None, side: float) -> float:
    """Standard deviation of shifts in a box of ``side``, angstrom; `InputError` where it is too large."""
    shift_sigma = _SHIFTS_OF_BOX * side if given is None else given
    if not 0 < shift_sigma <= side / 4:
        raise InputError(f"shifts of {shift_sigma:g} angstrom do not go with a box of {side:g}")
    return shift_sigma


def check_diameter(diameter: float, side: float) -> None:
    """Refuse a particle that is less than a tenth of the box's side or larger; angstrom.

    Raises
    ------
    InputError
        If it is.
    """
    if not 0.1 * side <= diameter <= side:
        raise InputError(
            f"a particle of {diameter:g} angstrom does not go with a box of {side:g} angstrom",
            where="--diameter",
            fix="give angstrom, between a tenth of the box and the box",
        )


def check_reference(reference: Path | None, box: int) -> None:
    """Refuse a reference that has not ``box`` voxels along each side, with an `InputError`."""
    if reference is None:
        return
    shape = read_header(reference).shape
    if shape != (box,) * 3:
        raise InputError(
            f"the reference has {' x '.join(map(str, shape[::-1]))} voxels, the map will have {box} along "
            "each side",
            path=reference,
            fix="give a map of the images' size",
        )
