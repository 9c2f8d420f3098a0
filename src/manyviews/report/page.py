"""``report.html``: one page with everything in it, no request to anywhere."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from html import escape

from manyviews.report.citations import citations
from manyviews.report.data import RunData
from manyviews.report.text import flatten, format_value, is_done, key_figure, method_of, verdict

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

FIGURE_TITLES = {
    "slices": ("Central slices", "Central planes of the volume in xy, xz and yz"),
    "surface": ("Surface", "The surface of the map seen along z, y and x"),
    "resolution": ("Resolution", "Fourier shell correlation of half maps and with the reference"),
    "directions": ("View directions", "Equal-area map of the directions from which particles are seen"),
    "spread": ("Certainty of the poses", "Histogram of the spread of the particles' orientations"),
    "learning": ("Learning curves", "Likelihood and resolution over the iterations"),
    "poses": ("Poses evaluated", "Poses scored for an image over the iterations, and their fraction of all"),
    "ncc": ("Fit to the data", "Correlation of views and reprojections against tilt, per tilt axis"),
    "convergence": ("Convergence", "Objective relative to its start against passes over the data"),
    "fsc": ("Comparison with the reference", "Fourier shell correlation"),
}

CAPTIONS = {
    "surface": "At the level above which the voxels hold 70 % of all positive density.",
    "resolution": "Halves whose poses were found with one map share its errors: their curve tells how far "
    "the images repeat themselves, not how true the map is. --independent-halves gives halves refined "
    "apart.",
    "directions": "Each field has the same area on the sphere; 1 is an even share. Empty regions "
    "mean that the map is less resolved in some directions.",
    "spread": "Root mean square angle between a particle's best pose and the others that its image allows; "
    "the last bar holds what is beyond.",
    "learning": "Each value is of another batch of images, and of more coefficients when the frequency "
    "rises, so likelihoods compare within one frequency only.",
    "poses": "All points: directions, in-plane angles and shifts of the quadrature of Punjani, Brubaker and "
    "Fleet (2017) at the frequency in use.",
}
_REFRESH_SECONDS = 20


def _pairs(rows: Iterable[tuple[str, str]]) -> str:
    cells = (f"<tr><th scope='row'>{escape(name)}</th><td>{escape(text)}</td></tr>" for name, text in rows)
    return f"<table>{''.join(cells)}</table>"


def _table(rows: list[dict[str, str]]) -> str:
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


def _picture(name: str, png: bytes) -> str:
    title, alternative = FIGURE_TITLES[name]
    data = base64.b64encode(png).decode("ascii")
    caption = f"<p class='caption'>{escape(CAPTIONS[name])}</p>" if name in CAPTIONS else ""
    return _section(title, f"<img alt='{escape(alternative)}' src='data:image/png;base64,{data}'>{caption}")


def _title(run: RunData) -> str:
    method = method_of(run)
    name = run.path.resolve().name
    return f"{name}: {run.record.get('job', 'run')}" + (f" by {method}" if method else "")


def _told(run: RunData, name: str) -> bool:
    """Whether a number is there in words too, as a size in bytes may be."""
    return name.endswith(" bytes") and name.removesuffix(" bytes") in run.summary


def _table_of(run: RunData, name: str) -> Mapping[str, object]:
    found = run.record.get(name)
    return found if isinstance(found, Mapping) else {}


def _provenance(run: RunData) -> list[str]:
    """Command, options, inputs, versions: what it takes to do it again."""
    parts = []
    command = run.record.get("command")
    if isinstance(command, list):
        import shlex

        parts.append(_fold("Command", f"<pre>{escape(shlex.join(map(str, command)))}</pre>"))
    for title, names in (
        ("Options", ("options",)),
        ("Input files", ("inputs",)),
        ("Versions, machine, seeds", ("versions", "host", "seeds")),
    ):
        rows = [(key, format_value(value)) for name in names for key, value in flatten(_table_of(run, name))]
        if rows:
            parts.append(_fold(title, _pairs(rows)))
    return parts


def render_page(run: RunData, pictures: Mapping[str, bytes]) -> str:
    """The page of a run as HTML; ``pictures`` are PNG bytes by the names of `FIGURE_TITLES`.

    Every text that comes from files is escaped.
    """
    parts = [f"<section class='note'>{escape(note)}</section>" for note in run.notes]
    figures = [key_figure(name, value) for name, value in flatten(run.summary) if not _told(run, name)]
    if figures:
        parts.append(_section("Key figures", _pairs(figures)))
    parts += [_picture(name, pictures[name]) for name in FIGURE_TITLES if name in pictures]
    if run.geometry:
        parts.append(_fold(f"Geometry of the {len(run.geometry)} views", _table(run.geometry)))
    parts += _provenance(run)
    papers = "".join(f"<li>{escape(paper)}</li>" for paper in citations(method_of(run)))
    if papers:
        parts.append(_section("Please cite", f"<ul>{papers}</ul>"))
    title = escape(_title(run))
    started = escape(str(run.record.get("started", "")))
    # the report of particles is written again and again until the run is done
    waits = run.particles is not None and not is_done(run)
    refresh = f"<meta http-equiv='refresh' content='{_REFRESH_SECONDS}'>" if waits else ""
    return (
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'>{refresh}"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{title}</title><style>{_STYLE}</style></head><body><main>"
        f"<h1>{title}</h1><p class='verdict'>{escape(verdict(run))}</p>{''.join(parts)}"
        f"<footer>Written by manyviews{f', run started {started}' if started else ''}.</footer>"
        "</main></body></html>\n"
    )
