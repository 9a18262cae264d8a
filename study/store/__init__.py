"""The database of runs: records as values, storage URLs, health."""
