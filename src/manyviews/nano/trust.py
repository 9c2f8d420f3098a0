"""How far a run can be trusted: a known motion is put into its data, and looked for again."""

from __future__ import annotations

import contextlib
import time
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.io.array_file import open_array, write_array
from manyviews.jobs.run import Job, JobResult, start_job
from manyviews.nano.angles import changed_angles
from manyviews.nano.choice import FLOWS
from manyviews.nano.injection import Injected, Motion, Returned, inject, returned
from manyviews.nano.plan import Plan, resolve_plan
from manyviews.nano.reconstruct import fingerprints, prepared_projections
from manyviews.nano.reconstruct_options import AUTO, MOVING, SPACE, ReconstructOptions
from manyviews.nano.reconstruct_results import Watcher, whole_volume, write_volume
from manyviews.nano.report import PICTURES, sections
from manyviews.nano.results import (
    CENTER_FILE,
    CHOICE_FILE,
    EXAMPLE_VIEWS_FILE,
    EXAMPLES_FILE,
    FLOW_FILE,
    ITERATIONS_FILE,
    PITCH_FILE,
    RETURNED_FILE,
    VIEWS_FILE,
    read_center,
    read_choice,
    read_pitch,
    read_views,
    write_returned,
)
from manyviews.nano.scan.options import ScanOptions
from manyviews.nano.scan.prepare import check_and_correct, prepared_shape
from manyviews.nano.scan.scan import open_scan
from manyviews.nano.stages import Views, solve_views
from manyviews.nano.trust_options import TrustOptions
from manyviews.options import RunOptions, option_of, value_kind
from manyviews.parallel.world import SingleWorld, World
from manyviews.runs.map_names import VOLUME_FILE
from manyviews.runs.record import read_record

T = TypeVar("T")
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

RESULTS = (
    RETURNED_FILE, FLOW_FILE, VOLUME_FILE, ITERATIONS_FILE, CENTER_FILE, EXAMPLES_FILE, EXAMPLE_VIEWS_FILE,
)  # fmt: skip
_AMOUNT = 0.03  # of the columns
_LITTLE = 0.5


@dataclass(frozen=True)
class Tested:
    """A finished run: its options, its flow ``(view, 2, z, x)``, angles ``(view,)`` as in its table,
    fingerprints of its input, and the pitch of its views, if they have any.
    """

    scan: ScanOptions
    options: ReconstructOptions
    flow: Float32
    theta_degrees: Float64
    inputs: dict[str, str]
    pitch_degrees: Float64 | None = None


def trust(options: TrustOptions, run: RunOptions, *, world: World | None = None) -> JobResult:
    """Inject a known motion into the data of a run, solve again, and tell what share of it came back.

    Parameters
    ----------
    options
        Which run, and which motion.
    run
        Where to; the same call on the same folder goes on where an earlier one stopped.
    world
        The processes that share the work, each of which makes this call; left out: this one alone.

    Raises
    ------
    InputError
        If there is no finished run with flows, or its data are not what they were.
    ManyviewsError
        If the iteration diverges or the run is interrupted.
    """
    began = time.monotonic()
    world = world or SingleWorld()
    tested = read_tested(options.reconstruction, options)
    scan = open_scan(tested.scan.scan, tested.scan)
    if fingerprints(scan) != tested.inputs:
        raise InputError(
            "is not the scan that was reconstructed", path=scan.path, fix="reconstruct it again first"
        )
    correction = check_and_correct(scan, tested.scan)
    plan = resolve_plan(tested.scan, tested.options, prepared_shape(scan, tested.scan, correction.rows))
    motion, amount = motion_of(options, plan)
    injected = {"motion": motion, "amount": amount, "seed": options.seed}
    with start_job(
        "nano trust", run, options, record={**plan.record(), **injected}, inputs=tested.inputs,
        results=RESULTS, pictures=PICTURES, sections=sections, seed=options.seed, world=world, began=began,
    ) as job:  # fmt: skip
        if job.finished:
            return job.result()
        with contextlib.ExitStack() as stack:
            prepared, _ = prepared_projections(stack, job, plan, scan, correction, alone=True)
            theta = changed_angles(prepared.theta_degrees, tested.theta_degrees)
            prepared = replace(prepared, theta_degrees=theta)
            put = inject(
                prepared.projections, amount, motion=motion, kept=plan.options.warp, seed=options.seed
            )
            watcher = Watcher(job, plan, replace(prepared, projections=put.projections))
            views = Views(put.projections, theta, prepared.center, pitch_degrees=tested.pitch_degrees)
            solved = solve_views(job, plan, views, note=watcher.note, show=watcher.show)
            after = solved.state.flow.numpy()
            volume = whole_volume(solved.problem, solved.state.iterate)
            if job.speaks:
                write_volume(job, VOLUME_FILE, volume, prepared)
            summary = _tell(job, plan, tested, put, after, views)
        return job.finish({**injected, **summary})


