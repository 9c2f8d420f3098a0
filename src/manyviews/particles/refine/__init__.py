"""Refinement of two halves of the particles apart, from a map at low resolution to as far as they agree.

Read `plan` and `start` first, then `solver` (an iteration), `residuals` (what the maps leave unexplained) and
`refine`, the job.
"""
