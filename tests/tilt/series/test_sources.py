"""Which of several sources wins, what is said of it, and what stops a run."""

import numpy as np
import pytest

from manyviews.errors import InputError
from manyviews.geometry.views import TiltGeometry, rotation_z
from manyviews.io.imod import write_angles, write_xf
from manyviews.io.mdoc import write_mdoc
from manyviews.io.mrc import write_mrc
from manyviews.tilt.options import SeriesOptions
from manyviews.tilt.series.image_order import sorted_sections_are_likelier
from manyviews.tilt.series.resolve import resolve_series

TILTS = np.arange(-60.0, 61.0, 6.0)
BY_SIZE = TILTS[np.argsort(np.abs(TILTS), kind="stable")]
BEADS = np.array([[12.0, 8, 5], [-15, 3, -6], [4, -17, 2]])
PIXEL = 4.0


def images(tilts, shape=(48, 56), noise=0.3):
    """Beads seen at these tilts about y, with noise."""
    rng = np.random.default_rng(4)
    y, x = np.mgrid[: shape[0], : shape[1]]
    found = rng.normal(0, noise, (len(tilts), *shape))
    for image, tilt in zip(found, np.deg2rad(tilts), strict=True):
        for bead in BEADS:
            u = bead[0] * np.cos(tilt) + bead[2] * np.sin(tilt) + shape[1] // 2
            image[...] += np.exp(-((x - u) ** 2 + (y - bead[1] - shape[0] // 2) ** 2) / 8.0)
    return found.astype(np.float32)


def stack(folder, tilts=TILTS, name="a.mrc", pixel_size=PIXEL, **more):
    path = folder / name
    write_mrc(path, images(tilts, **more), pixel_size, is_volume=False)
    return path


def resolved(path, **options):
    return resolve_series(SeriesOptions(stacks=(path,), **options))


def source(series, field="tilt angles"):
    return next(choice.source for choice in series.choices if choice.field == field)


def test_images_tell_their_order(tmp_path):
    in_order, acquired = stack(tmp_path), stack(tmp_path, BY_SIZE, "b.mrc")
    for path in (in_order, acquired):
        write_mdoc(path.with_name(path.name + ".mdoc"), BY_SIZE, PIXEL, (48, 56), axis_degrees=0.0)
    series = resolved(in_order)
    assert np.allclose(series.geometry.tilt_degrees, TILTS)
    assert any("look sorted by angle" in text for text in series.warnings)
    series = resolved(acquired)
    assert np.allclose(series.geometry.tilt_degrees, BY_SIZE)
    assert not any("sorted" in text for text in series.warnings)


def test_images_of_noise_prove_nothing(tmp_path):
    path = tmp_path / "a.mrc"
    write_mrc(path, np.random.default_rng(1).normal(size=(21, 32, 32)).astype("f4"), 4.0, is_volume=False)
    write_mdoc(tmp_path / "a.mrc.mdoc", BY_SIZE, PIXEL, (32, 32), axis_degrees=0.0)
    series = resolved(path)
    assert np.allclose(series.geometry.tilt_degrees, BY_SIZE)
    assert sorted_sections_are_likelier(series.stacks[0], BY_SIZE) is None


def test_angles_in_the_order_of_acquisition_give_way_to_those_that_fit(tmp_path):
    path = stack(tmp_path)
    write_mdoc(tmp_path / "a.mrc.mdoc", BY_SIZE, PIXEL, (48, 56), axis_degrees=0.0)
    write_angles(tmp_path / "a.rawtlt", TILTS)
    series = resolved(path)
    assert np.allclose(series.geometry.tilt_degrees, TILTS)
    assert source(series).endswith("a.rawtlt")
    assert any("the same in another order" in text for text in series.warnings)


def test_tlt_beside_an_aligned_stack_comes_first(tmp_path):
    path = stack(tmp_path, name="a_ali.mrc")
    write_angles(tmp_path / "a.rawtlt", TILTS + 3)
    write_angles(tmp_path / "a.tlt", TILTS)
    series = resolved(path)
    assert source(series).endswith("a.tlt")
    assert any("differ by up to 3.0 degrees" in text for text in series.warnings)
    assert source(resolved(stack(tmp_path, name="a.mrc"))).endswith("a.rawtlt")


def test_damaged_files_beside_a_stack_cost_a_warning_where_they_are_not_needed(tmp_path):
    path = stack(tmp_path)
    (tmp_path / "a.mrc.mdoc").write_text("[FrameSet = 0]\nTiltAngle = 1\n")
    (tmp_path / "a.rawtlt").write_text("hello\n")
    with pytest.raises(InputError, match="FrameSet"):
        resolved(path)
    write_angles(tmp_path / "b.tlt", TILTS)
    series = resolved(path, tilt_angles=(tmp_path / "b.tlt",), axis_angle=(3.0,))
    assert np.allclose(series.geometry.tilt_degrees, TILTS)
    assert sum("its angles are not used" in text for text in series.warnings) == 2
    assert len(series.warnings) == 2


def test_an_mdoc_without_a_section_belongs_to_as_many_images(tmp_path):
    path = stack(tmp_path, np.delete(TILTS, 4))
    write_mdoc(tmp_path / "a.mrc.mdoc", TILTS, PIXEL, (48, 56), axis_degrees=0.0)
    text = (tmp_path / "a.mrc.mdoc").read_text()
    start, end = text.index("[ZValue = 4]"), text.index("[ZValue = 5]")
    (tmp_path / "a.mrc.mdoc").write_text(text[:start] + text[end:])
    series = resolved(path)
    assert np.allclose(series.geometry.tilt_degrees, np.delete(TILTS, 4))
    assert any("section 4 is missing" in text for text in series.warnings)


def test_one_line_for_each_section_that_is_left(tmp_path):
    path = stack(tmp_path)
    left = np.delete(np.arange(21), [2, 3, 20])
    write_angles(tmp_path / "b.tlt", TILTS[left])
    series = resolved(path, tilt_angles=(tmp_path / "b.tlt",), exclude=("3,4,21",), axis_angle=(0.0,))
    assert series.geometry.sections.tolist() == left.tolist()
    assert np.allclose(series.geometry.tilt_degrees, TILTS[left])
    assert any("--exclude leaves" in text for text in series.warnings)


def test_an_unknown_axis_is_told_with_what_the_file_holds(tmp_path):
    path = stack(tmp_path)
    write_angles(tmp_path / "a.rawtlt", TILTS)
    (told,) = resolved(path).warnings
    assert "0 degrees, along y, is taken" in told
    write_mdoc(tmp_path / "a.mrc.mdoc", TILTS, PIXEL, (48, 56))
    text = (
        (tmp_path / "a.mrc.mdoc").read_text().replace("[ZValue = 0]", "[T = Axis 85 degrees]\n\n[ZValue = 0]")
    )
    (tmp_path / "a.mrc.mdoc").write_text(text)
    assert any("'Axis 85 degrees'" in text for text in resolved(path).warnings)


def test_an_axis_in_a_label_of_the_header(tmp_path):
    path = tmp_path / "a.mrc"
    label = "    Tilt axis angle = 84.9, binning = 1  spot = 4  camera = 1"
    write_mrc(path, images(TILTS), PIXEL, is_volume=False, labels=(label,))
    write_angles(tmp_path / "a.rawtlt", TILTS)
    series = resolved(path)
    assert series.geometry.axis_degrees[0] == pytest.approx(84.9)
    assert series.warnings == ()


@pytest.mark.parametrize(("header", "said", "found"), [(1.0, 4.0, 4.0), (2.0, 4.0, 2.0), (1.0, None, 1.0)])
def test_pixel_sizes(tmp_path, header, said, found):
    path = stack(tmp_path, pixel_size=header)
    write_mdoc(tmp_path / "a.mrc.mdoc", TILTS, said or 7.0, (48, 56), axis_degrees=0.0)
    if said is None:
        text = (tmp_path / "a.mrc.mdoc").read_text()
        (tmp_path / "a.mrc.mdoc").write_text(text.replace("PixelSpacing = 7\n", ""))
    series = resolved(path)
    assert series.pixel_size == found
    assert sum("pixel" in text for text in series.warnings) == 1
    assert resolved(path, pixel_size=5.0).warnings == ()


def test_images_on_their_side_give_a_volume_that_stands(tmp_path):
    path = stack(tmp_path)
    write_angles(tmp_path / "a.rawtlt", TILTS)
    turn = np.deg2rad(-85.0)
    row = [np.cos(turn), -np.sin(turn), np.sin(turn), np.cos(turn), 0, 0]
    write_xf(tmp_path / "a.xf", np.tile(row, (21, 1)))
    series = resolved(path, transform=(tmp_path / "a.xf",))
    assert (series.image_shape, series.field_shape) == ((48, 56), (56, 48))
    assert series.warnings == ()
    laid = resolved(path, transform=(tmp_path / "a.xf",), axis_angle=(85.0,))
    assert laid.field_shape == (48, 56)
    assert any("stands upright" in text for text in laid.warnings)
    # as the raw images show it: the same as angles about an axis at 85 degrees
    plain = resolved(path, axis_angle=(85.0,)).geometry
    assert np.allclose(laid.geometry.matrices[:, :3, :3], plain.matrices[:, :3, :3], atol=1e-6)


def test_images_on_their_side_of_a_specimen_that_was_turned(tmp_path):
    """The camera stays, the grid is turned by 90 degrees: beads lie where both axes see them."""
    paths = tuple(stack(tmp_path, name=f"{name}.mrc") for name in "ab")
    turn = np.deg2rad(-85.0)
    row = [np.cos(turn), -np.sin(turn), np.sin(turn), np.cos(turn), 0, 0]
    for name in "ab":
        write_angles(tmp_path / f"{name}.tlt", TILTS)
        write_xf(tmp_path / f"{name}.xf", np.tile(row, (21, 1)))
    files = {
        option: tuple(tmp_path / f"{name}{suffix}" for name in "ab")
        for option, suffix in (("tilt_angles", ".tlt"), ("transform", ".xf"))
    }
    series = resolve_series(SeriesOptions(stacks=paths, axis_angle=(0.0, 90.0), **files))
    assert series.field_shape == (56, 48)  # the first stack's
    for axis, number in ((0.0, 0), (90.0, 1)):
        upright = TiltGeometry.from_tilt_axis(TILTS, 0.0).matrices[:, :3, :3] @ rotation_z(-axis)
        raw = rotation_z(85.0) @ upright  # what the .xf turns upright
        chosen = series.geometry.series == number
        assert np.allclose(series.geometry.matrices[chosen, :3, :3], raw, atol=1e-6)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([f"{np.deg2rad(tilt):.4f}" for tilt in TILTS], "radians"),
        ([f"{place} {tilt}" for place, tilt in enumerate(TILTS)], "2 columns"),
        ([f"{tilt} 3 0 0" for tilt in TILTS], "4 numbers"),
    ],
)
def test_lists_that_are_no_angles_are_refused(tmp_path, lines, words):
    (tmp_path / "b.tlt").write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError, match=words):
        resolved(stack(tmp_path), tilt_angles=(tmp_path / "b.tlt",))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_order_and_dose_are_kept_and_any_text_is_read(tmp_path, encoding):
    lines = [
        f"{tilt:.2f} {place + 1} {3.0 * place}".replace("-", "\u2212") for place, tilt in enumerate(TILTS)
    ]
    (tmp_path / "a_TLT.txt").write_bytes("\r\n".join(lines).encode(encoding))
    series = resolved(stack(tmp_path), tilt_angles=(tmp_path / "a_TLT.txt",), axis_angle=(0.0,))
    assert np.allclose(series.geometry.tilt_degrees, TILTS)
    assert any(choice.value == "1 to 21, dose 0 to 60" for choice in series.choices)
