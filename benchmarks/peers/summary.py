"""From the rounds of all workers to medians, rates and ratios."""

from __future__ import annotations

from statistics import median
from typing import Any

import numpy as np

from peers.client import OPERATIONS, PeerProcess
from peers.problem import Float32, Problem

Row = dict[str, Any]
# A voxel reaches three detector bins: three multiply-adds each way.
FLOP_PER_VOXEL_UPDATE = 6
COMPARED_VIEWS = 9


def summarise(peer: PeerProcess, ours: PeerProcess) -> list[Row]:
    """One row an operation. Ratios say how many times faster ours is, from the same rounds of one problem."""
    return [_row(peer, ours, operation) for operation in OPERATIONS if peer.rounds[operation]]


def _row(peer: PeerProcess, ours: PeerProcess, operation: str) -> Row:
    wall = [answer["wall_seconds"] for answer in peer.rounds[operation]]
    cpu = [answer["cpu_seconds"] for answer in peer.rounds[operation]]
    updates = peer.problem.voxel_updates
    row = {
        "peer": peer.name,
        "problem": peer.problem.text,
        "operation": operation,
        "rounds": len(wall),
        "wall_seconds_median": median(wall),
        "wall_seconds_min": min(wall),
        "cpu_seconds_median": median(cpu),
        "giga_voxel_updates_per_second": updates / median(wall) / 1e9,
        "giga_voxel_updates_per_cpu_second": updates / max(median(cpu), 1e-9) / 1e9,
    }
    if peer is not ours:
        row |= _ratios(peer, ours, operation)
    return row


def _ratios(peer: PeerProcess, ours: PeerProcess, operation: str) -> Row:
    # A peer that ran out of time has fewer rounds; those it has belong to our first ones.
    pairs = list(zip(peer.rounds[operation], ours.rounds[operation], strict=False))
    if not pairs:
        return {}
    out: Row = {}
    for clock in ("wall", "cpu"):
        ratios = [theirs[f"{clock}_seconds"] / max(us[f"{clock}_seconds"], 1e-9) for theirs, us in pairs]
        out[f"ours_faster_{clock}"] = median(ratios)
        out[f"ours_faster_{clock}_range"] = [min(ratios), max(ratios)]
    return out


def rate_ratios(small: list[Row], full: list[Row]) -> list[Row]:
    """Our rate on the full problem over the rate of peers that were given a smaller one."""
    ours = {row["operation"]: row["giga_voxel_updates_per_second"] for row in full}
    return [
        {
            "peer": row["peer"],
            "operation": row["operation"],
            "rate_ratio": ours[row["operation"]] / row["giga_voxel_updates_per_second"],
        }
        for row in small
        if row["operation"] in ours
    ]


def agreement(peer: PeerProcess, ours: PeerProcess) -> Row | None:
    """Correlation of a peer's projections with ours, in a few views that both see the same way."""
    comparable = peer.set_up["comparable"]
    candidates = range(len(peer.problem.views)) if comparable is None else comparable
    if not candidates:
        return None
    chosen = np.linspace(0, len(candidates) - 1, min(COMPARED_VIEWS, len(candidates))).round().astype(int)
    views = [int(candidates[index]) for index in chosen]
    correlations = _correlations(peer.images(views), ours.images(views))
    return {"views": views, "lowest": float(correlations.min()), "median": float(np.median(correlations))}


def _correlations(a: Float32, b: Float32) -> Float32:
    a, b = (stack - stack.mean(axis=(1, 2), keepdims=True) for stack in (a, b))
    norms = np.sqrt((a * a).sum(axis=(1, 2)) * (b * b).sum(axis=(1, 2)))
    return np.asarray((a * b).sum(axis=(1, 2)) / norms)


def convolution_bytes(problem: Problem, padded: list[int]) -> float:
    """Bytes that the pruned convolution moves if every pass reads and writes its arrays once.

    Transforms along x, y, z, product with the multiplier, and back, where the product and both transforms
    along z are one pass; float32 and complex64. X' is the half spectrum, P the padded sizes::

        8 XYZ + 32 Z Y X' + 32 Z Py X' + 4 Pz Py X'
    """
    size_z, size_y, size_x = padded
    half = size_x // 2 + 1
    depth, height = problem.depth, problem.height
    volume = 8 * problem.width * height * depth
    return volume + 32 * depth * height * half + 32 * depth * size_y * half + 4 * size_z * size_y * half


def fractions_of_limits(ours: PeerProcess, rows: list[Row], limits: Row) -> Row:
    """How near our operations are to what the machine can do."""
    out: Row = {}
    by_operation = {row["operation"]: row for row in rows}
    for operation in ("forward", "back"):
        if operation in by_operation:
            rate = by_operation[operation]["giga_voxel_updates_per_second"] * 1e9
            share = FLOP_PER_VOXEL_UPDATE * rate / limits["matmul_flop_per_second"]
            out[f"{operation}_flop_fraction"] = share
    if "normal" in by_operation:
        moved = convolution_bytes(ours.problem, ours.set_up["details"]["padded"])
        rate = moved / by_operation["normal"]["wall_seconds_median"]
        out["convolution_bytes"] = moved
        out["convolution_bandwidth_fraction"] = rate / limits["copy_bytes_per_second"]
    return out
