"""Predictions as CSV, written batch by batch, or as JSON."""

import json
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import chain
from pathlib import Path
from typing import TextIO

import pandas as pd

from whisq_core.errors import InputError


def write_predictions(batches: Iterator[pd.DataFrame], out: Path | None, as_json: bool, stdout: TextIO) -> None:
    """Write to a file, or to `stdout`; a CSV grows with every batch.

    Raises
    ------
    InputError
        When the file cannot be written; nothing is made when the first batch has mistakes.
    """
    batches = chain([next(batches)], batches)
    with nullcontext(stdout) if out is None else _opened(out) as file:
        if as_json:
            file.write(json.dumps(pd.concat(batches).to_dict("records"), indent=1, ensure_ascii=False) + "\n")
            return
        for number, frame in enumerate(batches):
            frame.to_csv(file, index=False, header=number == 0, lineterminator="\n")
            file.flush()


def _opened(out: Path) -> TextIO:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        return out.open("w", encoding="utf-8", newline="")
    except OSError as error:
        raise InputError(f"--out {out}: cannot be written ({error.strerror}). Give another file.") from None
