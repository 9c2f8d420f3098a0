"""What postprocessing leaves in a folder: maps, curves for this program and for RELION, key figures."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from manyviews.io.mrc import write_mrc
from manyviews.io.star import StarBlock, write_star
from manyviews.io.tables import write_table
from manyviews.maps.agreement import THRESHOLD, as_relion_counts
from manyviews.maps.postprocess import Finished
from manyviews.maps.sharpening import Guinier
from manyviews.metrics.directional_fsc import write_cones
from manyviews.report.words import in_figures
from manyviews.runs.map_names import HALF1_FILE, HALF2_FILE, MASK_FILE, VOLUME_FILE

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

SHARPENED_FILE = "sharpened.mrc"
LOCAL_FILE, FILTERED_FILE = "local_resolution.mrc", "locally_filtered.mrc"
FSC_FILE, DIRECTIONAL_FILE, STAR_FILE = "fsc.csv", "directional_fsc.csv", "postprocess.star"
GUINIER_FILE, WEIGHTS_FILE, LOCAL_TABLE = "guinier.csv", "local_filter.csv", "local_resolution.csv"
RESULTS = (
    HALF1_FILE, HALF2_FILE, VOLUME_FILE, MASK_FILE, SHARPENED_FILE, LOCAL_FILE, FILTERED_FILE, FSC_FILE,
    DIRECTIONAL_FILE, STAR_FILE, GUINIER_FILE, WEIGHTS_FILE, LOCAL_TABLE,
)  # fmt: skip
GUINIER_COLUMNS = ("frequency_per_angstrom", "log_amplitude", "log_amplitude_weighted", "line")
_LOCAL_BINS = 40
_RELION_INFINITY = 999.0  # angstrom, of shell 0


def write_finished(folder: Path, found: Finished, halves: tuple[Float32, Float32]) -> dict[str, object]:
    """Write all that was made of two half maps ``(D, D, D)``, replacing older files; key figures by name."""
    _write_maps(folder, found, halves)
    curves = found.agreement.curves
    curves.write_csv(folder / FSC_FILE, overwrite=True)
    if found.agreement.cones:
        write_cones(folder / DIRECTIONAL_FILE, found.agreement.cones)
    if found.guinier is not None:
        _write_guinier(folder / GUINIER_FILE, found.guinier)
    if found.local is not None:
        _write_local(folder / LOCAL_TABLE, found.local.resolution, found.pixel_size)
    if found.filtered is not None:
        one = found.filtered
        rows = zip(one.centres, one.lowest, one.middle, one.highest, strict=True)
        write_table(
            folder / WEIGHTS_FILE,
            ("frequency_per_angstrom", "weight_5_percent", "weight_median", "weight_95_percent"),
            ((f"{row[0]:.8g}", *(f"{value:.6f}" for value in row[1:])) for row in rows),
        )
    write_star(folder / STAR_FILE, relion_blocks(found), overwrite=True)
    return summary_of(found)


def _write_maps(folder: Path, found: Finished, halves: tuple[Float32, Float32]) -> None:
    local = None if found.local is None else np.nan_to_num(found.local.resolution, nan=0.0)
    volumes = (
        (HALF1_FILE, halves[0]), (HALF2_FILE, halves[1]), (VOLUME_FILE, found.mean),
        (MASK_FILE, found.mask.volume), (SHARPENED_FILE, found.sharpened), (LOCAL_FILE, local),
        (FILTERED_FILE, found.locally_filtered),
    )  # fmt: skip
    for name, volume in volumes:
        if volume is not None:
            write_mrc(
                folder / name, volume, found.pixel_size, overwrite=True,
                labels=("manyviews particles postprocess",),
            )  # fmt: skip


def summary_of(found: Finished) -> dict[str, object]:
    """Key figures by name, for a run that ends with this."""
    curves, mask, agreed = found.agreement.curves, found.mask, found.agreement
    last = curves.corrected.last_crossing(THRESHOLD) if math.isfinite(agreed.resolution) else math.inf
    summary: dict[str, object] = {
        "map_voxels": len(found.mean),
        "pixel_size_angstrom": found.pixel_size,
        "resolution_fsc0143_of_the_halves_angstrom": in_figures(agreed.resolution),
        "crossed_for_the_last_time_fsc0143_angstrom": in_figures(last),
        "without_a_mask_fsc0143_angstrom": in_figures(curves.unmasked.first_crossing(THRESHOLD)),
        "in_the_mask_uncorrected_fsc0143_angstrom": in_figures(curves.masked.first_crossing(THRESHOLD)),
        "mask": mask.kind,
        "mask_share_of_the_box": round(mask.share, 4),
    }
    if mask.kind == "automatic":
        summary |= {
            "mask_low_pass_angstrom": round(mask.low_pass_angstrom, 2),
            "mask_small_pieces_dropped": mask.dropped,
        }
    if math.isinf(agreed.resolution):
        return summary
    directional = agreed.directional
    summary |= {
        "resolution_as_relion_counts_angstrom": in_figures(as_relion_counts(curves.corrected)),
        "best_direction_angstrom": in_figures(float(directional.min())),
        "median_direction_angstrom": in_figures(float(np.median(directional))),
        "worst_direction_angstrom": in_figures(float(directional.max())),
        "b_factor_square_angstrom": round(found.b_factor, 1),
    }
    if found.local is not None:
        names = (
            "best_local_resolution_5_percent",
            "median_local_resolution",
            "worst_local_resolution_95_percent",
        )
        values = found.local.quantiles((0.05, 0.5, 0.95))
        summary |= {f"{name}_angstrom": in_figures(value) for name, value in zip(names, values, strict=True)}
        whole = curves.corrected.first_crossing(found.local.threshold)
        summary["the_whole_at_the_local_threshold_angstrom"] = in_figures(whole)
    if found.filtered is not None and found.filtered.predicted_by_one > 0:
        gained = found.filtered.predicted / found.filtered.predicted_by_one - 1
        summary["prediction_gained_by_filtering_locally_percent"] = round(100 * gained, 1)
    return summary


def _write_guinier(path: Path, plot: Guinier) -> None:
    line = np.full(len(plot.frequency), math.nan)
    if plot.fitted:
        inside = (plot.frequency >= 1 / plot.fit_from) & (plot.frequency <= (1 + 1e-9) / plot.fit_to)
        line = np.where(inside, plot.intercept + plot.b_factor / 4 * plot.frequency**2, math.nan)
    columns = (plot.original, plot.weighted, line)
    rows = (
        (f"{frequency:.8g}", *("" if math.isnan(value) else f"{value:.6f}" for value in values))
        for frequency, *values in zip(plot.frequency, *columns, strict=True)
    )
    write_table(path, GUINIER_COLUMNS, rows)


def _write_local(path: Path, resolution: Float32, pixel_size: float) -> None:
    """How much of the particle is resolved how far."""
    known = resolution[np.isfinite(resolution)]
    if not known.size:
        return
    edges = np.linspace(float(known.min()) * 0.999, float(np.quantile(known, 0.99)) * 1.001, _LOCAL_BINS + 1)
    counts, _ = np.histogram(np.minimum(known, edges[-1]), edges)
    rows = [
        (f"{low:.4f}", f"{high:.4f}", f"{count * pixel_size**3:.1f}")
        for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True)
    ]
    write_table(path, ("from_angstrom", "to_angstrom", "cubic_angstrom"), rows)


def relion_blocks(found: Finished) -> tuple[StarBlock, ...]:
    """The tables of RELION's ``postprocess.star``: general, fsc, guinier."""
    curves = found.agreement.curves
    frequency = curves.corrected.frequency
    angstrom = np.divide(1, frequency, out=np.full(len(frequency), _RELION_INFINITY), where=frequency > 0)
    random_from = min(curves.random_from, len(frequency) - 1)
    general: dict[str, float | str] = {
        "rlnFinalResolution": min(as_relion_counts(curves.corrected), _RELION_INFINITY),
        "rlnBfactorUsedForSharpening": found.b_factor,
        "rlnUnfilteredMapHalf1": HALF1_FILE,
        "rlnUnfilteredMapHalf2": HALF2_FILE,
        "rlnMaskName": MASK_FILE,
        "rlnRandomiseFrom": float(angstrom[random_from]),
    }
    plot = found.guinier
    if plot is not None and plot.fitted:
        general |= {
            "rlnFittedSlopeGuinierPlot": plot.b_factor / 4,
            "rlnFittedInterceptGuinierPlot": plot.intercept,
            "rlnCorrelationFitGuinierPlot": abs(plot.correlation),
        }
    texts = {name: [value if isinstance(value, str) else f"{value:.6f}"] for name, value in general.items()}
    fsc = {
        "rlnSpectralIndex": [str(shell) for shell in range(len(frequency))],
        "rlnResolution": [f"{value:.6f}" for value in frequency],
        "rlnAngstromResolution": [f"{value:.6f}" for value in angstrom],
        "rlnFourierShellCorrelationCorrected": _six(curves.corrected.correlation),
        "rlnFourierShellCorrelationUnmaskedMaps": _six(curves.unmasked.correlation),
        "rlnFourierShellCorrelationMaskedMaps": _six(curves.masked.correlation),
        "rlnCorrectedFourierShellCorrelationPhaseRandomizedMaskedMaps": _six(curves.random.correlation),
    }
    blocks = [StarBlock("general", texts), StarBlock("fsc", fsc)]
    if plot is not None:
        blocks.append(StarBlock("guinier", _guinier_columns(plot)))
    return tuple(blocks)


def _guinier_columns(plot: Guinier) -> dict[str, list[str]]:
    """Shells with an amplitude; RELION's columns of the sharpened map are not written."""
    shown = np.isfinite(plot.original) & np.isfinite(plot.weighted)
    return {
        "rlnResolutionSquared": [f"{value:.8f}" for value in plot.frequency[shown] ** 2],
        "rlnLogAmplitudesOriginal": _six(plot.original[shown]),
        "rlnLogAmplitudesWeighted": _six(plot.weighted[shown]),
    }


def _six(values: Float64) -> list[str]:
    return [f"{value:.6f}" for value in values]
