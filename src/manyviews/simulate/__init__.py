"""Data whose truth is known.

Start with `phantoms` (formulas and their exact projections), then `specimens`, `cell` and `atoms`;
`tilt_series` and `particles` are what a microscope makes of them.
"""
