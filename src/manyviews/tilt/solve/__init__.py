"""The least-squares problem that the solvers of `manyviews.tilt.methods` get."""
