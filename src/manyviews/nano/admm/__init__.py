"""The steps of an alternating direction method of multipliers, for projections that are moved."""
