"""Finished maps: from two half maps to what a user looks at. Pure functions, no files.

Read `radial` (filters by frequency) and `solvent_mask` first, then `agreement` (what the halves agree in),
`sharpening`, `bands`, `local_resolution` and `local_filter`; `postprocess` calls them all.
"""
