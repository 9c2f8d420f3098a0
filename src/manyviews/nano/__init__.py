"""Nano-tomography: scans in parallel beam of specimens that move and change while they are looked at.

Begin with `manyviews.nano.scan`, which reads a scan and makes projections of it.
"""
