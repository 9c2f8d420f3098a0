"""Nano-tomography of specimens that move while they are scanned.

So far: `fbp`, slices of a scan that needs no alignment, and `admm.tomography`, the step that fits a volume.
"""
