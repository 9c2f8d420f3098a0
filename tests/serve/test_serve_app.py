"""The server under attack, and what it answers to those who may ask."""

import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from html import escape

import pytest

from run_files import write_run
from serve_processes import locked_by, running_run

OWN_PAGES = ("/", "/cards", "/compare", "/index.css", "/index.js", "/nothing")


@pytest.mark.parametrize("cookie", [None, "", "wrong", "a-token-of-the-test", "a-token-of-the-testss", "é"])
def test_nothing_without_the_token(served, cookie):
    key = served.keys()["one"]
    for path in (*OWN_PAGES, f"/run/{'0' * 31}/report.html", f"/run/../run/{key}"):
        status, headers, body = served.ask(path, cookie=cookie and cookie.encode("utf-8").decode("latin-1"))
        assert (status, b"one" in body) == (403, False), path
        assert headers["x-content-type-options"] == "nosniff"
    stop = served.ask(f"/stop/{key}", cookie=cookie and "wrong", method="POST", Origin=served.origin)
    assert stop[0] == 403
    assert served.ask("/?token=wrong", cookie=None)[0] == 403


def test_the_token_is_shown_once(served):
    status, headers, _ = served.ask("/?token=a-token-of-the-tests", cookie=None)
    assert (status, headers["location"]) == (303, "/")
    cookie = headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    status, headers, body = served.ask("/")
    assert status == 200
    assert b"one" in body
    assert b"a-token" not in body
    assert "script-src 'self'" in headers["content-security-policy"]


def test_a_name_that_leads_here_from_elsewhere_is_refused(served):
    assert served.ask("/", Host="evil.example")[0] == 403
    assert served.ask("/", Host=f"localhost:{served.port}")[0] == 200


def test_what_a_run_may_show(served):
    key = served.keys()["one"]
    for path, kind in (
        ("", "text/html; charset=utf-8"),
        ("report.html", "text/html; charset=utf-8"),
        ("summary.json", "text/plain; charset=utf-8"),
        ("log", "text/plain; charset=utf-8"),
        ("volume.mrc", "application/octet-stream"),
    ):
        status, headers, body = served.ask(f"/run/{key}/{path}", cookie=None)  # a shut-in page sends none
        assert (status, headers["content-type"]) == (200, kind)
        assert headers["x-content-type-options"] == "nosniff"
        if path.startswith("volume"):
            assert body == (served.root / "one" / "volume.mrc").read_bytes()
            assert headers["content-disposition"] == "attachment"
    page = served.ask(f"/run/{key}/report.html")[1]["content-security-policy"]
    assert page.startswith("sandbox allow-scripts ")
    assert "allow-same-origin" not in page
    assert served.ask(f"/run/{key}/volume.mrc", method="HEAD")[2] == b""
    assert served.ask(f"/run/{key}/log", cookie=None, method="POST")[0] == 403


def test_nothing_outside_a_run_is_read(served):
    key = served.keys()["one"]
    steps = ("..", "%2e%2e", "..%2f..", "%2e%2e%2f%2e%2e", ".%2e", "..%5c..", "%252e%252e", "....//", ".")
    ends = ("secret.txt", "%73ecret.txt", "two/summary.json", "two%2fsummary.json", "etc/passwd")
    paths = [f"{step}/{end}" for step in steps for end in ends]
    paths += [f"{step}/{step}/{end}" for step in steps for end in ends]
    outside = served.root.parent / "secret.txt"
    paths += [f"/{outside}", f"%2f{outside}", f"file://{outside}", "summary.json%00.txt", "%00", "log.txt%00"]
    paths += [f"figures/{step}/log.txt" for step in steps]
    for path in paths:
        status, _, body = served.ask(f"/run/{key}/{path}")
        assert (status, b"SECRET" in body, b"root:" in body) == (404, False, False), path


def test_links_pipes_and_hidden_files_are_not_read(served):
    run, outside = served.root / "one", served.root.parent
    (run / "link.txt").symlink_to(outside / "secret.txt")
    (run / "up").symlink_to(outside)
    os.mkfifo(run / "pipe.txt")
    (run / ".hidden.txt").write_text("SECRET")
    (run / "lock").write_text("SECRET")
    (run / "other.html").write_text("SECRET")
    (run / "folder.txt").mkdir()
    key = served.keys()["one"]
    names = ("link.txt", "up/secret.txt", "pipe.txt", ".hidden.txt", "lock", "other.html", "folder.txt")
    for name in names:
        status, _, body = served.ask(f"/run/{key}/{name}")
        assert (status, b"SECRET" in body) == (404, False), name


def test_a_run_that_is_a_link_or_made_of_links_tells_nothing(served):
    outside = write_run(served.root.parent / "outside")
    (served.root / "linked").symlink_to(outside)
    made = served.root / "made"
    made.mkdir()
    (made / "run.toml").write_text('job = "toy"')
    secret = served.root.parent / "secret.txt"
    for name in ("log.txt", "report.html", "status.json", "lock"):
        (made / name).symlink_to(secret)
    (made / "summary.json").symlink_to(outside / "summary.json")
    os.mkfifo(made / "events.jsonl")
    keys = served.keys()
    assert set(keys) == {"one", "two", "made"}
    for name in ("log", "report.html", "status.json", "summary.json", "events.jsonl"):
        assert b"SECRET" not in served.ask(f"/run/{keys['made']}/{name}")[2]


