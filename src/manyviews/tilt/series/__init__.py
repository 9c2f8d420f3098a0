"""From files and options to views.

Start with `resolve`, which asks `view_files`; then `images`, then `normalise`.
"""
