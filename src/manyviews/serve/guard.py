"""Who may ask: the token once, a cookie from then on; and the headers that every answer has."""

from __future__ import annotations

import hmac
import re
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_OPEN_BY_KEY = re.compile(r"/run/[0-9a-f]{32}/")
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; sandbox; frame-ancestors 'self'",
}


def is_same_origin(origin: str | None, host: str | None) -> bool:
    """Whether a request was made by a page of this server, as browsers tell of all that change something."""
    if not origin or not host:
        return False
    parts = urlsplit(origin)
    return parts.scheme in ("http", "https") and hmac.compare_digest(parts.netloc.encode(), host.encode())


class Guard:
    """Turns away who does not show the token, and adds the headers.

    Addresses that begin with a run's key need no cookie: a shut-in page sends none, and who knows the key has
    got it from a page that was shown for the token. An unknown key finds nothing.
    """

    def __init__(self, app: ASGIApp, token: str, *, hosts: frozenset[str] | None, cookie: str) -> None:
        self._app = app
        self._token = token.encode()
        self._hosts = hosts
        self._cookie = cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return
        request = Request(scope)
        refusal = self._answer(request)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await (refusal or self._app)(scope, receive, send_with_headers)

    def _is_token(self, text: str | None) -> bool:
        return text is not None and hmac.compare_digest(text.encode("utf-8", "replace"), self._token)

    def _answer(self, request: Request) -> Response | None:
        """What is said at once; None where the request may go on."""
        host = request.headers.get("host", "")
        if self._hosts is not None and host not in self._hosts:
            return PlainTextResponse("This server is not called so.", 403)
        path = request.scope["path"]
        if path == "/favicon.ico":
            return Response(status_code=204)  # browsers ask for it by themselves
        given = request.query_params.get("token")
        if path == "/" and given is not None:
            if not self._is_token(given):
                return _refused()
            answer = RedirectResponse("/", 303)
            answer.set_cookie(self._cookie, given, httponly=True, samesite="lax")
            return answer
        if self._is_token(request.cookies.get(self._cookie)):
            return None
        reads = request.method in ("GET", "HEAD")
        return None if reads and _OPEN_BY_KEY.match(path) else _refused()


def _refused() -> Response:
    return PlainTextResponse("Open the address with the token that `manyviews serve` printed.", 403)
