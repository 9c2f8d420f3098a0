from pathlib import Path

import numpy as np
import pytest

from manyviews.errors import InputError
from manyviews.geometry.views import TiltGeometry
from manyviews.io.aretomo import geometry_to_aln, write_aln
from manyviews.io.imod import write_angles, write_xf
from manyviews.io.mdoc import write_mdoc
from manyviews.io.mrc import write_mrc
from manyviews.io.relion_tomo import geometry_to_relion, write_tilt_series_star
from manyviews.tilt.options import SeriesOptions
from manyviews.tilt.series.resolve import resolve_series
from raw_geometry import imod_geometry

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "tilt" / "openncem-haadf"
TILTS = np.array([-40.0, -20, 0, 20, 40])
SHAPE = (12, 10)
PIXEL = 3.0
BEADS = np.array([[5.0, -2, 3], [-3, 4, -8], [1, 2, 4]])


def stack(folder, name="a.mrc", *, count=5, shape=SHAPE, pixel_size=PIXEL, labels=()):
    path = folder / name
    write_mrc(path, np.zeros((count, *shape), np.int16), pixel_size, is_volume=False, labels=labels)
    return path


def angles(folder, name="a.tlt", values=TILTS):
    path = folder / name
    write_angles(path, values)
    return path


def choice(series, field, index=0):
    return next(c for c in series.choices if (c.field, c.stack) == (field, index))


def test_angles_alone(tmp_path):
    series = resolve_series(
        SeriesOptions(
            stacks=(stack(tmp_path), stack(tmp_path, "b.mrc")),
            tilt_angles=(angles(tmp_path), angles(tmp_path, "b.tlt", -TILTS)),
            axis_angle=(0, 90),
        )
    )
    expected = TiltGeometry.concatenate(
        [TiltGeometry.from_tilt_axis(TILTS, 0), TiltGeometry.from_tilt_axis(-TILTS, 90, series=1)]
    )
    assert np.allclose(series.geometry.matrices, expected.matrices)
    assert series.geometry.series.tolist() == [0] * 5 + [1] * 5
    assert series.geometry.sections.tolist() == [*range(5)] * 2
    assert series.geometry.axis_degrees.tolist() == [0] * 5 + [90] * 5
    assert (series.pixel_size, series.image_shape) == (PIXEL, SHAPE)
    assert series.excluded == ((), ())
    assert series.warnings == ()
    assert choice(series, "axis angle", 1).source == "option"
    assert choice(series, "pixel size").source == "header"


def test_the_order_of_trust_for_tilt_angles(tmp_path):
    path = stack(tmp_path)
    options = SeriesOptions(stacks=(path,))
    with pytest.raises(InputError, match="no tilt angles"):
        resolve_series(options)
    write_angles(tmp_path / "a.rawtlt", TILTS + 1)
    assert choice(resolve_series(options), "tilt angles").source.endswith("a.rawtlt")
    write_mdoc(tmp_path / "a.mrc.mdoc", TILTS + 2, PIXEL, SHAPE)
    found = choice(resolve_series(options), "tilt angles")
    assert found.source.endswith(".mdoc")
    assert len(found.overruled) == 1
    assert "1.00 degrees" in found.overruled[0]
    series = resolve_series(SeriesOptions(stacks=(path,), tilt_angles=(angles(tmp_path),)))
    assert series.geometry.tilt_degrees.tolist() == TILTS.tolist()
    assert len(choice(series, "tilt angles").overruled) == 2


def test_pixel_size_option_wins_over_header_over_mdoc(tmp_path):
    write_mdoc(tmp_path / "a.mdoc", TILTS, 4.0, SHAPE)
    options = SeriesOptions(stacks=(stack(tmp_path),))
    found = choice(resolve_series(options), "pixel size")
    assert (found.value, found.source, len(found.overruled)) == ("3", "header", 1)
    series = resolve_series(SeriesOptions(stacks=options.stacks, pixel_size=7.5))
    assert series.pixel_size == 7.5
    assert len(choice(series, "pixel size").overruled) == 2
    raw = bytearray(options.stacks[0].read_bytes())
    raw[40:52] = bytes(12)
    options.stacks[0].write_bytes(raw)
    assert resolve_series(options).pixel_size == 4.0
    (tmp_path / "a.mdoc").unlink()
    write_angles(tmp_path / "a.rawtlt", TILTS)
    with pytest.raises(InputError, match="no pixel size"):
        resolve_series(options)


