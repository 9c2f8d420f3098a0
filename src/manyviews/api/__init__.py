"""What ``import manyviews`` offers in a notebook.

Read `names` first, then `series` (stacks with their geometry), `arrays` (projection of NumPy arrays),
`particles` (images of them as files), `jobs` (the commands as functions, their options as keywords:
`keywords`) and `run` (what a run folder holds).
"""
