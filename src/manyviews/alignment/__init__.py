"""Laying one map over another.

Start with `map_alignment`, then `map_search`, which finds the place from nothing; `symmetry_axes` lays a map
on the axes of its point group.
"""
