"""Tilt series.

Start with `reconstruct`, the job top to bottom; then `options`, `plan`, `methods`, `results` and `report`.
The science: `series` (from files to views), `solve` (the problem), `cost` (memory and time), `warnings`.
Other commands are `check`, `simulate`, `convert` and `demo`.
"""
