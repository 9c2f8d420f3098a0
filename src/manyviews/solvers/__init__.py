"""One algorithm a file.

Start with `state` and `driver`: what a state and a solver are, and the loop. Then `least_squares`, the
problem, with `conjugate_gradient` and `sirt`; `proximal_maps`, then `consensus`. `space` is where volumes
live.
"""
