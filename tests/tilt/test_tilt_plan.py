import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from manyviews.errors import InputError
from manyviews.geometry.views import TiltGeometry
from manyviews.tilt import plan
from manyviews.tilt.options import METHODS, ReconstructOptions
from manyviews.tilt.plan import resolve_plan


def source(axes=2, tilts=40, shape=(20, 24), pixel_size=6.0, field=None, thickness=None):
    """What `settle` looks at of an image source."""
    geometry = TiltGeometry.concatenate(
        [TiltGeometry.from_tilt_axis(np.linspace(-60, 60, tilts), 45.0 * k, series=k) for k in range(axes)]
    )
    series = SimpleNamespace(field_shape=field or shape, thickness=thickness)
    return SimpleNamespace(
        shape=(len(geometry), *shape), pixel_size=pixel_size, binned_geometry=geometry, series=series
    )


def settled(images=None, **options):
    return resolve_plan(
        ReconstructOptions(**{"thickness": 8, "device": "cpu", **options}), images or source()
    )


@pytest.mark.parametrize(
    ("method", "iterations", "inner", "subsets", "overlap", "order"),
    [
        ("wbp", 1, 1, 2, 0, "interleaved"),
        ("sirt", 100, 1, 2, 0, "interleaved"),
        ("cg", 15, 1, 2, 0, "interleaved"),
        ("direct-combine", 100, 1, 2, 0, "interleaved"),
        ("wang2020", 10, 10, 20, 2, "adjacent"),
        ("consensus", 20, 3, 2, 0, "interleaved"),
    ],
)
def test_defaults_of_a_method(method, iterations, inner, subsets, overlap, order):
    found = settled(method=method)
    assert found.iterations == iterations
    assert found.inner_iterations == inner
    assert found.subsets == subsets
    assert found.overlap == overlap
    assert found.subset_order == order
    assert found.mann == 0.8


@pytest.mark.parametrize(
    ("method", "axes", "tilts", "subsets"),
    [
        ("wang2020", 4, 121, 32),
        ("wang2020", 1, 3, 1),
        ("consensus", 1, 61, 4),
        ("consensus", 1, 9, 2),
        ("consensus", 1, 3, 1),
        ("consensus", 4, 61, 4),
        ("direct-combine", 1, 61, 1),
        ("direct-combine", 4, 61, 4),
    ],
)
def test_default_subsets(method, axes, tilts, subsets):
    assert settled(source(axes, tilts), method=method).subsets == subsets


@pytest.mark.parametrize(
    "given",
    [
        {
            "method": "consensus", "iterations": 7, "inner_iterations": 5, "subsets": 6, "overlap": 1,
            "mann": 0.5, "subset_order": "adjacent", "damping": 0.2, "normal": "exact", "non_negative": True,
            "total_variation": 0.1, "smoothness": 0.3, "normalise": "background", "invert_contrast": True,
            "threads": 2,
        },
        {"method": "sirt", "relaxation": 0.9, "sirt_form": "normalised", "non_negative": True},
        {"method": "cg", "refresh": 0, "damping": 0.0},
    ],
    ids=lambda given: given["method"],
)  # fmt: skip
def test_what_is_given_wins(given):
    found = settled(**given)
    assert {name: getattr(found, name) for name in given} == given


def test_zero_is_not_left_out():
    assert settled(method="wang2020", overlap=0).overlap == 0


def test_sizes_after_binning():
    found = settled(source(shape=(10, 12), pixel_size=12.0, field=(20, 25)), thickness=9, bin=2)
    assert found.volume_shape == (4, 10, 12)
    assert found.pixel_size == 12.0


def test_record_holds_every_setting_but_those_of_the_machine_and_of_other_methods():
    every = set()
    for method in METHODS:
        found = settled(method=method)
        record = found.record()
        assert record["method"] == method
        assert record["volume_shape"] == [8, 20, 24]
        every |= set(record)
    assert every == {field.name for field in dataclasses.fields(found)} - {"threads"}
    subsets = {"subsets", "overlap", "subset_order", "mann", "relaxation", "sirt_form", "inner_iterations"}
    assert not subsets & set(settled(method="cg").record())
    assert {"refresh", "damping", "iterations"} <= set(settled(method="cg").record())
    assert "iterations" not in settled(method="wbp").record()
    assert subsets - {"sirt_form"} <= set(settled(method="wang2020").record())


def test_a_thickness_comes_from_the_alignment_where_none_is_given():
    assert settled(source(thickness=30), thickness=0, bin=2).volume_shape[0] == 15
    assert settled(source(thickness=30), thickness=8).volume_shape[0] == 8
    with pytest.raises(InputError, match="--thickness: the thickness of the volume is not known"):
        settled(thickness=0)


def test_the_volume_is_as_wide_and_high_as_the_field_of_view_or_as_told():
    assert settled(source(shape=(20, 24), field=(24, 20))).volume_shape == (8, 24, 20)
    assert settled(source(field=(24, 20)), volume_size=(40, 31), bin=2).volume_shape == (4, 15, 20)
    for size in ((40,), (40, 0), (1, 2, 3)):
        with pytest.raises(InputError, match="--volume-size"):
            settled(volume_size=size)


@pytest.mark.parametrize("thickness", [-3, 1])
def test_a_volume_without_slices_is_refused(thickness):
    with pytest.raises(
        InputError, match=rf"--thickness: a thickness of {thickness} pixels .* binning by 2; give"
    ):
        settled(thickness=thickness, bin=2)


