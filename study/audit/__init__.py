"""Published numbers: what can occur, what is claimed, where our intervals lie."""
