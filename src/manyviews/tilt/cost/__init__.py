"""Memory and time, counted before anything is read.

Start with `schedule`, what a run decides by them; then `estimate`, `methods`, `views` and `blocks`, each a
part of the one before.
"""
