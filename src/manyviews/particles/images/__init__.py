"""Particle images as Fourier coefficients.

Start with `fourier_images`, then `load`, which makes them from files, and `own_images`, those of one rank;
`random_start` and `fourier_resample` make first maps, and maps on other voxels.
"""
