"""The doctor's findings and how they are printed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from manyviews import doctor
from manyviews.cli.main import main
from manyviews.doctor import Finding, examine
from manyviews.operators import linear


class Skewed(linear.LinearOperator):
    """Its adjoint is wrong."""

    domain = range = (5,)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2.0 * x

    def adjoint(self, y: torch.Tensor) -> torch.Tensor:
        return 3.0 * y


def test_this_machine_is_examined(tmp_path: Path):
    findings = list(examine(tmp_path))
    assert [f.name for f in findings] == [
        *("python", "torch", "numba", "cuda", "triton", "mpi", "disk", "memory", "operators")
    ]
    assert all(f.fix for f in findings if f.state != "ok")
    assert {f.name for f in findings if f.state == "fail"} == set()


def test_a_wrong_adjoint_fails(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(linear, "registered_operators", lambda: {"skewed": lambda case: Skewed()})
    finding = doctor._operators()
    assert finding.state == "fail"
    assert "skewed" in finding.detail


def test_a_broken_library_is_a_finding(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    def broken() -> Finding:
        raise ImportError("libfoo.so.1: cannot open")

    monkeypatch.setattr(doctor, "_torch", broken)
    finding = next(f for f in examine(tmp_path) if f.name == "torch")
    assert finding.line() == ("fail  torch       ImportError: libfoo.so.1: cannot open; reinstall manyviews")


@pytest.mark.parametrize(("state", "code"), [("ok", 0), ("warn", 0), ("fail", 1)])
def test_exit_code(state, code, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(doctor, "examine", lambda folder: [Finding("x", state, "seen", "mend it")])
    assert main(["doctor"]) == code
    assert capsys.readouterr().out == f"{state:4}  x           seen; mend it\n"


def test_a_missing_folder_is_named(tmp_path: Path):
    assert "no folder" in doctor._disk(tmp_path / "absent").detail
