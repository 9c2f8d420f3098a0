from dataclasses import replace

import numpy as np
import pytest

from manyviews.cli.main import main
from manyviews.errors import InputError
from manyviews.geometry.views import TiltGeometry
from manyviews.io.mrc import write_mrc
from manyviews.simulate.phantoms import Gaussians
from manyviews.tilt.check import check
from manyviews.tilt.options import ReconstructOptions, SeriesOptions

PIXEL = 4.0
TILTS = np.linspace(-60.0, 60.0, 13)
SHAPE = (30, 34)
PHANTOM = Gaussians.isotropic([1.0, 0.7], np.array([[6.0, -4, 2], [-8, 5, -2]]) * PIXEL, 1.5 * PIXEL)
OPTIONS = ReconstructOptions(thickness=12, device="cpu")


def series(folder, axes=(0.0, 90.0), tilts=TILTS, *, gain=None, pixel_size=PIXEL, shape=SHAPE, **more):
    stacks = []
    for number, axis in enumerate(axes):
        images = PHANTOM.project(TiltGeometry.from_tilt_axis(tilts, axis), shape, PIXEL)
        if gain is not None:
            images *= np.asarray(gain(number, len(tilts)), np.float32).reshape(-1, 1, 1)
        stacks.append(folder / f"s{number}.mrc")
        write_mrc(stacks[-1], images, pixel_size, is_volume=False)
        stacks[-1].with_suffix(".rawtlt").write_text("\n".join(map(str, tilts)))
    return SeriesOptions(stacks=tuple(stacks), axis_angle=tuple(axes), **more)


def warnings(data, options=OPTIONS):
    return "\n".join(check(data, options).warnings)


def test_a_sound_series_has_no_warnings(tmp_path):
    found = check(series(tmp_path), OPTIONS)
    assert found.warnings == ()
    assert found.lines()[-1] == "no warnings"
    assert found.thickness_given
    assert found.plan.volume_shape == (12, 30, 34)


def test_stacks_choices_and_what_was_overruled(tmp_path):
    lines = check(series(tmp_path, exclude=("2:3",)), OPTIONS).lines()
    text = "\n".join(lines)
    assert f"stack 1: {tmp_path / 's0.mrc'}" in lines
    assert "  13 sections of 34 x 30 pixels, mode 2 (float32)" in lines
    assert "  pixel size: 4 A, from header" in lines
    assert "  axis angle: 90 degrees, from option" in lines
    assert f"13 angles from -60 to 60, from {tmp_path / 's0.rawtlt'}" in text
    assert "  left out: section 3" in lines
    one = SeriesOptions(stacks=(tmp_path / "s0.mrc",), axis_angle=(0.0,), pixel_size=5.0)
    other = "\n".join(check(one, OPTIONS).lines())
    assert "pixel size: 5 A, from option" in other
    assert "overruled: header: 4" in other


def test_every_view_has_a_line(tmp_path):
    shifts = tmp_path / "shifts.txt"
    shifts.write_text("\n".join(["1.5 -2"] * len(TILTS)))
    lines = check(series(tmp_path, axes=(20.0,), shifts=(shifts,)), OPTIONS).lines()
    first = next(i for i, line in enumerate(lines) if line.lstrip().startswith("view  stack")) + 1
    rows = [line.split() for line in lines[first : first + len(TILTS)]]
    assert [int(row[0]) for row in rows] == [*range(1, 14)]
    assert [float(row[3]) for row in rows] == list(TILTS)
    assert {row[4] for row in rows} == {"20.00"}
    assert {(row[5], row[6]) for row in rows} == {("-6.00", "8.00")}
    assert {row[7] for row in rows} == {"s0.rawtlt"}


def test_groups_plan_and_cost(tmp_path):
    found = check(series(tmp_path, axes=(0.0, 30.0)), replace(OPTIONS, method="consensus"))
    assert found.groups == ((0.0, 13, False), (30.0, 13, True))
    text = "\n".join(found.lines())
    assert "2 tilt axes in the specimen" in text
    assert "30.000 degrees  13 views, slices are turned in their plane" in text
    assert "volume: 34 x 30 x 12 voxels of 4 A" in text
    assert "plan: method consensus, iterations 20" in text
    assert "memory: about" in text
    assert "time: about" in text
    assert "disk: up to" in text


def test_without_thickness_it_says_so(tmp_path, capsys, monkeypatch):
    data = series(tmp_path)
    found = check(data, replace(OPTIONS, thickness=0))
    assert not found.thickness_given
    assert found.pixels[0].startswith("the images show a specimen")
    assert f"is made {found.plan.volume_shape[0]} thick" in found.pixels[0]
    monkeypatch.setattr("manyviews.tilt.check.propose_thickness", lambda *_: None)
    found = check(data, replace(OPTIONS, thickness=0))
    assert found.plan.volume_shape[0] == 34 // 4
    assert not found.thickness_given
    assert "no --thickness was given" in found.warnings[0]
    words = ["tilt", "check", *map(str, data.stacks), "--axis-angle", "0", "90", "--device", "cpu"]
    assert main(words) == 0
    assert "a quarter of the width" in capsys.readouterr().out


