"""Alignment of raw tilt series: shifts, axes and rotations from the images alone.

``align.py`` is the job; read it first.
"""
