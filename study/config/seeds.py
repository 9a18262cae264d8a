"""Seeds as people write them: 0-9, or 0,1,5, or a list of both."""

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

from whisq_core.errors import InputError, shown

_RANGE = re.compile(r"(\d{1,12})(?:\s*-\s*(\d{1,12}))?")
_MANY = 1000  # more is a typing error: each seed is a training run of every row
_LARGEST = 2**31 - 1  # what every database stores as an integer


def parse_seeds(text: str, where: str) -> tuple[int, ...]:
    """The seeds of a command-line option such as ``0-9`` or ``0,1,5``.

    Raises
    ------
    InputError
        Beginning with `where`, when it is not such a list.
    """
    try:
        return expand_seeds(text.split(","))
    except ValueError as error:
        raise InputError(f"{where} {text}: {error}.") from None


def expand_seeds(value: Any) -> tuple[int, ...]:
    """Seeds from a number, a range ``0-9`` or a list of both, in the order given.

    A `ValueError` says what is wrong: anything else, a duplicated seed, or none at all.
    """
    seeds: list[int] = []
    for part in value if isinstance(value, list | tuple) else [value]:
        seeds += _expand(part)
        if len(seeds) > _MANY:
            raise ValueError(f"more than {_MANY} seeds: each is a training run of every row")
    if not seeds:
        raise ValueError("at least one seed is needed, such as 0-9")
    duplicated = sorted(seed for seed, count in Counter(seeds).items() if count > 1)
    if duplicated:
        raise ValueError(f"seed {duplicated[0]} is duplicated; each run needs its own")
    return tuple(seeds)


def _expand(part: Any) -> range:
    match = _RANGE.fullmatch(str(part).strip()) if isinstance(part, str | int) and not isinstance(part, bool) else None
    if match is None:
        raise ValueError(f"seeds are whole numbers from 0 and ranges such as 0-9, found {shown(part)}")
    first, last = int(match[1]), int(match[2] or match[1])
    if last < first:
        raise ValueError(f"the range {part} runs backwards")
    if last > _LARGEST:
        raise ValueError(f"seeds are at most {_LARGEST}, found {last}")
    if last - first >= _MANY:
        raise ValueError(f"the range {part} has more than {_MANY} seeds")
    return range(first, last + 1)


def seeds_text(seeds: Iterable[int]) -> str:
    """Seeds as a file writes them: 0-9,12."""
    parts: list[list[int]] = []
    for seed in sorted(seeds):
        if parts and seed == parts[-1][-1] + 1:
            parts[-1] = [parts[-1][0], seed]
        else:
            parts.append([seed])
    return ",".join("-".join(map(str, part)) for part in parts)
