"""`manyviews serve` and `manyviews report` as they are typed."""

import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from manyviews.cli.main import main
from manyviews.serve import packages
from manyviews.serve.server import is_loopback
from run_files import write_run


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_prints_its_address_and_leaves(root, number):
    command = [sys.executable, "-m", "manyviews.cli", "serve", str(root)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        address = process.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:")
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        assert b"<bdi>one</bdi>" in opener.open(address, timeout=30).read()
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(address[:-1], timeout=30)
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert (out, err) == ("", "")
    assert process.returncode == (0 if number == signal.SIGINT else -signal.SIGTERM)


def test_what_cannot_be_served(root, capsys, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["serve", str(root), "--port", port]) == 2
    assert f"cannot listen on port {port} of 127.0.0.1" in capsys.readouterr().err
    assert main(["serve", str(root / "nothing")]) == 2
    assert "is not a folder" in capsys.readouterr().err
    for token in ("short", "with blanks in it, and long"):
        assert main(["serve", str(root), "--token", token]) == 2
        assert "16 to 200" in capsys.readouterr().err
    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    assert main(["serve", str(root)]) == 2
    said = "starlette and uvicorn are not installed; run `pip install 'manyviews[serve]'`"
    assert said in capsys.readouterr().err


def test_a_server_for_the_network_is_warned_of(root, capsys, monkeypatch):
    asked = []
    monkeypatch.setattr("manyviews.serve.server.serve", lambda folder, **how: asked.append(how["host"]))
    for host in ("0.0.0.0", "localhost"):
        assert main(["serve", str(root), "--host", host]) == 0
    assert asked == ["0.0.0.0", "localhost"]
    assert capsys.readouterr().err.count("warning: others on the network") == 1


def test_addresses_of_this_machine_alone():
    assert all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.1.2", "localhost.example", "")))


def test_report_of_several_folders(tmp_path, capsys):
    run = write_run(tmp_path / "run", done=False)
    write_run(tmp_path / "more" / "a")
    assert main(["report", str(run), str(tmp_path / "more")]) == 0
    pages = [run / "report.html", tmp_path / "more" / "index.html"]
    assert capsys.readouterr().out.split() == list(map(str, pages))
    assert all(map(os.path.isfile, pages))
    assert main(["report", str(tmp_path / "nothing")]) == 2
    assert "is not a run folder" in capsys.readouterr().err