METHOD_WITH = {"relaxation": "sirt", "refresh": "cg"}


@pytest.mark.parametrize("options", [
    {"iterations": 0}, {"iterations": -1}, {"inner_iterations": 0}, {"bin": 0},
    {"mann": 0.0}, {"mann": 1.0}, {"mann": float("nan")},
    {"relaxation": 0.0}, {"relaxation": 2.0}, {"relaxation": -0.1}, {"relaxation": float("nan")},
    {"overlap": -1}, {"tolerance": -1.0}, {"tolerance": float("nan")}, {"refresh": -1}, {"threads": -1},
    {"damping": -0.1}, {"damping": float("nan")}, {"damping": float("inf")},
    {"total_variation": -1.0}, {"total_variation": float("nan")}, {"smoothness": -1.0},
    {"smoothness": float("inf")}, {"memory": 0.0}, {"memory": float("inf")},
])  # fmt: skip
def test_numbers_out_of_range_are_refused_by_name(options):
    (name,) = options
    with pytest.raises(InputError) as caught:
        settled(**{"method": METHOD_WITH.get(name, "consensus"), **options})
    assert caught.value.where == "--" + name.replace("_", "-")
    assert caught.value.fix is not None


WITH_PRIOR = {"total_variation": ("admm", "consensus"), "smoothness": ("consensus",)}


@pytest.mark.parametrize(
    ("asked", "chosen"),
    [
        ({}, "auto"),
        ({"prior": "auto", "non_negative": True}, "auto"),
        ({"total_variation": 0.5}, "auto"),
        ({"total_variation": 0.5, "non_negative": True}, "none"),
        ({"prior": "none"}, "none"),
    ],
)
def test_data_choose_what_the_user_leaves_open(asked, chosen):
    plan = settled(method="admm", **asked)
    assert plan.prior == chosen
    assert plan.total_variation == asked.get("total_variation", 0.0)


def test_only_admm_chooses_priors():
    assert settled(method="consensus").prior == "none"
    with pytest.raises(InputError, match=r"--prior: consensus has no such option; .* --method admm"):
        settled(method="consensus", prior="auto")


def test_an_unknown_method_is_refused():
    with pytest.raises(InputError, match="--method: 'magic' is no method; choose from wbp, sirt, cg"):
        settled(method="magic")


@pytest.mark.parametrize(
    ("prior", "method"),
    [(name, method) for name, having in WITH_PRIOR.items() for method in METHODS if method not in having],
)
def test_priors_belong_to_some_methods(prior, method):
    flag = "--" + prior.replace("_", "-")
    methods = " or ".join(WITH_PRIOR[prior])
    sentence = f"{flag}: {method} has no such option; leave it out, or use --method {methods}$"
    with pytest.raises(InputError, match=sentence):
        settled(method=method, **{prior: 0.1})


@pytest.mark.parametrize("method", METHODS)
def test_who_can_keep_voxels_non_negative(method):
    if method in {"sirt", "admm", "consensus"}:
        assert settled(method=method, non_negative=True).non_negative
    else:
        with pytest.raises(InputError, match=f"--non-negative: {method} has no such option; .* sirt or"):
            settled(method=method, non_negative=True)


@pytest.mark.parametrize("method", ["direct-combine", "wang2020", "consensus"])
@pytest.mark.parametrize("subsets", [0, 81])
def test_impossible_subsets_are_refused(method, subsets):
    with pytest.raises(InputError, match=f"--subsets: 80 views cannot be divided into {subsets} subsets"):
        settled(method=method, subsets=subsets)


def test_devices(monkeypatch):
    assert settled(device="cpu").device == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert settled(device="auto").device == "cpu"
    with pytest.raises(InputError, match="--device: no usable CUDA device was found"):
        settled(device="cuda")


def test_a_volume_larger_than_memory_and_disk_is_refused(monkeypatch):
    monkeypatch.setattr(plan, "free_disk_bytes", lambda folder: 4 * 8 * 20 * 24)
    monkeypatch.setattr(plan, "available_memory_bytes", lambda: 8 * 8 * 20 * 24)
    settled()
    monkeypatch.setattr(plan, "available_memory_bytes", lambda: 8 * 8 * 20 * 24 - 1)
    with pytest.raises(InputError, match="--thickness: a volume of 24 x 20 x 8 voxels needs at least"):
        settled()


def test_memory_that_cannot_be_told_is_no_obstacle(monkeypatch):
    monkeypatch.setattr(plan, "available_memory_bytes", lambda: None)
    settled()


@pytest.mark.parametrize(
    ("method", "option"),
    [
        ("cg", {"subsets": 4}),
        ("sirt", {"damping": 0.5}),
        ("wbp", {"mann": 0.5}),
        ("direct-combine", {"inner_iterations": 2}),
        ("sirt", {"overlap": 0}),
        ("cg", {"subset_order": "adjacent"}),
        ("cg", {"relaxation": 0.5}),
        ("consensus", {"relaxation": 0.5}),
        ("wang2020", {"sirt_form": "normalised"}),
        ("sirt", {"refresh": 0}),
    ],
)
def test_options_of_other_methods_are_refused(method, option):
    flag = "--" + next(iter(option)).replace("_", "-")
    with pytest.raises(InputError, match=f"{flag}: {method} has no such option"):
        settled(method=method, **option)
