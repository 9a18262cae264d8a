"""Published tables as data, with their sources."""
