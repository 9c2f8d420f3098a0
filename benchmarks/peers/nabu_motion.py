"""nabu's estimate of motion from opposite views; run with the Python that nabu is installed in.

``PYTHON nabu_motion.py GIVEN.npz FOUND.npz``: GIVEN has ``projections (view, z, x)`` of one full turn, an even number,
``theta_degrees`` and ``center``. FOUND gets ``shifts (view, 2)`` along x and z by polynomials of the second degree, as
the program has them, CPU and wall seconds. It is the class that ``nabu-estimate-motion`` uses; the command itself asks
for a window system.
"""

import sys
import time

import numpy as np
from nabu.estimation.motion import MotionEstimation

DEGREE = 2


def main() -> None:
    given = np.load(sys.argv[1])
    images, theta = given["projections"].astype(np.float32), np.radians(given["theta_degrees"])
    half = len(images) // 2
    cpu, wall = time.process_time(), time.monotonic()
    found = MotionEstimation(images[:half], images[half:], theta[:half], theta[half:], n_calc_threads=1)
    middle = (images.shape[2] - 1) / 2
    across, _ = found.estimate_horizontal_motion(degree=DEGREE, cor=float(given["center"]) - middle)
    along = found.estimate_vertical_motion(degree=DEGREE)
    moved = found.project_sample_motion_onto_detector(across, along, theta)
    np.savez(sys.argv[2], shifts=moved[:, ::-1], cpu=time.process_time() - cpu, wall=time.monotonic() - wall)


if __name__ == "__main__":
    main()
