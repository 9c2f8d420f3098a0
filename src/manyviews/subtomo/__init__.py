"""Subtomograms: small volumes with a missing wedge, aligned and averaged.

Read `align` first, the job from top to bottom; then `wedge` (what of a particle a subtomogram holds),
`volumes` (what is compared), `candidates` (poses from an exhaustive search), `refine` (poses made fine) and
`averaging` (a map and its halves). `simulate` makes data whose truth is known.
"""
