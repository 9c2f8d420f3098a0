"""Arrays in, arrays out: one file a kernel and device.

Start with `select` (which serves which device), then `streams_cpu` and `affine_cpu`, of which tilt
projections are made, then `slices_cpu` for Fourier slices and `pose_scores_cpu`, `pose_sums_cpu` for
particles. `*_torch` and `*_cuda` do the same elsewhere.
"""
