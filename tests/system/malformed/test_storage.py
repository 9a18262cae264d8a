"""Databases that are not ours, not whole, of another time, or not there; and passwords, which nobody may read."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.forked import Commands
from helpers.malformed import ABLATE, DOCTOR, OPTIMIZE, REPORT, Change, also_long, copy_of, edited, sampled

Attempt = Callable[..., object]


def sql(*statements: str) -> Change:
    """Statements on the good database."""

    def change(folder: Path) -> None:
        with sqlite3.connect(folder / "whisq.db") as connection:
            for statement in statements:
                connection.execute(statement)
        connection.close()

    return change


def of(table: str) -> Change:
    """A database of somebody else's."""

    def change(folder: Path) -> None:
        for path in folder.glob("whisq.db*"):
            path.unlink()
        sql(f"CREATE TABLE {table} (a INTEGER, b TEXT)")(folder)

    return change


def overwritten(start: int, junk: bytes = b"\xff" * 3000) -> Change:
    return edited("whisq.db", lambda content: content[:start] + junk + content[start + len(junk) :])


_JSON = [(column, junk) for column in ("identity", "details", "manifest") for junk in ("{", "12", '"x"', "[1]")]
_JSON += [("curve", junk) for junk in ("{", "12", '"x"', "[1]", '{"a": {"b": []}}')]
_CLIPS = (
    "",
    "{",
    "[]",
    "12",
    '{"columns": [], "index": [], "data": []}',
    '{"columns": ["a"], "index": [0], "data": [[1]]}',
)


def predicted(indices: str, numbers: str = "zeroblob(16)", where: str = "1") -> Change:
    """Other predictions: of one clip, by its index as hexadecimal bytes."""
    return sql(f"UPDATE whisq_predictions SET clip_indices = x'{indices}', predicted = {numbers} WHERE {where}")


