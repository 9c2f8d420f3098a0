"""The problem that the solvers of `manyviews.tilt.methods` get.

Start with `problem`, then `subsets` (how views are divided) and `storage` (memory or files).
"""
