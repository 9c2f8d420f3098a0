"""Means of rows of flows, and what is taken away from rows."""

from __future__ import annotations

import numpy as np

from manyviews.kernels.flow_rows_cpu import row_means, subtract_from_rows


def test_rows_lose_what_their_means_say(rng):
    flow = rng.standard_normal((4, 2, 5, 7)).astype(np.float32)
    places = np.arange(7) - 2.5
    means = row_means(flow, places)
    np.testing.assert_allclose(means[:, 0], flow[:, 0].mean(axis=2), atol=1e-6)
    np.testing.assert_allclose(means[:, 1], (flow[:, 0] * places).mean(axis=2), atol=1e-6)
    np.testing.assert_allclose(means[:, 2], flow[:, 1].mean(axis=2), atol=1e-6)
    along, dilation, vertical = rng.standard_normal((4, 5)), rng.standard_normal(5), rng.standard_normal(5)
    expected = flow.copy()
    expected[:, 0] -= along[:, :, None] + dilation[:, None] * places
    expected[:, 1] -= vertical[:, None]
    subtract_from_rows(flow, along, dilation, vertical, places)
    np.testing.assert_allclose(flow, expected, atol=1e-5)
