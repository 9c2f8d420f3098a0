"""What the doctor says about MPI."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest

from manyviews import doctor


def test_two_ranks_are_tried(run_ranks):
    finding = doctor._mpi()
    assert (finding.state, finding.fix) == ("ok", "")
    assert finding.detail.endswith("two ranks add up")


@pytest.mark.parametrize(
    ("bindings", "launcher", "detail"),
    [(False, True, "no mpi4py"), (True, False, "no mpiexec"), (False, False, "no mpi4py and mpiexec")],
)
def test_what_is_absent(bindings: bool, launcher: bool, detail: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if bindings else None)
    monkeypatch.setattr(shutil, "which", lambda name, path=None: "/bin/mpiexec" if launcher else None)
    finding = doctor._mpi()
    assert (finding.state, finding.detail) == ("warn", detail)
    assert "pip install 'manyviews[mpi]'" in finding.fix


def test_a_launcher_elsewhere_is_not_tried(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(shutil, "which", lambda name, path=None: None if path else "/bin/mpiexec")
    assert doctor._mpi().detail == "mpi4py with /bin/mpiexec, not tried"


@pytest.mark.parametrize(
    ("script", "seconds", "trouble"),
    [
        ("echo no such thing >&2; exit 7", 20, "fail (no such thing)"),
        ("exit 7", 20, "fail (exit code 7)"),
        ("exec sleep 60", 0.2, "did not end within 0.2 s"),
    ],
)
def test_a_launcher_that_fails(
    script: str, seconds: float, trouble: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    launcher = tmp_path / "mpiexec"
    launcher.write_text(f"#!/bin/sh\n{script}\n")
    launcher.chmod(0o755)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(shutil, "which", lambda name, path=None: str(launcher))
    monkeypatch.setattr(doctor, "_MPI_SECONDS", seconds)
    finding = doctor._mpi()
    assert (finding.state, finding.detail) == ("warn", f"two ranks of {launcher} {trouble}")
    assert finding.fix