DATABASES: dict[str, Change] = {
    **{f"a table {name} of others": of(name) for name in ("whisq_runs", "whisq_cells", "whisq_schema")},
    "a newer schema": sql("UPDATE whisq_schema SET version = 999"),
    "a schema of no number": sql("UPDATE whisq_schema SET version = 'x'"),
    "a schema below all": sql("UPDATE whisq_schema SET version = -3"),
    "no corpus": sql("DELETE FROM whisq_corpora"),
    "no cells": sql("DELETE FROM whisq_cells"),
    "no predictions": sql("DELETE FROM whisq_predictions"),
    "no predictions table": sql("DROP TABLE whisq_predictions"),
    "a column less": sql("ALTER TABLE whisq_runs RENAME COLUMN curve TO other"),
    "truncated predictions": sql("UPDATE whisq_predictions SET predicted = substr(predicted, 1, 5)"),
    "truncated indices": sql("UPDATE whisq_predictions SET clip_indices = substr(clip_indices, 1, 5)"),
    "both truncated": sql("UPDATE whisq_predictions SET clip_indices = x'01', predicted = x'01020304'"),
    "empty predictions": sql("UPDATE whisq_predictions SET clip_indices = x'', predicted = x''"),
    "predictions as text": sql("UPDATE whisq_predictions SET predicted = 'abc'"),
    "indices beyond the clips": predicted("ffffff7f"),
    "negative indices": predicted("ffffffff"),
    "predictions that are NaN": predicted("01000000", f"x'{16 * 'ff'}'"),
    "fewer clips in one run": predicted("08000000", where="run_id = (SELECT min(run_id) FROM whisq_runs)"),
    **{f"{column} {junk!r}": sql(f"UPDATE whisq_runs SET {column} = '{junk}'") for column, junk in _JSON},
    **{f"clips {junk!r}": sql(f"UPDATE whisq_corpora SET clips = '{junk}'") for junk in _CLIPS},
    "state": sql("UPDATE whisq_runs SET state = 'evil'"),
    "seed": sql("UPDATE whisq_cells SET corpus_digest = 'none'"),
    "not SQLite": edited("whisq.db", lambda _: b"no database\n" * 500),
    "a header alone": edited("whisq.db", lambda content: content[:100]),
    "half": edited("whisq.db", lambda content: content[: len(content) // 2]),
    **{f"junk at {start}": overwritten(start) for start in (16, 100, 4096, 8192, 20_000)},
    **{f"page {page} of zeros": overwritten(4096 * page, bytes(4096)) for page in range(1, 12)},
}  # fmt: skip


@pytest.mark.parametrize("case", sampled(DATABASES, 4))
def test_a_database_that_cannot_be_read_is_one_line_for_a_reader(
    commands: Commands, good: Path, tmp_path: Path, case: str
) -> None:
    DATABASES[case](copy_of(good, tmp_path))

    answer = commands.run(tmp_path, *REPORT.split())

    assert "Traceback" not in answer.err, answer
    assert answer.status == 2 or case.startswith(("page", "junk", "state", "identity", "seed")), (
        answer
    )  # what was hit is not read


@pytest.mark.parametrize("command", also_long([ABLATE, OPTIMIZE, DOCTOR]), ids=lambda command: command.split()[0])
@pytest.mark.parametrize("case", sampled(DATABASES, 7))
def test_no_command_ends_in_a_traceback_over_it(
    commands: Commands, good: Path, tmp_path: Path, case: str, command: str
) -> None:
    DATABASES[case](copy_of(good, tmp_path))

    answer = commands.run(tmp_path, *command.split())

    assert "Traceback" not in answer.err, answer
    assert answer.status in (0, 1, 2), answer


URLS = [
    "sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite:////", "sqlite:///a\0b", "sqlite:///a#b?x=1", "sqlite:///a?b",
    f"sqlite:///{'x' * 300}.db", f"sqlite:///{'x/' * 3000}y.db", "sqlite:///table.yaml", "sqlite:///corpus",
    "sqlite:///table.yaml/x.db", "sqlite+evil:///x.db", "whisq.db", "", " ", "sqlite:/x.db", "sqlite:///\x1b[2J/x\0",
    "mysql://h/d", "postgresql://h:port/d", "postgresql://h:99999999/d", "postgresql://127.0.0.1:1/d", "postgresql://[::1/d",
    "postgresql+psycopg2://h/d", "postgresql+psycopg://127.0.0.1:1/d?connect_timeout=x", "postgresql+psycopg://127.0.0.1:1/d?evil=1",
    "postgresql+psycopg://127.0.0.1:1/d?host=/nowhere", "http://h/x", "file:///etc/passwd", "://", "%%%", "postgresql+psycopg:///d?host=%00",
]  # fmt: skip


@pytest.mark.parametrize("command", [ABLATE, OPTIMIZE, REPORT], ids=lambda command: command.split()[0])
@pytest.mark.parametrize("url", sampled(URLS, 5))
def test_a_storage_that_is_none_is_refused_before_anything_is_made(
    attempt: Attempt, tmp_path: Path, url: str, command: str
) -> None:
    before = None

    def look(folder: Path) -> None:
        nonlocal before
        before = sorted(folder.rglob("*"))

    attempt(look, [part if part != "sqlite:///whisq.db" else url for part in command.split()], "storage")

    assert sorted(tmp_path.rglob("*")) == before


SECRET = "hunter2secret"
SECRET_URLS = [
    f"postgresql+psycopg://me:{SECRET}@127.0.0.1:1/db",
    f"postgresql://me:{SECRET}@127.0.0.1:port/db",
    f"postgresql:/me:{SECRET}@127.0.0.1/db",
    f"postgresql:me:{SECRET}@127.0.0.1/db",
    f"'postgresql+psycopg://me:{SECRET}@127.0.0.1:1/db'",
    f'"postgresql+psycopg://me:{SECRET}@127.0.0.1:1/db"',
    f" postgresql+psycopg://me:{SECRET}@127.0.0.1:1/db ",
    f"postgresql+psycopg://127.0.0.1:1/db?user=me&password={SECRET}",
    f"postgresql+psycopg://127.0.0.1:1/db?sslpassword={SECRET}",
    f"postgresql+psycopg://127.0.0.1:1/db?PassWord={SECRET}",
    f"postgresql+psycopg://127.0.0.1:1/db?options=-c%20password%3D{SECRET}",
    f"host=127.0.0.1 port=1 user=me password={SECRET}",
    f"postgresql://password={SECRET}",
    f"postgresql://127.0.0.1:1/password={SECRET}",
    f"host=127.0.0.1 user=me password = '{SECRET}'",
    f"postgresql+psycopg://me:a@{SECRET}@127.0.0.1:1/db",
    f"postgresql+psycopg://me:{SECRET}@x@127.0.0.1:1/db",
    f"postgresql+psycopg://me:{SECRET}/x@127.0.0.1:1/db",
    f"postgresql+psycopg://me:{SECRET}#x@127.0.0.1:1/db",
    f"postgresql+psycopg://me:{SECRET}?x@127.0.0.1:1/db",
    f"postgresql+psycopg://{SECRET}@127.0.0.1:port/db",
    f"mysql+evil://me:{SECRET}@h/db",
    f"evil://me:{SECRET}@h/db",
    f"POSTGRESQL://me:{SECRET}@h/db",
    f"postgresql+psycopg://me:{SECRET}@127.0.0.1:1/db\0",
    f"sqlite://me:{SECRET}@/x.db",
    f"sqlite:///x.db?password={SECRET}",
    f"sqlite:////dev/null/{SECRET}@x:{SECRET}@h/x.db",
    f"postgres://me:{SECRET}@[::1/db",
    f"//me:{SECRET}@h/db",
    f"me:{SECRET}@h/db",
]


@pytest.mark.parametrize(
    "command",
    [ABLATE, OPTIMIZE, DOCTOR, REPORT, "dashboard --port 0 --storage sqlite:///whisq.db"],
    ids=lambda command: command.split()[0],
)
@pytest.mark.parametrize("url", sampled(SECRET_URLS, 6))
@pytest.mark.parametrize("given", ["option", "environment"])
def test_a_password_is_never_printed_nor_stored(
    commands: Commands, good: Path, tmp_path: Path, url: str, command: str, given: str
) -> None:
    copy_of(good, tmp_path)
    (tmp_path / "whisq.db").unlink()
    if given == "option":
        answer = commands.run(tmp_path, *(part if part != "sqlite:///whisq.db" else url for part in command.split()))
    else:
        if "\0" in url:
            pytest.skip("the environment holds no NUL")
        arguments = [part for part in command.split() if part not in ("--storage", "sqlite:///whisq.db")]
        answer = commands.run(tmp_path, *arguments, environment={"WHISQ_STORAGE": url})

    assert answer.status in (1, 2), answer
    assert SECRET not in answer.out + answer.err
    assert "Traceback" not in answer.err
    for path in tmp_path.rglob("*"):
        assert SECRET not in path.name
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path


def test_nothing_of_a_run_on_postgresql_holds_its_password(
    commands: Commands, good: Path, tmp_path: Path, postgresql_url: str
) -> None:
    import sqlalchemy as sa

    url = sa.make_url(postgresql_url)
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql("DROP ROLE IF EXISTS somebody")
        connection.exec_driver_sql(f"CREATE ROLE somebody SUPERUSER LOGIN PASSWORD '{SECRET}'")
    secret = url.set(username="somebody", password=SECRET).render_as_string(hide_password=False)
    copy_of(good, tmp_path)
    outputs = ""
    for command in (ABLATE, REPORT, OPTIMIZE, DOCTOR):
        answer = commands.run(tmp_path, *(part if part != "sqlite:///whisq.db" else secret for part in command.split()))
        assert answer.status == 0, answer
        outputs += answer.out + answer.err

    assert SECRET not in outputs
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path
    with engine.connect() as connection:
        names = connection.scalars(sa.text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")).all()
        for name in names:
            assert SECRET not in repr(connection.execute(sa.text(f'SELECT * FROM "{name}"')).all()), name
    engine.dispose()


def test_the_database_of_an_older_program_is_read_as_it_is(commands: Commands, good: Path, tmp_path: Path) -> None:
    sql("DROP TABLE whisq_schema")(copy_of(good, tmp_path))

    assert commands.run(tmp_path, *REPORT.split()).status == 0
    assert commands.run(tmp_path, *ABLATE.split()).status == 0
    with sqlite3.connect(tmp_path / "whisq.db") as connection:
        assert connection.execute("SELECT count(*) FROM whisq_schema").fetchone() == (1,)
    connection.close()
