"""`nano reconstruct` with a motion in space, and its choice between that and flows, end to end."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from nano_job_example import error, run, write_scan

from manyviews.cli.main import main
from manyviews.errors import InputError, Interrupted
from manyviews.io.mrc import read_mrc
from manyviews.jobs import run as jobs_run
from manyviews.nano.motion.displacement import displacement_at
from manyviews.nano.motion.registration import register_smoothly
from manyviews.nano.reconstruct_options import ReconstructOptions, with_method
from manyviews.nano.results import read_choice, read_iterations, read_motion, read_shifts, read_views
from page_reader import PageReader

pytestmark = pytest.mark.usefixtures("blank_pictures", "one_thread")

SIDE, VIEWS, CENTER = 32, 48, 15.5
SCAN = {"rotations": 4, "deformation_percent": 15.0, "photons": 1e5, "seed": 1}
SPACE = ReconstructOptions(method="spacetv", iterations=(3, 3), threads=1, halves=False)


@pytest.fixture(scope="module")
def specimen(tmp_path_factory):
    return write_scan(tmp_path_factory.mktemp("object") / "data", deformation="object", **SCAN)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_scan(tmp_path_factory.mktemp("flow") / "data", deformation="flow", **SCAN)
