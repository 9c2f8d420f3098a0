"""manyviews: many views, one volume. The names below are loaded when they are first used (docs/python.md)."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from manyviews.api.arrays import TiltGeometry, backproject, fsc, project, read_mrc, write_mrc
    from manyviews.api.jobs import abinitio, align_subtomograms, reconstruct, reconstruct_scan, refine, solve
    from manyviews.api.particles import write_particles
    from manyviews.api.run import Run, open_run
    from manyviews.api.series import TiltSeries, read_tilt_series
    from manyviews.errors import InputError
else:
    from manyviews.api.names import __dir__, __getattr__  # noqa: F401 Python itself asks for them

__all__ = ["InputError", "Run", "TiltGeometry", "TiltSeries", "abinitio", "align_subtomograms",
           "backproject", "fsc", "open_run", "project", "read_mrc", "read_tilt_series", "reconstruct",
           "reconstruct_scan", "refine", "solve", "write_mrc",
           "write_particles"]  # fmt: skip
__version__ = "0.1.0"
