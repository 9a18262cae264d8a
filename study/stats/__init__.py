"""From stored predictions to verdicts. Pure: arrays in, values out; it knows neither files nor databases nor settings.

`judge` takes a table's `Evidence` and gives its `Judgement`. Its parts: `resample` (the bootstrap over systems),
`compare` (intervals and tests of one pair of rows), `decide` (verdicts of all declared rows), `design` (what a table
can decide at all).
"""

from study.stats.judgement import Evidence, Judgement, RowJudgement, judge
from study.stats.resampling import Resampling, resample
from study.stats.uncertainty import (
    ALPHA,
    Comparison,
    Interval,
    compare,
    holm,
    seeds_needed,
    smallest_p,
    summarise,
)
from study.stats.verdicts import Decision, decide, design

__all__ = [
    "ALPHA",
    "Comparison",
    "Decision",
    "Evidence",
    "Interval",
    "Judgement",
    "Resampling",
    "RowJudgement",
    "compare",
    "decide",
    "design",
    "holm",
    "judge",
    "resample",
    "seeds_needed",
    "smallest_p",
    "summarise",
]
