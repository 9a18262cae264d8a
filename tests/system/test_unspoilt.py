"""A finished table cannot be spoiled: what is run later adds to it, or is another table; all views of it agree."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.control_tables import Study
from helpers.corpora import write_official_corpus
from helpers.dashboards import attributes, dashboard, get_json

from study.store import Database, conditions


def test_another_base_is_another_table_that_goes_on_while_the_base_stays(study: Study) -> None:
    before, base = study.files(), study.folder / "table-no_ot/best.yaml"
    base.parent.mkdir()
    base.write_text("train: {learning_rate: 0.02}\n")

    finished = study.ablate("--base", base, "--seeds", 0, "--rows", "mean")

    assert finished.err.splitlines()[0] == (
        "table 'table-best-no_ot' in results/table-best-no_ot "
        "('table' has other conditions: train.learning_rate: 0.01 -> 0.02)"
    )
    study.ablate("--base", base)
    assert study.folders() == ["table", "table-best-no_ot"]
    assert study.report("--base", base).out.startswith("report  results/table-best-no_ot/")
    second = study.files("table-best-no_ot")
    base.write_text("train: {learning_rate: 0.03}\n")
    assert study.ablate("--base", base).status == 0
    assert len(study.folders()) == 3
    assert (study.files(), study.files("table-best-no_ot")) == (before, second)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda content: content["base"]["train"].update(epochs=2), "table-base"),
        (lambda content: content["base"]["train"].update(precision="float16"), "table-float16"),
        (lambda content: content.update(seeds=[1]), "table-seeds1"),
    ],
)
def test_an_edited_base_another_precision_and_fewer_seeds_are_other_tables(
    study: Study, change: Callable[[dict[str, Any]], None], name: str
) -> None:
    before = study.files()
    change(study.content)

    assert study.report().status == 2, "nothing is stored of this file"
    assert study.ablate("--rows", "lookup").err.startswith(f"table '{name}' in results/{name} (")

    assert study.files() == before
    assert study.folders() == ["table", name]
    assert set(study.seeds(name).values()) <= {"1 of 1", "2 of 2"}, "runs of other rows that are stored are shown"
    assert study.report("--name", "table").status == 2, "the file is not that of the table any more"


def test_another_corpus_is_another_table(study: Study, tmp_path: Path) -> None:
    before = study.files()
    corpus = write_official_corpus(tmp_path / "mended", num_train=9, num_dev=6, num_systems=3, seconds=0.3)

    finished = study.ablate("--data", corpus)

    assert "has other conditions: corpus: " in finished.err
    assert study.files() == before
    assert study.folders() == ["table", "table-mended"]


def test_some_rows_and_seeds_add_to_the_table_and_what_is_declared_and_stored_is_told_apart(study: Study) -> None:
    before = study.files()
    assert study.ablate("--rows", "mean", "--seeds", 0).status == 0
    assert study.files() == before, "everything stored is shown, whatever was asked for"
    study.content["seeds"] = "0-2"

    assert study.ablate("--rows", "mean").err.startswith("[1/1] mean seed 2 done")

    assert study.folders() == ["table"]
    assert study.seeds() == {"lookup": "2 of 3", "mean": "3 of 3", "changing": "3 of 3"}, "the last has the same runs"
    assert "2 of 3" in (study.results / "table/table.md").read_text()


@pytest.mark.parametrize(
    ("options", "mistake"),
    [
        (("--name", "table"), "--name table: that table has runs under other conditions (train.epochs: 3 -> 2)"),
        (("--out", "results/table"), "--out results/table: holds table 'table', and this is another"),
        (("--seeds", 7), "--seeds: 7 not among the seeds of table.yaml."),
    ],
)
def test_a_name_or_folder_of_another_table_and_unknown_seeds_are_refused_before_anything_runs(
    study: Study, options: tuple[object, ...], mistake: str
) -> None:
    before = study.files()

    finished = study.ablate("--set", "train.epochs=2", *options)

    assert finished.status == 2
    assert finished.errors[0].startswith(mistake)
    assert study.files() == before
    assert list(conditions(Database(study.storage))) == ["table"]


def test_a_table_may_be_given_a_name(study: Study) -> None:
    assert study.ablate("--set", "train.epochs=2", "--name", "short").status == 0

    assert study.folders() == ["short", "table"]
    assert study.report("--name", "short").status == 0
    assert study.report("--name", "shirt").errors[0].endswith("Did you mean 'short'?")


def assert_alike(study: Study, name: str = "table") -> None:
    """See that note, files and trials of the dashboard show what the table does."""
    with dashboard(study.folder, study.storage) as address:
        (found,) = [
            each for each in get_json(f"{address}/api/studies")["study_summaries"] if each["study_name"] == name
        ]
        described = get_json(f"{address}/api/studies/{found['study_id']}")
    markdown = (study.results / name / "table.md").read_text(encoding="utf-8")
    assert described["note"]["body"].replace("\N{NO-BREAK SPACE}", " ") == markdown
    assert {"report.html", "table.csv", "table.tex"} <= {each["filename"] for each in described["artifacts"]}
    current = [trial for trial in described["trials"] if "superseded" not in attributes(trial)]
    rows = [each["param_external_value"] for trial in current for each in trial["params"] if each["name"] == "row"]
    page = (study.results / name / "report.html").read_text(encoding="utf-8")
    for row, line in study.table(name).items():
        assert rows.count(row) == int(line["seeds_done"]), row
    for shown in {text for text in study.seeds(name).values() if text[0] != text[-1]}:
        assert shown in page
        assert shown in markdown


def test_table_page_and_dashboard_agree_after_every_command(study: Study) -> None:
    study.content["seeds"] = "0-2"
    study.ablate("--rows", "lookup")
    assert_alike(study)
    study.content["sections"][0]["rows"][2]["set"] = {"model.predictor": "system_lookup"}
    study.report()
    assert study.seeds()["changing"] == "0 of 3", "its runs are those of an older version of the row"
    assert_alike(study)
    study.ablate("--rows", "changing", "--seeds", 0)
    assert study.seeds()["changing"] == "3 of 3", "they are those of 'lookup', found by their configuration"
    assert_alike(study)


def test_a_table_of_an_older_version_is_read_and_goes_on(study: Study) -> None:
    with sqlite3.connect(study.results / "whisq.db") as connection:
        connection.executescript("DROP TABLE whisq_conditions; UPDATE whisq_schema SET version = 2")

    assert study.report().status == 0
    study.content["seeds"] = "0-2"
    assert study.ablate("--rows", "mean").status == 0

    assert study.folders() == ["table"]
    assert study.seeds() == {"lookup": "2 of 3", "mean": "3 of 3", "changing": "3 of 3"}


def test_a_report_while_another_command_writes_leaves_the_dashboard_and_says_so(study: Study) -> None:
    with Database(study.storage).writing("another command"):
        finished = study.report()

    assert finished.status == 0
    assert "the dashboard stays as it is: storage" in finished.err
    assert "another command is writing to it (another command" in finished.err
