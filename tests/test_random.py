"""Streams of random numbers: apart from each other, and the same for ever."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyviews.options import SEEDS
from manyviews.random import Stream, generator

# A number here is never changed, or all results of its stream change. New streams are added.
NUMBERS = {
    "TEST": 0, "DOT_TEST": 1, "EIGENVALUE": 2, "KERNEL_PLACES": 3, "SYMMETRY_AXES": 4,
    "CELL": 10, "GAUSSIANS": 11, "ELLIPSOIDS": 12, "MOLECULES": 13, "COMPLEX": 14,
    "GREY_LEVELS": 20, "MISALIGNMENT": 21, "TILT_NOISE": 22, "TILT_DEFOCUS": 23, "SPOILED_VIEWS": 24,
    "POSES": 30, "SHIFTS": 31, "DEFOCUS": 32, "PARTICLE_NOISE": 33,
    "SUBTOMOGRAM_POSES": 34, "SUBTOMOGRAM_SHIFTS": 35, "SUBTOMOGRAM_NOISE": 36,
    "SUBTOMOGRAM_START": 60, "SUBTOMOGRAM_PARTS": 61,
    "START_MAP": 40, "START_POWER": 41, "START_STEP": 42, "START_BATCHES": 43, "START_SCORE": 44,
    "REFINEMENT": 45, "IMAGE_SIGNS": 46, "HALF_START": 47, "HALVES_PASS": 48, "EVIDENCE_VIEWS": 49,
    "SAGD_BATCHES": 50, "SAGD_ORDER": 51, "SAGD_DRAWS": 52, "SAGD_POSES": 53, "HALVES_BATCHES": 54,
    "PSGD_ORDER": 55, "PSGD_PROBES": 56, "PROBES": 57, "LANCZOS": 58,
    "SCAN_SPECIMEN": 80, "SCAN_DEFORMATION": 81, "SCAN_MOTION": 82, "SCAN_COUNTS": 83,
    "SCAN_BACKGROUND": 84, "SCAN_BEAM": 85, "INJECTED_MOTION": 86,
    "NOISE_IMAGES": 89, "FSC_PHASES": 90, "HALVES": 91,
}  # fmt: skip

STREAMS = st.tuples(
    st.one_of(st.integers(0, 3), st.integers(0, SEEDS - 1), st.sampled_from([2**32, 2**32 + 1, SEEDS - 1])),
    st.sampled_from(Stream),
    st.lists(st.one_of(st.integers(0, 3), st.integers(0, 2**32 - 1)), max_size=5),
)


def numbers(seed: int, stream: Stream, *keys: int) -> tuple[int, ...]:
    """Two raw words of a stream: 128 bits that no two streams share by chance."""
    return tuple(generator(seed, stream, *keys).bit_generator.random_raw(2).tolist())


def test_every_stream_keeps_its_number():
    assert {stream.name: stream.value for stream in Stream} == NUMBERS


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((0, Stream.TEST), (17394127715520444142, 5835390491061343638)),
        ((0, Stream.TEST, 0), (10424841047235941500, 17255695675875941810)),
        ((5, Stream.CELL), (7655060746985502225, 5210689022408309242)),
        ((1, Stream.TILT_NOISE, 0, 17), (10121103312477545157, 15267302469787941111)),
        ((SEEDS - 1, Stream.SAGD_DRAWS, 2, 640, 4999), (9761387844583804009, 14482419596745649972)),
        ((3, Stream.REFINEMENT, 1), (10929966864018400614, 12194556943673674823)),
    ],
)
def test_numbers_stay_what_they_are(arguments, words):
    assert numbers(*arguments) == words


def test_no_two_streams_of_small_seeds_and_keys_coincide():
    keys = [keys for length in range(4) for keys in product(range(4), repeat=length)]
    every = {numbers(seed, stream, *k) for seed, stream, k in product(range(5), Stream, keys)}
    assert len(every) == 5 * len(Stream) * len(keys)


@given(one=STREAMS, other=STREAMS)
def test_streams_coincide_only_where_they_are_the_same(one, other):
    same = one == other
    assert (numbers(one[0], one[1], *one[2]) == numbers(other[0], other[1], *other[2])) == same


@given(stream=STREAMS, extra=st.lists(st.integers(0, 2), min_size=1, max_size=3))
def test_more_keys_are_another_stream(stream, extra):
    seed, name, keys = stream
    assert numbers(seed, name, *keys) == numbers(seed, name, *keys)
    assert numbers(seed, name, *keys) != numbers(seed, name, *keys, *extra)


@pytest.mark.parametrize(("seed", "keys"), [(-1, ()), (SEEDS, ()), (0, (-1,)), (0, (0, 2**32))])
def test_what_could_coincide_is_refused(seed, keys):
    with pytest.raises(ValueError, match="from 0 on and below"):
        generator(seed, Stream.TEST, *keys)
