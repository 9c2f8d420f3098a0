"""Arrays of numbers in NumPy's ``.npy`` files, mapped into memory: flows, which have more than three axes."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manyviews.errors import InputError
from manyviews.io.atomic import atomic_path


def open_array(path: Path, axes: int) -> NDArray[Any]:
    """A file of float32 with so many axes, to be read where it is looked at; `InputError` if it is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy's remarks on the header
            array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise InputError("is not there", path=path, fix="check the name") from error
    except Exception as error:  # what numpy raises on a damaged header is of many kinds
        raise InputError("cannot be read as an array of NumPy", path=path, fix="write it again") from error
    if not isinstance(array, np.ndarray) or array.dtype != np.float32 or array.ndim != axes or not array.size:
        told = f"{getattr(array, 'dtype', 'no array')} of shape {getattr(array, 'shape', ())}"
        raise InputError(f"holds {told}, not float32 of {axes} axes", path=path)
    return array


def write_array(path: Path, array: NDArray[Any], *, overwrite: bool = False) -> None:
    """Write an array as float32; `InputError` if that cannot be done, or the file is there."""
    with atomic_path(path, overwrite=overwrite) as temporary, open(temporary, "wb") as handle:
        np.save(handle, np.asarray(array, dtype=np.float32), allow_pickle=False)
