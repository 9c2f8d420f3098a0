"""``view.cxc``: the maps of a run as ChimeraX shows them, opened by a script of its commands.

Sources: ChimeraX's user guide, commands ``open``, ``volume``, ``hide``, ``view``; commands of a script run in
the script's own folder (`open_command_script` of its core), so that names of files are enough.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from manyviews.io.atomic import atomic_write
from manyviews.io.mrc import read_header
from manyviews.report.surface import level_by_mass
from manyviews.report.volume import read_model
from manyviews.runs.map_names import HALF1_FILE, HALF2_FILE, MASK_FILE, VOLUME_FILE

VIEW_FILE = "view.cxc"
_COLOURS = {
    VOLUME_FILE: "goldenrod",
    HALF1_FILE: "cornflowerblue",
    HALF2_FILE: "darkseagreen",
    MASK_FILE: "gray",
}
_EDGE_OF_MASK = 0.5


def write_view_script(folder: Path) -> bool:
    """Write ``view.cxc`` of the maps in a run folder, replacing an older one; False where there is no volume.

    A cube is shown as a surface at the level above which its voxels hold 70 % of all positive density, what
    is wide and flat by its three middle planes. Half maps (within the mask) and mask are opened, and hidden.
    `InputError` if a map cannot be read.
    """
    if not (folder / VOLUME_FILE).exists():
        return False
    atomic_write(folder / VIEW_FILE, "\n".join([*_commands(folder), ""]).encode(), overwrite=True)
    return True


def _commands(folder: Path) -> list[str]:
    """The lines; ChimeraX numbers what is opened from 1 on if its session is empty."""
    depth, rows, columns = read_header(folder / VOLUME_FILE).shape
    middle = f"{columns // 2},{rows // 2},{depth // 2}"
    commands = [
        "# Open this in an empty session of ChimeraX, or type: chimerax view.cxc",
        f"open {VOLUME_FILE}",
    ]
    if not depth == rows == columns:
        return [
            *commands,
            f"volume #1 orthoplanes xyz positionPlanes {middle} style image region all",
            "view",
        ]
    commands.append(_surface(1, VOLUME_FILE, read_model(folder / VOLUME_FILE).volume))
    mask = read_model(folder / MASK_FILE).volume if (folder / MASK_FILE).exists() else None
    others = [name for name in (HALF1_FILE, HALF2_FILE, MASK_FILE) if (folder / name).exists()]
    for number, name in enumerate(others, start=2):
        volume = read_model(folder / name).volume
        if name != MASK_FILE and mask is not None and mask.shape == volume.shape:
            volume = volume[mask > _EDGE_OF_MASK]
        commands += [f"open {name}", _surface(number, name, volume), f"hide #{number} models"]
    return [*commands, "view"]


def _surface(number: int, name: str, voxels: NDArray[np.float32]) -> str:
    level = _EDGE_OF_MASK if name == MASK_FILE else level_by_mass(voxels)
    style = "mesh" if name == MASK_FILE else "surface"
    shown = f" level {level:.6g}" if level > 0 else ""
    return f"volume #{number} style {style}{shown} color {_COLOURS[name]}"