def test_axis_angle_of_an_mdoc_is_used_for_raw_images_only(tmp_path):
    def axis(path, **more):
        found = resolve_series(SeriesOptions(stacks=(path,), **more))
        return choice(found, "axis angle"), found.geometry.axis_degrees[0]

    raw = stack(tmp_path)
    write_mdoc(tmp_path / "a.mrc.mdoc", TILTS, PIXEL, SHAPE, axis_degrees=-88.7)
    found, value = axis(raw)
    assert value == -88.7
    assert "mdoc" in found.source
    found, value = axis(raw, axis_angle=(5.0,))
    assert value == 5
    assert "-88.7" in found.overruled[0]
    identity = tmp_path / "a.xf"
    write_xf(identity, np.tile([1.0, 0, 0, 1, 0, 0], (5, 1)))
    assert axis(raw, transform=(identity,))[1] == 0
    aligned = stack(tmp_path, "b_ali.mrc")
    write_mdoc(tmp_path / "b_ali.mrc.mdoc", TILTS, PIXEL, SHAPE, axis_degrees=-88.7)
    assert axis(aligned)[1] == 0
    titled = stack(tmp_path, "c.mrc", labels=["NEWSTACK: Images copied, transformed    01-Jan-24"])
    write_mdoc(tmp_path / "c.mrc.mdoc", TILTS, PIXEL, SHAPE, axis_degrees=-88.7)
    assert axis(titled)[1] == 0


def alignment():
    """Raw images turned, moved and tilted about both axes a little, as IMOD would describe them."""
    turn = np.deg2rad(84.0)
    matrix = [np.cos(turn), np.sin(turn), -np.sin(turn), np.cos(turn)]
    xf = np.array([[*matrix, i - 2.25, 3.5 - i] for i in range(5)])
    return imod_geometry(TILTS, xf, PIXEL, SHAPE), xf


def test_imod_transform_aln_star_and_com_give_one_geometry(tmp_path):
    expected, xf = alignment()
    path, tlt = stack(tmp_path), angles(tmp_path)
    write_xf(tmp_path / "a.xf", xf)
    write_aln(tmp_path / "a.aln", geometry_to_aln(expected, PIXEL, (5, *SHAPE)))
    write_tilt_series_star(tmp_path / "a.star", geometry_to_relion(expected))
    (tmp_path / "tilt.com").write_text("$tilt\nTILTFILE a.tlt\nTHICKNESS 10\n")
    transform = (tmp_path / "a.xf",)
    for options in (
        SeriesOptions(stacks=(path,), tilt_angles=(tlt,), transform=transform),
        SeriesOptions(stacks=(path,), tilt_angles=(tmp_path / "tilt.com",), transform=transform),
        SeriesOptions(stacks=(path,), tilt_angles=(tmp_path / "a.aln",)),
        SeriesOptions(stacks=(path,), tilt_angles=(tmp_path / "a.star",)),
    ):
        series = resolve_series(options)
        assert series.geometry.project(BEADS) == pytest.approx(expected.project(BEADS), abs=0.005)
        assert np.allclose(series.geometry.axis_degrees, 0)
    with pytest.raises(InputError, match="has transforms already"):
        resolve_series(SeriesOptions(stacks=(path,), tilt_angles=(tmp_path / "a.aln",), transform=transform))


def test_an_alignment_of_other_sections_is_warned_about(tmp_path):
    expected, _ = alignment()
    write_aln(tmp_path / "a.aln", geometry_to_aln(expected, PIXEL, (5, *SHAPE)))
    options = SeriesOptions(stacks=(stack(tmp_path),), tilt_angles=(tmp_path / "a.aln",))
    write_angles(tmp_path / "a.rawtlt", TILTS + 0.5)
    assert resolve_series(options).warnings == ()
    write_angles(tmp_path / "a.rawtlt", TILTS + 2, overwrite=True)
    assert "differ by up to 2.0 degrees" in resolve_series(options).warnings[0]
    write_angles(tmp_path / "a.rawtlt", np.roll(TILTS, 1), overwrite=True)
    assert "do not follow" in resolve_series(options).warnings[0]


