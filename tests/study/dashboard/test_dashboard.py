"""Notes and figures are replaced, never piled up; the server says in one line why it cannot start."""

import json
import os
import socket
from pathlib import Path

import optuna
import plotly.graph_objects as go
import pytest
from helpers.command import run
from helpers.dashboards import dashboard, get_json
from optuna.storages import RDBStorage
from optuna_dashboard import get_note

from study.dashboard import MIN_TRIALS, annotate, open_storage, open_study, shown_metrics
from study.store import Database

METRIC = "ta.utterance.srcc"


@pytest.fixture
def database(tmp_path: Path) -> Database:
    database = Database(f"sqlite:///{tmp_path}/whisq.db")
    begin_study(database, "table")
    return database


def begin_study(database: Database, name: str, kind: str = "search") -> optuna.Study:
    return open_study(open_storage(database), name, kind, METRIC)


def figure(num_points: int, title: str = "points") -> go.Figure:
    return go.Figure(go.Scatter(x=list(range(num_points)), y=[0.5] * num_points), layout={"title": {"text": title}})


def figures_shown(database: Database, study: str = "table") -> dict[str, str]:
    """Figures by name, put together by optuna-dashboard itself."""
    from optuna_dashboard._custom_plot_data import get_plotly_graph_objects

    storage = open_storage(database)
    return get_plotly_graph_objects(storage.get_study_system_attrs(storage.get_study_id_from_name(study)))


def test_a_long_figure_is_shown_whole(database: Database) -> None:
    annotate(database, "table", "# note", {"learning_curves": figure(5000)})

    shown = figures_shown(database)
    assert list(shown) == ["learning-curves"]
    assert len(shown["learning-curves"]) > 20_000
    assert json.loads(shown["learning-curves"]) == json.loads(figure(5000).to_json())


def test_a_shorter_figure_leaves_nothing_of_the_longer_one(database: Database) -> None:
    annotate(database, "table", "# note", {"curves": figure(5000)})
    annotate(database, "table", "# note", {"curves": figure(3)})

    assert json.loads(figures_shown(database)["curves"]) == json.loads(figure(3).to_json())


def test_figures_of_other_studies_stay(database: Database) -> None:
    begin_study(database, "search")
    annotate(database, "search", "# search", {"history": figure(4)})
    annotate(database, "table", "# table", {})

    assert list(figures_shown(database, "search")) == ["history"]
    assert figures_shown(database) == {}


def test_annotating_again_and_again_does_not_grow_the_database(database: Database) -> None:
    def pages() -> int:
        with database.engine.connect() as connection:
            return connection.exec_driver_sql("PRAGMA page_count").scalar_one()

    sizes = []
    for turn in range(6):
        annotate(database, "table", f"# note {turn}", {"curves": figure(5000 + turn)})
        sizes.append(pages())

    assert sizes[5] <= sizes[1] + 2


def test_a_note_is_replaced_and_its_numbers_do_not_break(database: Database) -> None:
    annotate(database, "table", "long " * 2000, {})
    annotate(database, "table", "0.160 ± 0.087", {})

    study = optuna.load_study(study_name="table", storage=open_storage(database))
    assert get_note(study) == "0.160\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}0.087"


def test_metrics_are_plain_numbers_and_an_undefined_one_is_left_out() -> None:
    assert shown_metrics({METRIC: 0.123456789, "ta.system.lcc": float("nan")}) == {METRIC: 0.123457}


def test_importance_is_shown_of_searches_with_enough_different_values_alone(database: Database, tmp_path: Path) -> None:
    expected = {"few": [], "many": ["x"], "equal": [], "cells": []}
    for name in expected:
        study = begin_study(database, name, "ablation" if name == "cells" else "search")
        study.sampler = optuna.samplers.RandomSampler(seed=0)
        slope = 0.0 if name == "equal" else 1.0
        study.optimize(
            lambda trial, slope=slope: slope * trial.suggest_float("x", 0, 1), 2 if name == "few" else MIN_TRIALS
        )

    with dashboard(tmp_path, database.url) as address:
        ids = {each["study_name"]: each["study_id"] for each in get_json(f"{address}/api/studies")["study_summaries"]}
        found = {
            name: [
                each["name"]
                for each in get_json(f"{address}/api/studies/{ids[name]}/param_importances")["param_importances"][0]
            ]
            for name in expected
        }

    assert found == expected


def test_a_port_in_use_is_named(database: Database, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        finished = run(tmp_path, "dashboard", "--storage", database.url, "--port", port)

    assert finished.status == 2
    assert finished.errors == [f"--port {port}: in use by another program. Give another one, or 0 for any free one."]


def test_a_port_that_cannot_be_is_refused(database: Database, tmp_path: Path) -> None:
    finished = run(tmp_path, "dashboard", "--storage", database.url, "--port", 70_000)

    assert finished.errors == ["--port 70000: allowed are 0 to 65535; 0 takes any free one."]


def test_a_storage_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    finished = run(tmp_path, "dashboard", "--storage", "sqlite:///nothing.db")

    assert finished.errors == [
        "storage 'sqlite:///nothing.db': there is no nothing.db. Give the --storage of your runs, "
        "or run: whisq-study ablate --data DIR."
    ]
    assert os.listdir(tmp_path) == []


def test_reading_pages_does_not_hold_up_a_worker_that_writes(database: Database, tmp_path: Path) -> None:
    """A request that begins while another process writes is answered, and the writer is not asked to wait."""
    with dashboard(tmp_path, database.url) as address, database.engine.begin():
        (study,) = get_json(f"{address}/api/studies")["study_summaries"]
    assert study["study_name"] == "table"


def test_a_storage_of_another_optuna_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/old.db"
    with RDBStorage(url).engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'v0.9.0.a'")

    finished = run(tmp_path, "dashboard", "--storage", url, "--port", 0)

    assert finished.status == 2
    assert finished.errors[0].startswith(f"storage '{url}': cannot be opened: ")
