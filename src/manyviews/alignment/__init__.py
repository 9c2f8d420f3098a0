"""Laying one map over another: by shape, by Fourier shells, and on its symmetry axes."""
