"""Nano-tomography: projections that moved or deformed while they were taken, and one sharp volume from them.

`flow` finds where each projection moved, `admm` solves for volume and motion together.
"""
