"""The pages of runs below a folder over HTTP: to look at, and to stop a run; nothing else writes.

Whoever asks shows the token, by a cookie. A run is named by a key made of the token and its path: no path of
a run is in an address, and none outside the catalogue can be. What a run's own page may do is less than what
ours may: its script is shut in (``sandbox``), for run folders come from anywhere.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from manyviews.errors import InputError, shortened
from manyviews.report.build import REPORT_NAME
from manyviews.runs.folder import LOG_FILE
from manyviews.serve.catalogue import Card, Catalogue, find_runs
from manyviews.serve.guard import Guard, is_same_origin
from manyviews.serve.index_page import Links, card_html, compare_html, index_html, style
from manyviews.serve.inside import open_inside, read_inside
from manyviews.serve.stop import stop_run

_LEAST_SECONDS = 1.0
_SHARE_OF_TIME = 0.1  # at most, that searching the folder takes
_LOG_BYTES = 256 << 10
_PIECE_BYTES = 1 << 20
_TEXTS = (".csv", ".json", ".jsonl", ".log", ".star", ".toml", ".tlt", ".txt", ".xf")
_DATA = (".h5", ".map", ".mrc", ".mrcs", ".npy", ".rec", ".tif", ".tiff")
_OWN_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self'; "
    "connect-src 'self'; frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_RUN_POLICY = (
    "sandbox allow-scripts allow-downloads allow-popups; default-src 'none'; script-src 'unsafe-inline'; "
    "style-src 'unsafe-inline'; img-src data:; form-action 'none'; base-uri 'none'; frame-ancestors 'self'"
)


@dataclass(frozen=True)
class _Found:
    """A search of the folder: its runs by their keys, their cards, and when it is to be searched again.

    ``mark`` is another where ``news`` are, for a page that has them already.
    """

    catalogue: Catalogue
    by_key: Mapping[str, Card]
    news: bytes
    mark: str
    due: float


class Runs:
    """The runs below a folder as of a moment ago, however many ask."""

    def __init__(self, root: Path, token: str) -> None:
        self.root = root
        self.links = Links(self._address, self.key)
        self._token = token.encode()
        self._searching = asyncio.Lock()
        self._found: _Found | None = None

    def key(self, card: Card) -> str:
        """What names a run in addresses; who has it may read that run and no other."""
        path = b"/".join(map(os.fsencode, card.names))
        return hmac.new(self._token, path, hashlib.sha256).hexdigest()[:32]

    def _address(self, card: Card, names: Sequence[str]) -> str:
        inner = ("log",) if tuple(names) == (LOG_FILE,) else names
        return f"/run/{self.key(card)}/{quote('/'.join(inner), errors='replace')}"

    async def found(self) -> _Found:
        """The last search, or a new one where that is too old."""
        async with self._searching:
            if self._found is None or time.monotonic() >= self._found.due:
                self._found = await run_in_threadpool(self._search)
            return self._found

    async def card(self, key: str) -> Card | None:
        """The run of a key; None where there is none."""
        return (await self.found()).by_key.get(key)

    def _search(self) -> _Found:
        begun = time.monotonic()
        catalogue = find_runs(self.root)
        by_key = {self.key(card): card for card in catalogue.cards}
        news = [[key, card_html(card, self.links)] for key, card in by_key.items()]
        data = json.dumps(news).encode()
        took = time.monotonic() - begun
        mark = hashlib.sha256(data).hexdigest()[:16]
        due = time.monotonic() + max(_LEAST_SECONDS, took / _SHARE_OF_TIME)
        return _Found(catalogue, by_key, data, mark, due)


class _FileAnswer(Response):
    """An open file, which is closed whatever becomes of the reader."""

    def __init__(self, descriptor: int, headers: Mapping[str, str]) -> None:
        self._descriptor = descriptor
        self._size = os.fstat(descriptor).st_size
        super().__init__(headers={**headers, "Content-Length": str(self._size)})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it piece by piece, as long as there is somebody to read."""
        request = Request(scope, receive)
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            place, size = 0, 0 if request.method == "HEAD" else self._size
            while place < size and not await request.is_disconnected():
                length = min(_PIECE_BYTES, size - place)
                piece = await run_in_threadpool(os.pread, self._descriptor, length, place)
                if not piece:  # it has become shorter
                    return
                place += len(piece)
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            os.close(self._descriptor)


