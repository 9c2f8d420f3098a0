"""Whatever happens to the files of a checkpoint, what is loaded is what was saved, or nothing."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fake_world import in_layout
from manyviews.parallel.layout import Layout
from manyviews.runs.checkpoint import load_checkpoint, save_checkpoint
from manyviews.runs.placement import Placement

STATE = {
    "volume": np.arange(60, dtype=np.float32).reshape(5, 4, 3),
    "states.length": 2,
    "states.0": np.ones((5, 4, 3), np.float32),
    "states.1": np.zeros((5, 4, 3), np.float32),
    "random": np.arange(9, dtype=np.uint8),
    "step": 0.1,
    "name": "toy",
}
FIELDS = {"slabs": frozenset({"volume", "states"}), "of_agents": frozenset({"states"})}
ALONE = replace(Placement.alone(), **FIELDS)
FILES = (
    "manifest.json",
    "state.json",
    "parts.sha256",
    "volume.npy",
    "states.0.npy",
    "states.1.npy",
    "random.npy",
)
QUICK = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SELDOM = settings(QUICK, max_examples=40)

scalars = st.none() | st.booleans() | st.integers(-2, 1 << 80) | st.floats() | st.text(max_size=8)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
)


@pytest.fixture
def folder(tmp_path):
    save_checkpoint(tmp_path, STATE, 3, placement=ALONE)
    return tmp_path / "checkpoint/main-000003"


def assert_state_or_nothing(run):
    said = []
    found = load_checkpoint(run, said.append, placement=ALONE)
    if found is None:
        assert len(said) == 1
        assert said[0].startswith("checkpoint main-000003 is damaged and passed over: ")
        return
    state, iteration = found
    assert iteration == 3
    assert state.keys() == STATE.keys()
    for name, value in STATE.items():
        assert np.array_equal(state[name], value)
        assert type(state[name]) is type(value)


def changed(data, at, new, mode):
    at = at % (len(data) + 1)
    return data[:at] + new + (data[at + len(new) :] if mode == "over" else data[at:] if mode == "in" else b"")


@QUICK
@given(
    name=st.sampled_from(FILES),
    at=st.integers(0, 1 << 20),
    new=st.binary(max_size=6),
    mode=st.sampled_from(["over", "in", "cut"]),
)
def test_changed_bytes(folder, name, at, new, mode):
    before = (folder / name).read_bytes()
    (folder / name).write_bytes(changed(before, at, new, mode))
    assert_state_or_nothing(folder.parents[1])
    (folder / name).write_bytes(before)


@QUICK
@given(data=st.binary(max_size=300) | values.map(lambda value: json.dumps(value).encode()))
def test_any_manifest(folder, data):
    before = (folder / "manifest.json").read_bytes()
    (folder / "manifest.json").write_bytes(data)
    assert load_checkpoint(folder.parents[1], placement=ALONE) is None
    (folder / "manifest.json").write_bytes(before)


def places(tree, path=()):
    yield path
    children = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, child in children:
        yield from places(child, (*path, key))


@QUICK
@given(data=st.data(), value=values)
def test_any_value_in_the_manifest(folder, data, value):
    before = (folder / "manifest.json").read_bytes()
    manifest = json.loads(before)
    *way, last = data.draw(st.sampled_from([path for path in places(manifest) if path]))
    table = manifest
    for key in way:
        table = table[key]
    table[last] = value
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert_state_or_nothing(folder.parents[1])
    (folder / "manifest.json").write_bytes(before)


@SELDOM
@given(
    name=st.sampled_from(FILES), at=st.integers(0, 1 << 20), bit=st.integers(0, 7), slabs=st.integers(1, 3)
)
def test_all_ranks_agree_about_damage(folder, name, at, bit, slabs):
    before = (folder / name).read_bytes()
    data = bytearray(before)
    data[at % len(data)] ^= 1 << bit
    (folder / name).write_bytes(data)
    found = in_layout(
        Layout(2, slabs),
        lambda place: load_checkpoint(
            folder.parents[1], placement=replace(Placement.at(place, 5, 2), **FIELDS)
        ),
    )
    assert found == [None] * len(found)
    (folder / name).write_bytes(before)
