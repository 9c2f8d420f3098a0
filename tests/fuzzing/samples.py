"""Small whole files of every format, as programs write them: what the mutations start from."""

from __future__ import annotations

import io
import json

import numpy as np

ANGLES = b"-30.0\n  -15.25\n0.0\n15.5\n"
ANGLE_COLUMNS = b"-30.0  3  9.00\n-15.25  1  3.00\n0.0  0  0.00\n15.5  2  6.00\n"
XF = b"".join(b"   0.9961947  -0.0871557   0.0871557   0.9961947  %8.3f  -3.250\n" % x for x in range(4))
SHIFTS = b"1.5 -2\n0 0\n3 4.25\n-1 1\n"
SHIFTS_JSON = b"[[1.5, -2], [0, 0], [3, 4.25], [-1, 1]]"
MDOC = b"""PixelSpacing = 7.88
Voltage = 300
ImageFile = a.mrc
ImageSize = 6 5
DataMode = 1

[T = SerialEM: Digitized on EMBL Krios]
[T =     Tilt axis angle = -88.7, binning = 2  spot = 7  camera = 0]

""" + b"".join(
    b"""[ZValue = %d]
TiltAngle = %.2f
StagePosition = 12.5 -30.1
RotationAngle = 175
PixelSpacing = 7.88
SubFramePath = X:\\frames\\a_%d.mrc
DateTime = 12-Feb-21  12:10:0%d

"""
    % (n, 15.0 * n - 30, n, n)
    for n in range(4)
)
MDOC_TOMO5 = b"""PixelSpacing = 7.88
Voltage = 300
Version = 5.12
ImageFile = a.mrc
ImageSize = 6 5
DataMode = 1
[T = TOMOGRAPHY 5
    TiltAxisAngle = 85,60 Binning = 1 SpotSize = 8]

""" + b"".join(
    b"""[ZValue = %d]
TiltAngle = %.2f
RotationAngle = 85.6
TiltAxisAngle = 85.6
ExposureDose = 3.1
SubFramePath = X:\\frames\\a_%d.eer
NumSubFrames = 8

"""
    % (n, tilt, n)
    for n, tilt in enumerate((0.0, 3.0, -3.0, -6.0))  # as they were taken
)
LIST = b"# as they were taken\nt0.mrc 0.0\nt1.mrc 3.0\n\n1@t2.mrc -3.0\nt3.mrc -6.0\n"
LIST_MDOC = MDOC_TOMO5.replace(b"a_", b"t").replace(b"ImageFile = a.mrc\n", b"")
_LIST_HEAD = b"\n# version 50001\n\ndata_%s\n\nloop_\n"
LIST_STAR = (
    _LIST_HEAD % b"TS_1"
    + b"""_rlnMicrographName #1
_rlnTomoNominalStageTiltAngle #2
_rlnTomoNominalTiltAxisAngle #3
MotionCorr/job002/t0.mrc 0.0 85.6
MotionCorr/job002/t1.mrc 3.0 85.6
MotionCorr/job002/t2.mrc -3.0 85.6
MotionCorr/job002/t3.mrc -6.0 85.6
"""
)
LIST_TOMOSTAR = (
    _LIST_HEAD % b""
    + b"""_wrpMovieName #1
_wrpAngleTilt #2
_wrpAxisAngle #3
_wrpDose #4
_wrpAverageIntensity #5
../frames/t0.eer 0.01 85.6 0 1.21
../frames/t1.eer 3.01 85.6 3.1 1.21
../frames/t2.eer -2.99 85.6 6.2 1.2
../frames/t3.eer -5.99 85.6 9.3 1.2
"""
)
ALN = b"""# AreTomo Alignment / Priims bprmMn
# RawSize = 6 5 4
# NumPatches = 1
# DarkFrame =     1    0   -66.00
# AlphaOffset =     0.50
# BetaOffset =     0.00
# SEC     ROT         GMAG       TX          TY      SMEAN     SFIT    SCALE     BASE     TILT
    1   -12.6611    1.00000     24.786     -2.677     1.00     1.00     1.00     0.00    -61.50
    2   -12.6611    1.00000     34.451     -8.599     1.00     1.00     1.00     0.00    -60.00
    3   -12.6611    1.00000     30.451     -8.599     1.00     1.00     1.00     0.00    -58.50
# Local Alignment
   0   0  -558.42   -802.00   -100.07     24.43   1.0
"""
CTFFIND = b"""# Output from CTFFind version 4.1.14
# Pixel size: 2.000 Angstroms ; acceleration voltage: 300.0 keV ; spherical aberration: 2.70 mm
# Columns: #1 - micrograph number; #2 - defocus 1 [Angstroms]; #3 - defocus 2
1.000000 25951.41 24469.37 88.08 0.000000 0.081 7.1
2.000000 24973.29 23547.11 83.57 0.000000 0.070 7.3
3.000000 24973.29 23547.11 83.57 0.000000 0.070 inf
4.000000 24973.29 23547.11 83.57 0.000000 0.070 7.3
"""
IMOD_DEFOCUS = b"""5 0 0. 0. 0 3
1 1 -30.0 -30.0 2500 2400 12.0 0.0
2 2 -15.25 -15.25 2600 2500 14.0 0.0
3 4 0.0 15.5 2600 2500 14.0 0.0
"""
DEFOCUS_STAR = b"""
data_TS_1

loop_
_rlnMicrographName #1
_rlnTomoNominalStageTiltAngle #2
_rlnMicrographPreExposure #3
_rlnDefocusU #4
_rlnDefocusV #5
_rlnDefocusAngle #6
000001@a.mrc -30.0 9.0 26000 25000 14.0
000002@a.mrc -15.25 3.0 25000 24000 12.0
000003@a.mrc 0.0 0.0 25000 24000 12.0
000004@a.mrc 15.5 6.0 25000 24000 12.0
"""
TOMO_STAR = b"""
# version 50001

data_TS_1

loop_
_rlnMicrographName #1
_rlnTomoNominalStageTiltAngle #2
_rlnTomoNominalTiltAxisAngle #3
_rlnTomoXTilt #4
_rlnTomoYTilt #5
_rlnTomoZRot #6
_rlnTomoXShiftAngst #7
_rlnTomoYShiftAngst #8
000001@a.mrc -3.0 85 0.5 -2.9 85.5 20.0 -6.0
000002@a.mrc 0.0 85 0.5 0.1 85.5 20.0 -6.0
000003@a.mrc 3.0 85 0.5 3.1 85.6 21.0 -5.6
000004@a.mrc 6.0 85 0.5 6.1 85.6 21.0 -5.6
"""
TILT_COM = b"""# THIS IS A COMMAND FILE TO RUN TILT
$setenv IMOD_OUTPUT_FORMAT MRC
$tilt -StandardInput
InputProjections a_ali.mrc
OutputFile a_rec.mrc
IMAGEBINNED 1
TILTFILE a.tlt
XTILTFILE a.xtilt
THICKNESS 90
RADIAL 0.35 0.035
XAXISTILT 1.5
OFFSET 0.5 0.0
SHIFT 0.0 0.0
EXCLUDELIST 1,4
FULLIMAGE 6 5
SUBSETSTART 0 0
DONE
$if (-e ./savework) ./savework
"""
STAR_31 = b"""
# version 30001

data_optics

loop_
_rlnOpticsGroup #1
_rlnOpticsGroupName #2
_rlnVoltage #3
_rlnSphericalAberration #4
_rlnAmplitudeContrast #5
_rlnImagePixelSize #6
_rlnImageSize #7
_rlnOddZernike #8
1 early 300.000000 2.700000 0.100000 1.500000 8 [0,0.1,0,0,0,0]
2 late 200.000000 2.000000 0.070000 1.500000 8 [0,0,0,0,0,0]

# version 30001

data_particles

loop_
_rlnImageName #1
_rlnOpticsGroup #2
_rlnDefocusU #3
_rlnDefocusV #4
_rlnDefocusAngle #5
_rlnPhaseShift #6
_rlnAngleRot #7
_rlnAngleTilt #8
_rlnAnglePsi #9
_rlnOriginXAngst #10
_rlnOriginYAngst #11
_rlnRandomSubset #12
_rlnMicrographName #13
000001@a.mrcs 1 10000.5 9000 10 0 1 40 -7 1 -1 1 "m 1.mrc"
000002@a.mrcs 2 11000 9500 -20 90 2 50 -8 2 -2 2 m2.mrc
000003@a.mrcs 1 12000 9800 30 0 3 60 -9 3 -3 1 m3.mrc

"""
STAR_30 = b"""
data_

loop_
_rlnVoltage #1
_rlnDefocusU #2
_rlnDefocusV #3
_rlnDefocusAngle #4
_rlnSphericalAberration #5
_rlnDetectorPixelSize #6
_rlnMagnification #7
_rlnAmplitudeContrast #8
_rlnImageName #9
_rlnOriginX #10
_rlnOriginY #11
_rlnAngleRot #12
_rlnAngleTilt #13
_rlnAnglePsi #14
300 10000 9000 10 2.7 15 100000 0.1 000001@a.mrcs 1 -1 10 20 30
300 11000 9500 -20 2.7 15 100000 0.1 000002@a.mrcs 2 -2 20 30 40
300 12000 9800 30 2.7 15 100000 0.1 000003@a.mrcs 3 -3 30 40 50
"""
PDB = b"""HEADER    TEST                                    01-JAN-20   1ABC
CRYST1   90.000   90.000   90.000  90.00  90.00  90.00 P 1           1
SCALE1      0.011111  0.000000  0.000000        0.00000
SCALE2      0.000000  0.011111  0.000000        0.00000
SCALE3      0.000000  0.000000  0.011111        0.00000
MODEL        1
ATOM      1  N   ALA A   1      50.000  60.000  70.000  1.00 20.00           N
ANISOU    1  N   ALA A   1     2406   1892   1614    198    519   -328       N
ATOM      2  CA  ALA A   1      51.400  60.000  70.000  1.00 20.00           C
ATOM      3  N   GLY A   2      53.000  60.000  82.000  1.00 20.00           N
ATOM      4  CA AGLY A   2      54.400  60.000  82.000  0.60 20.00           C
ATOM      5  C   GLY A   2      54.400  61.400  82.000  1.00 20.00           C
ATOM      6  H   GLY A   2      54.400  61.900  82.000  1.00 20.00           H
HETATM    7 ZN    ZN A   3      52.400  61.400  76.000  1.00 20.00          ZN
TER       8      GLY A   2
ENDMDL
CONECT    1    2
END
"""
MMCIF = b"""data_1ABC
#
_entry.id   1ABC
_cell.length_a   90.000
_cell.length_b   90.000
_cell.length_c   90.000
_cell.angle_alpha   90.00
_cell.angle_beta    90.00
_cell.angle_gamma   90.00
_symmetry.space_group_name_H-M   'P 1'
loop_
_atom_site.group_PDB
_atom_site.id
_atom_site.type_symbol
_atom_site.label_atom_id
_atom_site.label_alt_id
_atom_site.label_comp_id
_atom_site.label_asym_id
_atom_site.label_entity_id
_atom_site.label_seq_id
_atom_site.Cartn_x
_atom_site.Cartn_y
_atom_site.Cartn_z
_atom_site.occupancy
_atom_site.B_iso_or_equiv
_atom_site.auth_seq_id
_atom_site.auth_asym_id
_atom_site.pdbx_PDB_model_num
ATOM 1 N N . ALA A 1 1 50.000 60.000 70.000 1.00 20.00 1 A 1
ATOM 2 C CA . ALA A 1 1 51.400 60.000 70.000 1.00 20.00 1 A 1
ATOM 3 N N . GLY A 1 2 53.000 60.000 82.000 1.00 20.00 2 A 1
ATOM 4 C CA . GLY A 1 2 54.400 60.000 82.000 1.00 20.00 2 A 1
ATOM 5 C C . GLY A 1 2 54.400 61.400 82.000 1.00 20.00 2 A 1
ATOM 6 H H . GLY A 1 2 54.400 61.900 82.000 1.00 20.00 2 A 1
#
"""
GEOMETRY = b"""view,series,section,axis_degrees,tilt_degrees,shift_x_angstrom,shift_y_angstrom,source
1,1,1,0.0,-30.0,1.2000,-3.0000,a.tlt
2,1,2,0.0,0.0,0.0000,0.0000,a.tlt
3,2,1,90.0,30.0,1.0000,2.0000,b.tlt
"""
NCC = b"""view,series,section,axis_degrees,tilt_degrees,ncc
1,1,1,0.0,-30.0,0.912345
2,1,2,0.0,0.0,0.950000
3,2,1,90.0,30.0,0.850000
4,2,2,90.0,33.0,
"""
FSC = b"frequency_per_angstrom,fsc\n0,1.000000\n0.01,0.900000\n0.02,0.400000\n0.03,0.100000\n0.04,0.050000\n"
DIRECTIONS = b"z,longitude_degrees,particles\n" + b"".join(
    b"%.5f,%.3f,%d\n" % ((row + 0.5) / 3 - 1, 45 * column - 157.5, row + column)
    for row in range(6)
    for column in range(8)
)
SPREAD = b"from_degrees,to_degrees,particles\n0.0,0.5,10\n0.5,1.0,25\n1.0,1.5,3\n"
LOG = b"""2026-01-01T12:00:00+00:00 started: manyviews tilt reconstruct a.mrc --out run1
2026-01-01T12:00:01+00:00 warning: all tilt angles are 0
2026-01-01T12:00:09+00:00 reconstruct stopped after iteration 3: iterations
2026-01-01T12:00:10+00:00 finished: volume.mrc, summary.json
"""
LOCK = json.dumps(
    {"pid": 4194000, "host": "HOST", "started": "2026-01-01T12:00:00+00:00", "process_ticks": 123456}
).encode()


