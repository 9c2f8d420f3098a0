"""Candidates: poses from an exhaustive search, the best few of each particle.

`joint_search` scores rotations and shifts together; `rotational_matching` is the search of the paper.
"""
