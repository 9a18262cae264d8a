"""The one exception that a user sees, and the wording that all of them share."""

import difflib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|[-+]?inf|nan")


class InputError(Exception):
    """Something the user gave is wrong and the user can mend it: shown without a traceback, exit status 2.

    Each mistake is one line that says where, what was found, what is allowed and what to do.
    """

    def __init__(self, *mistakes: str) -> None:
        assert mistakes, "an InputError names at least one mistake"
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


def raise_all(mistakes: Sequence[str]) -> None:
    """Raise one `InputError` with every mistake, or return when there is none."""
    if mistakes:
        raise InputError(*mistakes)


def did_you_mean(found: str, allowed: Iterable[str]) -> str:
    """The end of an error line: the nearest allowed name, or all of them."""
    names = sorted(allowed)
    nearest = difflib.get_close_matches(found, names, n=1, cutoff=0.6)
    return f"Did you mean '{nearest[0]}'?" if nearest else f"Allowed: {', '.join(names)}."


def shown(value: object) -> str:
    """A found value as an error line quotes it: its beginning, where it is long."""
    try:
        text = repr(value)
    except ValueError:  # Python refuses to write out numbers of thousands of digits
        return "a number of more than 4300 digits"
    return text if len(text) <= 100 else f"{text[:97]}..."


def printable(text: str) -> str:
    """`text` as a terminal may show it: control characters, which names and labels can hold, are written out."""
    return "".join(
        char if char in "\n\t" or unicodedata.category(char) not in ("Cc", "Cs") else ascii(char)[1:-1] for char in text
    )


def inert(value: Any) -> Any:
    """A field of a CSV that no spreadsheet takes for a formula: texts that begin as one get an apostrophe."""
    is_formula = (
        isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") and not _NUMBER.fullmatch(value)
    )
    return f"'{value}" if is_formula else value
