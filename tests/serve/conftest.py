"""A server of some runs in a thread, and requests to it as they are written: no client mends an address."""

import contextlib
import http.client
import json
import re
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from manyviews.serve.server import bind, make_server
from run_files import write_run

TOKEN = "a-token-of-the-tests"


@dataclass(frozen=True)
class Served:
    root: Path
    port: int

    @property
    def origin(self):
        return f"http://127.0.0.1:{self.port}"

    def ask(self, path, *, cookie=TOKEN, method="GET", **headers):
        """Status, headers and body of an answer; ``cookie`` None shows none."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        if cookie is not None:
            headers["Cookie"] = f"manyviews-{self.port}={cookie}"
        with contextlib.closing(connection):
            connection.putrequest(method, path, skip_host="Host" in headers)
            for name, value in headers.items():
                connection.putheader(name, value)
            connection.endheaders()
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()

    def keys(self):
        """Of the runs, by what their cards tell."""
        news = json.loads(self.ask("/cards")[2])
        return {re.search("<bdi>(.*?)</bdi>", html)[1]: key for key, html in news}


@pytest.fixture
def root(tmp_path):
    path = tmp_path / "runs"
    for name in ("one", "two"):
        write_run(path / name)
        (path / name / "report.html").write_text(f"<!doctype html><title>{name}</title><p id=me>{name}</p>")
        (path / name / "log.txt").write_text(f"<b>log of {name}</b>\n")
    (tmp_path / "secret.txt").write_text("SECRET")
    return path


@pytest.fixture
def served(root):
    with bind("127.0.0.1", 0) as listening:
        server = make_server(root, listening, "127.0.0.1", TOKEN)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield Served(root, listening.getsockname()[1])
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()
