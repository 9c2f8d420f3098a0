"""The phases of an alignment, of one series and of several."""

from manyviews.tilt.align.expected import expected_phases
from manyviews.tilt.align.plan import AlignPlan, LevelPlan

LEVELS = tuple(LevelPlan(bin, (8, 8, 8), steps) for bin, steps in ((8, 6), (4, 10), (2, 6)))


def plan(**changed):
    known = {
        "thickness": 64, "levels": LEVELS, "coarse_bin": 4, "axis_search": 8.0, "keep_axis": False,
        "rotation": "auto", "keep_views": False, "remove_outliers": True, "aligned_stacks": False,
        "pixel_size": 8.0,
    }  # fmt: skip
    return AlignPlan(**{**known, **changed})


def test_stages_of_several_series_are_in_their_order():
    names = [name for name in expected_phases(plan(), [61, 61], (256, 256)) if not name.startswith("after")]
    assert names == [
        "placing stack 1", "stack-1-bin-8", "stack-1-bin-4",
        "placing stack 2", "stack-2-bin-8", "stack-2-bin-4", "all-bin-4", "all-bin-2",
    ]  # fmt: skip


def test_a_finer_level_takes_longer_and_the_end_is_counted():
    found = expected_phases(plan(), [61], (256, 256))
    assert found["bin-2"].work > 1.5 * found["bin-4"].work > 0
    assert found["after bin-2"].work > 0
    assert found["after bin-4"].work > 0  # the scan of the axis
    kept = expected_phases(plan(keep_axis=True, rotation="never"), [61], (256, 256))
    assert 0 < kept["after bin-4"].work < found["after bin-4"].work  # the next level begins
    assert 0 < kept["after bin-2"].work < found["after bin-2"].work
