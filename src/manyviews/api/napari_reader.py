"""Run folders as layers of napari, which finds this by ``napari.yaml``; napari itself is not imported.

Source: napari's guide to plugins, reader contributions: `get_reader` returns None for what is not ours, else
a function from a path to layers ``(data, arguments of the layer, kind)``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

Layer = tuple[NDArray[Any], dict[str, Any], str]
_RUN_FILE = "run.toml"  # not from `manyviews.runs.record`: napari asks for every file that is opened


def get_reader(path: str | Sequence[str]) -> Callable[[str | Sequence[str]], list[Layer]] | None:
    """`read_layers` for a run folder, or several; None for anything else."""
    return read_layers if all(os.path.isfile(os.path.join(one, _RUN_FILE)) for one in _paths(path)) else None


def read_layers(path: str | Sequence[str]) -> list[Layer]:
    """The volume of a run as an image layer, its half maps and mask as layers that are hidden.

    Voxels are scaled to angstrom (``units`` need napari 0.5 or later); large maps are mapped, not read.
    `InputError` if a map is damaged, or the run has no volume yet.
    """
    from manyviews.api.run import open_run, read_map
    from manyviews.io.mrc import read_header
    from manyviews.runs.map_names import HALF1_FILE, HALF2_FILE, MASK_FILE, VOLUME_FILE

    layers: list[Layer] = []
    for folder in _paths(path):
        run = open_run(folder)
        _ = run.pixel_size  # says what is missing
        for name in (VOLUME_FILE, HALF1_FILE, HALF2_FILE, MASK_FILE):
            file = run.folder / name
            if not file.exists():
                continue
            size = read_header(file).pixel_size
            told: dict[str, Any] = {"name": f"{run.folder.resolve().name} {Path(name).stem}"}
            told["visible"] = name == VOLUME_FILE
            told["metadata"] = {"job": run.job, "path": str(file)}
            if size is not None:
                told |= {"scale": tuple(float(one) for one in size[::-1]), "units": ("angstrom",) * 3}
            layers.append((read_map(file), told, "image"))
    return layers


def _paths(path: str | Sequence[str]) -> list[str]:
    return [path] if isinstance(path, str | os.PathLike) else list(path)
