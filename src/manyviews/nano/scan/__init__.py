"""A scan from its files to projections: read `options`, `scan`, `prepare`; then `normalise` and `center`."""
