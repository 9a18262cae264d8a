"""Seeds as people write them: 0-9, or 0,1,5, or a list of both."""

import re
from typing import Any

from whisq_core.errors import InputError

_RANGE = re.compile(r"(\d+)(?:\s*-\s*(\d+))?")
_MANY = 1000  # more is a typing error: each seed is a training run of every row


def parse_seeds(text: str, where: str) -> tuple[int, ...]:
    """The seeds of a command-line option such as ``0-9`` or ``0,1,5``.

    Raises:
        InputError: beginning with `where`, when it is not such a list.
    """
    try:
        return expand_seeds(text.split(","))
    except ValueError as error:
        raise InputError(f"{where} {text}: {error}.") from None


def expand_seeds(value: Any) -> tuple[int, ...]:
    """Seeds from a number, a range ``0-9`` or a list of both, in the order given.

    Raises:
        ValueError: with words, for anything else, a seed that stands twice, or none at all.
    """
    parts = value if isinstance(value, list | tuple) else [value]
    seeds = [seed for part in parts for seed in _expand(part)]
    if not seeds:
        raise ValueError("at least one seed is needed, such as 0-9")
    twice = sorted({seed for seed in seeds if seeds.count(seed) > 1})
    if twice:
        raise ValueError(f"seed {twice[0]} stands twice; each run needs its own")
    return tuple(seeds)


def _expand(part: Any) -> range:
    if isinstance(part, int) and not isinstance(part, bool) and part >= 0:
        return range(part, part + 1)
    match = _RANGE.fullmatch(part.strip()) if isinstance(part, str) else None
    if match is None:
        raise ValueError(f"seeds are whole numbers from 0 and ranges such as 0-9, found {part!r}")
    first, last = int(match[1]), int(match[2] or match[1])
    if last < first:
        raise ValueError(f"the range {part} runs backwards")
    if last - first >= _MANY:
        raise ValueError(f"the range {part} has more than {_MANY} seeds")
    return range(first, last + 1)
