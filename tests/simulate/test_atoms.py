import gzip
from pathlib import Path

import numpy as np
import pytest

from manyviews.errors import InputError
from manyviews.simulate.atoms import atoms_to_density, is_model_file, residue_gaussians

PIXEL = 2.0
SHAPE = (24, 28, 30)

# Two residues far from the origin, 12 angstrom apart along z and 3 along x.
MODEL = """\
REMARK 350 BIOMOLECULE: 1
REMARK 350 APPLY THE FOLLOWING TO CHAINS: A
REMARK 350   BIOMT1   1  1.000000  0.000000  0.000000        0.00000
REMARK 350   BIOMT2   1  0.000000  1.000000  0.000000        0.00000
REMARK 350   BIOMT3   1  0.000000  0.000000  1.000000        0.00000
REMARK 350   BIOMT1   2  1.000000  0.000000  0.000000        0.00000
REMARK 350   BIOMT2   2  0.000000  1.000000  0.000000       10.00000
REMARK 350   BIOMT3   2  0.000000  0.000000  1.000000        0.00000
ATOM      1  N   ALA A   1      50.000  60.000  70.000  1.00 20.00           N
ATOM      2  CA  ALA A   1      51.400  60.000  70.000  1.00 20.00           C
ATOM      3  N   GLY A   2      53.000  60.000  82.000  1.00 20.00           N
ATOM      4  CA  GLY A   2      54.400  60.000  82.000  1.00 20.00           C
ATOM      5  C   GLY A   2      54.400  61.400  82.000  1.00 20.00           C
END
"""


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.pdb"
    path.write_text(MODEL)
    return path


def centre_of(volume):
    z, y, x = np.indices(volume.shape)
    middle = np.array(volume.shape) // 2
    return np.array([np.average(index, weights=volume) for index in (z, y, x)]) - middle


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("53.000", "   nan", "atom 3, hydrogens not counted: a coordinate is not a number"),
        ("53.000", "   inf", "a coordinate is not a number from -100000 to 100000"),
        ("1.00 20.00           N", "1.00   nan           N", "atom 1, hydrogens not counted: a B factor"),
        ("1.00 20.00           C", " inf 20.00           C", "an occupancy"),
        ("1.00 20.00", "0.00 20.00", "no atom has an occupancy above zero"),
        ("          N", "          H", ""),
    ],
)
def test_models_with_impossible_numbers_are_refused(tmp_path, old, new, words):
    path = tmp_path / "bad.pdb"
    path.write_text(MODEL.replace(old, new))
    if words:
        with pytest.raises(InputError, match=words):
            atoms_to_density(path, SHAPE, PIXEL)
        with pytest.raises(InputError, match=words):
            residue_gaussians(path, blur_sigma=2.0)
    else:
        assert atoms_to_density(path, SHAPE, PIXEL).sum() > 0


def test_a_model_of_hydrogens_alone_is_refused(tmp_path):
    path = tmp_path / "hydrogens.pdb"
    lines = [line[:76] + " H" for line in MODEL.splitlines() if line.startswith("ATOM")]
    path.write_text("\n".join([*lines, "END", ""]))
    with pytest.raises(InputError, match="holds no atoms but hydrogens"):
        residue_gaussians(path, blur_sigma=2.0)


def test_density_is_centred_and_upright(model):
    volume = atoms_to_density(model, SHAPE, PIXEL)
    np.testing.assert_allclose(centre_of(volume), 0, atol=1e-2)
    upper, lower = volume[14:].copy(), volume[:11].copy()  # GLY (more mass) is at higher z and higher x
    assert upper.sum() > lower.sum()
    x = np.arange(SHAPE[2])
    assert (upper.sum((0, 1)) @ x) / upper.sum() > (lower.sum((0, 1)) @ x) / lower.sum()


def test_density_and_residue_gaussians_hold_the_same_mass(model):
    volume = atoms_to_density(model, SHAPE, PIXEL)
    mass = residue_gaussians(model, blur_sigma=2.0).mass().sum()
    assert volume.sum(dtype=np.float64) * PIXEL**3 == pytest.approx(mass, rel=2e-3)


def test_density_and_residue_gaussians_agree_when_blurred(model):
    resolution = 10.0
    volume = atoms_to_density(model, SHAPE, PIXEL, resolution=resolution, b_factor=0.0)
    gaussians = residue_gaussians(model, blur_sigma=resolution / (np.pi * np.sqrt(2)))
    approximate = gaussians.density(SHAPE, PIXEL)
    assert np.corrcoef(volume.ravel(), approximate.ravel())[0, 1] > 0.99


def test_higher_b_factor_flattens(model):
    sharp = atoms_to_density(model, SHAPE, PIXEL, b_factor=0.0)
    flat = atoms_to_density(model, SHAPE, PIXEL, b_factor=200.0)
    assert flat.max() < sharp.max()
    assert flat.sum() == pytest.approx(sharp.sum(), rel=1e-2)


def test_gzip_and_mmcif_read_alike(model, tmp_path):
    import gemmi

    zipped = tmp_path / "model.pdb.gz"
    zipped.write_bytes(gzip.compress(MODEL.encode()))
    cif = tmp_path / "model.cif"
    gemmi.read_structure(str(model)).make_mmcif_document().write_file(str(cif))
    expected = residue_gaussians(model, blur_sigma=2.0).centre
    for path in (zipped, cif):
        assert is_model_file(path)
        np.testing.assert_allclose(residue_gaussians(path, blur_sigma=2.0).centre, expected, atol=1e-3)
    assert not is_model_file(Path("stack.mrc"))


def test_bad_models_are_told_in_one_sentence(model, tmp_path):
    with pytest.raises(InputError, match="does not fit"):
        atoms_to_density(model, (4, 4, 4), PIXEL)
    with pytest.raises(InputError, match="resolution"):
        atoms_to_density(model, SHAPE, PIXEL, resolution=1.0)
    with pytest.raises(InputError, match="cannot be read"):
        residue_gaussians(tmp_path / "missing.pdb", blur_sigma=2.0)
    empty = tmp_path / "empty.pdb"
    empty.write_text("END\n")
    with pytest.raises(InputError, match="no atoms"):
        residue_gaussians(empty, blur_sigma=2.0)
