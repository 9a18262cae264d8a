"""Predictions as CSV, written batch by batch, or as JSON."""

import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from itertools import chain
from pathlib import Path
from typing import TextIO

import pandas as pd

from whisq_core.errors import InputError, inert

_TEXTS = ["audio", "prompt"]
_HEADS = (b"audio,prompt,", b'[\n {\n  "audio"')  # how what is written here begins


def write_predictions(batches: Iterator[pd.DataFrame], out: Path | None, as_json: bool, stdout: TextIO) -> None:
    """Write to a file, which is there when it is complete, or to `stdout`, where a CSV grows with every batch.

    Raises
    ------
    InputError
        When the file cannot be written, or is none of predictions; nothing is made when the first batch has mistakes.
    """
    batches = chain([next(batches)], batches)
    with nullcontext(stdout) if out is None else _replacing(out) as file:
        if as_json:
            file.write(json.dumps(pd.concat(batches).to_dict("records"), indent=1, ensure_ascii=False) + "\n")
            return
        for number, frame in enumerate(batches):
            safe = frame.assign(**{name: frame[name].map(inert) for name in _TEXTS})
            safe.to_csv(file, index=False, header=number == 0, lineterminator="\n")
            file.flush()


@contextmanager
def _replacing(out: Path) -> Iterator[TextIO]:
    """A file that takes the place of `out` at its end, and never that of anything but predictions."""
    temporary = out if _is_stream(out) else out.with_name(f"{out.name}.{uuid.uuid4().hex}.tmp")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        file = temporary.open("w", encoding="utf-8", newline="")
    except OSError as error:
        raise InputError(f"--out {out}: cannot be written ({error.strerror}). Give another file.") from None
    try:
        with file:
            yield file
        if temporary != out:
            os.replace(temporary, out)
    finally:
        if temporary != out:
            with suppress(OSError):
                temporary.unlink()


def _is_stream(out: Path) -> bool:
    """Whether it is a pipe or device; `InputError` where it is a folder, or a file of something else."""
    if out.is_dir():
        raise InputError(f"--out {out}: cannot be written, it is a folder. Give a file.")
    if not out.is_file():
        return out.exists()
    with out.open("rb") as file:
        if file.read(1) and not (file.seek(0) or file.read(20).startswith(_HEADS)):
            raise InputError(f"--out {out}: is there already, and holds no predictions. Give another file.")
    return False
