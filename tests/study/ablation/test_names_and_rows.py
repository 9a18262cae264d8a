"""What a table may be called is known before anything starts; rows that it shows no longer are named."""

import shutil
from pathlib import Path

import pytest
from helpers.command import run
from helpers.control_tables import Study

_STORAGE = "cannot be written, it is a file of the storage. Give another --name or --out."
NAMES = {
    "whisq.db": f"--out results/whisq.db: {_STORAGE}",
    "whisq.db.lock": f"--out results/whisq.db.lock: {_STORAGE}",
    "whisq.db-wal": f"--out results/whisq.db-wal: {_STORAGE}",
    "features": "table 'features': results/features is for encoded clips. Give another name, or a folder with --out.",
    "artifacts": "table 'artifacts': results/artifacts is for files of the dashboard. Give another name, or a folder "
    "with --out.",
    "../x": "--name ../x: allowed: letters, digits, '_', '-' and '.', beginning with a letter or digit.",
    "notes.txt": "--out results/notes.txt: cannot be written, results/notes.txt is a file. Give another folder.",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_whose_folder_cannot_be_had_is_refused_before_anything_starts(
    tmp_path: Path, small_corpus: Path, name: str
) -> None:
    study = Study(tmp_path, small_corpus)
    study.results.mkdir()
    (study.results / "notes.txt").touch()

    for options in ((), ("--plan",)):
        finished = study.ablate("--name", name, *options)

        assert (finished.status, finished.errors) == (2, [NAMES[name]])
    assert {path.name for path in study.results.rglob("*")} <= {"notes.txt", "features", "cache", "audio.json"}


def test_a_file_may_not_declare_such_a_name_either_unless_its_folder_is_another(study: Study) -> None:
    study.content["name"] = "whisq.db"
    assert study.ablate("--plan").errors == [
        "--out results/whisq.db: cannot be written, results/whisq.db is a file. Give another folder."
    ]
    assert study.ablate("--plan", "--name", "other").status == 0
    study.content["name"] = "features"
    assert study.ablate("--plan").errors == [NAMES["features"]]
    assert study.ablate("--out", "elsewhere").status == 0
    assert study.report().errors == [NAMES["features"]]


def test_a_folder_inside_the_storage_is_refused_before_the_storage_is_made(study: Study) -> None:
    shutil.rmtree(study.results)

    assert study.ablate("--out", "results/whisq.db/tables").errors == [f"--out results/whisq.db/tables: {_STORAGE}"]


def test_rows_that_the_table_showed_and_its_file_has_no_longer_are_named_until_they_are_removed(study: Study) -> None:
    assert "note: row(s)" not in study.ablate().err
    study.content["sections"][0]["rows"].pop()
    note = (
        "note: row(s) 'changing' of table 'table' are not in table.yaml any more: the table shows them no longer; "
        "their runs stay stored"
    )

    assert note in study.ablate("--plan").err.splitlines()
    assert note in study.ablate().err.splitlines()
    assert note in study.report().err.splitlines()
    assert set(study.table()) == {"lookup", "mean"}
    assert "note: row(s)" not in study.ablate("--name", "other").err, "another table never showed them"
    assert run(study.folder, "rm", "table/changing", "--yes").status == 0
    assert "note: row(s)" not in study.ablate().err


def test_files_that_something_else_wrote_are_written_anew(study: Study) -> None:
    table = study.results / "table/table.md"
    before = table.read_text()
    table.write_text("edited")

    assert study.ablate().out.strip() == before.strip()
    assert table.read_text() == before
