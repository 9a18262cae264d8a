"""Clips with their texts and ratings: read, checked, split."""
