from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from manyviews.errors import InputError
from manyviews.geometry.views import TiltGeometry
from manyviews.parallel.layout import Layout
from manyviews.tilt.cost.estimate import Estimate
from manyviews.tilt.cost.schedule import Schedule, make_schedule
from manyviews.tilt.options import ReconstructOptions
from manyviews.tilt.plan import Plan, resolve_plan

TILTS = np.linspace(-60.0, 60.0, 11)
GIBIBYTE = 1 << 30
MEBIBYTE = 1 << 20


class Source:
    """As much of an image source as settling needs."""

    def __init__(self, size: int, axes: tuple[float, ...]) -> None:
        self.binned_geometry = TiltGeometry.concatenate(
            [TiltGeometry.from_tilt_axis(TILTS, axis, series=n) for n, axis in enumerate(axes)]
        )
        self.shape = (len(self.binned_geometry), size, size)
        self.pixel_size = 4.0
        self.series = SimpleNamespace(field_shape=(size, size), thickness=None)


@pytest.fixture(autouse=True)
def cores(monkeypatch):
    """As many on every machine: layouts hang on the time that is told."""
    monkeypatch.setattr("os.cpu_count", lambda: 8)


def arguments(
    size: int = 128, thickness: int = 24, axes: tuple[float, ...] = (0.0, 45.0), **chosen: object
) -> tuple[Plan, TiltGeometry, int]:
    source = Source(size, axes)
    options = replace(ReconstructOptions(thickness=thickness, device="cpu"), **chosen)
    return resolve_plan(options, source), source.binned_geometry, 4 * int(np.prod(source.shape))


def scheduled(
    ranks: int = 1, *, memory_gib: float | None = 64.0, layout: str | None = None, **chosen: object
):
    return make_schedule(
        *arguments(**chosen),
        ranks=ranks,
        ranks_per_host=ranks,
        layout=layout,
        memory_gib=memory_gib,
        available_bytes=None if memory_gib is None else 64 * GIBIBYTE,
    )


def needed(layout: str = "1x1", **chosen: object) -> int:
    return scheduled(Layout.parse(layout).ranks, layout=layout, **chosen).estimate.memory_bytes


LARGE = {"size": 320, "thickness": 96}
ALIKE = {"axes": (0.0, 90.0)}


def streamed(ranks: int = 1, *, layout: str | None = None, **chosen: object) -> Schedule:
    """With as little memory as needed for the volumes to go into files."""
    least = needed(layout or f"1x{ranks}", **chosen) - 64 * MEBIBYTE
    return scheduled(ranks, memory_gib=least / GIBIBYTE, layout=layout, **chosen)


def test_one_rank_with_enough_memory():
    found = scheduled()
    assert found.layout == Layout(1, 1)
    assert not found.streamed
    assert (found.work_bytes, found.piece_slices, found.idle_ranks) == (0, None, 0)
    assert found.memory_limit_bytes == 64 * GIBIBYTE
    (line,) = found.lines()
    assert line.startswith("1 rank; about ")
    assert line.endswith(" MiB in memory")


@pytest.mark.parametrize(
    ("method", "ranks", "layout"),
    [
        ("consensus", 4, Layout(4, 1)),
        ("consensus", 8, Layout(4, 2)),
        ("wang2020", 4, Layout(4, 1)),
        ("direct-combine", 2, Layout(2, 1)),
        ("cg", 4, Layout(1, 4)),
        ("cg", 49, Layout(2, 24)),
        ("sirt", 3, Layout(1, 3)),
        ("wbp", 2, Layout(1, 2)),
    ],
)
def test_layout_follows_method_and_ranks(method, ranks, layout):
    subsets = {"subsets": 4} if method in {"consensus", "wang2020"} else {}
    found = scheduled(ranks, method=method, **ALIKE, **subsets)
    assert found.layout == layout
    assert found.idle_ranks == ranks - layout.ranks


