"""From stored results to verdicts: hands the arrays of `StudyResults` to the statistics."""
