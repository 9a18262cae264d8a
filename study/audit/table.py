"""A published table given as CSV: a label and printed metrics per line, digits kept as printed."""

import csv
import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

from study.audit.attainability import MAX_TIES, MIN_SYSTEMS, RankMetric
from whisq_core.errors import InputError, raise_all
from whisq_core.files import read_regular

_CELL = re.compile(
    r"[*_$\s]*([-+]?(?:\d{1,6}\.?\d{0,20}|\.\d{1,20})(?:e[-+]?\d{1,2})?)\s*(\\?%?)\s*(?:(?:±|\+/?-|\\pm).*|\(.*\))?[*_$†‡\s]*",
    re.IGNORECASE,
)
_BLANK = ("", "-", "–", "—", "nan", "n/a", "na", "none")
_LEVELS = dict.fromkeys(("s", "sys", "system"), "system") | dict.fromkeys(
    ("u", "utt", "utterance", "clip"), "utterance"
)
_STATISTICS = (
    dict.fromkeys(("mse",), "mse")
    | dict.fromkeys(("lcc", "pcc", "plcc", "pearson"), "lcc")
    | dict.fromkeys(("srcc", "srocc", "spearman"), "srcc")
    | dict.fromkeys(("ktau", "krcc", "krocc", "kendall", "tau"), "ktau")
)
_RANKED: dict[tuple[str, str], RankMetric] = {("system", "srcc"): "srcc", ("system", "ktau"): "ktau"}
_NOT_THE_VALUE = {"sd", "std", "se", "low", "high", "ci", "p", "quoted", "published", "within", "difference"}
_LABELS = ("label", "row", "model", "method", "name")
_RUNS = ("runs", "seeds_done", "seeds")  # the second is this program's own
_NAMES_WANTED = "'TA S-SRCC' or 'ta.system.srcc': a target, S or U for systems or utterances, MSE, LCC, SRCC or KTAU"


@dataclass(frozen=True)
class TableLine:
    """One line: `values` maps a metric, such as `ta.system.srcc`, to its printed number.

    `num_systems` is None where nobody has said it, and `runs`, whose mean each number is, where the table does not.
    """

    id: str
    label: str
    values: dict[str, str]
    num_systems: int | None = None
    ties: int = 0
    runs: int | None = None


@dataclass(frozen=True)
class PublishedTable:
    """A table read from CSV; `percent` columns were divided by 100, `other_columns` were not looked at.

    `without_runs` are the labels of lines that have numbers but no run, such as those of raters: they are left out.
    """

    lines: tuple[TableLine, ...]
    percent: tuple[str, ...] = ()
    other_columns: tuple[str, ...] = ()
    without_runs: tuple[str, ...] = ()


def statistic_of(metric: str) -> tuple[str, str]:
    """Level and statistic of a metric: `ta.system.srcc` is ("system", "srcc")."""
    level, statistic = metric.split(".")[-2:]
    return level, statistic


def rank_statistic(metric: str) -> RankMetric | None:
    """Which rank correlation over systems a metric is; None for every other one."""
    return _RANKED.get(statistic_of(metric))


def title_of(metric: str) -> str:
    """How a metric is shown: `ta.system.srcc` as "TA S-SRCC"; of any target."""
    target = metric.removesuffix("." + ".".join(statistic_of(metric)))
    level, statistic = statistic_of(metric)
    return f"{target.upper()} {level[0].upper()}-{statistic.upper()}"


