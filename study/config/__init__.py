"""The ablation file: read, checked in two rounds (keys and types, then meaning), returned as values."""
