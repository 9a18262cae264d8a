"""A published table given as CSV: a label and printed metrics per line, digits kept as printed."""

import csv
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from study.audit.attainability import MAX_SYSTEMS, MAX_TIED_PAIRS, MIN_SYSTEMS
from whisq_core.errors import InputError, raise_all, shown
from whisq_core.files import read_regular
from whisq_core.metrics import EXTRA, METRICS, title

_NUMBER = re.compile(r"[-+]?(\d{1,6}\.?\d{0,12}|\.\d{1,12})")
_BLANK = ("", "-", "–", "—", "nan", "n/a")
_NAMES = {name.casefold(): name for name in METRICS + EXTRA} | {
    title(name).casefold(): name for name in METRICS + EXTRA
}
_RANK_COLUMNS = tuple(name for name in METRICS if ".system." in name and name.endswith(("srcc", "ktau")))


@dataclass(frozen=True)
class TableLine:
    """One line: `values` maps a metric to its printed string; `num_systems` and accepted tied pairs are per line."""

    label: str
    values: dict[str, str]
    num_systems: int
    ties: int


@dataclass(frozen=True)
class PublishedTable:
    """A table read from CSV; `other_columns` are no metrics and were not looked at."""

    lines: tuple[TableLine, ...]
    other_columns: tuple[str, ...]


def read_published_csv(path: Path, num_systems: int | None) -> PublishedTable:
    """Read a CSV whose first column is the label and whose metric columns are named `ta.system.srcc` or `TA S-SRCC`.

    Two more columns may stand there: `systems`, when lines have other numbers of systems than `num_systems`, and
    `ties`, the pairs of tied systems to accept (0 to 3, default 0).

    Raises:
        InputError: with every mistake and its line.
    """
    rows = _rows(path)
    header = [column.strip() for column in rows[0][1]]
    metrics = {index: _NAMES[_plain(name)] for index, name in enumerate(header) if index and _plain(name) in _NAMES}
    places = {column: header.index(column) for column in ("systems", "ties") if column in header[1:]}
    mistakes = _header_mistakes(path, header, metrics, num_systems is not None or "systems" in places)
    lines = []
    for line, cells in rows[1:]:
        where = f"{path}:{line}"
        if len(cells) != len(header):
            mistakes.append(f"{where}: found {len(cells)} fields under a header of {len(header)}. Mend the line.")
            continue
        found = {name: cells[index].strip() for index, name in metrics.items()}
        values = {name: text.replace("−", "-") for name, text in found.items() if text.casefold() not in _BLANK}
        mistakes += [
            f"{where}, column '{header[index]}': found {values[name]!r}. Write a plain number, or leave it empty."
            for index, name in metrics.items()
            if name in values and not _NUMBER.fullmatch(values[name])
        ]
        systems = _whole(cells, places.get("systems"), num_systems or 0)
        ties = _whole(cells, places.get("ties"), 0)
        mistakes += _count_mistakes(where, systems, ties, "systems" in places)
        lines.append(TableLine(cells[0].strip(), values, systems or 0, ties or 0))
    raise_all(mistakes)
    used = {0, *metrics, *places.values()}
    return PublishedTable(tuple(lines), tuple(name for index, name in enumerate(header) if index not in used))


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    """The lines that are not blank, with their numbers."""
    try:
        text = read_regular(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise InputError(f"{path}:{line}: not UTF-8. Save the table as UTF-8.") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}. Check the path.") from None
    reader = csv.reader(text.splitlines(), strict=True)
    try:
        rows = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise InputError(f"{path}:{reader.line_num}: not CSV ({error}). Mend the line.") from None
    if len(rows) < 2:
        raise InputError(f"{path}: a header and at least one line are needed, found {len(rows)} line(s).")
    return rows


def _plain(column: str) -> str:
    """A column's name without arrows and case; the paper's OQM is OMQ."""
    return column.strip(" ↑↓").casefold().replace("oqm", "omq")


def _header_mistakes(path: Path, header: list[str], metrics: dict[int, str], has_systems: bool) -> list[str]:
    mistakes = []
    twice = sorted(name for name, count in Counter(metrics.values()).items() if count > 1)
    if twice:
        mistakes.append(f"{path}:1: column '{twice[0]}' is duplicated. Remove one.")
    if not set(_RANK_COLUMNS) & set(metrics.values()):
        wanted = ", ".join(title(name) for name in _RANK_COLUMNS)
        found = shown(", ".join(header))[1:-1]
        mistakes.append(f"{path}:1: no rank correlation at system level. Name a column {wanted}. Found: {found}.")
    if not has_systems:
        mistakes.append(f"{path}: how many systems? Give --systems N, or a column 'systems'.")
    return mistakes


def _whole(cells: list[str], index: int | None, default: int) -> int | None:
    if index is None:
        return default
    text = cells[index].strip()
    return int(text) if re.fullmatch(r"\d{1,6}", text) else None


def _count_mistakes(where: str, systems: int | None, ties: int | None, own_systems: bool) -> list[str]:
    mistakes = []
    if own_systems and not MIN_SYSTEMS <= (systems or 0) <= MAX_SYSTEMS:
        mistakes.append(f"{where}, column 'systems': a whole number from {MIN_SYSTEMS} to {MAX_SYSTEMS:,} is needed.")
    if ties is None or ties > MAX_TIED_PAIRS:
        mistakes.append(f"{where}, column 'ties': a whole number from 0 to {MAX_TIED_PAIRS} is needed.")
    return mistakes