def test_hostile_names_are_text(served):
    names = (
        "<img src=x onerror=alert(1)>",
        "'\"><script>alert(1)</script>",
        "a\nb\t\x1b[31m",
        "\u202egnp.exe",
    )
    for name in names:
        write_run(served.root / name)
    undecodable = os.path.join(os.fsencode(served.root), b"\xff\xfe")
    os.mkdir(undecodable)
    with open(os.path.join(undecodable, b"run.toml"), "w") as handle:
        handle.write('job = "<b>job</b>"\ncommand = ["<i>", "\'"]\n')
    with open(os.path.join(undecodable, b"log.txt"), "w") as handle:
        handle.write("its log")
    keys = served.keys()
    assert len(keys) == 7
    page = served.ask("/")[2].decode()
    for bad in ("<img src=x", "<script>alert", "<b>job", "<i>", "\x1b", "\u202e"):
        assert bad not in page
    assert escape(names[1], quote=True) in page
    assert b"its log" in served.ask(f"/run/{keys[chr(92) + 'udcff' + chr(92) + 'udcfe']}/log")[2]


def test_a_run_is_asked_to_stop(served):
    with running_run(served.root / "live") as (folder, process):
        key = served.keys()["live"]
        where = f"/stop/{key}"
        assert served.ask(where)[0] == 405
        for origin in (
            None,
            "null",
            "http://evil.example",
            f"http://localhost:{served.port}",
            "http://127.0.0.1",
        ):
            headers = {} if origin is None else {"Origin": origin}
            assert served.ask(where, method="POST", **headers)[0] == 403
        assert served.ask(f"/stop/{'0' * 32}", method="POST", Origin=served.origin)[0] == 404
        assert process.poll() is None
        status, _, body = served.ask(where, method="POST", Origin=served.origin)
        assert (status, body) == (200, b'{"message":"live was asked to stop."}')
        assert process.wait(20) == 143
        assert folder.joinpath("stopped").exists()
    assert served.ask(where, method="POST", Origin=served.origin)[0] == 409


def test_no_other_process_is_ever_stopped(served):
    with running_run(served.root / "live") as (_, process):
        ticks = locked_by(served.root / "live")["process_ticks"]
        here = socket.gethostname()
        for wrong in (
            {"pid": process.pid, "host": here, "process_ticks": ticks + 1},
            {"pid": process.pid, "host": here, "process_ticks": None},
            {"pid": process.pid, "host": "elsewhere", "process_ticks": ticks},
            {"pid": os.getpid(), "host": here, "process_ticks": ticks},
            {"pid": 1, "host": here, "process_ticks": None},
            {"pid": 0, "host": here, "process_ticks": ticks},
            {"pid": -1, "host": here, "process_ticks": ticks},
        ):
            locked_by(served.root / "one", wrong)
            key = served.keys()["one"]
            status, _, _ = served.ask(f"/stop/{key}", method="POST", Origin=served.origin)
            assert status == 409, wrong
        lock = served.root / "one" / "lock"
        lock.unlink()
        lock.symlink_to(served.root / "live" / "lock")
        assert served.ask(f"/stop/{key}", method="POST", Origin=served.origin)[0] == 409
        assert process.poll() is None


def test_two_runs_side_by_side(served):
    keys = served.keys()
    one, two = keys["one"], keys["two"]
    status, headers, body = served.ask(f"/compare?run={one}&run={two}")
    assert status == 200
    assert "frame-src 'self'" in headers["content-security-policy"]
    assert body.decode().count("<iframe") == 2
    for query in ("", f"?run={one}", f"?run={one}&run=../two", f"?run={one}&run={two}&run={one}"):
        assert served.ask(f"/compare{query}")[0] == 400


def test_200_tabs_at_once(served):
    key = served.keys()["one"]

    def tab(_):
        return [served.ask(path)[0] for path in ("/", "/cards", f"/run/{key}/report.html")]

    with ThreadPoolExecutor(200) as pool:
        answers = list(pool.map(tab, range(200)))
    assert answers == [[200, 200, 200]] * 200


def test_news_are_sent_once(served):
    status, headers, body = served.ask("/cards")
    mark = headers["etag"].strip('"')
    assert status == 200
    assert served.ask(f"/cards?have={mark}")[::2] == (204, b"")
    write_run(served.root / "three")
    deadline = time.monotonic() + 20
    while (answer := served.ask(f"/cards?have={mark}"))[0] == 204:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert answer[0] == 200
    assert b"three" in answer[2]
    assert b"three" not in body


def test_nothing_is_written(served):
    def listing():
        return sorted((str(path), path.lstat().st_mtime_ns) for path in served.root.rglob("*"))

    before = listing()
    key = served.keys()["one"]
    for path in (*OWN_PAGES, f"/run/{key}/", f"/run/{key}/log", f"/run/{key}/volume.mrc"):
        for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH"):
            served.ask(path, method=method, Origin=served.origin)
    assert listing() == before
