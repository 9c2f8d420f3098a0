"""mumott's two alignments of whole views; run with the Python that mumott is installed in.

``PYTHON mumott_align.py GIVEN.npz FOUND.npz WAY``: GIVEN has ``projections (view, z, x)``, minus logarithms of the
transmission, and ``theta_degrees``; WAY is ``optical_flow`` or ``phase_matching``. FOUND gets ``shifts (view, 2)`` along
x and z as the program has them, CPU and wall seconds.
"""

import sys
import time

import numpy as np
from mumott.core.geometry import Geometry
from mumott.core.projection_stack import Projection
from mumott.data_handling import DataContainer
from mumott.pipelines import run_phase_matching_alignment
from mumott.pipelines.optical_flow_alignment import run_optical_flow_alignment
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation


def container(projections: NDArray[np.float32], theta_degrees: NDArray[np.float64]) -> DataContainer:
    """Frames (x, z), the axis along z."""
    made = DataContainer()
    for image, theta in zip(projections, theta_degrees, strict=True):
        transmission = np.exp(-image.T.astype(np.float64))
        made.projections.append(
            Projection(
                data=transmission[..., None],
                diode=transmission,
                weights=np.ones((*transmission.shape, 1)),
                rotation=Rotation.from_euler("z", theta, degrees=True).as_matrix(),
                inner_angle=np.radians(theta),
                outer_angle=0.0,
                inner_axis=np.array([0.0, 0.0, 1.0]),
                outer_axis=np.array([1.0, 0.0, 0.0]),
            )
        )
    rows, columns = projections.shape[1:]
    geometry: Geometry = made.geometry
    geometry.p_direction_0 = np.array([0.0, 1.0, 0.0])
    geometry.j_direction_0 = np.array([1.0, 0.0, 0.0])
    geometry.k_direction_0 = np.array([0.0, 0.0, 1.0])
    geometry.detector_angles = np.array([0.0])
    geometry.two_theta = np.array([0.0])
    geometry.volume_shape = np.array([columns, columns, rows])
    return made


def main() -> None:
    given = np.load(sys.argv[1])
    data = container(given["projections"], given["theta_degrees"])
    cpu, wall = time.process_time(), time.monotonic()
    if sys.argv[3] == "optical_flow":
        shape = tuple(int(length) for length in data.geometry.volume_shape)
        shifts, _, _ = run_optical_flow_alignment(data, main_rot_axis=1, volume=shape)
    else:
        run_phase_matching_alignment(data, upsampling=20)
        shifts = np.stack([data.geometry.j_offsets, data.geometry.k_offsets], axis=1)
    np.savez(sys.argv[2], shifts=shifts, cpu=time.process_time() - cpu, wall=time.monotonic() - wall)


if __name__ == "__main__":
    main()
