"""Fingerprints of files that a run reads."""

from __future__ import annotations

import hashlib

import pytest

from manyviews.errors import InputError
from manyviews.runs import fingerprint as module
from manyviews.runs.fingerprint import fingerprint, sampled_fingerprint


def test_a_sample_is_the_size_the_beginning_and_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_SAMPLE_BYTES", 4)
    path = tmp_path / "0.mrc"
    path.write_bytes(b"abcdefghij")
    assert sampled_fingerprint(path) == f"size:10 sha256:{hashlib.sha256(b'abcdghij').hexdigest()}"
    before = sampled_fingerprint(path)
    path.write_bytes(b"abcdefghiJ")
    assert sampled_fingerprint(path) != before


def test_a_whole_file(tmp_path):
    path = tmp_path / "particles.star"
    path.write_bytes(b"data_")
    assert fingerprint(path) == f"sha256:{hashlib.sha256(b'data_').hexdigest()}"
    for wanted in (fingerprint, sampled_fingerprint):
        with pytest.raises(InputError, match="cannot be read"):
            wanted(tmp_path / "absent.mrc")
