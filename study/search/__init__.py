"""Searches of settings: an Optuna study over one row, asked and told by the coordinator; best.yaml, importance.

`optimize` runs one, `tune_rows` one for each row of a table; the winner is always chosen on held-out seeds.
"""

from study.search.figures import importance_figure
from study.search.importance import importances
from study.search.optimize import OptimizeRequest, SearchOutcome, optimize, search_of
from study.search.study import close_interrupted, largest_search, trials_by_state
from study.search.tune import tune_rows

__all__ = [
    "OptimizeRequest",
    "SearchOutcome",
    "close_interrupted",
    "importance_figure",
    "importances",
    "largest_search",
    "optimize",
    "search_of",
    "trials_by_state",
    "tune_rows",
]
