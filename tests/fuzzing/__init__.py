"""Damaged files of every format that anything reads: what is done to them, who reads them.

Start with `formats`, the list; `mutations` damages, `harness` reads with limits and counts.
"""
