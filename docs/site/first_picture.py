"""The picture of README.md: ``python docs/site/first_picture.py``, in an empty folder, after these.

    manyviews demo
    manyviews particles simulate --out data
    manyviews particles solve data/particles.star --diameter 220 --out data/solved1
    manyviews particles compare data/solved1/volume.mrc data/truth.mrc --mask-diameter 220 --out compared

Nothing is retouched: images and central slices across z, grey from the 0.5 to the 99.5 percentile of each.
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

import manyviews as mv

_PIXELS = 220  # of a panel


def show(axes: Axes, image: NDArray[np.float32], title: str) -> None:
    """One picture ``(y, x)``, y upwards."""
    low, high = np.percentile(image, (0.5, 99.5))
    axes.imshow(image, cmap="gray", vmin=low, vmax=high, origin="lower")
    axes.set_title(title, fontsize=8)
    axes.set_axis_off()


def central(path: str) -> NDArray[np.float32]:
    """The middle section of a volume or stack."""
    array = mv.read_mrc(path)[0]
    middle: NDArray[np.float32] = array[len(array) // 2]
    return middle


def main() -> None:
    """Draw ``first-picture.png``."""
    figure, axes = plt.subplots(2, 4, figsize=(8.8, 4.8), dpi=_PIXELS / 2.2, layout="constrained")
    tilts = mv.read_mrc("demo-run/data/axis-000.mrc")[0]
    show(axes[0, 0], tilts[len(tilts) // 2], "tilt series: untilted image")
    show(axes[0, 1], tilts[-1], "image at 60 degrees")
    show(axes[0, 2], central("demo-run/reconstruction/volume.mrc"), "reconstruction, central slice")
    show(axes[0, 3], central("demo-run/data/truth.mrc"), "truth")
    particles = mv.read_mrc("data/particles.mrcs")[0]
    show(axes[1, 0], particles[0], "particles: one image")
    show(axes[1, 1], particles[1], "another")
    show(axes[1, 2], central("compared/aligned.mrc"), "map from nothing, central slice")
    show(axes[1, 3], central("data/truth.mrc"), "truth")
    figure.savefig("first-picture.png")


if __name__ == "__main__":
    main()
