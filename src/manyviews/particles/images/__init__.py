"""Particle images as Fourier coefficients."""
