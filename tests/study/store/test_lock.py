"""One command writes to a storage at a time; the system releases its lock when it dies."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from study.store import CellEntry, Database
from whisq_core.errors import InputError

HOLD = """
import sys, time
from study.store import Database
with Database(sys.argv[1]).writing("whisq-study ablate"):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/study.db"
    else:
        yield request.getfixturevalue("postgresql_url")


@pytest.fixture
def holder(url: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock."""
    command = [sys.executable, "-c", HOLD, url, "60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_writer_is_told_who_writes_and_changes_nothing(url: str, holder: subprocess.Popen[str]) -> None:
    database = Database(url)

    with (
        pytest.raises(InputError, match=rf"whisq-study ablate, process {holder.pid} on "),
        database.writing("whisq-study optimize"),
    ):
        pass
    assert str(holder.pid) in (database.writer() or "")


def test_a_killed_holder_leaves_the_lock_free(url: str, holder: subprocess.Popen[str]) -> None:
    holder.kill()
    holder.wait()
    database = Database(url)
    deadline = time.monotonic() + 20
    while database.writer() is not None:  # a server needs a moment to see that its client is gone
        assert time.monotonic() < deadline
        time.sleep(0.1)

    with database.writing("whisq-study ablate"):
        database.save_cells("table", [CellEntry("row", 0, "a", None, "c")])


def test_a_command_that_is_told_to_wait_goes_on_when_the_other_has_finished(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    command = [sys.executable, "-c", HOLD, url, "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with Database(url).writing("whisq-study ablate", wait=True):
            pass
    assert f"waiting until whisq-study ablate, process {process.pid}" in capsys.readouterr().err


def test_the_holder_takes_the_lock_as_often_as_it_likes(url: str) -> None:
    database = Database(url)
    with database.writing("outer"), database.writing("inner"):
        pass
    assert database.writer() is None


def test_the_lock_is_taken_again_when_the_connection_was_cut(postgresql_url: str) -> None:
    database = Database(postgresql_url)
    server = sa.create_engine(postgresql_url, isolation_level="AUTOCOMMIT")
    with database.writing("whisq-study ablate"):
        with server.connect() as connection:
            cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name ~ '^whisq-study'"
            connection.execute(sa.text(cut))
        database.save_cells("table", [CellEntry("row", 0, "a", None, "c")])
        assert database.writer() is not None
    assert list(database.cells("table")) == [("row", 0)]
    server.dispose()