def test_an_axis_angle_turns_the_specimen_of_a_whole_alignment(tmp_path):
    """With the axis angle of the raw images, the specimen is seen untilted as the raw images show it."""
    turned = TiltGeometry.from_tilt_axis(TILTS, 84.0)
    write_aln(tmp_path / "a.aln", geometry_to_aln(alignment()[0], PIXEL, (5, *SHAPE)))
    series = resolve_series(
        SeriesOptions(stacks=(stack(tmp_path),), tilt_angles=(tmp_path / "a.aln",), axis_angle=(84.0,))
    )
    assert np.allclose(series.geometry.matrices[:, :3, :3], turned.matrices[:, :3, :3], atol=1e-5)
    said = [text.rpartition(": ")[2] for text in choice(series, "axis angle").overruled]
    assert not any("84" in text for text in said)  # before the colon stands the path of a file


def test_tilt_com_brings_offset_x_tilt_exclusions_and_warnings(tmp_path):
    angles(tmp_path)
    angles(tmp_path, "a.xtilt", np.full(5, 2.0))
    (tmp_path / "tilt.com").write_text(
        "$tilt\nTILTFILE a.tlt\nXTILTFILE a.xtilt\nXAXISTILT 1\nOFFSET 0.5\nSHIFT 0 4\nEXCLUDELIST 2\n"
    )
    series = resolve_series(SeriesOptions(stacks=(stack(tmp_path),), tilt_angles=(tmp_path / "tilt.com",)))
    expected = imod_geometry(TILTS + 0.5, None, PIXEL, SHAPE, x_tilt_degrees=np.full(5, 1.0))
    # SHIFT moves the volume up, so that what is seen at a place lies elsewhere
    moved = expected.project(BEADS + np.array([0, 0, 4 * PIXEL]))
    assert np.allclose(series.geometry.project(BEADS), moved[[0, 2, 3, 4]])
    assert series.excluded == ((1,),)
    assert series.warnings == ()


def test_shifts_say_how_far_to_move_the_raw_image(tmp_path):
    (tmp_path / "s.txt").write_text("".join(f"{i} {-2 * i}\n" for i in range(7)))
    series = resolve_series(
        SeriesOptions(
            stacks=(stack(tmp_path),),
            tilt_angles=(angles(tmp_path),),
            shifts=(Path(f"{tmp_path}/s.txt:2-6"),),
        )
    )
    seen = series.geometry.project(np.zeros((1, 3)))[:, 0] / PIXEL
    assert np.allclose(seen, [[-i, 2 * i] for i in range(1, 6)])
    with pytest.raises(InputError, match="FIRST-LAST"):
        resolve_series(
            SeriesOptions(
                stacks=(tmp_path / "a.mrc",), tilt_angles=(tmp_path / "a.tlt",), shifts=(tmp_path / "s.txt",)
            )
        )


def test_tilt_offset_and_x_tilt_options(tmp_path):
    x_tilts = angles(tmp_path, "a.xtilt", np.arange(5.0))
    series = resolve_series(
        SeriesOptions(
            stacks=(stack(tmp_path, shape=(11, 11)),),
            tilt_angles=(angles(tmp_path),),
            x_tilt=(x_tilts,),
            tilt_offset=1.5,
        )
    )
    expected = imod_geometry(TILTS + 1.5, None, PIXEL, (11, 11), x_tilt_degrees=np.arange(5.0))
    assert np.allclose(series.geometry.matrices[:, :2], expected.matrices[:, :2])
    assert np.allclose(series.geometry.tilt_degrees, TILTS + 1.5)


def test_views_are_left_out(tmp_path):
    stacks = (stack(tmp_path), stack(tmp_path, "b.mrc"))
    files = (angles(tmp_path), angles(tmp_path, "b.tlt"))
    series = resolve_series(
        SeriesOptions(stacks=stacks, tilt_angles=files, axis_angle=(0, 90), exclude=("1:1", "2:2,4-5"))
    )
    assert series.excluded == ((0,), (1, 3, 4))
    assert series.geometry.sections.tolist() == [1, 2, 3, 4, 0, 2]
    only = SeriesOptions(stacks=stacks[:1], tilt_angles=files[:1], exclude=("1,4-5",))
    assert resolve_series(only).excluded == ((0, 3, 4),)


