"""A table in every format, its figures, and the page that holds both."""
