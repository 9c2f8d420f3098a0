"""tilt.com: entries that add up, and where tilt.f90 puts the axis."""

import numpy as np
import pytest

from manyviews.errors import InputError
from manyviews.io.imod_com import read_tilt_com
from manyviews.io.mrc import write_mrc
from manyviews.tilt.options import SeriesOptions
from manyviews.tilt.series.resolve import resolve_series

TILTS = np.array([-40.0, -10.0, 25.0, 60.0])
PIXEL = 2.5
HEAD = "$setenv IMOD_OUTPUT_FORMAT MRC\n$tilt -StandardInput\nTILTFILE a.tlt\nTHICKNESS 32\n"


def com(folder, text, head=HEAD):
    path = folder / "tilt.com"
    path.write_text(head + text)
    return path


@pytest.mark.parametrize(
    ("text", "exclude"),
    [
        ("EXCLUDELIST2 3,4,20,37", (3, 4, 20, 37)),
        ("EXCLUDELIST 3-4\nEXCLUDELIST2 20 37", (3, 4, 20, 37)),
        ("EXCLUDELIST2 3-4\nEXCLUDELIST2 20\nEXCLUDELIST2 37", (3, 4, 20, 37)),
        ("EXCLUDE 3,4\nexcludelist 20,37", (3, 4, 20, 37)),
        ("EXCLUDELIST\nEXCLUDELIST2", ()),
        ("DONE\nEXCLUDELIST 3", ()),
        ("$if (-e ./savework) ./savework\nEXCLUDELIST 3", ()),
    ],
)
def test_lists_add_up(tmp_path, text, exclude):
    assert sorted(read_tilt_com(com(tmp_path, text)).exclude) == list(exclude)


def test_entries_without_a_value_are_not_given(tmp_path):
    found = read_tilt_com(com(tmp_path, "XTILTFILE\nOFFSET\nSHIFT\nFULLIMAGE\nLOCALFILE\nXAXISTILT\n"))
    assert (found.x_tilt_file, found.tilt_offset, found.full_image, found.not_followed) == (None, 0, None, ())
    assert read_tilt_com(com(tmp_path, "INCLUDE 1,2\nINCLUDE 5-6")).include == (1, 2, 5, 6)
    assert read_tilt_com(com(tmp_path, "ANGLES 1 2\nANGLES 3", head="$tilt\n")).tilt_degrees == (1, 2, 3)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("INCLUDE 1\nEXCLUDELIST 2", "INCLUDE and EXCLUDELIST"),
        ("OFFSET 1 2 3", "OFFSET has 3 numbers"),
        ("XAXISTILT 1\nXAXISTILT 2", "there twice"),
        ("IMAGEBINNED 0", "whole numbers from 1"),
        ("SUBSETSTART 1", "SUBSETSTART has 1"),
        ("FULLIMAGE 10.5 3", "whole numbers"),
    ],
)
def test_contradictions_and_bad_numbers_are_refused(tmp_path, text, words):
    with pytest.raises(InputError, match=words):
        read_tilt_com(com(tmp_path, text))


def seen_by_imod(bead, tilt, x_tilt, shape, *, full, subset, offset, shift):
    """Pixel, counted from 0, where tilt.f90 sees a voxel of the volume that ``trimvol -rx`` makes.

    ``bead`` is the voxel (x, y, z) of a volume as wide and high as the image, counted from where the axis
    is when nothing moves it.
    """
    rows, columns = shape
    (full_x, full_y), (start_x, start_y), (move_x, move_z) = full, subset, shift
    centre_in = full_x / 2 + 0.5 - start_x
    centre_slice = full_y / 2 + 0.5 - start_y
    centre_out = columns // 2 + 0.5 + offset + (move_x - (columns // 2 + start_x - full_x // 2))
    # voxels and slices counted from 1; rows of the volume run against z
    x = bead[0] + columns // 2 + 0.5 - centre_out
    slice_ = bead[1] + (rows + 1) / 2 - centre_slice
    row = -bead[2] - move_z
    a, b = np.deg2rad(x_tilt), np.deg2rad(tilt)
    y = slice_ * np.cos(a) + row * np.sin(a)
    v = -slice_ * np.sin(a) + row * np.cos(a)
    return centre_in + offset + x * np.cos(b) - v * np.sin(b) - 1, centre_slice + y - 1


@pytest.mark.parametrize("shape", [(40, 48), (41, 48), (40, 47), (33, 35)])
@pytest.mark.parametrize(
    ("text", "given"),
    [
        ("", {}),
        ("OFFSET 0 5", {"offset": 5.0}),
        ("SHIFT 3.5 -4", {"shift": (3.5, -4.0)}),
        ("FULLIMAGE 96 80\nSUBSETSTART 30 7", {"full": (96, 80), "subset": (30, 7)}),
        ("FULLIMAGE 95 81\nSUBSETSTART -2 3\nOFFSET 0 1.5\nSHIFT 2 1",
         {"full": (95, 81), "subset": (-2, 3), "offset": 1.5, "shift": (2.0, 1.0)}),
        ("IMAGEBINNED 2\nFULLIMAGE 191 160\nSUBSETSTART 61 14\nOFFSET 0 5\nSHIFT 3 8",
         {"full": (96, 80), "subset": (30, 7), "offset": 2.5, "shift": (1.5, 4.0)}),
    ],
)  # fmt: skip
def test_beads_are_where_imod_puts_them(tmp_path, shape, text, given):
    write_mrc(tmp_path / "a_ali.mrc", np.zeros((4, *shape), np.int8), PIXEL, is_volume=False)
    (tmp_path / "a.tlt").write_text("".join(f"{tilt}\n" for tilt in TILTS))
    path = com(tmp_path, text + "\nXAXISTILT 2.0\n")
    series = resolve_series(SeriesOptions(stacks=(tmp_path / "a_ali.mrc",), tilt_angles=(path,)))
    rows, columns = shape
    whole = {"full": (columns, rows), "subset": (0, 0), "offset": 0.0, "shift": (0.0, 0.0), **given}
    beads = np.array([[0.0, 0, 0], [7, -5, 3], [-6, 8, -4]])
    found = series.geometry.project(beads * PIXEL) / PIXEL + [columns // 2, rows // 2]
    for view, tilt in enumerate(TILTS):
        # XAXISTILT turns the specimen back: tilt.f90 takes it from every tilt about x
        expected = [seen_by_imod(bead, tilt, -2.0, shape, **whole) for bead in beads]
        assert found[view] == pytest.approx(np.array(expected), abs=1e-9)


def test_images_that_were_binned_otherwise_are_refused(tmp_path):
    write_mrc(tmp_path / "a.mrc", np.zeros((4, 20, 24), np.int8), PIXEL, is_volume=False)
    (tmp_path / "a.tlt").write_text("1\n2\n3\n4\n")
    path = com(tmp_path, "FULLIMAGE 48 40\n")
    with pytest.raises(InputError, match="IMAGEBINNED"):
        resolve_series(SeriesOptions(stacks=(tmp_path / "a.mrc",), tilt_angles=(path,)))
    path = com(tmp_path, "FULLIMAGE 48 40\nIMAGEBINNED 2\n")
    assert resolve_series(SeriesOptions(stacks=(tmp_path / "a.mrc",), tilt_angles=(path,))).thickness == 16
