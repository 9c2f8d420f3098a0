"""Stochastic expectation maximisation.

Start with `starts` and `refinement`, its two stages, and `problem`, the step that both take: `pose_search`
with `expectation` (E), `maximisation` (M). `plan` says how much when.
"""
