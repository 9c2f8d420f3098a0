"""Nano-tomography: scans in parallel beam of specimens that move and change while they are looked at.

Begin with `manyviews.nano.scan`, which reads a scan and makes projections of it; `manyviews.nano.flow` finds
how projections deform and `manyviews.nano.admm` solves with that. `manyviews.nano.simulate` makes scans whose
truth is known, `manyviews.nano.injection` measures how much of a known motion comes back.
"""
