"""Dense flow by polynomial expansion: Farneback (2003), as OpenCV has it, with the paper's parameters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manyviews.nano.flow.grey_range import grey_range, to_grey
from manyviews.parallel.threads import each_in_threads

Float32 = NDArray[np.float32]

_LEAST_WINDOW = 3


@dataclass(frozen=True)
class Farneback:
    """Nikitin et al. 2021 and their program: no pyramid, a box window, the last flow as the start.

    The flow of OpenCV from the data to the model is the pull-back of the model: ``data(x) = model(x + f)``.
    Images go in as floating point numbers from 0 to 255, which is as good as whole numbers or better.
    """

    iterations: int = 4
    polynomial_pixels: int = 5
    polynomial_sigma: float = 1.1

    def find(self, data: Float32, model: Float32, flow: Float32, window: float) -> Float32:
        """See `FlowEngine`; a view without contrast keeps its flow."""
        import cv2

        cv2.setNumThreads(1)
        found = np.array(flow, dtype=np.float32)
        size = max(_LEAST_WINDOW, round(window))

        def improve(n: int) -> None:
            low, high = grey_range(data[n])
            if high > low:
                start = np.ascontiguousarray(np.moveaxis(found[n], 0, -1))
                one = cv2.calcOpticalFlowFarneback(
                    to_grey(data[n], low, high), to_grey(model[n], low, high), start, 0.5, 1, size,
                    self.iterations, self.polynomial_pixels, self.polynomial_sigma,
                    cv2.OPTFLOW_USE_INITIAL_FLOW,
                )  # fmt: skip
                found[n] = np.moveaxis(one, -1, 0)

        each_in_threads(improve, len(data))
        return found
