"""The harness around the model: plan, run, search, judge and report."""