def run_toml(job: str, method: str) -> bytes:
    """The record of a run."""
    return f"""job = "{job}"
started = "2026-01-01T12:00:00+00:00"
command = [
    "manyviews",
    "{job}",
    "a.mrc",
]
results = [
    "volume.mrc",
    "summary.json",
]

[options]
method = "{method}"
iterations = 3
starts = 2
shift_sigma = 3.0
independent_halves = false
volume_shape = [ 24, 24, 24 ]

[inputs]
"1: a.mrc" = "size:100 sha256:00ff"

[seeds]
main = 0

[versions]
manyviews = "0.1.0"
numpy = "2.0.0"

[host]
cpus = 2
ranks = 1
""".encode()


def events(kind: str) -> bytes:
    """The story of a run: of a tilt series (``tilt``), or of particles."""
    rows: list[dict[str, object]] = []
    if kind == "tilt":
        rows.append({"kind": "start", "stage": "reconstruct", "iteration": 0, "objective": 2.5e6})
        rows += [
            {"kind": "iteration", "stage": "reconstruct", "iteration": n, "objective": 2.5e6 / n,
             "data_passes": float(n)}
            for n in range(1, 4)
        ]  # fmt: skip
    for n in range(1, 7) if kind == "particles" else ():
        rows.append(
            {"kind": "iteration", "stage": "start-0" if n < 4 else "refinement", "iteration": n,
             "log_likelihood": 40.0 + n, "radius": 3.0 + n, "agreed_radius": 2.0 + n,
             "poses_an_image": 5000.0 / n, "starts_done": 0 if n < 4 else 1}
        )  # fmt: skip
    rows.append(
        {"kind": "stop", "stage": "reconstruct", "iteration": 3, "reason": "iterations", "message": ""}
    )
    rows.append({"kind": "done", "results": ["fsc.csv", "summary.json"]})
    return b"".join(
        json.dumps({"time": "2026-01-01T12:00:00.000+00:00", **row}).encode() + b"\n" for row in rows
    )


