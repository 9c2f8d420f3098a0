"""What the record of a run over a scan has of options."""

import pytest

from manyviews.nano.plan import resolve_plan
from manyviews.nano.reconstruct_options import ReconstructOptions
from manyviews.nano.scan.options import ScanOptions
from manyviews.options import foreign_options


def record(method, tmp_path):
    return resolve_plan(
        ScanOptions(tmp_path / "scan.h5"), ReconstructOptions(method=method), (180, 96, 96)
    ).record()


@pytest.mark.parametrize("method", ["oftv", "cg", "fbp", "shifts", "space"])
def test_options_of_other_methods_have_no_place(method, tmp_path):
    resolved = {"iterations", "levels", "window"}
    assert not (foreign_options(ReconstructOptions, method) - resolved) & set(record(method, tmp_path))


def test_where_a_method_will_be_chosen_those_of_all_count(tmp_path):
    assert set(record("oftv", tmp_path)) | set(record("shifts", tmp_path)) <= set(record("auto", tmp_path))
