"""The served pages in Chromium, where that and Playwright are: news, stop, compare, phones, hostile names."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from manyviews.io.mrc import write_mrc
from run_files import write_run
from serve_processes import running_run

ADDRESS = "{0.origin}/?token=a-token-of-the-tests"
EVIL = "<img src=x onerror='document.title=1'>"


@pytest.fixture
def context(chromium, served):
    """A browser's window; what goes wrong in a script, or is forbidden to it, ends the test."""
    window = chromium.new_context()
    faults = []
    window.on("weberror", lambda fault: faults.append(str(fault.error)))
    window.on("console", lambda line: faults.append(line.text) if line.type == "error" else None)
    yield window
    window.close()
    assert faults == []


def opened(context, served, **how):
    page = context.new_page()
    page.goto(ADDRESS.format(served))
    return page


def card(page, name):
    return page.locator(".card", has=page.get_by_text(name, exact=True))


def test_two_tabs_see_a_run_live_and_stop(context, served):
    first, second = opened(context, served), opened(context, served)
    card(first, "one").locator("summary").click()
    card(first, "two").locator("input").check()
    with running_run(served.root / "live") as (folder, process):
        for page in (first, second):
            card(page, "live").locator("[data-state=running]").wait_for(timeout=20_000)
        line = card(first, "live").locator("polyline").get_attribute("points")
        with open(folder / "events.jsonl", "a") as events:
            events.write(json.dumps({"kind": "iteration", "iteration": 4, "objective": 0.01}) + "\n")
        moved = "before => document.querySelector('[data-state=running] polyline').outerHTML.includes(before)"
        first.wait_for_function(f"before => !({moved})(before)", arg=line, timeout=20_000)
        # what was opened and picked is still so
        assert card(first, "one").locator("details").get_attribute("open") is not None
        assert card(first, "two").locator("input").is_checked()
        second.once("dialog", lambda asked: asked.dismiss())
        card(second, "live").locator(".stop").click()
        assert process.poll() is None
        first.once("dialog", lambda asked: asked.accept())
        card(first, "live").locator(".stop").click()
        first.get_by_text("live was asked to stop.").wait_for()
        assert process.wait(20) == 143
    for page in (first, second):
        card(page, "live").locator("[data-state=lost]").wait_for(timeout=20_000)
        assert card(page, "live").locator(".stop").count() == 0


def test_volumes_side_by_side_in_pages_that_are_shut_in(context, served):
    z, y, x = np.mgrid[:16, :16, :16]
    ball = np.clip(5.5 - np.hypot(np.hypot(x - 8, y - 8), z - 8), 0, 1).astype(np.float32)
    for name in ("one", "two"):
        write_mrc(served.root / name / "volume.mrc", ball, 4.0, overwrite=True)
        program = (
            "import sys; from pathlib import Path\nfrom manyviews.report.build import build_report\n"
            "from manyviews.report.common import volume_section\nfolder = Path(sys.argv[1])\n"
            "build_report(folder, lambda run: volume_section(folder / 'volume.mrc'))"
        )
        subprocess.run([sys.executable, "-c", program, str(served.root / name)], check=True)
    page = opened(context, served)
    for name in ("one", "two"):
        card(page, name).locator("input").check()
    page.get_by_role("button", name="Compare two").click()
    for index in (0, 1):
        inner = page.frame_locator("iframe").nth(index)
        inner.locator(".volume[data-shown]").wait_for(timeout=30_000)
        canvas = "c => c.toDataURL()"
        before = inner.locator("figure.xy canvas").evaluate(canvas)
        inner.locator("figure.xy input").evaluate(
            "e => { e.value = 4; e.dispatchEvent(new Event('input')); }"
        )
        assert inner.locator("figure.xy canvas").evaluate(canvas) != before
        assert inner.locator("canvas.surface").count() == 1
        # it can reach neither the page about it nor the server
        assert inner.locator("body").evaluate("() => self.origin") == "null"


def test_a_page_of_a_run_can_neither_stop_nor_read(chromium, served):
    (served.root / "two" / "report.html").write_text(
        "<!doctype html><p id=told></p><script>(async () => { const told = [];"
        "for (const [path, how] of [['/cards', 'GET'], [`/stop/${location.pathname.split('/')[2]}`, 'POST']])"
        "{ try { told.push((await fetch(path, {method: how})).status); } catch { told.push('shut'); } }"
        "try { told.push(document.cookie); } catch { told.push('shut'); }"
        "try { told.push(parent.document.title); } catch { told.push('shut'); }"
        "document.getElementById('told').textContent = told.join(' ') + ' told'; })();</script>"
    )
    window = chromium.new_context()
    page = window.new_page()
    page.goto(ADDRESS.format(served))
    card(page, "two").locator("h2 a").click()
    page.get_by_text("told").wait_for()
    assert page.locator("#told").text_content().startswith("shut shut shut")
    window.close()


def test_hostile_names_and_phones(chromium, context, served):
    long = "long-" * 40
    for name in (EVIL, long):
        write_run(served.root / name)
    page = opened(context, served)
    page.set_viewport_size({"width": 360, "height": 700})
    page.wait_for_timeout(4000)  # the script has shown the names too
    assert page.title() == "Runs in runs"
    assert page.locator(".card").count() == 4
    assert page.locator(".card img").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.emulate_media(color_scheme="dark")
    assert (
        page.locator(".card").first.evaluate("c => getComputedStyle(c).backgroundColor") == "rgb(22, 27, 34)"
    )
    if shots := os.environ.get("MANYVIEWS_SHOTS"):
        page.screenshot(path=f"{shots}/serve-phone.png")