SUMMARY = json.dumps(
    {
        "method": "cg",
        "volume_x_y_z": [24, 24, 24],
        "resolution_at_fsc_0.5_angstrom": 17.25,
        "mean_ncc_of_reprojections": 0.91,
        "stopped_because": "iterations",
        "wall_seconds": 113.2,
        "peak_memory_bytes": 649641984,
        "warnings": ["all tilt angles are 0"],
    },
    indent=1,
).encode()


CRYOSPARC_PARTICLES = 40  # so many that more than half of the file is theirs


def cryosparc() -> bytes:
    """A table of particles."""
    kinds = [
        ("uid", "u8"), ("blob/path", "S12"), ("blob/idx", "u4"), ("blob/shape", "u4", (2,)),
        ("blob/psize_A", "f4"), ("blob/sign", "f4"), ("ctf/exp_group_id", "u4"), ("ctf/accel_kv", "f4"),
        ("ctf/cs_mm", "f4"), ("ctf/amp_contrast", "f4"), ("ctf/df1_A", "f4"), ("ctf/df2_A", "f4"),
        ("ctf/df_angle_rad", "f4"), ("ctf/phase_shift_rad", "f4"), ("alignments3D/split", "u4"),
        ("alignments3D/shift", "f4", (2,)), ("alignments3D/pose", "f4", (3,)), ("alignments3D/psize_A", "f4"),
    ]  # fmt: skip
    records = np.zeros(CRYOSPARC_PARTICLES, dtype=kinds)
    records["uid"] = records["blob/idx"] = np.arange(CRYOSPARC_PARTICLES)
    records["blob/path"] = b"a.mrcs"
    records["blob/shape"], records["blob/sign"] = 8, -1
    for name, value in (
        ("blob/psize_A", 1.5), ("alignments3D/psize_A", 1.5), ("ctf/accel_kv", 300), ("ctf/cs_mm", 2.7),
        ("ctf/amp_contrast", 0.1), ("ctf/df1_A", 15000), ("ctf/df2_A", 14000), ("alignments3D/pose", 0.3),
    ):  # fmt: skip
        records[name] = value
    stream = io.BytesIO()
    np.save(stream, records)
    return stream.getvalue()
