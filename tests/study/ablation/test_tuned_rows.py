"""`hyperparameters: tuned`: each row has its own search, then its seeds, and the table says what each one got."""

import csv
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.command import Finished, run
from helpers.searches import SPACE, request, shared_data, trials

from study.config import read_ablation_file
from study.results import collect
from study.search.optimize import OptimizeRequest
from study.store.database import Database
from study.tables.verdicts import evidence

FIRST_GUESS = {"train.learning_rate": 0.01, "train.momentum": 0.7435}  # base's
BUDGET = 3


@pytest.fixture
def asked(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> OptimizeRequest:
    """A table of two rows to tune and a control."""
    asked = request(shared_data(tmp_path_factory), tmp_path, ot_weight=1e-4, trials=BUDGET)
    change(asked, hyperparameters="tuned")
    return asked


def change(asked: OptimizeRequest, **values: Any) -> None:
    content = yaml.safe_load(asked.sources.file.read_text(encoding="utf-8"))
    asked.sources.file.write_text(yaml.safe_dump(content | values, sort_keys=False), encoding="utf-8")


def command(asked: OptimizeRequest, name: str, *options: object) -> Finished:
    """A command on this study, in its folder, with one worker."""
    where = (
        "--data",
        asked.sources.data,
        "--features",
        asked.sources.features,
        "--storage",
        asked.sources.storage,
        "--out",
        asked.sources.out,
    )
    return run(asked.sources.file.parent, name, asked.sources.file, *where, "--workers", 1, *options)


def table(asked: OptimizeRequest) -> str:
    return (asked.sources.out / "table.md").read_text(encoding="utf-8")


def test_each_row_is_searched_alike_and_trained_with_what_its_own_search_chose(asked: OptimizeRequest) -> None:
    finished = command(asked, "ablate")

    assert finished.status == 0, finished.err
    database = Database(asked.sources.storage)
    tuned, cells = database.tuned("tiny_tuned"), database.cells("tiny_tuned")
    assert {row: choice.num_trials for row, choice in tuned.items()} == {"whisq": 3, "no_ot": 3, "constant": 0}
    runs = database.runs([cell.run_id for cell in cells.values() if cell.run_id])
    for row in ("whisq", "no_ot"):
        searched = trials(asked, f"tiny_tuned-{row}")
        assert len(searched) == BUDGET
        assert searched[0].params == FIRST_GUESS
        for seed in (0, 1):
            identity = runs[cells[row, seed].run_id or ""].identity
            assert {name: identity[name] for name in SPACE} == tuned[row].settings
    assert [identity_of(runs, cells, row)["loss.ot_weight"] for row in ("whisq", "no_ot")] == [1e-4, 0.0]


def identity_of(runs: dict[str, Any], cells: dict[tuple[str, int], Any], row: str) -> dict[str, Any]:
    return runs[cells[row, 0].run_id].identity


def test_a_tuned_table_run_again_trains_nothing_and_keeps_every_byte(asked: OptimizeRequest) -> None:
    command(asked, "ablate")
    database = Database(asked.sources.storage)
    runs, searched = database.count_runs(), trials(asked, "tiny_tuned-no_ot")
    before = {path.name: path.read_bytes() for path in asked.sources.out.glob("table*")}

    planned = command(asked, "ablate", "--plan")
    again = command(asked, "ablate")

    assert "6 done; about 0.0 minutes" in planned.out
    assert (again.status, again.err) == (0, "")
    assert database.count_runs() == runs
    assert trials(asked, "tiny_tuned-no_ot") == searched
    assert {path.name: path.read_bytes() for path in asked.sources.out.glob("table*")} == before


def test_a_tuned_table_tells_for_each_row_its_trials_and_its_own_settings(asked: OptimizeRequest) -> None:
    command(asked, "ablate")

    text, tuned = table(asked), Database(asked.sources.storage).tuned("tiny_tuned")
    assert "SGD, learning rate tuned, momentum tuned, batch 16, huber loss, optimal-transport weight 0.0001" in text
    assert "each tuned row has its own search of 3 trials, judged on an inner split of the training clips" in text
    own = {
        row: f"learning rate {tuned[row].settings['train.learning_rate']:g}, "
        f"momentum {tuned[row].settings['train.momentum']:g}"
        for row in ("whisq", "no_ot")
    }
    assert f"Tuned settings. WhisQ, 3 trials: {own['whisq']}; Without OT, 3 trials: {own['no_ot']}." in text
    for name in ("table.html", "table.tex"):
        assert f"WhisQ, 3 trials: {own['whisq']}" in (asked.sources.out / name).read_text(encoding="utf-8"), name
    with (asked.sources.out / "table.csv").open(encoding="utf-8") as file:
        assert {line["row"]: line["num_trials"] for line in csv.DictReader(file)} == {
            "whisq": "3",
            "no_ot": "3",
            "constant": "0",
        }


def test_unequal_budgets_are_said_aloud(asked: OptimizeRequest) -> None:
    command(asked, "ablate")
    assert command(asked, "optimize", "--row", "no_ot", "--trials", BUDGET + 2).status == 0

    assert command(asked, "ablate").status == 0

    assert "own search, WITH UNEQUAL BUDGETS (see tuned settings), judged on an inner split" in table(asked)
    assert "WhisQ, 3 trials: " in table(asked)
    assert "Without OT, 5 trials: " in table(asked)


def test_a_search_on_the_scored_clips_is_admitted(asked: OptimizeRequest) -> None:
    content = yaml.safe_load(asked.sources.file.read_text(encoding="utf-8"))
    change(asked, search=content["search"] | {"data.score": "dev"})

    assert command(asked, "ablate", "--rows", "no_ot").status == 0

    assert "judged on THE SCORED CLIPS THEMSELVES, so that every tuned row is shown too good" in table(asked)
    assert "nothing is selected on the scored clips" not in table(asked)


def test_a_repeated_row_has_a_search_of_its_own_and_is_still_the_aa_row(asked: OptimizeRequest) -> None:
    content = yaml.safe_load(asked.sources.file.read_text(encoding="utf-8"))
    content["sections"][0]["rows"].append({"id": "aa", "label": "Other seeds", "extends": "whisq", "seeds": [7, 8]})
    change(asked, sections=content["sections"])

    assert command(asked, "ablate", "--rows", "whisq,aa").status == 0

    tuned = Database(asked.sources.storage).tuned("tiny_tuned")
    assert tuned["aa"].num_trials == tuned["whisq"].num_trials == BUDGET
    first, again = (trials(asked, f"tiny_tuned-{row}") for row in ("whisq", "aa"))
    assert first[0].params == again[0].params == FIRST_GUESS
    assert [trial.params for trial in first[1:]] != [trial.params for trial in again[1:]]
    change(asked, compare={"to": "whisq", "rows": ["no_ot"]})
    results = collect(read_ablation_file(asked.sources.file), Database(asked.sources.storage))
    assert results.file.row("aa").spec.settings() != results.file.row("whisq").spec.settings()
    assert evidence(results).aa == ("aa",)


def test_no_row_is_searched_while_another_cannot_be(asked: OptimizeRequest) -> None:
    content = yaml.safe_load(asked.sources.file.read_text(encoding="utf-8"))
    content["sections"][0]["rows"][1]["seeds"] = [1_000_000]
    change(asked, sections=content["sections"])

    finished = command(asked, "ablate")

    assert finished.status == 2
    (error,) = finished.errors
    assert error.endswith("row 'no_ot': seed 1000000 is one of those that searches use. Give the table other seeds.")
    assert Database(asked.sources.storage).count_runs() == 0


def test_tuned_rows_make_a_table_of_their_own(asked: OptimizeRequest) -> None:
    tuned = read_ablation_file(asked.sources.file).name
    change(asked, hyperparameters="shared")
    shared = read_ablation_file(asked.sources.file).name
    change(asked, hyperparameters="tuned", name="tiny_tuned")

    assert (shared, tuned, read_ablation_file(asked.sources.file).name) == ("tiny", "tiny_tuned", "tiny_tuned")
