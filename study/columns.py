"""Columns of other people's tables: found under the names that people give them, or under those that are given here."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from whisq_core.errors import InputError, did_you_mean


def find_columns(
    where: str, header: Sequence[str], known: Mapping[str, Sequence[str]], chosen: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Which column of a table means what.

    Parameters
    ----------
    where
        The table, as messages name it.
    header
        Its columns.
    known
        For each meaning the names that count as it, the likeliest first; case and punctuation do not matter.
    chosen
        Meaning -> column, as the user says it; no guess is made for these.

    Returns
    -------
    dict
        Meaning -> column, for those that are there. A column has one meaning.

    Raises
    ------
    InputError
        For a chosen meaning or column that does not exist, and for a name that is there twice.
    """
    chosen = chosen or {}
    for meaning, column in chosen.items():
        if meaning not in known:
            raise InputError(
                f"--columns {meaning}={column}: unknown meaning '{meaning}'. {did_you_mean(meaning, known)}"
            )
        if column not in header:
            raise InputError(f"{where}: no column '{column}' for {meaning}. {did_you_mean(column, header)}")
    check_header(where, header)
    free = {_plain(name): name for name in reversed(header) if name not in chosen.values()}
    found = dict(chosen)
    for meaning, names in known.items():
        if meaning not in found:
            for name in names:
                if name in free:
                    found[meaning] = free.pop(name)
                    break
    return found


def check_header(where: str, header: Sequence[str]) -> None:
    """A name that is there twice could mean either.

    Raises
    ------
    InputError
        Naming the first of them.
    """
    twice = [name for name, times in Counter(header).items() if times > 1]
    if twice:
        raise InputError(f"{where}: column '{twice[0][:100]}' is there twice. Rename one.")


def read_choices(text: str | None) -> dict[str, str]:
    """`row=model,item=clip` as a dictionary.

    Raises
    ------
    InputError
        For what has not this form.
    """
    parts = [part.partition("=") for part in text.split(",")] if text else []
    for name, sign, column in parts:
        if not (name.strip() and sign and column.strip()):
            raise InputError(f"--columns: found '{name}{sign}{column}', allowed: MEANING=COLUMN, such as row=model.")
    return {name.strip(): column.strip() for name, _, column in parts}


def _plain(name: str) -> str:
    """`Y_true ` and `y-true` are one name."""
    return re.sub(r"[^0-9a-z]+", "", name.lower())
