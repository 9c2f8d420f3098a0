"""Projectors of other packages, each timed in a worker process of its own."""
