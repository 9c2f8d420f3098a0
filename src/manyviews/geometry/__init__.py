"""Where a view looks from.

Start with `views` (one 4x4 matrix a view) and `euler` (what files make of it) for tilt series, with `poses`
and `symmetry` for particles; `quadrature` has points and weights over all poses.
"""
