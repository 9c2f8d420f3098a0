"""Listen for browsers on this machine."""

from __future__ import annotations

import contextlib
import ipaddress
import secrets
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from manyviews.errors import InputError, shortened
from manyviews.serve.packages import require

if TYPE_CHECKING:
    import uvicorn

MOST_BACKLOG = 2048


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 takes one that is free. `InputError` if it cannot be had."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=MOST_BACKLOG)
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise InputError(
            f"cannot listen on port {port} of {shortened(host)} ({why})", fix="try another --port or --host"
        ) from error


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches that address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def serve(folder: Path, *, host: str = "127.0.0.1", port: int = 0, token: str | None = None) -> None:
    """Serve the runs below a folder until Ctrl-C; the address with its token is printed once.

    Raises
    ------
    InputError
        If it is no folder, a package is missing, or the address cannot be had.
    """
    require("starlette", "uvicorn")
    if not folder.is_dir():
        raise InputError("is not a folder", path=folder, fix="give a folder with runs in it")
    token = token or secrets.token_urlsafe(24)
    with bind(host, port) as listening:
        server = make_server(folder.resolve(), listening, host, token)
        shown = f"[{host}]" if ":" in host else host
        address = f"http://{shown}:{listening.getsockname()[1]}/?token={token}"
        print(address, flush=True)  # noqa: T201 - what the command is for
        with contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[listening])


def make_server(root: Path, listening: socket.socket, host: str, token: str) -> uvicorn.Server:
    """The server of the runs below ``root``, to be run with a socket that listens at ``host``."""
    import uvicorn

    from manyviews.serve.app import make_app

    port = listening.getsockname()[1]
    names = {host, "localhost", "127.0.0.1", "::1"}
    called = frozenset(f"[{name}]:{port}" if ":" in name else f"{name}:{port}" for name in names)
    # elsewhere nobody knows by which name of this machine a browser comes
    hosts = called if is_loopback(host) else None
    return uvicorn.Server(
        uvicorn.Config(
            make_app(root, token, hosts=hosts, cookie=f"manyviews-{port}"),
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="off",
            log_level="critical",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=2,
        )
    )
