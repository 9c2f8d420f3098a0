"""Volume and motion together, by splitting: one file a sub-problem."""
