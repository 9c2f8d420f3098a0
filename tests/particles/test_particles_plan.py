"""Every default resolved, every impossible wish refused in a sentence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from manyviews.errors import InputError
from manyviews.particles.options import AbinitioOptions, ParticleOptions
from manyviews.particles.plan import load_table, resolve_plan

OPTIONS = AbinitioOptions()


def settled(count=2000, box=64, pixel_size=4.0, **changes):
    return resolve_plan(replace(OPTIONS, **changes), count, box, pixel_size)


def test_what_is_left_out():
    made = settled()
    assert made.diameter == pytest.approx(0.8 * 256)
    assert made.shift_sigma == pytest.approx(256 / 40)
    assert made.radius == 31
    assert made.em.filled == pytest.approx(0.8)
    assert made.em.particles == 2000
    assert made.device == "cpu"
    assert made.iterations == made.em.iterations
    assert settled(method="sagd", iterations=77).iterations == 77


@pytest.mark.parametrize(("resolution", "radius"), [(None, 31), (8.0, 31), (16.0, 16), (17.0, 15), (60.0, 4)])
def test_resolution_is_a_radius(resolution, radius):
    assert settled(resolution=resolution).radius == settled(resolution=resolution).em.most_radius == radius


def test_a_batch_is_no_larger_than_the_data():
    assert settled(count=60, batch=200).em.batch == 60


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"count": 10}, "10 images of 64 pixels are too little"),
        ({"box": 12}, "images of 12 pixels"),
        ({"diameter": 300.0}, "does not go with a box of 256"),
        ({"diameter": 5.0}, "does not go with a box of 256"),
        ({"diameter": float("nan")}, "--diameter: nan is not a number"),
        ({"shift_sigma": 0.0}, "shifts of 0 angstrom"),
        ({"shift_sigma": 100.0}, "shifts of 100 angstrom"),
        ({"shift_sigma": float("nan")}, "--shift-sigma: nan is not a number"),
        ({"resolution": 5.0}, "do not reach 5 angstrom"),
        ({"resolution": float("nan")}, "--resolution: nan is not a number"),
        ({"resolution": 100.0}, "leaves nothing to see"),
        ({"starts": 0}, "--starts: 0 is too small; give a whole number from 1 on"),
        ({"batch": 0}, "--batch: 0 is too small"),
        ({"refinements": -1}, "--refinements: -1 is too small"),
        ({"iterations": 0, "method": "sagd"}, "--iterations: 0 is too small"),
        ({"prior_strength": -1.0, "method": "sagd"}, "--prior-strength: -1 is too small"),
        ({"threads": -1}, "--threads: -1 is too small"),
        ({"memory": 0.0}, "--memory: 0 is too small; give a number above 0"),
        ({"method": "guess"}, "--method: 'guess' is no method; choose from stochastic-em, sagd"),
    ],
)
def test_impossible_wishes(changes, words):
    with pytest.raises(InputError, match=words):
        settled(**changes)


@pytest.mark.parametrize(
    ("method", "other", "options"),
    [
        (
            "sagd",
            "stochastic-em",
            {"symmetry": "D2", "refinements": 5, "allow_negative": True, "independent_halves": True},
        ),
        (
            "stochastic-em",
            "sagd",
            {"schedule": "quick", "iterations": 5, "prior": "car", "prior_strength": 2.0},
        ),
    ],
)
def test_options_that_the_method_lacks_are_refused(method, other, options):
    settled(method=other, **options)
    for name, value in options.items():
        flag = "--" + name.replace("_", "-")
        sentence = f"{flag}: {method} has no such option; leave it out, or use --method {other}"
        with pytest.raises(InputError, match=sentence):
            settled(method=method, **{name: value})


def test_a_point_group_in_small_letters_is_the_same():
    assert settled(method="sagd", symmetry="c1").options.symmetry == "c1"


def test_what_changes_the_result_is_on_record():
    record = settled(threads=3, memory=2.0, seed=9).record()
    assert record["seed"] == 9
    assert record["radius"] == 31
    assert record["device"] == "cpu"
    assert not {"threads", "memory", "scratch"} & set(record)
    assert settled(reference=Path("map.mrc")).record()["reference"] == "map.mrc"
    assert {"refinements", "symmetry"} <= set(record)
    assert not {"schedule", "prior", "prior_strength", "iterations"} & set(record)
    assert {"prior", "prior_strength", "schedule"} <= set(settled(method="sagd").record())
    assert "refinements" not in settled(method="sagd").record()


@pytest.mark.parametrize("there", [False, True])
def test_devices(monkeypatch, there):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert settled(device="auto").device == ("cuda" if there else "cpu")
    assert settled(device="auto", method="sagd").device == "cpu"
    if there:
        assert settled(device="cuda").device == settled(device="cuda").record()["device"] == "cuda"
    else:
        with pytest.raises(InputError, match="no usable CUDA device was found"):
            settled(device="cuda")
    with pytest.raises(InputError, match="sagd runs on the CPU"):
        settled(device="cuda", method="sagd")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (ParticleOptions(Path("a.cs"), dark_protein=True), "tells contrast and pixel size itself"),
        (ParticleOptions(Path("a.CS"), pixel_size=1.0), "tells contrast and pixel size itself"),
        (ParticleOptions(Path("a.star"), passthrough=Path("b.cs")), "--passthrough is for cryoSPARC"),
        (ParticleOptions(Path("nowhere.star")), r"nowhere\.star"),
        (ParticleOptions(Path("nowhere.cs")), r"nowhere\.cs"),
    ],
)
def test_files_and_options_that_do_not_go_together(options, words):
    with pytest.raises(InputError, match=words):
        load_table(options)
