"""``report.html``: one page with everything in it, no request to anywhere."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from manyviews import __version__
from manyviews.report.data import RunData
from manyviews.report.sections import Citation, Finding, Note, Part, Picture, Section, Table
from manyviews.report.words import format_value, summary_entry, verdict
from manyviews.runs.record import flatten

_STYLE = """
:root { color-scheme: light dark; --ink: #24292f; --soft: #57606a; --ground: #f6f8fa; --card: #ffffff;
  --line: #d8dee4; --accent: #0072b2; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9da7b1; --ground: #0d1117;
  --card: #161b22; --line: #30363d; --accent: #56b4e9; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.7rem; margin: 0 0 .3rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 0 0 .8rem; }
.verdict { font-size: 1.05rem; color: var(--soft); margin: 0 0 1.5rem; }
section, details { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 1.1rem 1.25rem; margin: 0 0 1.1rem; }
summary { cursor: pointer; font-weight: 600; }
details[open] > summary { margin-bottom: .8rem; }
img { display: block; width: 100%; height: auto; background: #fff; border-radius: 6px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .93rem; }
th, td { text-align: left; padding: .28rem .9rem .28rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; overflow-wrap: anywhere; }
th { font-weight: 600; color: var(--soft); }
.caption { margin: .6rem 0 0; color: var(--soft); font-size: .9rem; }
.scroll { overflow: auto; max-height: 32rem; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0; font-size: .88rem; }
.note { border-left: 4px solid #e69f00; }
footer { color: var(--soft); font-size: .85rem; }
"""

_REFRESH_SECONDS = 20
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
    return f"<details><summary>{escape(title)}</summary>{body}</details>"


def _of_job(section: Section, pictures: Mapping[str, bytes]) -> str:
    """A section that the job has handed over."""
    if isinstance(section.body, Picture):
        data = base64.b64encode(pictures[section.body.name]).decode("ascii")
        body = f"<img alt='{escape(section.body.alternative)}' src='data:image/png;base64,{data}'>"
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


def render_page(run: RunData, parts: Sequence[Part], pictures: Mapping[str, bytes]) -> str:
    """The page of a run as HTML: what every run has, and the ``parts`` that its job hands over.

    Every text is escaped, for it may come from files; ``pictures`` are PNG bytes by the names in ``parts``.
    """
    notes = [*run.faults, *(part.text for part in parts if isinstance(part, Note)), *run.warnings]
    shown = [f"<section class='note'>{escape(note)}</section>" for note in notes]
    summary = [summary_entry(name, value) for name, value in flatten(run.summary).items()]
    if summary:
        shown.append(_section("Key figures", _pairs(summary)))
    shown += [_of_job(part, pictures) for part in parts if isinstance(part, Section)]
    shown += _provenance(run)
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
    refresh = "" if run.done else f"<meta http-equiv='refresh' content='{_REFRESH_SECONDS}'>"
    return (
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'>{refresh}"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{title}</title><style>{_STYLE}</style></head><body><main>"
        f"<h1>{title}</h1><p class='verdict'>{words}</p>{body}"
        f"<footer>Written by manyviews{f', run started {started}' if started else ''}.</footer>"
        "</main></body></html>\n"
    )
