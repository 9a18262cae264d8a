"""Fit and predict: one training step, its backends, the optimiser."""
