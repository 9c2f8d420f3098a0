"""A page of a job that nobody knows."""

import subprocess
import sys

import pytest

from manyviews.errors import InputError
from manyviews.report.build import build_report
from manyviews.report.common import (
    convergence_section,
    fsc_section,
    slices_section,
    table_section,
    what_is_readable,
)
from manyviews.report.data import as_number, convergence, read_run
from manyviews.report.sections import Citation, Finding, Note, Section, Table
from manyviews.report.words import format_value, summary_entry, verdict
from manyviews.runs.folder import RunFolder
from manyviews.runs.record import flatten
from page_reader import PageReader

pytestmark = pytest.mark.usefixtures("blank_pictures")


def sections(run):
    yield Finding("3 sheep were counted")
    yield Section("Flock", "All <white>.", caption="Seen from afar.")
    yield Note("One sheep was hidden.")
    yield Section("Names", Table([{"first_name": "Dolly", "age": "6"}]), folded=True)
    yield from slices_section(run.path / "volume.mrc")
    yield from convergence_section(convergence(run))
    yield from fsc_section(run.path / "fsc.csv", "Halves")
    yield from table_section(run.path / "sheep.csv", "The {rows} sheep")
    yield Citation("Wilmut I et al. (1997)")


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "flock"
    options = {"count": {"method": "fingers"}}
    with RunFolder.open(path, job="toy count", options=options, inputs={}, command=["count"]) as run:
        for number in range(1, 4):
            run.event("iteration", iteration=number, objective=1.0 / number)
        run.log("warning: it is dark")
    return path


@pytest.mark.pictures
def test_a_page_holds_what_the_job_hands_over_in_its_order(folder):
    page = build_report(folder, sections).read_text()
    assert "http-equiv='refresh'" in page
    text = PageReader(page).text
    told = (
        *("flock: toy count by fingers", "so far 3 iterations; 3 sheep were counted."),
        *("One sheep was hidden.", "It is dark.", "Flock", "All <white>.", "Seen from afar."),
        *("Names", "first name", "Dolly", "Convergence", "Command", "count.method", "Wilmut"),
        "manyviews contributors",
    )
    places = [text.index(words) for words in told]
    assert places == sorted(places)
    assert "Halves" not in text
    assert [path.name for path in (folder / "figures").iterdir()] == ["convergence.png"]


@pytest.mark.pictures
def test_files_of_the_job_are_shown_when_they_are_there(folder):
    (folder / "fsc.csv").write_text("frequency_per_angstrom,fsc\n0,1\n0.1,0.75\n0.2,0.25\n")
    (folder / "sheep.csv").write_text("name\nDolly\nMolly\n")
    (folder / "volume.mrc").write_bytes(b"torn")
    text = PageReader(build_report(folder, sections).read_text()).text
    for words in ("Halves", "The 2 sheep", "Molly", "The volume is not shown"):
        assert words in text


def test_what_a_job_cannot_read_leaves_the_old_page(folder):
    page = build_report(folder, sections)
    before = page.read_bytes()
    (folder / "fsc.csv").write_text("a\n1\n")
    with pytest.raises(InputError, match="has no column"):
        build_report(folder, sections)
    assert page.read_bytes() == before


def test_a_page_says_what_could_not_be_read_and_shows_the_rest(folder):
    (folder / "fsc.csv").write_text("frequency_per_angstrom\n1\n")
    (folder / "summary.json").write_text("[" * 9000)
    (folder / "sheep.csv").write_text("name\nDolly\n")

    def readable(run):
        yield from what_is_readable(
            lambda: fsc_section(run.path / "fsc.csv", "Halves"),
            lambda: table_section(run.path / "sheep.csv", "The {rows} sheep"),
        )

    text = PageReader(build_report(folder, readable).read_text()).text
    assert "Not shown: fsc.csv could not be read, line 1: has no column fsc." in text
    assert "summary.json could not be read: nested too deep." in text
    for words in ("flock: toy count by fingers", "so far 3 iterations", "The 1 sheep", "Dolly"):
        assert words in text
    assert "Halves" not in text


@pytest.mark.parametrize(
    ("content", "words"),
    [("a = [", "run.toml could not be read"), ("[" * 5000, "run.toml could not be read"),
     ("a." * 5000 + "b = 1", "nested too deep")],
)  # fmt: skip
def test_a_damaged_record_is_told_too(folder, content, words):
    (folder / "run.toml").write_text(content)
    assert words in PageReader(build_report(folder, lambda run: ()).read_text()).text


def test_numbers_of_events_that_no_run_comes_to_are_not_drawn():
    assert as_number(10**400) != as_number(10**400)
    assert as_number(1e300) != as_number(1e300)
    assert [as_number(value) for value in (3, 0.5)] == [3.0, 0.5]


@pytest.mark.parametrize(
    ("reason", "words"),
    [("iterations", "Complete after 3 iterations."), ("converged", "Converged after 3 iterations."),
     ("diverged", "Failed: it grew.")],
)  # fmt: skip
def test_how_a_run_ended(folder, reason, words):
    with open(folder / "events.jsonl", "a") as events:
        events.write(f'{{"kind": "stop", "reason": "{reason}", "message": "it grew"}}\n{{"kind": "done"}}\n')
    assert verdict(read_run(folder)) == words
    assert "refresh" not in build_report(folder, sections).read_text()


def test_no_run_folder(tmp_path):
    with pytest.raises(InputError, match="not a run folder"):
        build_report(tmp_path, sections)


def test_words():
    assert summary_entry("peak_memory_bytes", 3 << 30) == ("peak memory", "3.0 GiB")
    assert summary_entry("fsc.resolution_angstrom", 12.3456) == ("FSC, resolution", "12.35 Å")
    assert summary_entry("device", "cpu") == ("device", "cpu")
    assert summary_entry("x_seconds", None) == ("x seconds", "not known")
    assert format_value([1, 2.0, True, None]) == "1, 2, yes, not known"
    assert format_value(list(range(20))).endswith("11, ... (20 in all)")
    assert list(flatten({"a": {"b": 1}, "c": 2}).items()) == [("a.b", 1), ("c", 2)]


def test_units_move_behind_the_figures():
    assert summary_entry("mean_ncc_of_reprojections", 0.91234) == ("mean NCC of reprojections", "0.9123")
    assert summary_entry("resolution_fsc0143_of_the_halves_angstrom", 9.5) == (
        "resolution at FSC 0.143 of the halves",
        "9.5 Å",
    )
    assert summary_entry("map_voxels", 64) == ("map", "64 voxels")
    assert summary_entry("pixel_size_angstrom", 4.0) == ("pixel size", "4 Å")
    assert summary_entry("spread_of_angles_degrees", 1.09) == ("spread of angles", "1.09°")
    assert summary_entry("map (voxels)", 64) == ("map", "64 voxels")
    assert summary_entry("pixel size (angstrom)", 4.0) == ("pixel size", "4 Å")
    assert summary_entry("wall seconds", 75.0) == ("wall", "1 min 15 s")
    assert summary_entry("spread of angles (degrees)", 1.09) == ("spread of angles", "1.09°")
    assert summary_entry("wall_seconds", 75.0) == ("wall", "1 min 15 s")
    assert summary_entry("resolution_fsc05_angstrom", "none") == ("resolution at FSC 0.5", "none")


def test_reading_data_does_not_load_matplotlib():
    code = (
        "import sys, manyviews.report.build, manyviews.report.common; sys.exit('matplotlib' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
