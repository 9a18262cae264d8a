"""What a reviewer finds in the real dashboard on the study of a real `ablate`: in its JSON, and in a browser."""

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import yaml
from helpers import browser
from helpers.dashboards import attributes, dashboard, get, get_json
from helpers.studies import Place

from study.store.database import Database
from whisq_core.metrics import METRICS

needs_browser = pytest.mark.skipif(browser.executable() is None, reason="no chromium on this machine")


@pytest.fixture(scope="module")
def address(finished_study: Place) -> Iterator[str]:
    with dashboard(finished_study.folder, finished_study.storage) as address:
        yield address


@pytest.fixture(scope="module")
def study(address: str) -> dict[str, Any]:
    (summary,) = get_json(f"{address}/api/studies")["study_summaries"]
    assert summary["study_name"] == "table2"
    return get_json(f"{address}/api/studies/{summary['study_id']}")


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Page]:
    with browser.page(tmp_path_factory.mktemp("profile"), width=1400) as tab:
        yield tab


def trial_of(study: dict[str, Any], row: str, seed: int) -> dict[str, Any]:
    (found,) = (trial for trial in study["trials"] if parameters(trial) == {"row": row, "seed": str(seed)})
    return found


def parameters(trial: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["param_external_value"] for each in trial["params"]}


def artifact(address: str, trial: dict[str, Any], name: str) -> str:
    (found,) = (each for each in trial["artifacts"] if each["filename"] == name)
    return get(f"{address}/artifacts/{trial['study_id']}/{trial['trial_id']}/{found['artifact_id']}").decode()


def text_of(tab: browser.Page) -> str:
    text: str = tab.evaluate("document.body.innerText")
    return text


def test_every_cell_is_a_trial_with_row_seed_run_id_and_16_metrics(
    study: dict[str, Any], finished_study: Place
) -> None:
    database = Database(finished_study.storage)
    cells = database.cells("table2")
    runs = database.runs([entry.run_id for entry in cells.values() if entry.run_id])

    assert len(study["trials"]) == len(cells)
    for (row, seed), entry in cells.items():
        shown = attributes(trial_of(study, row, seed))
        assert shown["run_id"] == entry.run_id
        metrics = runs[entry.run_id].scored["dev"].metrics
        for name in METRICS:
            assert float(shown.get(name, "nan")) == pytest.approx(metrics[name], abs=1e-6, nan_ok=True)


def test_metrics_can_be_sorted(study: dict[str, Any]) -> None:
    sortable = {attribute["key"] for attribute in study["union_user_attrs"] if attribute["sortable"]}

    assert set(METRICS) <= sortable


def test_a_learning_curve_is_reported_epoch_by_epoch(study: dict[str, Any]) -> None:
    reported = trial_of(study, "whisq", 1)["intermediate_values"]

    assert [each["step"] for each in reported] == [1, 2, 3]
    assert trial_of(study, "constant", 1)["intermediate_values"] == []


def test_artifacts_hold_settings_predictions_and_curve(
    study: dict[str, Any], address: str, finished_study: Place
) -> None:
    trial = trial_of(study, "whisq", 0)
    run_id = attributes(trial)["run_id"]
    run = Database(finished_study.storage).runs([run_id])[run_id]

    settings = yaml.safe_load(artifact(address, trial, "spec.yaml"))
    predictions = list(csv.DictReader(io.StringIO(artifact(address, trial, "predictions.csv"))))
    curve = list(csv.DictReader(io.StringIO(artifact(address, trial, "curve.csv"))))

    assert settings == {"run_id": run_id, **run.identity}
    shown = np.array([[float(line["predicted_omq"]), float(line["predicted_ta"])] for line in predictions])
    assert np.array_equal(shown, run.scored["dev"].predicted)
    assert [float(line["loss"]) for line in curve] == [each["loss"] for each in run.curve]


def test_a_control_has_no_curve_to_attach(study: dict[str, Any]) -> None:
    names = {each["filename"] for each in trial_of(study, "constant", 0)["artifacts"]}

    assert names == {"spec.yaml", "predictions.csv"}


def test_the_note_is_the_table_with_its_verdicts(study: dict[str, Any], finished_study: Place) -> None:
    table = (finished_study.out / "table.md").read_text(encoding="utf-8")

    assert study["note"]["body"].replace("\N{NO-BREAK SPACE}", " ") == table


def test_figures_are_saved_whole(study: dict[str, Any]) -> None:
    figures = {each["id"]: json.loads(each["graph_object"]) for each in study["plotly_graph_objects"]}

    assert set(figures) >= {"differences", "seeds", "curves", "scatter", "systems"}
    assert all(figure["data"] for figure in figures.values())


@needs_browser
def test_a_browser_shows_every_figure_at_its_full_size(tab: browser.Page, address: str, study: dict[str, Any]) -> None:
    tab.visit(f"{address}/dashboard/studies/1")
    plots = "[...document.querySelectorAll('[id^=\"user-defined-plot:\"]')]"
    count = len(study["plotly_graph_objects"])
    tab.wait_for(f"{plots}.filter(plot => plot.querySelector('.main-svg')).length === {count}")

    for plot in tab.evaluate(
        f"""{plots}.map(plot => ({{id: plot.id, width: plot.clientWidth, box: plot.getBoundingClientRect().height,
            drawn: plot.querySelector('.main-svg').getBoundingClientRect().height}}))"""
    ):
        assert plot["width"] > 1000, plot
        assert plot["box"] >= plot["drawn"] >= 250, plot
    assert tab.problems == []


@needs_browser
def test_a_browser_shows_row_seed_run_id_metrics_curve_and_artifacts_of_a_trial(
    tab: browser.Page, address: str, study: dict[str, Any]
) -> None:
    trial = trial_of(study, "whisq", 1)
    shown = {**attributes(trial), **parameters(trial)}
    tab.visit(f"{address}/dashboard/studies/1/trials?numbers={trial['number']}")
    tab.wait_for("document.body.innerText.includes('predictions.csv')")

    lines = text_of(tab).splitlines()
    for name in ("row", "seed", "run_id", *METRICS):
        assert f"{name} {shown[name]}" in lines
    for each in trial["intermediate_values"]:
        assert f"{each['step']} {each['value']}" in lines
    assert {"spec.yaml", "predictions.csv", "curve.csv"} <= set(lines)
    assert tab.problems == []


@needs_browser
def test_a_browser_shows_the_note_as_a_table(tab: browser.Page, address: str) -> None:
    tab.visit(f"{address}/dashboard/studies/1/note")
    tab.wait_for("document.querySelectorAll('table').length > 2")

    cells = tab.evaluate("[...document.querySelectorAll('td')].map(cell => cell.innerText.trim())")
    assert "WhisQ w/ OT (Proposed)" in cells
    assert tab.problems == []


@needs_browser
def test_an_artifact_of_the_page_is_the_stored_file(tab: browser.Page, address: str, study: dict[str, Any]) -> None:
    trial = trial_of(study, "whisq", 1)
    tab.visit(f"{address}/dashboard/studies/1/trials?numbers={trial['number']}")
    tab.wait_for("document.querySelectorAll('a[download]').length >= 3")

    links = tab.evaluate("[...document.querySelectorAll('a[download]')].map(link => [link.download, link.href])")
    assert {name: get(link).decode() for name, link in links}["spec.yaml"] == artifact(address, trial, "spec.yaml")
