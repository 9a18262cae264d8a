"""A small corpus and a database that the test may write."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from study.engine import Workspace
from study.store import Database


@pytest.fixture
def workspace(small_corpus: Path, tmp_path: Path) -> Workspace:
    return Workspace(small_corpus, tmp_path / "features")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path}/whisq.db")
    with database.writing("test"):
        yield database