def test_subsets_that_take_longer_share_their_group_with_others():
    """Two of four are oblique, which takes longer: groups of one of each kind wait less for each other."""
    assert scheduled(8, method="consensus", subsets=4, **LARGE).layout == Layout(2, 4)


def test_slabs_of_a_slice_say_too_much_to_be_quick():
    found = scheduled(24, method="sirt", size=64)
    assert found.layout.slabs < 24
    assert found.idle_ranks > 0


def test_priors_are_agents_too():
    assert scheduled(5, method="consensus", subsets=4, non_negative=True, **ALIKE).layout == Layout(5, 1)


def test_words_for_ranks():
    text = "\n".join(scheduled(8, method="consensus", subsets=4, **ALIKE).lines())
    assert "8 ranks as 4x2: 4 groups share the view subsets, each of 2 ranks with a slab of 12 slices" in text
    assert " a rank in memory" in text
    groups = scheduled(2, method="direct-combine", **ALIKE)
    assert "3 ranks as 1x3: each with a slab of 8 slices; about" in scheduled(3).lines()[0]
    assert "2 ranks as 2x1: they share the view subsets" in groups.lines()[0]
    assert "49 ranks stay idle" not in "\n".join(scheduled(49).lines())
    assert scheduled(49).lines()[-1] == "1 rank stays idle"
    assert "4 ranks as 4x1: they share the views;" in scheduled(4, layout="4x1").lines()[0]


def test_memory_decides_between_layouts():
    chosen = {**LARGE, "method": "consensus", "subsets": 4}
    groups, slabs = needed("4x1", **chosen), needed("1x4", **chosen)
    assert slabs < groups
    found = scheduled(4, memory_gib=0.5 * (groups + slabs) / GIBIBYTE, **chosen)
    assert not found.streamed
    assert found.layout.slabs > 1
    assert found.estimate.memory_bytes <= found.memory_limit_bytes


@pytest.mark.parametrize(
    "chosen",
    [
        {"method": "cg"},
        {"method": "cg", "damping": 1.0},
        {"method": "sirt"},
        {"method": "wbp"},
        {"method": "admm"},
        {"method": "admm", "total_variation": 0.1, "prior": "none"},
        {"method": "admm", "prior": "smooth"},
        {"method": "consensus"},
        {"method": "consensus", "total_variation": 0.1},
        {"method": "consensus", "smoothness": 0.1},
        {"method": "wang2020"},
        {"method": "direct-combine"},
    ],
)
def test_volumes_go_into_files_where_memory_is_short(chosen):
    found = streamed(**chosen, **LARGE)
    assert found.streamed
    assert found.estimate.memory_bytes <= found.memory_limit_bytes
    assert 0 < found.work_bytes <= found.memory_limit_bytes
    assert found.estimate.file_bytes > 4 * 96 * 320 * 320
    assert found.disk_bytes > found.estimate.file_bytes
    assert "volumes" not in found.estimate.parts
    assert any(line.startswith("streamed: volumes in files, ") for line in found.lines())


def test_files_that_fit_in_memory_beside_the_run_are_quick():
    least = needed(**LARGE) - 64 * MEBIBYTE

    def told(ranks: int, available: int) -> tuple[int | None, float]:
        found = make_schedule(
            *arguments(**LARGE), ranks=ranks, ranks_per_host=ranks, layout=f"1x{ranks}",
            memory_gib=least / ranks / GIBIBYTE, available_bytes=available,
        )  # fmt: skip
        assert found.streamed
        return found.piece_slices, found.estimate.pace.iteration

    for ranks in (1, 2):
        roomy, full = told(ranks, 64 * GIBIBYTE), told(ranks, least)
        assert roomy[0] == full[0]
        assert 1.5 * roomy[1] < full[1]


def test_little_memory_means_pieces_and_tiles():
    chosen = {"size": 640, "thickness": 48}
    roomy, tight = (scheduled(memory_gib=size, **chosen) for size in (1.5, 0.6))
    assert roomy.streamed
    assert tight.streamed
    assert tight.piece_slices is not None
    assert tight.piece_slices < 48
    assert tight.work_bytes < roomy.work_bytes
    assert "tiles of " in "\n".join(tight.lines())
    assert tight.estimate.tile is not None
    assert tight.estimate.wall_seconds > roomy.estimate.wall_seconds


