"""What a reviewer sees in optuna-dashboard: a note per study, saved figures, and the server on the right storage."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
from optuna.artifacts import FileSystemArtifactStore

from study.artifacts import artifact_folder
from study.collect import StudyResults
from study.database import Database
from study.progress import say
from study.queue import open_storage
from study.statistics import Judgement

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

HOST = "127.0.0.1"  # a reviewer's own machine: the dashboard has no password


def annotate_table(results: StudyResults, judgement: Judgement, database: Database, out: Path) -> None:
    """Put the table with its verdicts and the figures on the study of an ablation."""
    from study.figures import figures

    note = (out / "table.md").read_text(encoding="utf-8")
    annotate(database, results.file.name, note, figures(results, judgement))


def annotate(database: Database, study_name: str, note: str, figures: Mapping[str, "Figure"]) -> None:
    """Put a Markdown note and Plotly figures on a study; those of an earlier call are replaced."""
    from optuna_dashboard import save_note, save_plotly_graph_object

    study = optuna.load_study(study_name=study_name, storage=open_storage(database))
    with database.exclusive():
        save_note(study, note)
        for name, figure in figures.items():
            save_plotly_graph_object(study, figure, graph_object_id=name.replace("_", "-"))


def serve(url: str, port: int) -> None:
    """Run optuna-dashboard on the storage and its artifacts until Ctrl-C."""
    from optuna_dashboard import run_server

    database = Database(url)
    storage = open_storage(database)
    say(f"optuna-dashboard on http://{HOST}:{port}/ for {database.masked_url} (Ctrl-C ends it)")
    run_server(storage, host=HOST, port=port, artifact_store=FileSystemArtifactStore(artifact_folder(url)))
