"""What a reviewer sees in optuna-dashboard: tables as studies, notes, figures, files of a run, and the server.

Also Optuna's side of a storage, which `search` shares. All else is derived from stored runs and can be made anew.
"""

from study.dashboard.annotate import annotate
from study.dashboard.artifacts import attach_files, attach_run, shown_metrics
from study.dashboard.server import MIN_TRIALS, serve
from study.dashboard.storage import open_storage, open_study, retried
from study.dashboard.table import remove_study, show_table

__all__ = [
    "MIN_TRIALS",
    "annotate",
    "attach_files",
    "attach_run",
    "open_storage",
    "open_study",
    "remove_study",
    "retried",
    "serve",
    "show_table",
    "shown_metrics",
]
