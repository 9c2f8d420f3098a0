"""Dense inverse search: Kroeger et al., ECCV 2016, as OpenCV has it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manyviews.nano.flow.grey_range import grey_range, to_grey
from manyviews.parallel.threads import each_in_threads

Float32 = NDArray[np.float32]

_PRESETS = {"ultrafast": 0, "fast": 1, "medium": 2}


@dataclass(frozen=True)
class Dis:
    """Quick patches; it has no window of its own, so what it adds to the flow is averaged over the window."""

    preset: str = "fast"
    finest_window: float = 8.0

    def find(self, data: Float32, model: Float32, flow: Float32, window: float) -> Float32:
        """See `FlowEngine`; a view without contrast keeps its flow."""
        import cv2

        cv2.setNumThreads(1)
        found = np.array(flow, dtype=np.float32)

        def improve(n: int) -> None:
            low, high = grey_range(data[n])
            if high <= low:
                return
            images = [np.rint(to_grey(image, low, high)).astype(np.uint8) for image in (data[n], model[n])]
            start = np.ascontiguousarray(np.moveaxis(found[n], 0, -1))
            engine = cv2.DISOpticalFlow_create(_PRESETS[self.preset])  # type: ignore[attr-defined]
            more = engine.calc(images[0], images[1], start.copy()) - start
            if window > self.finest_window:
                side = round(window) | 1
                more = cv2.blur(more, (side, side), borderType=cv2.BORDER_REPLICATE)
            found[n] = np.moveaxis(start + more, -1, 0)

        each_in_threads(improve, len(data))
        return found
