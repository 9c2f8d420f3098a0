"""The centre of real scans by both ways, beside a library's: ``python benchmarks/nano_center.py``.

Savu's test scan 24737 and TomoPy's tooth, where they lie beside the checkout; the library is algotom, whose
``find_center_vo`` takes a sinogram. Also how strong stripes are before and after each filter. Writes
``benchmarks/results/nano_center.json``.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from manyviews.nano.scan.options import ScanOptions
from manyviews.nano.scan.prepare import prepare
from manyviews.nano.scan.scan import open_scan
from manyviews.nano.scan.stripes import stripe_strength
from subtomo_data import machine

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data" / "nano"
RESULT = ROOT / "benchmarks" / "results" / "nano_center.json"
KNOWN = {"savu_24737_tiff": 86.0, "tooth.h5": 296.0}
ROWS = 3  # sinograms that the library is given


def study(path: Path, known: float) -> dict[str, Any]:
    """One scan."""
    from algotom.prep.calculation import find_center_vo

    options = ScanOptions(scan=path)
    began = time.process_time()
    made = prepare(open_scan(path, options), options)
    found: dict[str, Any] = {"known": known, "cpu seconds": round(time.process_time() - began, 2)}
    assert made.found is not None
    for name, one in (("opposite views", made.found.pairs), ("sharpest slices", made.found.sharpest)):
        found[name] = None if one is None else round(one.center, 3)
    rows = np.unique(np.linspace(0, made.projections.shape[1] - 1, ROWS + 2).round().astype(int)[1:-1])
    found["find_center_vo of algotom"] = [
        float(find_center_vo(made.projections[:, row], ncore=1)) for row in rows.tolist()
    ]
    found["stripes"] = {"none": round(stripe_strength(made.projections), 2)}
    for stripes in ("fw", "sorting", "vo-all"):
        chosen = replace(options, stripes=stripes, center=known)
        began = time.process_time()
        clean = prepare(open_scan(path, chosen), chosen)
        seconds = (time.process_time() - began) / clean.projections.shape[1]
        found["stripes"][stripes] = round(stripe_strength(clean.projections), 2)
        found["stripes"][f"{stripes}, cpu seconds a row"] = round(seconds, 3)
    return found


def main() -> None:
    """All scans that are there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    data = parser.parse_args().data
    found: dict[str, Any] = {name: study(data / name, known) for name, known in KNOWN.items()}
    found["machine"] = machine()
    RESULT.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