def test_normalised_sirt_can_be_streamed():
    assert streamed(method="sirt", sirt_form="normalised", **LARGE).streamed


def test_what_fits_in_no_way_is_refused_with_both_figures():
    with pytest.raises(
        InputError, match=r"needs about .*iB of memory and --memory allows 205 MiB; .*needs about \d+ MiB"
    ):
        scheduled(memory_gib=0.2)
    with pytest.raises(InputError, match=r"iB of memory a rank and 100 MiB are free"):
        make_schedule(*arguments(), ranks=2, ranks_per_host=2, available_bytes=200 * MEBIBYTE)


def test_memory_is_divided_among_the_ranks_of_a_host():
    found = make_schedule(*arguments(), ranks=8, ranks_per_host=4, available_bytes=64 * GIBIBYTE)
    assert found.memory_limit_bytes == 16 * GIBIBYTE


def test_nothing_is_refused_where_the_system_does_not_tell(monkeypatch):
    monkeypatch.setattr("manyviews.tilt.cost.schedule.available_memory_bytes", lambda: None)
    monkeypatch.setattr("manyviews.tilt.plan.available_memory_bytes", lambda: None)
    found = scheduled(memory_gib=None, size=4096, thickness=1024)
    assert found.memory_limit_bytes is None
    assert not found.streamed


@pytest.mark.parametrize(
    ("layout", "ranks", "what"),
    [
        ("4x2", 4, "4x2 needs 8 ranks and there are 4"),
        ("1x25", 25, "1x25 divides 24 slices among 25 ranks"),
        ("two", 2, "no layout"),
    ],
)
def test_impossible_layouts_are_refused(layout, ranks, what):
    with pytest.raises(InputError, match=f"--layout.*{what}"):
        scheduled(ranks, layout=layout)


def test_gpus_take_whole_volumes_where_they_can():
    plan, geometry, stored = arguments(method="consensus", subsets=4)
    plan = replace(plan, device="cuda")

    def schedule(**chosen: object) -> Schedule:
        return make_schedule(plan, geometry, stored, ranks=8, ranks_per_host=8, **chosen)

    assert schedule().layout == Layout(4, 1)
    assert schedule().memory_limit_bytes is None
    assert schedule(layout="2x2").layout == Layout(2, 2)
    whole, halves = schedule().estimate.memory_bytes, schedule(layout="4x2").estimate.memory_bytes
    assert schedule(available_bytes=4 * (whole + halves)).layout == Layout(4, 2)
    too_small = schedule(available_bytes=8 * MEBIBYTE)
    assert too_small.layout.slabs == 8
    assert too_small.lines()[-1] == "only 1.0 MiB are free on a GPU, which may not suffice"
    with pytest.raises(InputError, match="a GPU cannot have its volumes in files"):
        schedule(memory_gib=0.1)


def test_gpus_share_the_views_of_methods_without_subsets():
    plan, geometry, stored = arguments()
    found = make_schedule(replace(plan, device="cuda"), geometry, stored, ranks=3, ranks_per_host=3)
    assert found.layout == Layout(3, 1)


def test_a_layout_that_was_given_is_kept():
    assert scheduled(4, layout="1x2").layout == Layout(1, 2)
    assert scheduled(4, layout="1x2").idle_ranks == 2
    found = streamed(2, layout="2x1", method="consensus", subsets=4, **LARGE)
    assert found.layout == Layout(2, 1)


def test_estimates_are_of_the_rank_that_needs_most():
    # three subsets for two groups: the first has two of them
    uneven = scheduled(2, layout="2x1", method="consensus", subsets=3, **LARGE).estimate
    even = scheduled(2, layout="2x1", method="consensus", subsets=2, **LARGE).estimate
    assert isinstance(uneven, Estimate)
    assert uneven.memory_bytes > even.memory_bytes