def test_an_alignment_beside_raw_images_that_is_not_used_is_warned_about(tmp_path):
    raw, aligned = stack(tmp_path, "a.st"), stack(tmp_path, "b.ali")
    lines = "1 0 0 1 3.5 -2\n" * len(TILTS)
    for name in ("a", "b"):
        angles(tmp_path, f"{name}.tlt")
        (tmp_path / f"{name}.xf").write_text(lines)
    told = [text for text in resolve_series(SeriesOptions(stacks=(raw,))).warnings if "a.xf" in text]
    assert len(told) == 1
    assert f"give --transform {tmp_path / 'a.xf'}" in told[0]
    given = resolve_series(SeriesOptions(stacks=(raw,), transform=(tmp_path / "a.xf",)))
    assert not any("not used" in text for text in given.warnings)
    assert not any("not used" in text for text in resolve_series(SeriesOptions(stacks=(aligned,))).warnings)
    (tmp_path / "a.xf").write_text("1 0 0 1 0 0\n" * len(TILTS))
    assert not any("not used" in text for text in resolve_series(SeriesOptions(stacks=(raw,))).warnings)


def test_parallel_axes_of_several_stacks_are_warned_about(tmp_path):
    stacks = (stack(tmp_path), stack(tmp_path, "b.mrc"))
    files = (angles(tmp_path), angles(tmp_path, "b.tlt"))
    assert "same axis" in resolve_series(SeriesOptions(stacks=stacks, tilt_angles=files)).warnings[-1]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"stacks": ()}, "no stack"),
        ({"tilt_angles": ("a.tlt", "a.tlt")}, "2 files were given for 1"),
        ({"axis_angle": (1.0, 2.0)}, "2 angles were given"),
        ({"axis_angle": (float("nan"),)}, "--axis-angle: nan is not a number"),
        ({"tilt_offset": float("nan")}, "--tilt-offset: nan is not a number"),
        ({"tilt_offset": 160.0}, "beyond"),
        ({"tilt_angles": ("four.tlt",)}, "5 sections but .*gives 4"),
        ({"tilt_angles": ("steep.tlt",)}, "181 degrees is beyond"),
        ({"x_tilt": ("four.tlt",)}, "4 lines but there are 5"),
        ({"exclude": ("6",)}, "section 6"),
        ({"exclude": ("2:1",)}, "names stack"),
        ({"exclude": ("1-5",)}, "every view"),
        ({"exclude": ("x",)}, "not a section"),
        ({"pixel_size": 0.0}, "--pixel-size: 0 is too small; give a number above 0"),
        ({"pixel_size": float("inf")}, "--pixel-size: inf is not a number"),
        ({"stacks": ("a.mrc", "a.mrc")}, "twice"),
        ({"stacks": ("a.mrc", "small.mrc")}, "8 x 8"),
        ({"stacks": ("a.mrc", "coarse.mrc")}, "pixel size"),
        ({"stacks": ("a.mrc", "b.mrc"), "exclude": ("1",)}, "which of the 2"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, more, words):
    stack(tmp_path)
    stack(tmp_path, "b.mrc")
    stack(tmp_path, "small.mrc", shape=(8, 8))
    stack(tmp_path, "coarse.mrc", pixel_size=4.0)
    for name in ("a", "b", "small", "coarse"):
        write_angles(tmp_path / f"{name}.rawtlt", TILTS)
    angles(tmp_path)
    angles(tmp_path, "four.tlt", TILTS[:4])
    angles(tmp_path, "steep.tlt", [0, 0, 0, 0, 181])
    paths = {"stacks", "tilt_angles", "x_tilt"}
    given = {k: tuple(tmp_path / v for v in values) if k in paths else values for k, values in more.items()}
    with pytest.raises(InputError, match=words):
        resolve_series(SeriesOptions(**{"stacks": (tmp_path / "a.mrc",), **given}))


def test_the_published_haadf_series():
    if not SHARED.exists():
        pytest.skip("shared HAADF series not present")
    path = SHARED / "L2083-K-4-1_haadf.mrc"
    shifts = SHARED / "TomVizAlignments.json"
    series = resolve_series(SeriesOptions(stacks=(path,), shifts=(Path(f"{shifts}:3-18"),)))
    assert len(series.geometry) == 16
    assert series.geometry.tilt_degrees.tolist() == list(range(-40, 36, 5))
    with pytest.raises(InputError, match="21 lines but there are 16"):
        resolve_series(SeriesOptions(stacks=(path,), shifts=(shifts,)))
