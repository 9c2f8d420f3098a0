"""Stochastic expectation maximisation."""