def test_missing_wedge(tmp_path):
    assert "missing wedge of 80 degrees" in warnings(series(tmp_path, tilts=np.linspace(-60, 40, 21)))


def test_tilts_twice(tmp_path):
    assert "stack 1: some tilt angles occur twice" in warnings(series(tmp_path, tilts=[*TILTS, 0.0]))


def test_tilts_in_no_order(tmp_path):
    text = warnings(series(tmp_path, axes=(0.0,), tilts=TILTS[[6, 7, 5, 8, 4, 9, 3, 10, 2, 11, 1, 12, 0]]))
    assert "neither rise nor fall" in text
    assert "only 13 views" in text


@pytest.mark.parametrize(("axes", "near"), [((0.0, 8.0), True), ((86.0, -88.0), True), ((0.0, 45.0), False)])
def test_axes_near_each_other(axes, near, tmp_path):
    assert ("degrees apart" in warnings(series(tmp_path, axes=axes))) == near


def test_thin_volumes(tmp_path):
    data = series(tmp_path, axes=(0.0, 90.0), shape=(30, 90))
    assert "is --thickness in unbinned pixels?" in warnings(data, replace(OPTIONS, thickness=4))


def test_pixel_aspect(tmp_path):
    data = replace(series(tmp_path, pixel_size=(4.0, 4.4, 4.0)), pixel_size=4.0)
    assert "pixels are 4 A wide and 4.4 A high" in warnings(data)


def test_grey_levels(tmp_path):
    drifting = series(tmp_path, gain=lambda number, count: np.linspace(1.0, 1.4, count))
    text = warnings(drifting)
    assert "stack 1: grey levels drift by" in text
    assert "--normalise" in text
    assert "drift" not in warnings(drifting, replace(OPTIONS, normalise="statistics"))


def test_grey_levels_between_stacks(tmp_path):
    text = warnings(series(tmp_path, gain=lambda number, count: np.full(count, 1.0 + 0.5 * number)))
    assert "grey levels differ by" in text
    assert "drift by" not in text


def test_thickness_larger_than_memory_is_refused(tmp_path, monkeypatch):
    data = series(tmp_path)
    monkeypatch.setattr("manyviews.jobs.device.available_memory_bytes", lambda: 100 << 20)
    with pytest.raises(InputError, match="the reconstruction needs about"):
        check(data, OPTIONS)
    check(data, replace(OPTIONS, thickness=0))


def test_ranks_are_planned_for(tmp_path, capsys):
    data = series(tmp_path)
    options = replace(OPTIONS, method="consensus", subsets=2, memory=8.0)
    found = check(data, options, 4)
    assert str(found.schedule.layout) == "2x2"
    text = "\n".join(found.lines())
    assert "4 ranks as 2x2: 2 groups share the view subsets, each of 2 ranks" in text
    assert "a rank of 8.0 GiB that may be used" in text
    assert "ranks as" not in "\n".join(check(data, options).lines())
    assert check(data, replace(options, layout="1x3")).schedule.layout.ranks == 3
    with pytest.raises(InputError, match="1x3 needs 3 ranks and there are 2"):
        check(data, replace(options, layout="1x3"), 2)
    with pytest.raises(InputError, match="--ranks"):
        check(data, options, 0)
    words = ["tilt", "check", *map(str, data.stacks), "--axis-angle", "0", "90", "--device", "cpu"]
    assert main([*words, "--thickness", "12", "--ranks", "3", "--memory", "4"]) == 0
    assert "3 ranks as 1x3: each with a slab of 4 slices" in capsys.readouterr().out


def test_a_run_with_volumes_in_files_says_so(tmp_path):
    data = series(tmp_path, axes=(0.0,), shape=(400, 400))
    options = replace(OPTIONS, thickness=60, memory=64.0)
    needed = check(data, options).schedule.estimate.memory_bytes
    found = check(data, replace(options, memory=(needed - (40 << 20)) / (1 << 30)))
    assert found.schedule.streamed
    text = "\n".join(found.lines())
    assert "streamed: volumes in files" in text
    assert "scratch files and checkpoints included" in text


def test_what_priors_would_take_is_told_beside_cg_and_where_they_fit(tmp_path):
    data = series(tmp_path)
    found = check(data, OPTIONS)
    assert found.with_priors is not None
    assert found.with_priors.estimate.wall_seconds > found.schedule.estimate.wall_seconds
    assert sum("--method admm, with priors" in line for line in found.lines()) == 1
    other = check(data, replace(OPTIONS, method="sirt"))
    assert other.with_priors is None
    assert not any("--method admm" in line for line in other.lines())
    between = (found.schedule.estimate.memory_bytes + found.with_priors.estimate.memory_bytes) / 2
    tight = replace(OPTIONS, memory=between / 2**30)
    assert check(data, tight).with_priors is None
