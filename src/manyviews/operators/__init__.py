"""What is linear, with exact adjoints.

Start with `linear`: what an operator is, and the list of all. Then for tilt series `tilt_projector`,
`slab_projector` (a volume that is spread) and `convolution` (both ways at once); for particles
`fourier_points`, `fourier_slice`, `contrast_transfer` and `fourier_sums`.
"""
