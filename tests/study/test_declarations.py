"""What was declared when runs were begun stays with them: a later change is told wherever a verdict stands."""

import csv
import sqlite3
from pathlib import Path

import pytest
from helpers.command import run
from helpers.studies import Place, changed, copied_to, row

from study.config import read_ablation_file
from study.results import Declared, collect
from study.store import Database, Declaration


@pytest.fixture
def place(finished_study: Place, tmp_path: Path) -> Place:
    return copied_to(tmp_path, finished_study)


def declared(place: Place) -> Declared:
    return collect(read_ablation_file(place.file), Database(place.storage)).declared


def drop_a_row(content: dict) -> None:
    content["compare"]["rows"].remove("cross")


def test_comparisons_that_were_there_before_the_runs_are_declared_beforehand(place: Place) -> None:
    assert declared(place) == Declared()
    assert "declared beforehand for 6 rows." in (place.out / "table.md").read_text(encoding="utf-8")


def test_a_row_dropped_after_the_runs_makes_every_verdict_exploratory_wherever_it_stands(place: Place) -> None:
    changed(place, drop_a_row)

    plan = run(place.folder, *place.ablate, "--plan")
    finished = run(place.folder, *place.ablate)

    assert "what `compare` compares was changed after 12 runs: verdicts will be exploratory." in plan.out
    assert finished.status == 0, finished.err
    markdown = (place.out / "table.md").read_text(encoding="utf-8")
    then = "6 rows against 'whisq' on ta.utterance.srcc with margin 0.01"
    assert f"DECLARED ANEW AFTER 12 OF THEIR RUNS (then: {then}) for 5 rows." in markdown
    with (place.out / "table.csv").open(newline="", encoding="utf-8") as file:
        lines = {line["row"]: line for line in csv.DictReader(file)}
    for name in ("no_ot", "official_baseline", "vanilla", "mlp_only", "w2v2_modernbert"):
        assert lines[name]["declared"] == "changed after 12 runs"
        assert lines[name]["verdict"].startswith("exploratory (")
        assert lines[name]["reason"].startswith("changed after 12 runs; ")
    for text in (markdown, *((place.out / name).read_text(encoding="utf-8") for name in ("table.html", "table.tex"))):
        assert text.count("exploratory (inconclusive)") >= 5


def test_another_name_file_or_table_does_not_hide_the_change(place: Place) -> None:
    other = Place(place.corpus, place.weights, place.features, place.folder / "other")
    other.folder.mkdir()
    other.file.write_bytes(place.file.read_bytes())
    (other.folder / "whisq.db").write_bytes((place.folder / "whisq.db").read_bytes())

    def renamed(content: dict) -> None:
        drop_a_row(content)
        content["name"] = "afresh"
        row(content, "no_ot")["id"] = content["compare"]["rows"][0] = "without"

    changed(other, renamed)

    assert run(other.folder, *other.ablate).status == 0
    assert declared(other).changed == "changed after 12 runs"


def test_other_names_alone_are_no_change(place: Place) -> None:
    before = read_ablation_file(place.file).declaration

    def renamed(content: dict) -> None:
        content["name"] = "afresh"
        row(content, "no_ot")["id"] = content["compare"]["rows"][0] = "without"

    changed(place, renamed)
    assert read_ablation_file(place.file).declaration == before


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content["compare"].update(metric="omq.utterance.srcc"),
        lambda content: content["compare"].update(equivalence_margin=0.02),
        lambda content: row(content, "no_ot")["set"].update({"loss.ot_weight": 0.1}),
        lambda content: content.pop("compare"),
    ],
    ids=["metric", "margin", "settings of a row", "none"],
)
def test_whatever_decides_a_verdict_is_part_of_the_declaration(place: Place, change) -> None:
    before = read_ablation_file(place.file).declaration
    changed(place, change)
    assert read_ablation_file(place.file).declaration[0] != before[0]


def test_a_storage_of_an_older_program_is_read_and_the_table_says_that_it_is_not_recorded(place: Place) -> None:
    with sqlite3.connect(place.folder / "whisq.db") as connection:
        connection.executescript("DROP TABLE whisq_declarations; UPDATE whisq_schema SET version = 2")
    untouched = (place.folder / "whisq.db").read_bytes()

    assert declared(place) == Declared(num_unknown=14)
    assert run(place.folder, *place.ablate, "--plan").status == 0
    assert (place.folder / "whisq.db").read_bytes() == untouched
    changed(place, lambda content: content["sections"][0]["rows"][0].update(label="Ours"))
    assert run(place.folder, *place.ablate).status == 0
    text = (place.out / "table.md").read_text(encoding="utf-8")
    assert "declared (not recorded whether before 14 of their runs) for 6 rows." in text


def test_a_run_that_is_done_keeps_what_it_was_tied_to(tmp_path: Path, finished_study: Place) -> None:
    place = copied_to(tmp_path, finished_study)
    database = Database(place.storage)
    done = [entry.run_id for entry in database.cells("table2").values() if entry.run_id][:2]
    first = database.declarations(done)

    with database.writing("test"):
        database.declare([*done, "f" * 32], Declaration("0" * 32, "something else"))
        database.declare(["f" * 32], Declaration("1" * 32, "something newer"))

    assert database.declarations([*done, "f" * 32]) == first | {"f" * 32: Declaration("1" * 32, "something newer")}
