"""A volume on the page: three planes with sliders, grey levels, a surface that turns; see ``page.js``."""

from __future__ import annotations

import base64
from html import escape

from manyviews.report.display_volume import DisplayVolume

_AXES = {"xy": 0, "xz": 1, "yz": 2}  # along which a plane's slider goes, (z, y, x)


def volume_html(name: str, volume: DisplayVolume) -> str:
    """The part of the page; ``name`` tells it from other volumes there."""
    depth, height, width = volume.levels.shape
    data = base64.b64encode(volume.png()).decode("ascii")
    voxel = 0.0 if volume.voxel_angstrom is None else volume.voxel_angstrom
    planes = "".join(_plane(name, plane, volume) for plane in _AXES)
    columns = f"minmax(0, {width}fr) minmax(7rem, {depth}fr)"
    return (
        f"<div class='volume' id='{escape(name)}' data-size='{width} {height} {depth}' "
        f"data-columns='{volume.columns}' data-range='{volume.low:.9g} {volume.high:.9g}' "
        f"data-block='{volume.block}' data-voxel='{voxel:.9g}'>"
        f"<img class='levels' alt='' hidden src='data:image/png;base64,{data}'>"
        f"<div class='planes' style='grid-template-columns: {columns}; "
        f'grid-template-areas: "xy yz" "xz ."\'>{planes}</div>'
        f"{_grey(name, volume)}{_surface(name, volume)}</div>"
    )


def _plane(name: str, plane: str, volume: DisplayVolume) -> str:
    shown, stored = volume.levels.shape[_AXES[plane]], volume.shape[_AXES[plane]]
    return (
        f"<figure class='{plane}' style='grid-area: {plane}' data-deep='{stored}'>"
        f"<figcaption>{plane}</figcaption><canvas></canvas>"
        f"<input type='range' id='{escape(name)}-{plane}' aria-label='section of {plane}' "
        f"min='0' max='{shown - 1}' value='{shown // 2}'></figure>"
    )


def _grey(name: str, volume: DisplayVolume) -> str:
    black, white = volume.contrast
    return (
        "<div class='grey'><span class='lowest'></span><span class='bar'></span><span class='highest'></span>"
        f"<label>black<input type='range' class='black' id='{escape(name)}-black' "
        f"min='0' max='255' value='{black}'><span></span></label>"
        f"<label>white<input type='range' class='white' id='{escape(name)}-white' "
        f"min='0' max='255' value='{white}'><span></span></label></div>"
    )


def _surface(name: str, volume: DisplayVolume) -> str:
    """Open for maps in cubes; a slab's noise has surfaces everywhere."""
    opened = " open" if len(set(volume.levels.shape)) == 1 else ""
    return (
        f"<details class='turning' id='{escape(name)}-turning'{opened}>"
        "<summary>Surface: drag to turn, wheel to come nearer</summary>"
        "<canvas class='surface' aria-label='surface'></canvas>"
        f"<div class='grey'><label>level<input type='range' class='level' id='{escape(name)}-level' "
        f"min='1' max='254' value='{volume.surface_level}'><span class='at'></span></label></div></details>"
    )
