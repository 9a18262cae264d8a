"""Runs are stored whole or not at all, once, and come back as they went in."""

import os
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa

from study.store import CellEntry, Database, Run, Scored, StoredCorpus, masked
from study.store.schema import SCHEMA_VERSION
from study.store.urls import parse
from whisq_core.errors import InputError

RUN = Run(
    run_id="a" * 32,
    table_name="table",
    row="whisq",
    seed=3,
    state="done",
    identity={"loss.ot_weight": 4.057e-5, "corpus": "c"},
    details={"num_trainable": 7},
    curve=[{"epoch": 1, "loss": 0.5}],
    manifest={"python": "3.11"},
    seconds=1.5,
    finished_at=10.0,
    scored={"dev": Scored(np.array([1, 0]), np.array([[3.1, 2.0], [1.0 / 3.0, 5.0]]), {"ta.utterance.srcc": 0.25})},
)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path}/new folder/whisq.db")
    with database.writing("test"):
        yield database


def test_a_run_comes_back_bit_for_bit(database: Database) -> None:
    assert database.save_run(RUN)

    stored = database.runs([RUN.run_id])[RUN.run_id]

    assert replace(stored, scored={}) == replace(RUN, scored={})
    np.testing.assert_array_equal(stored.scored["dev"].predicted, RUN.scored["dev"].predicted)
    np.testing.assert_array_equal(stored.scored["dev"].clip_indices, [1, 0])
    assert stored.scored["dev"].metrics == {"ta.utterance.srcc": 0.25}


def test_an_undefined_metric_is_stored_as_null_and_read_as_nan(database: Database) -> None:
    scored = Scored(np.array([0]), np.array([[1.0, 1.0]]), {"omq.utterance.srcc": float("nan")})
    database.save_run(replace(RUN, scored={"dev": scored}, curve=[{"epoch": 1, "loss": float("nan")}]))

    stored = database.runs([RUN.run_id])[RUN.run_id]

    assert np.isnan(stored.scored["dev"].metrics["omq.utterance.srcc"])
    assert stored.curve == [{"epoch": 1, "loss": None}]


def test_a_second_finish_of_the_same_run_changes_nothing(database: Database) -> None:
    database.save_run(RUN)

    assert not database.save_run(replace(RUN, seconds=99.0))
    assert database.runs([RUN.run_id])[RUN.run_id].seconds == 1.5


def test_a_done_run_replaces_a_failed_one(database: Database) -> None:
    database.save_run(replace(RUN, state="failed", reason="out of memory", scored={}))
    assert database.state_of(RUN.run_id) == "failed"

    assert database.save_run(RUN)
    assert database.state_of(RUN.run_id) == "done"
    assert "dev" in database.runs([RUN.run_id])[RUN.run_id].scored


def test_a_corpus_comes_back_without_paths(database: Database) -> None:
    columns = {"utterance": ["u1", "u2"], "system": ["S1", "S2"], "prompt": ["p", "q"], "omq": [3.2, 1.0]}
    clips = pd.DataFrame({**columns, "ta": [2.0, 4.5], "split": ["dev", "dev"]})
    system_mos = pd.DataFrame({"omq": [3.0], "ta": [2.0]}, index=["S1"])
    database.save_corpus(StoredCorpus("d" * 32, "demo", True, clips, system_mos))

    stored = database.corpus("d" * 32)

    pd.testing.assert_frame_equal(stored.clips, clips)
    assert stored.system_mos is not None
    pd.testing.assert_frame_equal(stored.system_mos, system_mos)
    assert stored.simulated


