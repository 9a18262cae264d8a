"""One process that runs commands for all tests of a test process; and how many cases of each class were answered.

The counts go to the file that `WHISQ_SUMMARY` names (`make faults`).
"""

import csv
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.forked import Commands

_OUTCOMES: dict[str, Counter[str]] = {}


@pytest.fixture(scope="session")
def commands() -> Iterator[Commands]:
    server = Commands()
    yield server
    server.close()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count one case by its test, whose name says what is expected."""
    path, _, name = report.nodeid.partition("::")
    if report.when == "call" or report.outcome != "passed":
        key = (
            f"{Path(path).stem.removeprefix('test_')}: {name.partition('[')[0].removeprefix('test_').replace('_', ' ')}"
        )
        _OUTCOMES.setdefault(key, Counter())[report.outcome] += 1


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the file, in the process that hears of all tests."""
    target = os.environ.get("WHISQ_SUMMARY")
    if target is None or hasattr(session.config, "workerinput"):
        return
    with Path(target).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("class", "tried", "answered", "not possible here"))
        for name, found in sorted(_OUTCOMES.items()):
            skipped = found["skipped"]
            writer.writerow((name, sum(found.values()) - skipped, found["passed"], skipped))
