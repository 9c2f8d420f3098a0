"""The paper's stochastic average gradients with importance sampling."""
