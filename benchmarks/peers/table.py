"""The record of a run as a markdown page."""

from __future__ import annotations

from typing import Any

Record = dict[str, Any]


def markdown(record: Record) -> str:
    """Tables of speeds, of the peers and of the machine's limits."""
    parts = [_heading(record), _speeds(record), _smaller(record), _workers(record), _limits(record)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _heading(record: Record) -> str:
    machine = record["machine"]
    return (
        f"# Tomography peers: {record['problem']}\n\n"
        f"{machine['cpu']}, {machine['threads']} of {machine['cores']} cores, {machine['date']}, "
        f"OMP_WAIT_POLICY {machine['omp_wait_policy']}, load average "
        f"{machine['load_before']:.1f} before and {machine['load_after']:.1f} after (the benchmark itself "
        f"counts). The workers took turns, {record['repeats']} rounds. A rate is voxels x views / median "
        "wall time, for the normal operator too (a peer does it as forward, then back; ours is one "
        'convolution). "Ours faster" is the median of the ratios within each round, and their range.'
    )


def _speeds(record: Record) -> str:
    head = (
        "| peer | problem | operation | median s | least s | CPU s | G updates/s | ours faster, wall "
        "| ours faster, CPU |\n| --- | --- | --- | --: | --: | --: | --: | --: | --: |\n"
    )
    return head + "\n".join(_speed(row) for row in record["summary"])


def _speed(row: Record) -> str:
    cells = [
        row["peer"],
        row["problem"],
        row["operation"],
        _number(row["wall_seconds_median"]),
        _number(row["wall_seconds_min"]),
        _number(row["cpu_seconds_median"]),
        _number(row["giga_voxel_updates_per_second"]),
        _ratio(row, "wall"),
        _ratio(row, "cpu"),
    ]
    return _line(cells)


def _ratio(row: Record, clock: str) -> str:
    if f"ours_faster_{clock}" not in row:
        return ""
    low, high = row[f"ours_faster_{clock}_range"]
    return f"**{_number(row[f'ours_faster_{clock}'])}** ({_number(low)} to {_number(high)})"


def _smaller(record: Record) -> str:
    rows = record["rate_ratios"]
    if not rows:
        return ""
    head = (
        "Peers that are too slow for the full problem had a smaller one. Above they are compared with ours "
        "on that same smaller problem; here our rate on the full problem is divided by theirs on the smaller "
        "one (the time of the convolution does not grow with the number of views, so its rate does).\n\n"
        "| peer | operation | our rate / theirs |\n| --- | --- | --: |\n"
    )
    return head + "\n".join(
        _line([row["peer"], row["operation"], _number(row["rate_ratio"])]) for row in rows
    )


def _workers(record: Record) -> str:
    head = (
        "Agreement: correlation of a peer's projections of the same volume with ours, lowest of a few views "
        "(peers that turn the volume about a point half a voxel from ours stay a little below 1).\n\n"
        "| worker | problem | set-up s | first forward s | agreement | status | versions |\n"
        "| --- | --- | --: | --: | --: | --- | --- |\n"
    )
    return head + "\n".join(_worker(worker) for worker in record["workers"])


def _worker(worker: Record) -> str:
    set_up = worker["set_up"]
    versions = ", ".join(f"{name} {number}" for name, number in set_up.get("versions", {}).items())
    first = set_up.get("first_run_seconds", {}).get("forward")
    agreement = worker["agreement"]
    cells = [
        worker["name"],
        worker["problem"],
        _number(set_up["wall_seconds"]) if set_up else "",
        "" if first is None else _number(first),
        f"{agreement['lowest']:.3f}" if agreement else "",
        worker["status"],
        versions,
    ]
    return _line(cells)


def _limits(record: Record) -> str:
    limits, shares = record["limits"], record["fractions_of_limits"]
    if not shares:
        return ""
    copy, matmul = limits["copy_bytes_per_second"] / 1e9, limits["matmul_flop_per_second"] / 1e9
    lines = [
        f"Limits measured before and after, the better of both: copy {copy:.1f} GB/s (read and written), "
        f"float32 matrix product {matmul:.0f} GFLOP/s.",
        "",
        "| ours | model | share of the limit |",
        "| --- | --- | --: |",
    ]
    for operation in ("forward", "back"):
        if f"{operation}_flop_fraction" in shares:
            share = f"{100 * shares[f'{operation}_flop_fraction']:.0f} % of the matrix product"
            model = "3 multiply-adds = 6 flop a voxel-update; rotations, packing and filters not counted"
            lines.append(_line([operation, model, share]))
    if "convolution_bytes" in shares:
        model = (
            f"{shares['convolution_bytes'] / 1e6:.0f} MB: every pass (x, y, z with the multiplier, y, x) "
            "reads and writes its arrays once, padding pruned"
        )
        share = f"{100 * shares['convolution_bandwidth_fraction']:.0f} % of the copy bandwidth"
        lines.append(_line(["normal", model, share]))
    return "\n".join(lines)


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |"


def _number(value: float) -> str:
    """Three digits that count, without an exponent."""
    for limit, digits in ((0.01, 5), (0.1, 4), (1, 3), (10, 2), (100, 1)):
        if abs(value) < limit:
            return f"{value:.{digits}f}"
    return f"{value:.0f}"
