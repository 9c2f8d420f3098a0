"""Cards of runs as HTML: the same page for a file and for the server. Every text is escaped."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from pathlib import Path
from urllib.parse import quote

from manyviews.report.build import FIGURES_FOLDER, REPORT_NAME
from manyviews.report.page_status import STATE_WORDS, progress_html
from manyviews.runs.folder import LOG_FILE
from manyviews.runs.progress import format_seconds
from manyviews.runs.status import RUNNING
from manyviews.serve.catalogue import LOST, MOST_RUNS, Card, Catalogue

MARK = "<meta name='generator' content='manyviews index'>"
"""In every such page, so that no other file of that name is written over."""

_STATES = {**STATE_WORDS, LOST: "No sign of life"}
_WIDTH, _HEIGHT = 240, 48  # of a curve, in its own units


@dataclass(frozen=True)
class Links:
    """How a page reaches what belongs to a run.

    ``to`` is an address from a card and the way to a file in its folder, ``key`` what names the run to the
    server; None where there is no server, and so nothing to stop or compare.
    """

    to: Callable[[Card, Sequence[str]], str]
    key: Callable[[Card], str] | None = None


def static_links() -> Links:
    """Relative ones, for a page in the folder that was searched."""
    return Links(lambda card, names: quote(b"/".join(map(os.fsencode, (*card.names, *names)))))


def style() -> str:
    """The rules of the pages of runs and those of cards."""
    here = Path(__file__).parent
    pages = (here.parent / "report" / "page.css").read_text(encoding="utf-8")
    return pages + (here / "index.css").read_text(encoding="utf-8")


def card_html(card: Card, links: Links) -> str:
    """One run. What changes while it lives is in ``.live`` and ``.picture``."""
    title = f"<bdi>{escape(card.title)}</bdi>"
    if card.has_report:
        title = f"<a href='{escape(links.to(card, (REPORT_NAME,)))}'>{title}</a>"
    tools = ""
    key = "" if links.key is None else escape(links.key(card))
    if key:
        tools = f"<label class='pick'><input type='checkbox' name='run' value='{key}'> compare</label>"
    what = escape(card.job + (f" by {card.method}" if card.method else ""))
    again = ""
    if card.command:
        again = f"<details><summary>Command</summary><pre>{escape(card.command)}</pre></details>"
    return (
        f"<article class='card' data-run='{key}'><h2>{title}</h2><p class='job'>{what}</p>"
        f"{_live(card, links)}{_picture(card, links)}"
        f"<div class='tools'>{tools}{_log(card, links)}</div>{again}</article>"
    )


def _log(card: Card, links: Links) -> str:
    return f"<a href='{escape(links.to(card, (LOG_FILE,)))}'>log</a>" if card.has_log else ""


def _live(card: Card, links: Links) -> str:
    words, bar = progress_html(_STATES[card.state], card.task, card.done, card.total)
    if card.seconds_left is not None:
        words += f"; {format_seconds(card.seconds_left)} left"
    when = ""
    if card.updated:
        shown = datetime.fromtimestamp(min(card.updated, 2e9)).astimezone().strftime("%Y-%m-%d %H:%M:%S")
        when = f"<p class='life'>{shown}</p>"
    figure = ""
    if card.figure is not None:
        figure = f"<p class='figure'>{escape(card.figure[0])}: <b>{escape(card.figure[1])}</b></p>"
    stop = ""
    if links.key is not None and card.state == RUNNING:
        stop = "<button type='button' class='stop'>Stop: checkpoint and leave</button>"
    return (
        f"<div class='live' data-state='{escape(card.state)}'><p class='state'>{words}</p>{bar}{when}"
        f"{figure}{_curve(card.curve)}{stop}</div>"
    )


def _picture(card: Card, links: Links) -> str:
    """Apart from what changes all the time; its address changes when it is written again."""
    if not card.picture:
        return "<div class='picture'></div>"
    source = escape(links.to(card, (FIGURES_FOLDER, card.picture)))
    again = f"?{card.picture_time}" if links.key is not None else ""
    return f"<div class='picture'><img alt='picture of this run' loading='lazy' src='{source}{again}'></div>"


def _curve(values: Sequence[float]) -> str:
    """The measure from its start to now as a line; by its logarithm where that can be."""
    if len(values) < 2:
        return ""
    heights = [math.log10(value) for value in values] if min(values) > 0 else list(values)
    low, high = min(heights), max(heights)
    span = (high - low) or 1.0
    points = " ".join(
        f"{_WIDTH * index / (len(heights) - 1):.1f},{2 + (_HEIGHT - 4) * (high - height) / span:.1f}"
        for index, height in enumerate(heights)
    )
    label = f"convergence, now {values[-1]:.3g} of the start"
    return (
        f"<svg class='curve' role='img' aria-label='{label}' viewBox='0 0 {_WIDTH} {_HEIGHT}' "
        f"preserveAspectRatio='none'><title>{label}</title><polyline points='{points}'/></svg>"
    )


def index_html(folder_name: str, catalogue: Catalogue, links: Links) -> str:
    """The page of all cards; with a server it asks for news and can stop and compare runs."""
    served = links.key is not None
    cards = "".join(card_html(card, links) for card in catalogue.cards)
    note = ""
    if catalogue.cut:
        note = f"<section class='note'>There is more than is shown: at most {MOST_RUNS} runs.</section>"
    body = f"<div class='cards'>{cards}</div>"
    if not catalogue.cards:
        body += "<p class='none'>No runs here yet.</p>"
    if served:
        body = f"<form action='/compare'><p><button>Compare two</button> <output></output></p>{body}</form>"
    head = "<link rel='stylesheet' href='/index.css'><script src='/index.js' defer></script>"
    return document(
        f"Runs in {folder_name}", note + body, head if served else f"<style>{style()}</style>", wide=True
    )


def compare_html(first: tuple[Card, str], second: tuple[Card, str]) -> str:
    """The pages of two runs, each with its address, side by side."""
    frames = "".join(
        f"<figure><figcaption><bdi>{escape(card.title)}</bdi></figcaption>"
        f"<iframe title='page of a run' src='{escape(address)}'></iframe></figure>"
        for card, address in (first, second)
    )
    head = "<link rel='stylesheet' href='/index.css'>"
    return document(
        "Two runs", f"<p><a href='/'>All runs</a></p><div class='pair'>{frames}</div>", head, wide=True
    )


def document(title: str, body: str, head: str, *, wide: bool = False) -> str:
    """A whole page; ``body`` and ``head`` are HTML, ``title`` is text."""
    return (
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'>{MARK}"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{escape(title)}</title>{head}</head><body><main{' class=wide-page' if wide else ''}>"
        f"<h1><bdi>{escape(title)}</bdi></h1>{body}</main></body></html>\n"
    )
