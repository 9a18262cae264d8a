"""Frozen audio and text encoders: a name to weights, weights to features."""
