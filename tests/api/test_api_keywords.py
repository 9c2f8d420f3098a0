"""From keywords to options: what is taken, refused and shown, and the command that does the same."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest

import manyviews as mv
from manyviews.api.keywords import build_options, command_line
from manyviews.errors import InputError
from manyviews.options import RunOptions
from manyviews.tilt.options import ReconstructOptions, SeriesOptions

KINDS = (SeriesOptions, ReconstructOptions, RunOptions)


def build(**given):
    return build_options({"out": "run", **given}, *KINDS)


def test_one_value_or_several_texts_or_paths_numbers_of_python_or_numpy():
    series, how, run = build(
        stacks="a.mrc",
        tilt_angles=[Path("a.tlt"), "b.tlt"],
        axis_angle=np.array([0, 90]),
        exclude="1,4-6",
        thickness=np.int32(20),
        relaxation=np.float32(0.5),
        non_negative=np.bool_(True),
        memory=None,
        method="sirt",
    )
    assert series == SeriesOptions(
        stacks=(Path("a.mrc"),),
        tilt_angles=(Path("a.tlt"), Path("b.tlt")),
        axis_angle=(0.0, 90.0),
        exclude=("1,4-6",),
    )
    assert how == ReconstructOptions(thickness=20, relaxation=0.5, non_negative=True, method="sirt")
    assert run == RunOptions(Path("run"))
    assert {type(angle) for angle in series.axis_angle} == {float}
    assert type(how.thickness) is int
    assert build(axis_angle=90)[0].axis_angle == (90.0,)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"iteration": 3}, "there is no option 'iteration'; did you mean 'iterations'?"),
        ({"axis_angles": 3}, "there is no option 'axis_angles'; did you mean 'axis_angle'?"),
        ({"command": ("x",)}, "there is no option 'command'"),
        ({"zzz": 3}, "there is no option 'zzz'; choose from stacks, tilt_angles"),
        ({"method": "consenus"}, "option method: there is no 'consenus'; did you mean 'consensus'?"),
        ({"method": 3}, "option method: there is no 3; choose from wbp"),
        ({"method": np.zeros(2)}, "option method: there is no array"),
        ({"iterations": 2.5}, "option iterations: 2.5 is not a whole number"),
        ({"iterations": True}, "option iterations: True is not a whole number"),
        ({"thickness": None}, "option thickness: None is not a whole number"),
        ({"relaxation": float("nan")}, "option relaxation: nan is not a number"),
        ({"axis_angle": (0, "90")}, "option axis_angle: '90' is not a number"),
        ({"tilt_angles": np.linspace(-60, 60, 3)}, r"option tilt_angles: .*-60.* is not the path of a file"),
        ({"non_negative": 1}, "option non_negative: 1 is not True or False"),
        ({"layout": 4}, "option layout: 4 is not a text"),
    ],
)
def test_what_is_refused(given, said):
    with pytest.raises(InputError, match=said.replace("?", r"\?")):
        build(**given)


def test_help_shows_every_option_and_its_default():
    shown = inspect.signature(mv.reconstruct).parameters
    assert list(shown)[:4] == ["stacks", "geometry", "out", "thickness"]
    assert shown["method"].default == "cg"
    assert {"options", "command"}.isdisjoint(shown)
    assert inspect.signature(mv.abinitio).parameters["refinements"].default == 8
    assert inspect.signature(mv.read_tilt_series).parameters["pixel_size"].default is None


def test_the_command_that_does_the_same():
    given = {
        "stacks": ["a.mrc", "b.mrc"],
        "out": "run",
        "axis_angle": (0, -12.5),
        "tilt_offset": 1,
        "non_negative": True,
        "invert_contrast": False,
        "memory": None,
        "checkpoint_seconds": 0,
    }
    assert " ".join(command_line("tilt reconstruct", "stacks", build_options(given, *KINDS), given)) == (
        "manyviews tilt reconstruct a.mrc b.mrc --out run --axis-angle 0.0 -12.5 --tilt-offset 1.0"
        " --non-negative"
    )
