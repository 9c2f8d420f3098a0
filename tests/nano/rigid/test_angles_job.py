"""A run whose scan has other angles than given says so, and goes on with better ones."""

from __future__ import annotations

import numpy as np
import pytest
from test_angles import CENTER, STEP, THETA, apart, images_at

from manyviews.io.mrc import write_mrc
from manyviews.nano.reconstruct import reconstruct
from manyviews.nano.reconstruct_options import ReconstructOptions
from manyviews.nano.results import read_views
from manyviews.nano.scan.options import ScanOptions
from manyviews.nano.trust import read_tested
from manyviews.nano.trust_options import TrustOptions
from manyviews.options import RunOptions

pytestmark = pytest.mark.usefixtures("no_page", "one_thread")


def run(folder, wrong, **options):
    folder.mkdir(exist_ok=True)
    write_mrc(folder / "scan.mrc", images_at(THETA + wrong), 10.0, is_volume=False, overwrite=True)
    np.savetxt(folder / "angles.txt", THETA)
    how = ReconstructOptions(method="shifts", levels=1, iterations=(4,), halves=False, threads=1, **options)
    scan = ScanOptions(scan=folder / "scan.mrc", angles=folder / "angles.txt", center=CENTER, minus_log=False)
    return reconstruct(scan, how, RunOptions(out=folder / "run", quiet=True, overwrite=True))


def test_a_step_of_the_angle_is_told_and_taken_out(tmp_path, capsys):
    found = run(tmp_path / "refined", STEP)
    assert "angles of the views are not as given" in " ".join(capsys.readouterr().err.split())
    theta = read_views(found.run_folder / "views.csv").theta_degrees
    assert np.std(apart(theta - THETA - STEP)) < 0.3 * np.std(STEP)
    assert found.summary["angles_changed_rms_degrees"] == pytest.approx(1.5, abs=0.2)
    given = run(tmp_path / "given", STEP, refine_angles=False)
    assert "angles_changed_rms_degrees" not in given.summary
    assert np.allclose(read_views(given.run_folder / "views.csv").theta_degrees, THETA)
    assert found.summary["misfit"] < 0.8 * given.summary["misfit"]
    tested = read_tested(found.run_folder, TrustOptions())
    assert np.allclose(tested.theta_degrees, theta)


def test_angles_as_given_are_left_to_the_last_bit(tmp_path):
    runs = [run(tmp_path / name, 0.0, refine_angles=name == "asked") for name in ("asked", "not asked")]
    assert "angles_changed_rms_degrees" not in runs[0].summary
    volumes = [(one.run_folder / "volume.mrc").read_bytes()[1024:] for one in runs]
    assert volumes[0] == volumes[1]
