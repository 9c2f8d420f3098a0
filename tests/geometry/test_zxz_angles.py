"""Angles of other programs against their own formulas, written out, on beads without symmetry."""

from __future__ import annotations

import numpy as np
import pytest

from manyviews.geometry.poses import euler_to_matrices
from manyviews.geometry.zxz_angles import from_dynamo, from_motive_list, to_dynamo, to_motive_list

# An object that looks different from everywhere, points (x, y, z).
BEADS = np.array([[0.0, 0, 0], [9, 0, 0], [0, 5, 0], [0, 0, 3], [4, 4, -7]])
ANGLES = np.random.Generator(np.random.PCG64(7)).uniform(-180, 180, (200, 3)) * [1, 0.5, 1] + [0, 90, 0]


def about_z(degrees: float) -> np.ndarray:
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def about_x(degrees: float) -> np.ndarray:
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


def test_dynamo_turns_the_template_as_we_do():
    """Dynamo: the particle is brought to the reference by narot, tilt, tdrot, in this order of matrices."""
    for rot_tilt_psi, (tdrot, tilt, narot) in zip(ANGLES, to_dynamo(ANGLES), strict=True):
        to_reference = about_z(narot) @ about_x(tilt) @ about_z(tdrot)
        particle = BEADS @ euler_to_matrices(rot_tilt_psi).T  # A X of every bead
        np.testing.assert_allclose(particle @ to_reference.T, BEADS, atol=1e-12)


def test_a_motive_list_turns_the_reference_as_we_do():
    """TOM's tom_rotate(reference, [phi, psi, theta]): phi about z, then theta about x, then psi about z."""
    for rot_tilt_psi, (phi, psi, theta) in zip(ANGLES, to_motive_list(ANGLES), strict=True):
        turned = BEADS @ (about_z(psi) @ about_x(theta) @ about_z(phi)).T
        np.testing.assert_allclose(turned, BEADS @ euler_to_matrices(rot_tilt_psi).T, atol=1e-12)


def test_motive_lists_and_tables_agree_as_stopgap_says():
    """sg_motl_dynamo_to_stopgap: phi = -narot, the = -tilt, psi = -tdrot."""
    tdrot, tilt, narot = to_dynamo(ANGLES).T
    ours = euler_to_matrices(from_motive_list(np.stack([-narot, -tdrot, -tilt], axis=1)))
    np.testing.assert_allclose(ours, euler_to_matrices(ANGLES), atol=1e-12)


@pytest.mark.parametrize(
    ("there", "back"), [(to_dynamo, from_dynamo), (to_motive_list, from_motive_list)], ids=["dynamo", "motl"]
)
def test_there_and_back(there, back):
    np.testing.assert_allclose(back(there(ANGLES)), ANGLES, atol=1e-10)
    wild = np.array([[400.0, -30, 7], [-181, 200, 540]])
    np.testing.assert_allclose(
        euler_to_matrices(back(wild)), euler_to_matrices(back(there(back(wild)))), atol=1e-12
    )
    assert (np.abs(back(wild)[:, [0, 2]]) <= 180).all()
    assert (back(wild)[:, 1] >= 0).all()
    assert back(np.zeros(3)).shape == (3,)
