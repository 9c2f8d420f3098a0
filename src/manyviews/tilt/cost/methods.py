"""What a rank holds and does in each method: phases of memory, and the load of an iteration.

A phase is a sum of named parts, in bytes; counts of volumes follow `manyviews.solvers` and
`manyviews.tilt.methods` line by line, those that a step makes included.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from manyviews.solvers.conjugate_gradient import is_due
from manyviews.tilt.cost.blocks import FLOAT, Slab
from manyviews.tilt.cost.views import Load, ViewCosts
from manyviews.tilt.options import SUBSET_METHODS
from manyviews.tilt.pixels.fill import FILL_ITERATIONS
from manyviews.tilt.plan import Plan

Parts = dict[str, int]

# Parts that are in files where a run keeps its volumes there.
IN_FILES = ("kernels", "volumes", "transforms", "row sums", "detectors", "filled images")
# Iterations of a search for a prior that tries six of them (`manyviews.tilt.prior.search`), and what a start
# without a prior comes to.
SEARCHING, STARTING = 43, 5
_VECTOR_PASSES = 8  # volumes read and written by a solver for each normal operator
_PROFILE_SECONDS = 1.5e-3  # a view of a kernel, on one core
_WEIGHTING_SECONDS = 200e-9  # a pixel of an image that wbp weights, on one core


@dataclass(frozen=True)
class Work:
    """What one group of ranks works on, and the rank of it that holds most of a volume (``slab``).

    ``whole`` stands for all views, ``own`` for those that this group takes in a pass over all of them,
    ``parts`` for its subsets and ``union`` for the views of these together, where their objective is not that
    of the only one. ``priors`` are this group's prior agents, by the name of their option. ``weighed``:
    single pixels have weights.
    """

    plan: Plan
    slab: Slab
    groups: int
    whole: ViewCosts
    own: ViewCosts
    parts: tuple[ViewCosts, ...] = ()
    union: ViewCosts | None = None
    priors: tuple[str, ...] = ()
    weighed: bool = False

    @property
    def filling(self) -> Work | None:
        """Conjugate gradients that fill the pixels without weight, for all methods but these."""
        return self.as_filling if self.weighed and self.plan.method != "cg" else None

    @property
    def as_filling(self) -> Work:
        """The same, whether or not they will be needed."""
        plan = self.plan.filling(FILL_ITERATIONS)
        return replace(self, plan=plan, parts=(), union=None, priors=())

    @property
    def filled_bytes(self) -> int:
        """All images, filled, which every rank has."""
        return FLOAT * self.slab.plane * self.whole.views if self.filling else 0

    @property
    def own_image_bytes(self) -> int:
        """All images that this rank finishes."""
        return FLOAT * self.slab.plane * self.own.views // self.slab.ranks

    @property
    def objective(self) -> ViewCosts | None:
        """Views that the value of the objective is found from."""
        return self.union or (self.parts[0] if self.parts else None)

    @property
    def subset_spectra(self) -> int:
        """Bytes of the kernels that are held for the subsets and for all of them together."""
        return sum(views.held_spectrum_bytes for views in self.subset_kernels)

    @property
    def subset_kernels(self) -> list[ViewCosts]:
        """The subsets, and all of them together where that is wanted."""
        return [*self.parts, *([self.union] if self.union else [])]

    def phase(self, volumes: float, work: int, spectra: int = 0) -> Parts:
        """Some volumes and a work space."""
        return {"kernels": spectra, "volumes": round(volumes * self.slab.size_bytes), "work space": work}

    def seeing(self, volumes: float, work: int, views: ViewCosts, spectra: int = 0) -> Parts:
        """The same while views are projected, of which the detectors are in a file if there are pieces."""
        return {**self.phase(volumes, work, spectra), "detectors": views.held_bytes}

    def summing(self, volumes: float, spectra: int = 0) -> list[Parts]:
        """The sum of a volume over groups, which takes another one; it and the one before are in memory."""
        if self.groups == 1:
            return []
        count = 1 if self.slab.stream is None else 2
        return [{**self.phase(volumes, 0, spectra), "a sum over groups": count * self.slab.size_bytes}]

    def preconditioning(self, volumes: float, spectra: int) -> Parts:
        """A preconditioner, whose transforms are in a file if volumes are."""
        whole = self.whole
        parts = self.phase(volumes, whole.preconditioner_bytes, spectra)
        return {**parts, "transforms": whole.transforms_bytes}

    def making(self, copies: int) -> Parts:
        """The kernel and what a preconditioner is made of, beside so many bytes of copies."""
        whole = self.whole
        if self.slab.stream is None:
            return {"making the kernel": whole.making_bytes + whole.periodic_bytes + copies}
        held = whole.spectrum_bytes + whole.periodic_bytes + copies
        work = max(whole.making_bytes, whole.preconditioner_bytes)
        return {"kernels": held, "transforms": whole.transforms_bytes, "making the kernel": work}

    # --- methods without subsets ---

    def setting_up(self, volumes: float = 1) -> list[Parts]:
        """Making the kernel and back-projecting the images."""
        kernel = self.whole.wanted_spectrum_bytes
        return [
            {"making the kernel": self.whole.wanted_making_bytes},
            self.seeing(volumes, self.own.back_bytes, self.own, kernel),
            *self.summing(volumes, kernel),
        ]

    def iterating(self, volumes: float) -> list[Parts]:
        """The normal operator and all that is held meanwhile."""
        if self.whole.convolve:
            return [self.phase(volumes, self.whole.convolution_bytes, self.whole.spectrum_bytes)]
        return self.passing(volumes)

    def passing(self, volumes: float) -> list[Parts]:
        """A pass over the images."""
        held = self.whole.held_spectrum_bytes
        return [self.seeing(volumes, self.own.pass_bytes, self.own, held), *self.summing(volumes, held)]

    @property
    def normal_load(self) -> Load:
        """The normal operator of all views."""
        if not self.whole.convolve:
            return self.pass_load
        return self.whole.convolution_load + self._vectors

    @property
    def step_load(self) -> Load:
        """The normal operator and a preconditioner."""
        return self.normal_load + self.whole.preconditioner_load

    @property
    def pass_load(self) -> Load:
        """All images there and back."""
        return self.own.pass_load + self._vectors + self.sum_load

    @property
    def _vectors(self) -> Load:
        return Load(file_bytes=_VECTOR_PASSES * self.slab.size_bytes)

    # --- methods with subsets ---

    def subset_set_up(self, *, targets_again: bool) -> list[Parts]:
        """Making the kernels and targets of the subsets, and of all together for the objective."""
        phases = []
        held = 0
        for number, part in enumerate(self.parts):
            phases.append({**self.phase(number, 0, held), "making the kernel": part.wanted_making_bytes})
            kernel = held + part.wanted_spectrum_bytes
            phases.append(self.seeing(number + 1, part.back_bytes, part, kernel))
            held += part.held_spectrum_bytes
        if self.union is not None:
            count = len(self.parts)
            phases.append({**self.phase(count, 0, held), "making the kernel": self.union.making_bytes})
            work = self.union.back_bytes if targets_again else 0
            phases.append(self.seeing(count + 1, work, self.union, held + self.union.spectrum_bytes))
        return phases

    def subset_phases(self, volumes: float, objective_volumes: float) -> list[Parts]:
        """The last answer of an agent, the mean over all of them, and the objective after it."""
        held = self.subset_spectra
        phases = self.summing(objective_volumes, held)
        if self.parts:
            most = max(self.parts, key=lambda part: part.normal_bytes)
            phases.append(self.seeing(volumes, most.normal_bytes, most, held))
        if self.objective is not None:
            result = 0 if self.objective.convolve else 1
            phases.append(self.phase(objective_volumes + result, self.objective.normal_bytes, held))
        return phases

    def answers_load(self, normals: int) -> Load:
        """The answers of all agents, each of so many normal operators, their mean and its objective."""
        total = self.sum_load
        for part in self.parts:
            total += (part.normal_load + self._vectors).times(normals)
        return total if self.objective is None else total + self.objective.normal_load

    @property
    def sum_load(self) -> Load:
        """The sum of a volume over groups."""
        size = self.slab.size_bytes
        return Load(
            sent_bytes=2.0 * size * (self.groups - 1) / self.groups,
            file_bytes=2.0 * size * (self.groups > 1),
            messages=2 * (self.groups - 1),
        )


# --- memory ---


def phases(work: Work) -> list[Parts]:
    """Moments of a run at which a rank may hold most."""
    # the last pass over the images, when the solver has gone
    reprojection = {
        "volumes": work.slab.size_bytes,
        "projection": work.own.forward_bytes,
        "detectors": work.own.held_bytes,
    }
    found = [*_PHASES[work.plan.method](work), reprojection]
    if work.filling is None:
        return found
    # the projections of the volume that fills them, too
    first = [*_cg(work.filling), {**reprojection, "filled images": work.filled_bytes}]
    return [*first, *({**parts, "filled images": work.filled_bytes} for parts in found)]


def _wbp(work: Work) -> list[Parts]:
    spectra = work.whole.spectrum_bytes + work.whole.circulant_bytes
    filtering = max(work.own.weighting_bytes, work.own.back_bytes)
    value = work.whole.convolution_bytes if work.whole.convolve else work.own.pass_bytes
    return [
        {"making the kernel": work.whole.making_bytes + work.whole.circulant_bytes},
        # the target; then an empty volume and the result
        work.seeing(3, filtering, work.own, spectra),
        work.phase(3, value, spectra),
        *work.summing(3, spectra),
    ]


def _sirt(work: Work) -> list[Parts]:
    if work.plan.sirt_form == "landweber":
        return [*work.setting_up(), *work.iterating(3)]
    # no kernel; the row sums of all images, and the column sums
    rows = work.own_image_bytes
    mask = work.slab.size_bytes // 4
    found = [
        work.seeing(1, work.own.forward_bytes, work.own),
        work.seeing(2, max(work.own.back_bytes, mask), work.own),
        work.seeing(3, work.own.pass_bytes, work.own),
        *work.summing(3),
    ]
    return [{"row sums": rows, **parts} for parts in found]


def _cg(work: Work) -> list[Parts]:
    plan = work.plan
    rounds = corrections(plan)
    # volumes while the projectors run, and while the convolution after them runs: those of the state before
    # the step, of the step, and of the base; the first rounds share some of them
    exact, quick = ((0, 6), (9, 11), (11, 13))[min(rounds, 2)]
    if work.weighed:  # the back-projection of guessed images beside the target
        exact, quick = exact + bool(exact), quick + 1
    if plan.damping_by_frequency:
        # what a preconditioner takes and gives, beside what is made after the convolution
        spectra = work.whole.spectrum_bytes + work.whole.periodic_bytes
        return _damped_by_frequency(work, exact, quick + (4 if rounds else 2), spectra)
    found = [*work.setting_up(), *work.iterating(quick)]
    if not rounds:
        return found
    turning = work.phase(quick + 3, 0, work.whole.wanted_spectrum_bytes)  # the direction after a correction
    return [*found, *work.passing(exact), turning]


def _damped_by_frequency(work: Work, exact: int, most: int, spectra: int) -> list[Parts]:
    whole = work.whole
    # the kernel, the same again with its damping, and the preconditioner
    found = [
        work.making(0),
        work.seeing(1, work.own.back_bytes, work.own, spectra),
        work.phase(1, 0, spectra + whole.spectrum_bytes),
        *work.summing(1, spectra),
        work.preconditioning(most, spectra),
        work.phase(most - 3, whole.convolution_bytes if whole.convolve else work.own.pass_bytes, spectra),
    ]
    if not exact:
        return found
    # the projectors; then the damping of the volume, whose spectrum is made anew
    return [
        *found,
        work.seeing(exact, work.own.pass_bytes, work.own, spectra),
        *work.summing(exact, spectra),
        work.phase(exact + 2, whole.convolution_bytes, spectra + whole.spectrum_bytes),
    ]


def _admm(work: Work) -> list[Parts]:
    # kernel, its damped copy, preconditioners; the target; the state before a step (after a search for a
    # prior that state too), multipliers and what conjugate gradients go with
    plan, whole = work.plan, work.whole
    if work.slab.stream is not None:
        return _admm_in_files(work)
    spectra = 2 * whole.spectrum_bytes + whole.periodic_bytes
    # and as much as the C library was seen to keep of steps before (benchmarks/memory_estimate.py)
    volumes = 52 if plan.prior == "auto" else 28
    return [
        work.making(spectra),
        work.phase(1, work.own.back_bytes, spectra),
        *work.summing(1, spectra),
        work.phase(volumes, whole.convolution_bytes, spectra),
        work.phase(13, work.own.pass_bytes, spectra),
        *work.summing(13, spectra),
    ]


def _admm_in_files(work: Work) -> list[Parts]:
    plan, whole = work.plan, work.whole
    spectra = whole.spectrum_bytes + 2 * whole.periodic_bytes
    volumes = 24 if plan.prior == "auto" else 16 if plan.total_variation > 0 else 12
    found = [
        work.preconditioning(volumes, spectra),
        work.phase(volumes - 2, whole.convolution_bytes, spectra),
        work.seeing(13, work.own.pass_bytes, work.own, spectra),
        *work.summing(13, spectra),
    ]
    if plan.prior == "auto" or plan.damping_by_frequency:
        # conjugate gradients before, as of `_cg` after several corrections
        return [*found, *_damped_by_frequency(work, 11, 17, spectra + whole.spectrum_bytes)]
    return [*found, work.making(0), work.seeing(1, work.own.back_bytes, work.own, spectra)]


def _direct_combine(work: Work) -> list[Parts]:
    count, union = len(work.parts), work.union is not None
    # targets, also of all; parts before and after; the volume before and after
    return [
        *work.subset_set_up(targets_again=work.plan.overlap > 0),
        *work.subset_phases(3 * count + union + 1, 3 * count + union + 2),
    ]


def _wang2020(work: Work) -> list[Parts]:
    count, union = len(work.parts), work.union is not None
    # targets, also of all; states before and after; the volume; what an agent works on
    return [
        *work.subset_set_up(targets_again=work.plan.overlap > 0),
        *work.subset_phases(3 * count + union + 3, 3 * count + union + 2),
    ]


# Volumes that a prior agent works in, what it is handed and its answer included.
_PRIOR_VOLUMES = {"non_negative": 2, "total_variation": 11, "smoothness": 5}


def _consensus(work: Work) -> list[Parts]:
    data, agents = len(work.parts), len(work.parts) + len(work.priors)
    # targets, also of all; the volume; states and answers before the iteration
    held = data + (work.union is not None) + 1 + 2 * agents
    answering = held + 2 * (data - 1) + 5
    found = [
        *work.subset_set_up(targets_again=False),
        *work.subset_phases(answering, held + 2 * agents + 1),
    ]
    spectra = work.subset_spectra
    for number, name in enumerate(work.priors):
        found.append(work.phase(held + 2 * (data + number) + _PRIOR_VOLUMES[name], 0, spectra))
    return found


_PHASES = {
    "wbp": _wbp,
    "sirt": _sirt,
    "cg": _cg,
    "admm": _admm,
    "direct-combine": _direct_combine,
    "wang2020": _wang2020,
    "consensus": _consensus,
}


# --- time ---


def once(work: Work) -> tuple[Load, float]:
    """What is done once: on all cores of a rank, and seconds on one core."""
    kernels = work.subset_kernels if work.plan.method in SUBSET_METHODS else [work.whole]
    if work.plan.method not in ("wbp", "admm"):
        kernels = [views for views in kernels if views.wants_kernel]
    serial = sum(views.views for views in kernels) * _PROFILE_SECONDS
    if work.plan.method == "wbp":
        serial += work.own_image_bytes / FLOAT * _WEIGHTING_SECONDS
    seconds = sum(views.kernel_load.seconds for views in kernels)
    load = Load(seconds) + work.pass_load.times(0.5)
    if work.filling is not None:
        load += iteration(work.filling).times(FILL_ITERATIONS)
    return load, serial


def iterations(plan: Plan) -> int:
    """Iterations of a run, those before it included, which are nearly as long."""
    starting = STARTING if plan.method == "admm" and plan.damping_by_frequency else 0
    return plan.iterations + starting + (SEARCHING if plan.prior == "auto" else 0)


def iteration(work: Work) -> Load:
    """One iteration."""
    plan, method = work.plan, work.plan.method
    if method in SUBSET_METHODS:
        steps = {"wang2020": plan.inner_iterations, "consensus": plan.inner_iterations + 1}
        return work.answers_load(steps.get(method, 1))
    if method == "sirt" and plan.sirt_form == "normalised":
        return work.pass_load
    if method == "cg":
        quick = work.step_load if plan.damping_by_frequency else work.normal_load
        return quick + correction(work).times(corrections(plan) / plan.iterations)
    if method == "admm":
        return work.step_load.times(2)
    return work.normal_load.times(2 if method == "wbp" else 1)


def corrections(plan: Plan) -> int:
    """Iterations of cg that are corrected by an exact pass."""
    return sum(is_due(iteration, plan.refresh) for iteration in range(1, plan.iterations + 1))


def correction(work: Work) -> Load:
    """What an iteration of cg takes longer that is corrected by an exact pass; damping by frequency wants a
    convolution more.
    """
    return work.pass_load + work.normal_load.times(2.0 if work.plan.damping_by_frequency else 1.0)
