"""One `RunSpec` to one stored run: workspace, identity, planning, checks before a start, workers."""
