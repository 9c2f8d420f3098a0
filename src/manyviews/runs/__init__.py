"""A run in its folder.

Start with `driver`, the loop of a stage, then `folder` and `record`, `checkpoint` with `state` and
`placement` (which rank holds what of a state), and `events`. The others are small.
"""
