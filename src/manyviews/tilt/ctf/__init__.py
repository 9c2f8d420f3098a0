"""Contrast transfer of tilt series: defocus and dose from files, the sign of its gradient, correction."""
