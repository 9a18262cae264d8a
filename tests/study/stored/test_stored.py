"""What is stored can be listed, shown, trained again and removed; what others need stays."""

import json
from pathlib import Path
from typing import Any

import optuna
import pytest
from helpers.command import Finished, run
from helpers.control_tables import Study, finished_table
from helpers.studies import Place
from optuna.artifacts import get_all_artifact_meta

from study.dashboard import open_storage
from study.store import Database


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, small_corpus: Path) -> Study:
    return finished_table(tmp_path_factory.mktemp("stored"), small_corpus)


def runs(study: Study, *arguments: object) -> Finished:
    return run(study.folder, "runs", *arguments)


def table_of(finished: Finished) -> list[dict[str, str]]:
    """The lines of a Markdown table."""
    assert finished.status == 0, finished.err
    head, _, *lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in finished.out.splitlines()]
    return [dict(zip(head, line, strict=True)) for line in lines]


def test_without_a_name_tables_are_listed_and_with_one_its_runs(finished: Study) -> None:
    (table,) = table_of(runs(finished))
    listed = table_of(runs(finished, "table/lookup", "--metric", "ta.utterance.mse"))

    assert {name: table[name] for name in ("table", "cells", "runs", "done")} == {
        "table": "table",
        "cells": "6",
        "runs": "4",
        "done": "4",  # two rows are the same runs
    }
    assert [(line["row"], line["seed"], line["state"]) for line in listed] == [
        ("lookup", "0", "done"),
        ("lookup", "1", "done"),
    ]
    assert all(float(line["ta.utterance.mse"]) > 0 for line in listed)
    assert runs(finished, "--state", "failed").out.count("\n") == 2


def test_a_run_is_shown_by_its_cell_or_its_id_with_settings_metrics_and_manifest(finished: Study) -> None:
    by_cell = json.loads(runs(finished, "table/changing/1", "--json").out)
    by_id = json.loads(runs(finished, by_cell["run_id"][:10], "--json").out)

    assert by_cell == by_id
    assert by_cell["identity"]["model.predictor"] == "constant"
    assert by_cell["metrics"]["dev"]["ta.utterance.mse"] > 0
    assert by_cell["metrics"]["dev"]["ta.utterance.srcc"] is None, "undefined for constant predictions"
    assert by_cell["manifest"]["corpus"] == by_cell["identity"]["corpus"]
    text = runs(finished, "table/changing/1").out
    assert "metrics on dev (6 clips):" in text
    assert "  model.predictor: constant" in text


@pytest.mark.parametrize(
    ("arguments", "mistake"),
    [
        (("tabel",), "runs: no table, search or run 'tabel' in sqlite:///results/whisq.db. Did you mean 'table'?"),
        (("table/lokup",), "runs table/lokup: nothing of it is stored. `whisq-study runs table` lists what is."),
        (("table/lookup/x",), "runs table/lookup/x: 'x' is no seed. Give TABLE/ROW/SEED, such as table/lookup/0."),
        (("table/lookup/" + "9" * 20,), f"runs table/lookup/{'9' * 20}: '{'9' * 20}' is no seed."),
        (("--metric", "ta"), "--metric: unknown metric 'ta'. Allowed: "),
        (("--state", "dnoe"), "--state: found 'dnoe', allowed: done, failed."),
        (("--repeat", "zz", "--data", "."), "runs: no table, search or run 'zz' in sqlite:///results/whisq.db. "),
        (("--repeat", "table/lookup", "--data", "."), "runs table/lookup: 2 runs, and one is needed. "),
        (("--repeat", "0"), "--repeat: needs the corpus of the run. Give --data."),
    ],
)
def test_what_is_not_stored_is_named(finished: Study, arguments: tuple[str, ...], mistake: str) -> None:
    refused = runs(finished, *arguments)

    assert refused.status == 2
    assert refused.errors[0].startswith(mistake)


def test_a_stored_run_is_trained_again_bit_by_bit(finished_study: Place) -> None:
    storage = ("--storage", finished_study.storage)
    run_id = json.loads(run(finished_study.folder, "runs", "table2/whisq/1", "--json", *storage).out)["run_id"]
    place = ("--data", finished_study.corpus, "--features", finished_study.features, *storage)

    again = run(finished_study.folder, "runs", "--repeat", run_id[:12], *place)

    assert again.status == 0, again.err
    assert again.out.endswith("12 predictions bit-identical\n")


