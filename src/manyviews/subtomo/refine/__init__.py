"""Refinement: poses made as fine as the data allow, from candidates.

`objective` says what is fitted; every other file is a method.
"""
