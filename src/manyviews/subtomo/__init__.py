"""Subtomograms: small volumes cut from tomograms, with a wedge of frequencies missing."""
