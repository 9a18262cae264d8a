"""A note and figures on a study, in place of those that an earlier call has put there."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import optuna

from study.dashboard.storage import open_storage, retried
from study.dashboard.table import rebuilt
from study.store import Database

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_FIGURES = "figures"  # study attribute: their names


def annotate(database: Database, study_name: str, note: str, figures: Mapping[str, "Figure"]) -> None:
    """Put a Markdown note and Plotly figures by name on a study. A search has the same figures at each call."""
    storage = open_storage(database)
    unbroken = note.replace(" ± ", "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}")  # a number stays in one line

    def write() -> None:
        from optuna_dashboard import save_note, save_plotly_graph_object

        study = optuna.load_study(study_name=study_name, storage=storage)
        if not set(study.user_attrs.get(_FIGURES, ())) <= set(figures):
            study = rebuilt(study, storage, database.url)  # no public call takes a figure away
        save_note(study, unbroken)
        study.set_user_attr(_FIGURES, list(figures))  # before them: what was begun is known
        for name, figure in figures.items():
            save_plotly_graph_object(study, figure, graph_object_id=name.replace("_", "-"))

    retried(write)