def test_a_run_is_repeated_by_its_cell_and_by_whatever_else_lists_it_alone(finished: Study, tmp_path: Path) -> None:
    study = finished.copied_to(tmp_path)
    by_cell = runs(study, "--repeat", "table/lookup/1", "--data", study.corpus)
    study.content["seeds"] = "0"
    assert study.ablate("--name", "single", "--set", "train.epochs=2", "--rows", "lookup").status == 0
    by_row = runs(study, "--repeat", "single/lookup", "--data", study.corpus)

    assert (by_cell.status, by_row.status) == (0, 0), by_cell.err + by_row.err
    assert by_cell.out.startswith(f"run {json.loads(runs(study, 'table/lookup/1', '--json').out)['run_id']}: trained")
    assert by_row.out.endswith("predictions bit-identical\n")


def test_several_runs_of_one_beginning_are_said_to_be_several(finished: Study) -> None:
    refused = runs(finished, "")

    assert refused.status == 2
    assert refused.errors[0].startswith("run '': 4 runs begin so: ")


def test_a_run_of_another_corpus_is_not_repeated(finished: Study, finished_study: Place) -> None:
    run_id = json.loads(runs(finished, "table/lookup/0", "--json").out)["run_id"]

    refused = runs(finished, "--repeat", run_id, "--data", finished_study.corpus)

    assert refused.status == 2
    assert "cannot be repeated here, since something else is not as it was: corpus: " in refused.errors[0]


def shown(study: Study) -> dict[str, list[Any]]:
    """The rows that each study of the dashboard shows; every artifact belongs to one of them."""
    storage = open_storage(Database(study.storage))
    found, files = {}, set()
    for name in optuna.get_all_study_names(storage):
        each = optuna.load_study(study_name=name, storage=storage)
        found[name] = [trial.params["row"] for trial in each.trials if "superseded" not in trial.user_attrs]
        owners = [get_all_artifact_meta(each), *(get_all_artifact_meta(t, storage=storage) for t in each.trials)]
        files |= {meta.artifact_id for metas in owners for meta in metas}
    assert files == {path.name for path in (study.results / "artifacts").iterdir()}
    return found


def test_removing_is_told_before_it_is_done_and_the_dashboard_and_the_table_follow(
    finished: Study, tmp_path: Path
) -> None:
    study = finished.copied_to(tmp_path)
    told = run(study.folder, "rm", "table/lookup")
    assert told.out.startswith("would remove row 'lookup' of table 'table': 2 runs with their predictions")
    assert told.out.endswith("nothing was removed; give --yes to do it\n")
    nameless = run(study.folder, "rm", "table/", "--yes")
    assert (nameless.status, nameless.errors[0].partition(".")[0]) == (2, "rm table/: table 'table' has no row ''")
    assert Database(study.storage).count_runs() == 4

    removed = run(study.folder, "rm", "table/lookup", "--yes")

    assert (removed.status, removed.err) == (0, "")
    assert Database(study.storage).count_runs() == 2
    assert study.seeds() == {"lookup": "0 of 2", "mean": "2 of 2", "changing": "2 of 2"}
    assert shown(study) == {"table": ["mean", "mean", "changing", "changing"]} or set(shown(study)["table"]) == {
        "mean",
        "changing",
    }


def test_runs_that_another_row_or_table_shows_stay(finished: Study, tmp_path: Path) -> None:
    study = finished.copied_to(tmp_path)
    study.ablate("--set", "train.epochs=2", "--rows", "lookup")

    assert "0 runs with their predictions (2 more stay" in run(study.folder, "rm", "table/changing").out
    assert run(study.folder, "rm", "table", "--yes").status == 0

    assert list(shown(study)) == ["table-epochs2"]
    assert study.seeds("table-epochs2")["lookup"] == "2 of 2"
    assert study.report("--set", "train.epochs=2").status == 0
    assert study.report().status == 2


def test_nothing_is_removed_while_another_command_writes(finished: Study, tmp_path: Path) -> None:
    study = finished.copied_to(tmp_path)
    with Database(study.storage).writing("another command"):
        refused = run(study.folder, "rm", "table", "--yes")

    assert refused.status == 2
    assert "another command is writing to it" in refused.errors[0]
    assert Database(study.storage).count_runs() == 4
    assert run(study.folder, "rm", "tabel").errors[0].endswith("Did you mean 'table'?")