def read_published_csv(path: Path, num_systems: int | None, runs: int | None) -> PublishedTable:
    """Read a CSV with a label, metric columns and, where lines differ in them, `systems`, `ties` and `runs`.

    A metric column names its level and its statistic: `ta.system.srcc`, `TA S-SRCC`, `MOS sys. Spearman (%)`. A cell is
    a number, with a percent sign or ``± spread`` behind it if need be, or blank. Columns of correlations are percent
    where their name or a cell says so, or a value is above 2. A line of 0 runs is left out.

    Raises
    ------
    InputError
        With every mistake and its line.
    """
    rows = _rows(path)
    header = [column.strip() for column in rows[0][1]]
    metrics = {index: metric for index, name in enumerate(header) if (metric := _metric(name))}
    counts = {
        kind: next((header.index(name) for name in names if name in header), None)
        for kind, names in {"systems": ("systems",), "ties": ("ties",), "runs": _RUNS}.items()
    }
    mistakes = _header_mistakes(path, header, metrics.values())
    whole = [(line, cells) for line, cells in rows[1:] if len(cells) == len(header)]
    mistakes += [
        f"{path}:{line}: found {len(cells)} fields under a header of {len(header)}. Mend the line."
        for line, cells in rows[1:]
        if len(cells) != len(header)
    ]
    columns = {metric: _numbers(path, header[at], at, metric, whole, mistakes) for at, metric in metrics.items()}
    used = {*metrics, *(index for index in counts.values() if index is not None)}
    place = next((header.index(name) for name in _LABELS if name in header), 0)
    lines, without_runs = list[TableLine](), list[str]()
    for number, (line, cells) in enumerate(whole):
        found = {kind: _whole(f"{path}:{line}", header, cells, index, kind, mistakes) for kind, index in counts.items()}
        label = f"line {line}" if place in used else cells[place].strip(" *_")
        values = {metric: text for metric, column in columns.items() if (text := column.texts[number])}
        if found["runs"] == 0:
            without_runs += [label] if values else []
            continue
        systems, own_runs = found["systems"] or num_systems, found["runs"] or runs
        lines.append(TableLine(label, label, values, systems, found["ties"] or 0, own_runs))
    raise_all(mistakes)
    percent = tuple(header[index] for index, metric in metrics.items() if columns[metric].percent)
    others = [name for index, name in enumerate(header) if index not in {*used, place}]
    return PublishedTable(tuple(lines), percent, tuple(others), tuple(without_runs))


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    """The lines that are not blank, with their numbers; fields are separated by what the header has most of."""
    try:
        text = read_regular(path).decode("utf-8-sig").replace("−", "-")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise InputError(f"{path}:{line}: not UTF-8. Save the table as UTF-8.") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}. Check the path.") from None
    if "\0" in text:
        raise InputError(f"{path}: is no text: it holds a NUL. Save the table as CSV.")
    header = text.lstrip().partition("\n")[0]
    delimiter = max(",;\t", key=header.count)
    if delimiter != ",":
        text = re.sub(r"(?<=\d),(?=\d)", ".", text)  # a decimal comma
    reader = csv.reader(text.splitlines(), delimiter=delimiter, strict=True)
    try:
        rows = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise InputError(f"{path}:{reader.line_num}: is no CSV: {error}. Save the table as CSV.") from None
    if len(rows) < 2:
        raise InputError(f"{path}: a header and at least one line are needed, found {len(rows)} line(s).")
    return rows


def _metric(column: str) -> str | None:
    """The metric that a column's name stands for; the paper's OQM is OMQ."""
    words = re.findall(r"[^\W_]+", column.casefold().replace("oqm", "omq"))
    levels, statistics = [word for word in words if word in _LEVELS], [word for word in words if word in _STATISTICS]
    if len(levels) != 1 or len(statistics) != 1 or _NOT_THE_VALUE & set(words):
        return None
    target = " ".join(word for word in words if word not in {*levels, *statistics, "level"})
    return f"{target or 'score'}.{_LEVELS[levels[0]]}.{_STATISTICS[statistics[0]]}"


class _Numbers(NamedTuple):
    texts: list[str]  # one for each line, empty where the cell is
    percent: bool


def _numbers(
    path: Path, name: str, index: int, metric: str, rows: Iterable[tuple[int, list[str]]], mistakes: list[str]
) -> _Numbers:
    """One column of printed numbers."""
    texts, percent = [], "%" in name
    for line, cells in rows:
        text = cells[index].strip()
        match = None if text.casefold() in _BLANK else _CELL.fullmatch(text)
        if match is None and text.casefold() not in _BLANK:
            mistakes.append(f"{path}:{line}, column '{name}': found {text!r}. Write a number, or leave it empty.")
        texts.append(match[1] if match else "")
        percent = percent or bool(match and match[2])
    correlation = statistic_of(metric)[1] != "mse"
    percent = correlation and (percent or any(abs(float(text)) > 2 for text in texts if text))
    if percent:
        texts = [f"{Decimal(text).scaleb(-2):f}" if text else "" for text in texts]
    return _Numbers(texts, percent)


def _header_mistakes(path: Path, header: list[str], metrics: Iterable[str]) -> list[str]:
    found = list(metrics)
    if not found:
        return [f"{path}:1: no column is a metric. Name one {_NAMES_WANTED}. Found: {', '.join(header)}."]
    twice = sorted({name for name in found if found.count(name) > 1})
    return [f"{path}:1: two columns are {title_of(name)} ({name}). Remove or rename one." for name in twice]


def _whole(
    where: str, header: list[str], cells: list[str], index: int | None, kind: str, mistakes: list[str]
) -> int | None:
    """The count in a cell; None where there is none."""
    text = "" if index is None else cells[index].strip().casefold()
    if index is None or text in (*_BLANK, "unknown"):
        return None
    low, high = {"systems": (MIN_SYSTEMS, 999_999), "ties": (0, MAX_TIES), "runs": (0, 999_999)}[kind]
    if re.fullmatch(r"\d{1,6}", text) and low <= int(text) <= high:
        return int(text)
    allowed = f"a whole number from {low}" + (f" to {high}" if kind == "ties" else "")
    mistakes.append(f"{where}, column '{header[index]}': {allowed} is needed, found {text!r}. Or leave it empty.")
    return None
