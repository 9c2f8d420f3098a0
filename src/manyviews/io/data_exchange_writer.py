"""Write a scan as Data Exchange HDF5, image by image; `manyviews.io.data_exchange` reads it.

Source: De Carlo et al., J. Synchrotron Rad. 21 (2014) 1224: ``/exchange/data``, ``data_white``,
``data_dark``, ``theta`` in degrees. The size of a pixel stands where TomoScan has it, in micrometres.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from manyviews.errors import InputError
from manyviews.io.atomic import atomic_path

RESOLUTION = "measurement/instrument/detection_system/objective/resolution"
_NM_PER_UM = 1e3


def write_data_exchange(
    path: Path,
    views: Iterable[NDArray[Any]],
    theta_degrees: ArrayLike,
    *,
    flats: NDArray[Any],
    darks: NDArray[Any],
    pixel_size_nm: float,
    overwrite: bool = False,
) -> None:
    """Write views ``(z, x)`` one after the other; the file appears when complete.

    ``flats`` and ``darks`` are ``(image, z, x)`` and say size and type of all images; ``theta_degrees
    (view,)`` is in the order of acquisition. A chunk is an image.

    Raises
    ------
    InputError
        If the file is there and must not be overwritten, cannot be written, or there are not as many views as
        angles.
    """
    import h5py

    theta = np.asarray(theta_degrees, dtype=np.float64)
    shape = flats.shape[1:]
    with atomic_path(path, overwrite=overwrite) as temporary, h5py.File(temporary, "w") as file:
        exchange = file.create_group("exchange")
        data = exchange.create_dataset(
            "data", (len(theta), *shape), flats.dtype, chunks=(1, *shape), track_times=False
        )
        data.attrs["units"] = "counts"
        count = 0
        for view in views:
            if count == len(theta) or view.shape != shape:
                raise InputError(
                    f"view {count} of shape {view.shape} does not belong to {len(theta)} angles and images of"
                    f" {shape}",
                    path=path,
                )
            data[count] = view
            count += 1
        if count != len(theta):
            raise InputError(f"{count} views were given for {len(theta)} angles", path=path)
        for name, images in (("data_white", flats), ("data_dark", darks)):
            exchange.create_dataset(name, data=images, track_times=False)
        angles = exchange.create_dataset("theta", data=theta, track_times=False)
        angles.attrs["units"] = "deg"
        size = file.create_dataset(RESOLUTION, data=pixel_size_nm / _NM_PER_UM, track_times=False)
        size.attrs["units"] = "um"
        file.create_dataset("implements", data="exchange:measurement", track_times=False)
