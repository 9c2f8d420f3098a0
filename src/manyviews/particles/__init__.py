"""Single particles.

Start with `abinitio`, a job top to bottom; then `options`, `plan`, `methods`, `results` and `report`. The
science: `images` (Fourier coefficients), `em` (the default method), `sagd` (the paper's). `reconstruct`
with `known_poses` is another job; other commands are `check`, `simulate` and `compare`.
"""
