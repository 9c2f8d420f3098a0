"""Single particles: a three-dimensional map from many noisy images of one molecule."""
