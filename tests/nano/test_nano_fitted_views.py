"""What a page shows beside the images of a scan, where volume and flow are known."""

import numpy as np
import torch

from manyviews.metrics.correlation import ncc_views
from manyviews.nano.reconstruct_results import shown_pairs, straightened_images
from manyviews.nano.simulate import simulate_arrays
from manyviews.nano.simulate_options import SimulateOptions
from manyviews.operators.radon import Radon

OPTIONS = SimulateOptions(size=(48, 48), views=12, noise_free=True, deformation_percent=6.0, jitter=2.0)


def fitted(scan, flow, model):
    pairs = shown_pairs(np.stack(list(straightened_images(scan.projections, flow, False))), model)
    left = pairs[:, 0] - pairs[:, 1]
    return ncc_views(pairs[:, 0], pairs[:, 1]), float(np.linalg.norm(left) / np.linalg.norm(pairs[:, 0]))


def test_with_the_true_flow_nothing_is_left_of_images():
    scan = simulate_arrays(OPTIONS)
    assert scan.flow_is_all
    alike, left = fitted(scan, scan.flow, scan.still)
    asis, more = fitted(scan, np.zeros_like(scan.flow), scan.still)
    back, most = fitted(scan, -scan.flow, scan.still)
    assert alike.min() > 0.995
    assert left < 0.04
    assert more > 4 * left
    assert most > more  # a flow of the other sign makes it worse
    assert alike.mean() > asis.mean() > back.mean()


def test_the_true_volume_explains_images_at_rest():
    scan = simulate_arrays(OPTIONS)
    radon = Radon(scan.theta_degrees, 48, 48, scan.center)
    alike, left = fitted(scan, scan.flow, radon.forward(torch.from_numpy(scan.truth)).numpy())
    assert alike.min() > 0.99
    assert left < 0.06
