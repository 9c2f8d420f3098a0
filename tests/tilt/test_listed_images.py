"""Tilt images that are a file each give the same volume as their stack."""

import shutil

import numpy as np
import pytest

from manyviews.cli.main import main
from manyviews.geometry.views import TiltGeometry
from manyviews.io.mrc import read_mrc, write_mrc
from manyviews.io.tilt_stack import open_stack
from manyviews.simulate.phantoms import Gaussians
from manyviews.tilt.series import resolve

PIXEL = 4.0
TILTS = np.array([0.0, 15.0, -15.0, 30.0, -30.0, 45.0, -45.0])  # as they were taken
BEADS = np.array([[6.0, -4.0, 2.0], [-8.0, 5.0, -2.0]])  # x, y, z in voxels
PHANTOM = Gaussians.isotropic([1.0, 0.7], BEADS * PIXEL, 1.5 * PIXEL)
NAMES = [f"TS_{i:03d}_{tilt:.1f}" for i, tilt in enumerate(TILTS)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Seven images, each a file, and the same as one stack in the order of the angles."""
    monkeypatch.setattr(resolve, "MrcStack", open_stack, raising=False)
    monkeypatch.chdir(tmp_path)
    images = PHANTOM.project(TiltGeometry.from_tilt_axis(TILTS), (30, 34), PIXEL).astype(np.float32)
    for name, image in zip(NAMES, images, strict=True):
        write_mrc(f"{name}.mrc", image, PIXEL, is_volume=False)
    order = np.argsort(TILTS)
    write_mrc("stack.mrc", images[order], PIXEL, is_volume=False)
    np.savetxt("stack.rawtlt", TILTS[order], "%.1f")
    return tmp_path


LISTS = {
    "list.txt": "".join(f"{name}.mrc {tilt}\n" for name, tilt in zip(NAMES, TILTS, strict=True)),
    "TS.mdoc": "PixelSpacing = 4.0\n\n[T = Tilt axis angle = 0.0]\n\n"
    + "".join(
        f"[ZValue = {i}]\nTiltAngle = {tilt}\nSubFramePath = D:\\x\\{name}.eer\n\n"
        for i, (name, tilt) in enumerate(zip(NAMES, TILTS, strict=True))
    ),
}


def reconstruct(stack, out):
    words = ["tilt", "reconstruct", stack, "--thickness", "12", "--iterations", "3", "--device", "cpu"]
    return main([*words, "--threads", "1", "--out", out])


@pytest.mark.usefixtures("no_page")
@pytest.mark.parametrize("name", LISTS)
def test_a_list_gives_the_volume_of_its_stack(folder, name, capsys):
    (folder / name).write_text(LISTS[name])
    assert reconstruct("stack.mrc", "whole") == 0
    assert reconstruct(name, "listed") == 0
    whole, listed = (read_mrc(f"{out}/volume.mrc")[0] for out in ("whole", "listed"))
    assert np.abs(listed - whole).max() < 1e-4 * np.abs(whole).max()  # sums in another order
    brightest = np.array(np.unravel_index(listed.argmax(), listed.shape))[::-1] - [17, 15, 6]
    assert np.abs(brightest - BEADS[0]).max() <= 1
    capsys.readouterr()
    assert reconstruct(name, "listed") == 0
    assert "finished" in capsys.readouterr().err
    shutil.copy(f"{NAMES[2]}.mrc", f"{NAMES[3]}.mrc")  # the list is the same, an image is not
    assert reconstruct(name, "listed") == 2


def test_a_list_is_not_converted(folder, capsys):
    (folder / "list.txt").write_text(LISTS["list.txt"])
    assert main(["tilt", "convert", "list.txt", "--to", "imod", "--out", "imod"]) == 2
    assert "is a list of images" in capsys.readouterr().err
    assert not (folder / "imod").exists()
