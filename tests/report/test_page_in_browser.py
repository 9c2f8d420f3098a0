"""The page of a run in Chromium, where that and Playwright are: sliders, surface, refresh, phones, dark."""

import time

import numpy as np
import pytest

from manyviews.io.mrc import write_mrc
from manyviews.report.build import build_report, refresh_status
from manyviews.report.common import table_section, volume_section
from manyviews.runs.folder import RunFolder
from manyviews.runs.status import Status, write_status

pytestmark = pytest.mark.usefixtures("blank_pictures")


@pytest.fixture
def folder(tmp_path):
    """A run with a ball near the first face of a volume of 32 x 32 x 32 voxels of 4 A."""
    path = tmp_path / "run & <b>"
    with RunFolder.open(path, job="toy", options={}, inputs={}, command=["toy"]):
        pass
    z, y, x = np.mgrid[:32, :32, :32]
    radius = np.hypot(np.hypot(x - 20, y - 16), z - 8)
    ball = np.clip(6.5 - radius, 0, 1)
    write_mrc(path / "volume.mrc", ball.astype(np.float32), pixel_size=4.0)
    (path / "sheep.csv").write_text("name\n" + 300 * "<i>Dolly</i>\n")
    return path


def sections(run):
    yield from volume_section(run.path / "volume.mrc")
    yield from table_section(run.path / "sheep.csv", "The {rows} sheep")


def show(chromium, folder, **how):
    """Open the page; what goes wrong in its script ends the test."""
    page = chromium.new_page(**how)
    faults = []
    page.on("pageerror", lambda fault: faults.append(str(fault)))
    page.on("console", lambda line: faults.append(line.text) if line.type == "error" else None)
    page.goto(build_report(folder, sections).as_uri())
    page.wait_for_selector(".volume[data-shown]", timeout=20_000)
    assert faults == []
    return page


def grey(page, plane):
    """Mean brightness of a plane as it is drawn."""
    return page.evaluate(
        """plane => { const c = document.querySelector(`figure.${plane} canvas`);
        const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
        let sum = 0; for (let i = 0; i < d.length; i += 4) sum += d[i]; return sum / (d.length / 4); }""",
        plane,
    )


def surface(page):
    """Centre of the surface as it is drawn, from -1 to 1 and upwards, and its share of the picture."""
    return page.evaluate(
        """() => { const c = document.querySelector('canvas.surface'), k = document.createElement('canvas');
        [k.width, k.height] = [c.width, c.height]; const p = k.getContext('2d'); p.drawImage(c, 0, 0);
        const d = p.getImageData(0, 0, k.width, k.height).data; let n = 0, x = 0, y = 0;
        for (let i = 3; i < d.length; i += 4) if (d[i] > 0) {
          const j = (i - 3) / 4; n++; x += j % k.width; y += Math.floor(j / k.width); }
        return [2 * x / n / k.width - 1, 1 - 2 * y / n / k.height, n / k.width / k.height]; }"""
    )


def slide(page, name, value):
    page.evaluate(
        """([name, value]) => { const e = document.getElementById(name); e.value = value;
        e.dispatchEvent(new Event('input')); }""",
        [name, value],
    )


def test_sliders_go_through_the_volume(chromium, folder):
    page = show(chromium, folder)
    slide(page, "volume-xy", 8)
    inside = grey(page, "xy")
    assert "section 9 of 32 along z, 34 Å from the first face" in page.inner_text("figure.xy figcaption")
    slide(page, "volume-xy", 28)
    assert grey(page, "xy") < 0.1 * inside
    slide(page, "volume-white", 255)
    assert float(page.inner_text(".highest")) == pytest.approx(1.0, abs=0.01)
    page.close()


def test_the_surface_is_where_it_is_and_turns(chromium, folder):
    page = show(chromium, folder)
    slide(page, "volume-level", 128)
    page.wait_for_timeout(500)
    x, y, share = surface(page)
    # the ball lies 4 voxels to the right of the centre; zoomed by 0.9, half the picture is 16 voxels
    assert (x, y) == (pytest.approx(0.9 * 4 / 16, abs=0.05), pytest.approx(0.0, abs=0.05))
    assert share == pytest.approx(np.pi / 4 * (0.9 * 12 / 32) ** 2, rel=0.1)
    page.locator("canvas.surface").scroll_into_view_if_needed()
    box = page.locator("canvas.surface").bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0], middle[1] - 0.2 * box["height"], steps=4)
    page.mouse.up()
    page.wait_for_timeout(500)
    # its front goes up with the hand; the ball is 8 voxels behind the centre, so it goes down
    assert surface(page)[1] < y - 0.1
    page.close()


def test_what_was_opened_survives_a_refresh_and_a_killed_run_is_told(chromium, folder):
    write_status(
        folder, Status("running", time.time(), task="counting", done=2, total=9, task_seconds_left=99)
    )
    page = show(chromium, folder)
    assert "Last sign of life" in page.inner_text("#status .life")
    assert "left" in page.inner_text("#status [data-left]")
    page.evaluate("document.querySelector('details[id^=fold-the-300]').open = true")
    slide(page, "volume-xz", 3)
    page.evaluate("scrollTo(0, 700)")
    refresh_status(folder, Status("running", time.time() - 90, task="counting", done=3, total=9))
    page.evaluate("location.reload()")
    page.wait_for_selector("#status.lost")
    assert "No sign of life since" in page.inner_text("#status .life")
    page.wait_for_selector(".volume[data-shown]")
    assert page.evaluate("document.querySelector('details[id^=fold-the-300]').open")
    assert page.evaluate("document.getElementById('volume-xz').value") == "3"
    assert page.evaluate("scrollY") > 300
    assert page.locator("i").count() == 0
    page.close()


@pytest.mark.parametrize("look", ["light", "dark"])
def test_a_phone_shows_all_of_it(chromium, folder, look):
    page = show(chromium, folder, viewport={"width": 380, "height": 800}, color_scheme=look)
    assert page.evaluate("document.documentElement.scrollWidth") <= 380
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(13, 17, 23)") == (look == "dark")
    page.close()
