import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyviews.errors import InputError
from manyviews.geometry.symmetry import symmetry_rotations

ORDERS = {
    "C1": 1,
    "C7": 7,
    "c10": 10,
    "C12": 12,
    "D2": 4,
    "D7": 14,
    "D11": 22,
    "T": 12,
    "O": 24,
    "I": 60,
    "I1": 60,
    "I2": 60,
    "I3": 60,
    "I4": 60,
}


def holds(group, rotation):
    return np.abs(group - rotation).max(axis=(1, 2)).min() < 1e-9


def turn(axis, fold):
    from scipy.spatial.transform import Rotation

    unit = np.asarray(axis) / np.linalg.norm(axis)
    return Rotation.from_rotvec(2 * np.pi / fold * unit).as_matrix()


@pytest.mark.parametrize("name", ORDERS)
def test_it_is_a_group_of_rotations(name):
    group = symmetry_rotations(name)
    assert len(group) == ORDERS[name]
    np.testing.assert_allclose(group[0], np.eye(3), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(group), 1)
    for element in group:
        assert holds(group, element.T)
    for element in group[:: max(1, len(group) // 6)]:
        products = element @ group
        distances = np.abs(products[:, None] - group[None]).max(axis=(2, 3))
        assert (distances.min(axis=1) < 1e-9).all()
        assert len(set(distances.argmin(axis=1))) == len(group)


@pytest.mark.parametrize(
    ("name", "axis", "fold"),
    [
        ("C10", [0, 0, 1], 10),
        ("D5", [1, 0, 0], 2),
        ("T", [0, 0, 1], 3),
        ("O", [1, 0, 0], 4),
        ("I", [0, 0, 1], 2),
        ("I", [0.525731114, 0, 0.850650807], 5),
        ("I2", [0, 0.356822076, 0.934172364], 3),
        ("I1", [1, 0, 0], 2),
        ("I1", [0.85065080702670, 0, -0.5257311142635], 5),
        ("I3", [0, 0, 1], 5),
        ("I3", [-0.5257311143, 0, 0.8506508070], 2),
        ("I4", [0, 0, 1], 5),
        ("I4", [0.5257311143, 0, 0.8506508070], 2),
    ],
)
def test_axes_are_where_relion_has_them(name, axis, fold):
    """As ``relion_refine --print_symmetry_ops`` of RELION 3.1.3 lists them."""
    group = symmetry_rotations(name)
    assert np.abs(group - turn(axis, fold)).max(axis=(1, 2)).min() < 1e-6


@pytest.mark.parametrize("name", ["", "C", "C0", "D0", "C-1", "C7x", "X3", "I5", "C1.5", "C999", "TT", "C１"])
def test_nonsense_is_refused_in_a_sentence(name):
    with pytest.raises(InputError, match="no point group"):
        symmetry_rotations(name)


@given(st.text(max_size=6))
def test_any_text_is_a_group_or_refused(name):
    try:
        group = symmetry_rotations(name)
    except InputError:
        return
    assert group.shape[1:] == (3, 3)
