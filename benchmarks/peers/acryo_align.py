"""acryo's alignment of subtomograms over a list of rotations; run with the Python that acryo is installed in.

``PYTHON acryo_align.py GIVEN.npz FOUND.npz``: GIVEN has ``volumes (N, n, n, n)``, ``reference``, ``mask``,
``rotations (M, 3, 3)``, poses A as in `manyviews.geometry.poses`, ``tilt`` degrees, ``cutoff`` as a part of the Nyquist frequency, ``shift`` voxels. FOUND gets the best rotation of each, CPU
seconds of the first call, which turns the templates, and of each volume after that.
"""

import sys
import time

import numpy as np
from acryo.alignment import ZNCCAlignment
from scipy.spatial.transform import Rotation


def main() -> None:
    given = np.load(sys.argv[1])
    # acryo turns (z, y, x)
    rotations = Rotation.from_matrix(given["rotations"][:, ::-1, ::-1])
    model = ZNCCAlignment(
        given["reference"].astype(np.float32),
        given["mask"].astype(np.float32),
        rotations=rotations,
        cutoff=float(given["cutoff"]),
        tilt=(-float(given["tilt"]), float(given["tilt"])),
    )
    shift = (float(given["shift"]),) * 3
    began = time.process_time()
    model.align(given["volumes"][0].astype(np.float32), max_shifts=shift)
    first = time.process_time() - began
    quaternions, spent = [], []
    for volume in given["volumes"]:
        began = time.process_time()
        found = model.align(volume.astype(np.float32), max_shifts=shift)
        spent.append(time.process_time() - began)
        quaternions.append(found.quat)
    np.savez(
        sys.argv[2],
        rotations=Rotation.from_quat(np.array(quaternions)).as_matrix()[:, ::-1, ::-1],
        first=first,
        spent=np.array(spent),
    )


if __name__ == "__main__":
    main()
