"""``manyviews subtomo compare``: found poses of subtomograms beside true ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from manyviews.cli.command import Command
from manyviews.cli.output import require_room
from manyviews.options import option


# fmt: off
@dataclass(frozen=True)
class _CompareOptions:
    """What ``subtomo compare`` can be told."""

    found: Path = option(section="input", metavar="POSES", positional=True,
        help="Compare the poses in this table of subtomograms (.star, .tbl, .em).")
    truth: Path = option(section="input", metavar="TRUTH", positional=True,
        help="Compare with the poses in this one, of the same subtomograms.")
    pixel_size: float | None = option(None, section="input", metavar="ANGSTROM", above=0,
        help="Take the voxels of the subtomograms to have this size, in angstrom. Left out: what the tables "
        "tell.")
    symmetry: str = option("C1", section="comparison", metavar="GROUP",
        help="Count poses as equal that this point group makes equal, in the frame of the second table.")
    reference_frame: bool = option(False, section="comparison",
        help="Compare poses as they are: the found map lies where the true one does, as after an alignment "
        "to the same reference. Left out: one turn and move of all poses, and their hand, are no error.")
    out: Path | None = option(None, section="output", metavar="DIR",
        help="Write pose_errors.csv, the errors of each particle, to this folder.")
    overwrite: bool = option(False, section="output", help="Replace such a file of an earlier comparison.")
# fmt: on


def _compare(options: _CompareOptions) -> int:
    from manyviews.subtomo.compare import ERRORS_FILE, compare_files

    require_room(options.out, (ERRORS_FILE,), overwrite=options.overwrite)
    compared = compare_files(
        options.found,
        options.truth,
        options.symmetry,
        one_frame=options.reference_frame,
        pixel_size=options.pixel_size,
    )
    print("\n".join(compared.lines()))
    if options.out is not None:
        print(compared.write(options.out, overwrite=options.overwrite))
    return 0


COMPARE = Command(
    name="subtomo compare",
    summary="Compare found poses of subtomograms with true ones: angles modulo symmetry, shifts in space.",
    usage="POSES.star TRUTH.star [options]",
    examples=(
        "manyviews subtomo compare run1/particles.star truth.star --symmetry D7",
        "manyviews subtomo compare refined.tbl truth.star --pixel-size 6 --reference-frame --out compared",
    ),
    options=(_CompareOptions,),
    run=_compare,
)
