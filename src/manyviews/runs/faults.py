"""Failures of the file system; see `manyviews.io.faults`."""

from __future__ import annotations

from manyviews.io.faults import explain_write_errors

__all__ = ["explain_write_errors"]
