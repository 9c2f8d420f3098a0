"""Which files defocus and dose are from, whether they belong to the stack, and what the options overrule."""

from dataclasses import replace

import numpy as np
import pytest

from manyviews.errors import InputError
from manyviews.geometry.views import TiltGeometry
from manyviews.io.mrc import write_mrc
from manyviews.tilt.ctf.apply import agree_on_hand
from manyviews.tilt.ctf.transfer import resolve_transfer
from manyviews.tilt.options import ReconstructOptions, SeriesOptions
from manyviews.tilt.series.resolve import resolve_series

TILTS = np.array([-30.0, -15.0, 0.0, 15.0])
ROW = "{n} {u} {v} 30.0 0.0 0.0 0.0\n"


def stack(folder, name="a", tilts=TILTS):
    write_mrc(folder / f"{name}.mrc", np.ones((len(tilts), 6, 8), np.float32), 3.0, is_volume=False)
    (folder / f"{name}.rawtlt").write_text("\n".join(map(str, tilts)))
    return folder / f"{name}.mrc"


def ctf_text(count, first=1, header=""):
    return header + "".join(
        ROW.format(n=n, u=20000 + 100 * n, v=19000 + 100 * n) for n in range(first, first + count)
    )


def resolved(paths, *, exclude=(), **options):
    series = resolve_series(
        SeriesOptions(
            stacks=tuple(paths), axis_angle=tuple(90.0 * n for n in range(len(paths))), exclude=exclude
        )
    )
    return resolve_transfer(ReconstructOptions(thickness=4, **options), series)


def test_nothing_asked_for_is_nothing(tmp_path):
    assert resolved([stack(tmp_path)]) is None


def test_defocus_of_every_view_and_where_it_is_from(tmp_path):
    path = stack(tmp_path)
    (tmp_path / "d.txt").write_text(ctf_text(4))
    found = resolved([path], ctf="3d", defocus=(tmp_path / "d.txt",), defocus_hand="-1", exclude=("1:2",))
    np.testing.assert_allclose(found.transfer.optics.defocus[:, 0], [20100, 20300, 20400])
    assert found.hand == found.transfer.hand == -1
    text = "\n".join(found.lines)
    assert f"defocus of stack 1: 1.910 to 2.040 um, from {tmp_path / 'd.txt'}" in text
    assert "voltage: 300 kV, taken for granted" in text
    assert any("300 kV is taken for granted" in line for line in found.warnings)


def test_options_overrule_files_and_say_so(tmp_path):
    path = stack(tmp_path)
    header = "# acceleration voltage: 200.0 keV ; spherical aberration: 2.20 mm ; amplitude contrast: 0.1\n"
    (tmp_path / "a_CTF.txt").write_text(ctf_text(4, header=header))
    found = resolved([path], ctf="wiener", voltage=300.0)
    optics = found.transfer.optics
    assert (optics.voltage_kv[0], optics.spherical_aberration_mm[0], optics.amplitude_contrast[0]) == (
        300,
        2.2,
        0.1,
    )
    text = "\n".join(found.lines)
    assert "voltage: 300 kV, from option" in text
    assert "overruled" in text
    assert "200 kV" in text
    assert found.hand is None
    assert not found.warnings


def test_an_mdoc_is_nominal_and_says_so(tmp_path):
    path = stack(tmp_path)
    sections = "".join(f"[ZValue = {n}]\nTiltAngle = {t}\nTargetDefocus = -3\n" for n, t in enumerate(TILTS))
    (tmp_path / "a.mrc.mdoc").write_text(f"Voltage = 200\n{sections}")
    found = resolved([path], ctf="phase-flip")
    np.testing.assert_allclose(found.transfer.optics.defocus, 30000.0)
    assert found.transfer.optics.voltage_kv[0] == 200.0
    assert "nominal" in "\n".join(found.warnings)


@pytest.mark.parametrize("count", [3, 5])
def test_defocus_of_a_series_of_another_length_is_refused(tmp_path, count):
    path = stack(tmp_path)
    (tmp_path / "d.txt").write_text(ctf_text(count))
    with pytest.raises(
        InputError, match=f"defocus for {count} views but stack 1 has 4 sections.*another series"
    ):
        resolved([path], ctf="3d", defocus=(tmp_path / "d.txt",))


def test_defocus_of_other_tilts_is_refused_but_an_offset_is_none(tmp_path):
    path = stack(tmp_path)
    rows = [f"{n + 1} {n + 1} {t + 2.5} {t + 2.5} 2500" for n, t in enumerate(TILTS)]
    rows[0] += " 2"
    (tmp_path / "d.defocus").write_text("\n".join(rows) + "\n")
    assert resolved([path], ctf="3d", defocus=(tmp_path / "d.defocus",)) is not None
    (tmp_path / "d.defocus").write_text("\n".join(rows).replace("17.5 17.5", "22.5 22.5") + "\n")
    with pytest.raises(InputError, match=r"section 4 is tilted by 22\.5 degrees there and by 15 in stack 1"):
        resolved([path], ctf="3d", defocus=(tmp_path / "d.defocus",))


def test_views_left_out_before_defocus_was_measured_are_dealt_in_order(tmp_path):
    path = stack(tmp_path)
    (tmp_path / "d.txt").write_text(ctf_text(3))
    found = resolved([path], ctf="3d", defocus=(tmp_path / "d.txt",), exclude=("1:1",))
    np.testing.assert_allclose(found.transfer.optics.defocus[:, 0], [20100, 20200, 20300])


