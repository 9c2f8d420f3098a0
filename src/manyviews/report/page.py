"""``report.html``: one page with everything in it, no request to anywhere."""

from __future__ import annotations

import base64
import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from manyviews import __version__
from manyviews.io.sizes import format_bytes
from manyviews.report.data import RunData
from manyviews.report.page_status import status_html
from manyviews.report.page_volume import volume_html
from manyviews.report.sections import Citation, Finding, Note, Part, Picture, Section, Table, VolumeView
from manyviews.report.words import format_value, summary_entry, verdict
from manyviews.runs.record import flatten

if TYPE_CHECKING:
    from manyviews.report.drawing import Drawing

_HERE = Path(__file__).parent
_REFRESH_SECONDS = 20  # where scripts are not allowed
_OURSELVES = f"manyviews contributors, manyviews {__version__} (see CITATION.cff)."


def _pairs(rows: Iterable[tuple[str, str]]) -> str:
    cells = (f"<tr><th scope='row'>{escape(name)}</th><td>{escape(text)}</td></tr>" for name, text in rows)
    return f"<table>{''.join(cells)}</table>"


def _table(rows: Sequence[Mapping[str, str]]) -> str:
    names = list(rows[0])
    head = "".join(f"<th scope='col'>{escape(name.replace('_', ' '))}</th>" for name in names)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(row.get(name, ''))}</td>" for name in names) + "</tr>" for row in rows
    )
    return f"<div class='scroll'><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>"


def _fold(title: str, body: str) -> str:
    name = re.sub(r"[^a-z0-9]+", "-", title.lower())
    return f"<details id='fold-{name}'><summary>{escape(title)}</summary>{body}</details>"


def _data(picture: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture).decode('ascii')}"


def _drawing(picture: Picture, pictures: Mapping[str, Drawing]) -> str:
    """A picture that is light or dark as the page is."""
    drawing = pictures[picture.name]
    return (
        "<div class='wide'><picture>"
        f"<source media='(prefers-color-scheme: dark)' srcset='{_data(drawing.dark)}'>"
        f"<img alt='{escape(picture.alternative)}' src='{_data(drawing.light)}'></picture></div>"
    )


def _of_job(section: Section, pictures: Mapping[str, Drawing]) -> str:
    """A section that the job has handed over."""
    if isinstance(section.body, VolumeView):
        body = volume_html(section.body.name, section.body.volume)
        body += f"<noscript>{_drawing(section.body.picture, pictures)}</noscript>"
    elif isinstance(section.body, Picture):
        body = _drawing(section.body, pictures)
    elif isinstance(section.body, Table):
        body = _table(section.body.rows)
    else:
        body = f"<p>{escape(section.body)}</p>"
    if section.caption:
        body += f"<p class='caption'>{escape(section.caption)}</p>"
    return (_fold if section.folded else _section)(section.title, body)


def _title(run: RunData) -> str:
    return f"{run.path.resolve().name}: {run.job}" + (f" by {run.method}" if run.method else "")


def _table_of(run: RunData, name: str) -> Mapping[str, object]:
    found = run.record.get(name)
    return found if isinstance(found, Mapping) else {}


def _links(files: Mapping[str, int]) -> list[str]:
    """To what lies beside the page."""
    if not files:
        return []
    rows = "".join(
        f"<tr><td><a href='{escape(quote(os.fsencode(name)))}'>{escape(name)}</a></td>"
        f"<td>{format_bytes(size)}</td></tr>"
        for name, size in files.items()
    )
    return [_fold("Files", f"<table>{rows}</table>")]


def _provenance(run: RunData) -> list[str]:
    """Command, options, inputs, versions: what it takes to do it again."""
    parts = []
    command = run.record.get("command")
    if isinstance(command, list):
        parts.append(_fold("Command", f"<pre>{escape(shlex.join(map(str, command)))}</pre>"))
    for title, names in (
        ("Options", ("options",)),
        ("Input files", ("inputs",)),
        ("Versions, machine, seeds", ("versions", "host", "seeds")),
    ):
        tables = [flatten(_table_of(run, name)) for name in names]
        rows = [(key, format_value(value)) for table in tables for key, value in table.items()]
        if rows:
            parts.append(_fold(title, _pairs(rows)))
    return parts


def render_page(
    run: RunData, parts: Sequence[Part], pictures: Mapping[str, Drawing], files: Mapping[str, int]
) -> str:
    """The page of a run as HTML: what every run has, and the ``parts`` that its job hands over.

    Every text is escaped, for it may come from files; ``pictures`` are by the names in ``parts``,
    ``files`` are sizes by names within the folder.
    """
    notes = [*run.faults, *(part.text for part in parts if isinstance(part, Note)), *run.warnings]
    shown = [f"<section class='note'>{escape(note)}</section>" for note in notes]
    sections = [part for part in parts if isinstance(part, Section)]
    shown += [_of_job(part, pictures) for part in sections if isinstance(part.body, VolumeView)]
    summary = [summary_entry(name, value) for name, value in flatten(run.summary).items()]
    if summary:
        shown.append(_section("Key figures", _pairs(summary)))
    shown += [_of_job(part, pictures) for part in sections if not isinstance(part.body, VolumeView)]
    shown += [*_links(files), *_provenance(run)]
    papers = "".join(f"<li>{escape(part.paper)}</li>" for part in parts if isinstance(part, Citation))
    if papers:
        papers += f"<li>{escape(_OURSELVES)}</li>"
        shown.append(_section("Please cite", f"<ul>{papers}</ul>"))
    words = verdict(run, [part.text for part in parts if isinstance(part, Finding)])
    return _document(run, escape(words), "".join(shown))


def _document(run: RunData, words: str, body: str) -> str:
    title = escape(_title(run))
    started = escape(str(run.record.get("started", "")))
    # the report may be written again and again until the run is done
    refresh = f"<noscript><meta http-equiv='refresh' content='{_REFRESH_SECONDS}'></noscript>"
    style, script = ((_HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return (
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'>{'' if run.done else refresh}"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{title}</title><style>{style}</style></head><body><main>"
        f"<h1>{title}</h1>{status_html(run.status)}<p class='verdict'>{words}</p>{body}"
        f"<footer>Written by manyviews{f', run started {started}' if started else ''}.</footer>"
        f"</main><script>{script}</script></body></html>\n"
    )