def _tell(
    job: Job, plan: Plan, tested: Tested, put: Injected, after: Float32, views: Views
) -> dict[str, object]:
    """What came back, in the table and in figures."""
    found: Returned = returned(
        np.asarray(tested.flow), after, put, views.theta_degrees, center=views.center, kept=plan.options.warp
    )
    if job.speaks:
        write_array(job.folder / FLOW_FILE, after, overwrite=True)
        write_returned(
            job.folder / RETURNED_FILE, views.theta_degrees, found.injected_by_view, found.left_by_view
        )
    if found.share < _LITTLE:
        job.warn(
            f"only {max(0.0, 100 * found.share):.0f} % of the motion that was injected came back: what the "
            "run says of motion is not to be trusted further than that"
        )
    return {
        "method": plan.options.method,
        "share_that_came_back_percent": round(100 * found.share, 1),
        "length_that_came_back": round(found.slope, 3),
        "injected_rms_pixels": round(found.injected_rms_pixels, 4),
        "left_rms_pixels": round(found.left_rms_pixels, 4),
    }


def motion_of(options: TrustOptions, plan: Plan) -> tuple[Motion, float]:
    """Which motion and how far, defaults resolved."""
    usual: Motion = "drift" if plan.options.method == "shifts" else "smooth"
    if plan.options.method == "shifts" and options.motion == "smooth":
        raise InputError(
            "a run of whole shifts cannot find a smooth deformation", where="--motion",
            fix="give drift or jitter",
        )  # fmt: skip
    return options.motion or usual, options.amount or _AMOUNT * plan.shape[2]


def read_tested(folder: Path, machine: TrustOptions) -> Tested:
    """A finished run, with its options as they were and the machine of now; `InputError` if it is none."""
    record = read_record(folder) if folder.is_dir() else None
    if record is None or record["job"] != "nano reconstruct":
        raise InputError(
            "holds no run of nano reconstruct", path=folder, fix="give the folder that --out named"
        )
    given = record["options"]
    method = _method_of(folder, str(given.get("method")))
    if method in SPACE:
        raise InputError(
            f"holds a run with a motion in space ({method}), into which no flow of projections is injected",
            path=folder, fix="reconstruct with --method oftv, of or shifts",
        )  # fmt: skip
    if method not in MOVING:
        raise InputError(
            f"holds a run that looks for no motion ({method})", path=folder,
            fix="reconstruct with --method oftv, of or shifts",
        )  # fmt: skip
    center, told = read_center(folder / CENTER_FILE), read_views(folder / VIEWS_FILE)
    if center is None or told is None or not (folder / FLOW_FILE).exists():
        raise InputError("holds a run that is not finished", path=folder, fix="finish it first")
    here = Path(str(record["working_directory"]))
    scan = _options(ScanOptions, given, "", here)
    how = _options(ReconstructOptions, {**given, "method": method}, method, here)
    how = replace(
        how, halves=False, tiff=False, device=machine.device, threads=machine.threads, memory=machine.memory,
        scratch=machine.scratch,
    )  # fmt: skip
    flow = open_array(folder / FLOW_FILE, 4)
    whole = replace(scan, center=center.center_unbinned)
    pitch = read_pitch(folder / PITCH_FILE)
    return Tested(whole, how, flow, told.theta_degrees, dict(record["inputs"]), pitch)


def _method_of(folder: Path, given: str) -> str:
    """The method that made a run, where that was chosen too."""
    if given != AUTO:
        return given
    choice = read_choice(folder / CHOICE_FILE)
    return FLOWS if choice is None else choice.method


def _options(kind: type[T], given: dict[str, Any], method: str, here: Path) -> T:
    """Options as a record has them; paths are seen from the folder where the run was started."""
    hints, found = get_type_hints(kind), {}
    for item in fields(kind):  # type: ignore[arg-type]
        about = option_of(item)
        if item.name not in given or about is None or (about.methods and method not in about.methods):
            continue
        one, many = value_kind(hints[item.name])
        value = given[item.name]
        values = [here / entry if one is Path else entry for entry in (value if many else [value])]
        if many or item.default is MISSING or values[0] != item.default:
            found[item.name] = tuple(values) if many else values[0]
    return kind(**found)
