"""The built-in corpus and its table."""
