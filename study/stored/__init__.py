"""What a storage holds, for its owner: `runs` lists and shows it, and trains a run again; `rm` removes parts of it."""

from study.store import Run
from study.stored.browse import (
    as_json,
    described,
    find_run,
    look_up,
    open_stored,
    repeat,
    run_text,
)
from study.stored.removal import remove_stored

__all__ = [
    "Run",
    "as_json",
    "described",
    "find_run",
    "look_up",
    "open_stored",
    "remove_stored",
    "repeat",
    "run_text",
]
