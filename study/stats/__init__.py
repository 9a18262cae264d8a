"""From predictions to verdicts. Pure: arrays in, values out; it knows neither files nor databases nor settings.

`judge` takes a table's `Evidence`, of any targets, groups and metrics, and gives its `Judgement`. Its parts:
`influence` (what each item moves), `Items` (errors over groups of items), `compare` (errors and tests of one pair of
rows), `decide` (verdicts of all declared rows), `design` and `power_curve` (what a table can decide at all).
"""

from study.stats.evidence import Evidence
from study.stats.influence import influence
from study.stats.items import Error, Items
from study.stats.judgement import Judgement, RowJudgement, judge
from study.stats.power import design, power_curve
from study.stats.uncertainty import (
    ALPHA,
    LEVEL,
    Comparison,
    Interval,
    compare,
    holm,
    seeds_needed,
    smallest_p,
    summarise,
)
from study.stats.verdicts import Decision, decide, words

__all__ = [
    "ALPHA",
    "LEVEL",
    "Comparison",
    "Decision",
    "Error",
    "Evidence",
    "Interval",
    "Items",
    "Judgement",
    "RowJudgement",
    "compare",
    "decide",
    "design",
    "holm",
    "influence",
    "judge",
    "power_curve",
    "seeds_needed",
    "smallest_p",
    "summarise",
    "words",
]
