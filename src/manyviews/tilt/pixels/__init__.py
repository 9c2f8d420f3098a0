"""Pixels that do not count as others do: rays that leave the volume, bad lines, borders, beads, a user's own.

Start with `weights` (what the solvers get), then `find` (how bad pixels are found).
"""
