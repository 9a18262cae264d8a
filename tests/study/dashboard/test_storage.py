"""Optuna's side of a storage is opened by whoever comes first, and by all others at the same moment."""

import threading

from optuna.storages import RDBStorage

from study.dashboard import open_storage
from study.store import Database


def test_processes_that_open_a_new_storage_at_once_all_get_it(postgresql_url: str) -> None:
    opened: list[RDBStorage] = []
    together = threading.Barrier(3)

    def open_it() -> None:
        database = Database(postgresql_url)
        together.wait()
        opened.append(open_storage(database))

    openers = [threading.Thread(target=open_it) for _ in range(3)]
    for opener in openers:
        opener.start()
    for opener in openers:
        opener.join()

    assert len(opened) == 3
