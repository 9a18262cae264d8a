"""`ablate`: prepare, run and publish a table."""