def test_two_stacks_want_two_files_that_agree_on_the_microscope(tmp_path):
    paths = [stack(tmp_path, "a"), stack(tmp_path, "b")]
    for name, kilovolts in (("a", 300), ("b", 200)):
        (tmp_path / f"{name}_CTF.txt").write_text(
            ctf_text(4, header=f"# acceleration voltage: {kilovolts} keV\n")
        )
    with pytest.raises(InputError, match="--voltage: the files say 200 and 300 kV"):
        resolved(paths, ctf="3d")
    with pytest.raises(InputError, match="1 files were given for 2 stacks"):
        resolved(paths, ctf="3d", defocus=(tmp_path / "a_CTF.txt",))
    assert len(resolved(paths, ctf="3d", voltage=300.0).transfer) == 8


def test_what_has_no_use_or_is_missing_is_refused(tmp_path):
    path = stack(tmp_path)
    with pytest.raises(InputError, match="--defocus: has no use without a correction"):
        resolved([path], defocus=(path,))
    with pytest.raises(InputError, match="defocus of its views is not known"):
        resolved([path], ctf="3d")
    with pytest.raises(InputError, match="dose of its views is not known; give --dose-per-view"):
        resolved([path], dose_weighting=True)
    with pytest.raises(InputError, match="not for 100 kV"):
        resolved([path], dose_per_view=3.0, voltage=100.0)


def test_dose_by_option_in_the_order_of_the_mdoc_or_of_the_sections(tmp_path):
    path = stack(tmp_path)
    np.testing.assert_allclose(resolved([path], dose_per_view=2.0).transfer.dose, [1, 3, 5, 7])
    doses = [9.0, 3.0, 0.0, 6.0]
    sections = "".join(
        f"[ZValue = {n}]\nTiltAngle = {t}\nExposureDose = 3\nPriorRecordDose = {d}\n"
        for n, (t, d) in enumerate(zip(TILTS, doses, strict=True))
    )
    (tmp_path / "a.mrc.mdoc").write_text(sections)
    np.testing.assert_allclose(resolved([path], dose_per_view=2.0).transfer.dose, [7, 3, 1, 5])
    np.testing.assert_allclose(resolved([path], dose_weighting=True).transfer.dose, np.array(doses) + 1.5)


def in_relions_list(folder, hands, slope=1.0):
    """Stacks with a table of RELION each, and the list that names these."""
    (folder / "tilt_series").mkdir()
    paths = [stack(folder, name) for name in "ab"[: len(hands)]]
    rows = "\n".join(
        f"{u} {u - 100} 10 {tilt}" for u, tilt in zip((20100, 20200, 20300, 20400), TILTS, strict=True)
    )
    columns = ("rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle", "rlnTomoNominalStageTiltAngle")
    head = "data_a\n\nloop_\n" + "\n".join(f"_{name}" for name in columns)
    for name in "ab":
        (folder / "tilt_series" / f"{name}.star").write_text(f"{head}\n{rows}\n")
    names = ("rlnTomoTiltSeriesStarFile", "rlnVoltage", "rlnTomoHand", "rlnTomoDefocusSlope")
    listed = "\n".join(
        f"CtfFind/job003/tilt_series/{name}.star 200.0 {hand} {slope}"
        for name, hand in zip("ab", hands, strict=False)
    )
    (folder / "list.star").write_text(
        "data_global\n\nloop_\n" + "\n".join(f"_{n}" for n in names) + f"\n{listed}\n"
    )
    return paths, tuple(folder / "tilt_series" / f"{path.stem}.star" for path in paths)


def test_the_hand_of_relions_list_is_taken_where_the_images_do_not_tell(tmp_path):
    paths, tables = in_relions_list(tmp_path, [-1.0], slope=0.9)
    found = resolved(paths, ctf="3d", defocus=tables)
    assert (found.hand, found.listed_hand, found.transfer.slope) == (None, -1, 0.9)
    assert found.with_hand(-1).transfer.gradient == -0.9
    text = "\n".join(found.lines)
    assert f"voltage: 200 kV, {tmp_path / 'list.star'}" in text
    assert "slope of the defocus: 0.9 for each angstrom" in text
    hand, warnings = agree_on_hand(found, None)
    assert hand == -1
    assert "hand -1 is taken from" in warnings[0]
    hand, warnings = agree_on_hand(found, 1)
    assert hand == 1
    assert "the images speak for hand +1" in warnings[0]
    assert agree_on_hand(found, -1) == (-1, ())
    nowhere = replace(found, listed_hand=None)
    assert agree_on_hand(nowhere, 1) == (1, ())
    assert "cannot be told" in agree_on_hand(nowhere, None)[1][0]
    assert nowhere.digest() != found.digest()


def test_a_slope_of_zero_is_one_defocus_for_all_of_an_image(tmp_path):
    paths, tables = in_relions_list(tmp_path, [1.0], slope=0.0)
    transfer = resolved(paths, ctf="3d", defocus=tables, defocus_hand="+1").transfer
    assert transfer.gradient == 0.0
    assert transfer.layer_slices(TiltGeometry.from_tilt_axis(np.array(TILTS)), 3.0) > 1000


def test_stacks_of_different_hands_are_refused(tmp_path):
    paths, tables = in_relions_list(tmp_path, [-1.0, 1.0])
    with pytest.raises(InputError, match=r"different values of hand: -1 \(.*1 \("):
        resolved(paths, ctf="3d", defocus=tables)
