"""The page on the Python interface: all its examples do what it says."""

from __future__ import annotations

import doctest

import pytest

from manyviews.particles import abinitio as particle_job
from run_files import write_run


@pytest.mark.usefixtures("blank_pictures")
def test_the_examples_of_the_page(repository, tmp_path, monkeypatch):
    """In an empty folder; the particle job, which takes a minute, only leaves the files of a run."""
    monkeypatch.chdir(tmp_path)

    def job(particles, options, run, world):
        write_run(run.out, job="particles abinitio")

    monkeypatch.setattr(particle_job, "abinitio", job)
    failed, tried = doctest.testfile(str(repository / "docs" / "python.md"), module_relative=False)
    assert tried > 30
    assert failed == 0