def test_cells_point_at_their_newest_run(database: Database) -> None:
    database.save_cells("table", [CellEntry("whisq", 0, "old", None, "c"), CellEntry("whisq", 1, "one", None, "c")])
    database.save_cells("table", [CellEntry("whisq", 0, "new", None, "c")])

    assert {key: entry.run_id for key, entry in database.cells("table").items()} == {
        ("whisq", 0): "new",
        ("whisq", 1): "one",
    }


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "not a storage URL"),
        ("mysql://host/db", "found 'mysql'"),
        ("sqlite://", "it must name a file"),
        ("postgresql+psycopg://user:secret@127.0.0.1:1/none", "cannot be opened"),
    ],
)
def test_a_storage_that_cannot_be_opened_is_one_clear_line_without_its_password(url: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        Database(url)
    assert message in str(caught.value)
    assert "secret" not in str(caught.value)
    assert len(caught.value.mistakes) == 1


def test_passwords_are_masked_and_plain_postgresql_means_psycopg() -> None:
    assert masked("postgresql+psycopg://me:secret@host/db") == "postgresql+psycopg://me:***@host/db"
    assert parse("postgresql://me:secret@host/db").drivername == "postgresql+psycopg"


def test_a_plan_gets_the_runs_of_its_cells_and_the_newest_done_run_of_each_cell(database: Database) -> None:
    runs = [
        replace(RUN, run_id="old", finished_at=1.0),
        replace(RUN, run_id="new", finished_at=2.0),
        replace(RUN, run_id="failed since", state="failed", finished_at=3.0),
        replace(RUN, run_id="other seed", seed=4, finished_at=1.0),
        replace(RUN, run_id="other table", table_name="other", finished_at=9.0),
        replace(RUN, run_id="asked for", table_name="third", state="failed", finished_at=0.0),
    ]
    for run in runs:
        database.save_run(run)

    headers = database.headers("table", ["asked for", "new", "unknown"])

    assert sorted(header.run_id for header in headers) == ["asked for", "new", "other seed"]
    assert {header.run_id: header.identity for header in headers}["new"] == RUN.identity


def test_more_runs_than_a_statement_has_parameters_are_read(database: Database) -> None:
    database.save_run(RUN)
    run_ids = [str(number) for number in range(40_000)] + [RUN.run_id]

    assert list(database.runs(run_ids)) == [RUN.run_id]
    assert [header.run_id for header in database.headers("other", run_ids)] == [RUN.run_id]


def test_looking_at_a_storage_that_is_not_there_makes_nothing(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/none/whisq.db")

    assert database.count_runs() == 0
    assert database.runs(["a"]) == {}
    assert database.cells("table") == {}
    assert list(tmp_path.iterdir()) == []


def test_a_database_in_a_folder_that_cannot_be_written_is_read() -> None:
    imports = "import os, sys, sqlalchemy.dialects.sqlite; from study.store import Database; "
    nobody = "os.setgid(65534); os.setuid(65534); " if os.getuid() == 0 else ""
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{folder}/whisq.db")
        with database.writing("test"):
            database.save_run(RUN)
        database.engine.dispose()
        Path(folder).chmod(0o555)

        reader = f"{imports}{nobody}print(Database(sys.argv[1]).count_runs())"
        done = subprocess.run([sys.executable, "-c", reader, database.url], capture_output=True, text=True)

        Path(folder).chmod(0o755)
    assert (done.stdout, done.stderr) == ("1\n", "")


def test_a_database_of_the_first_release_is_read_and_gets_its_version_at_the_first_write(tmp_path: Path) -> None:
    path = tmp_path / "whisq.db"
    with Database(f"sqlite:///{path}").writing("test"):
        pass
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE whisq_schema")
    database = Database(f"sqlite:///{path}")
    assert database.count_runs() == 0

    with database.writing("test"):
        database.save_run(RUN)

    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT version FROM whisq_schema").fetchall() == [(SCHEMA_VERSION,)]


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("CREATE TABLE whisq_runs (a INTEGER)", "its table whisq_runs is not of whisq-study"),
        ("CREATE TABLE whisq_schema (version INTEGER); INSERT INTO whisq_schema VALUES (9)", "schema 9"),
    ],
)
def test_a_database_of_something_else_or_of_a_newer_program_is_refused_by_name(
    tmp_path: Path, statement: str, message: str
) -> None:
    with sqlite3.connect(tmp_path / "x.db") as connection:
        connection.executescript(statement)

    with pytest.raises(InputError, match=message):
        Database(f"sqlite:///{tmp_path}/x.db")


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database at all, but long enough to be taken for a header" * 20)

    with pytest.raises(InputError, match="not a database"):
        Database(f"sqlite:///{path}")
    assert path.read_text().startswith("not a database")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://me:s3cr3t@host/db",
        "postgresql://me:s3cr3t@host/db",
        "postgresql:/me:s3cr3t@host/db",
        "postgresql:me:s3cr3t@host/db",
        " postgresql://me:s3cr3t@host/db",
        "'postgresql://me:s3cr3t@host/db'",
        "postgresql://me@host/db?password=s3cr3t",
        "postgresql+psycopg://me@host/db?sslpassword=s3cr3t",
        "postgresql://me:s3cr3t@here@host/db",
        "host=h user=me password=s3cr3t dbname=d",
        "oracle+nothing://me:s3cr3t@host/db",
        "postgresql://me:s3cr3t@host:port/db",
        "sqlite:///file.db?password=s3cr3t",
    ],
)
def test_no_form_of_a_storage_url_shows_its_password(url: str) -> None:
    said = masked(url)
    try:
        parse(url)
    except InputError as error:
        said += str(error)

    assert "s3cr3t" not in said


def test_a_connection_that_is_cut_while_a_storage_is_opened_is_made_again(postgresql_url: str, tmp_path: Path) -> None:
    url = sa.make_url(postgresql_url)
    behind = Path(str(url.query["host"])) / f".s.PGSQL.{url.port or 5432}"
    before = tmp_path / behind.name
    door = socket.socket(socket.AF_UNIX)
    door.bind(str(before))
    door.listen()

    def cut_once() -> None:
        door.accept()[0].close()
        before.unlink()
        before.symlink_to(behind)

    cutting = threading.Thread(target=cut_once)
    cutting.start()
    opened = Database(url.set(query={"host": str(tmp_path)}).render_as_string(hide_password=False))
    cutting.join()
    door.close()

    assert opened.count_runs() == 0