class _Pages:
    """One method a route."""

    def __init__(self, runs: Runs) -> None:
        self.runs = runs

    async def index(self, request: Request) -> Response:
        found = await self.runs.found()
        name = shortened(self.runs.root.name, 200)
        return _html(index_html(name, found.catalogue, self.runs.links), _OWN_POLICY)

    async def style(self, request: Request) -> Response:
        return Response(style(), media_type="text/css")

    async def script(self, request: Request) -> Response:
        text = (Path(__file__).parent / "index.js").read_text(encoding="utf-8")
        return Response(text, media_type="text/javascript")

    async def cards(self, request: Request) -> Response:
        found = await self.runs.found()
        if request.query_params.get("have") == found.mark:
            return Response(status_code=204)
        return Response(found.news, media_type="application/json", headers={"ETag": f'"{found.mark}"'})

    async def compare(self, request: Request) -> Response:
        cards = [await self.runs.card(key) for key in request.query_params.getlist("run")[:3]]
        chosen = [card for card in cards if card is not None]
        if len(cards) != 2 or len(chosen) != 2:
            return PlainTextResponse("Pick two runs to compare, then go back and try again.", 400)
        first, second = ((card, self.runs.links.to(card, (REPORT_NAME,))) for card in chosen)
        return _html(compare_html(first, second), _OWN_POLICY)

    async def log(self, request: Request) -> Response:
        card = await self.runs.card(request.path_params["key"])
        if card is None:
            return _missing()
        names = (*card.names, LOG_FILE)
        data = await run_in_threadpool(read_inside, self.runs.root, names, _LOG_BYTES, end=True)
        return Response(data, media_type="text/plain")

    async def file(self, request: Request) -> Response:
        card = await self.runs.card(request.path_params["key"])
        names = request.path_params["path"].split("/")
        if names == [""]:
            names = [REPORT_NAME]
        if card is None or (headers := _headers_of(names)) is None:
            return _missing()
        try:
            descriptor = await run_in_threadpool(open_inside, self.runs.root, (*card.names, *names))
        except (OSError, ValueError):
            return _missing()
        return _FileAnswer(descriptor, headers)

    async def stop(self, request: Request) -> Response:
        if not is_same_origin(request.headers.get("origin"), request.headers.get("host")):
            return JSONResponse({"message": "This did not come from the page of runs."}, 403)
        card = await self.runs.card(request.path_params["key"])
        if card is None:
            return JSONResponse({"message": "There is no such run."}, 404)
        try:
            await run_in_threadpool(stop_run, self.runs.root, card.names)
        except InputError as error:
            fix = f"; {error.fix}" if error.fix else ""
            return JSONResponse({"message": f"{card.title} {error.what}{fix}."}, 409)
        return JSONResponse({"message": f"{card.title} was asked to stop."})


def _html(text: str, policy: str) -> Response:
    return Response(
        text.encode("utf-8", "replace"), media_type="text/html", headers={"Content-Security-Policy": policy}
    )


def _missing() -> Response:
    return PlainTextResponse("There is no such file.", 404)


def _headers_of(names: Sequence[str]) -> dict[str, str] | None:
    """How a file of a run is sent, by its name; None for what is not."""
    ending = PurePosixPath(names[-1]).suffix.lower()
    if tuple(names) == (REPORT_NAME,):
        return {"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": _RUN_POLICY}
    if ending == ".png":
        return {"Content-Type": "image/png"}
    if ending in _TEXTS:
        return {"Content-Type": "text/plain; charset=utf-8"}
    if ending in _DATA:
        return {"Content-Type": "application/octet-stream", "Content-Disposition": "attachment"}
    return None


def make_app(root: Path, token: str, *, hosts: frozenset[str] | None, cookie: str) -> Guard:
    """The application for the runs below ``root``.

    ``hosts`` are the names by which it may be called, None for any; ``cookie`` is the name of the cookie.
    """
    pages = _Pages(Runs(root, token))
    routes = [
        Route("/", pages.index),
        Route("/index.css", pages.style),
        Route("/index.js", pages.script),
        Route("/cards", pages.cards),
        Route("/compare", pages.compare),
        Route("/run/{key}/log", pages.log),
        Route("/run/{key}/{path:path}", pages.file),
        Route("/stop/{key}", pages.stop, methods=["POST"]),
    ]
    return Guard(Starlette(routes=routes), token, hosts=hosts, cookie=cookie)
