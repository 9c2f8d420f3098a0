"""The paper's stochastic average gradients.

Start with `sagd`, then `objective`; `marginal` is the full sum over poses on a `lattice`, `importance` the
sampled one, `memory` what it keeps, `priors` what is believed before.
"""
