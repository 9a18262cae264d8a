"""Anybody's predictions as one checked table: the columns, what they may hold, and arrays for the statistics.

One line is one prediction: of a *row* (a model, a method), trained with a *seed*, for an *item* (a clip, a question),
which may have a *truth*, a *group* (items that share their errors: a system, a speaker, a document) and a second group
crossed with it (a prompt).
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from study.scoring.meanings import long_form, meanings_of, nouns_of
from whisq_core.errors import InputError, raise_all

_TRUE_FALSE = {"true": 1.0, "false": 0.0, "yes": 1.0, "no": 0.0}
_NO_NUMBER = ("", "nan", "none", "na", "n/a", "null", "<na>", "inf", "-inf")
_MOST_LINES = 20  # of mistakes listed, of each kind
_KEYS = ["row", "seed", "item", "target"]
_INTEGER = re.compile("0|-?[1-9][0-9]{0,17}")  # as it is printed: the seeds 1 and 01 are two

Where = Callable[[int], str]
"""Names a line of the table (by its position) in messages."""


@dataclass(frozen=True)
class Predictions:
    """Checked predictions, on the items that every run has.

    `predicted` is row -> float64 [seeds, items, targets]; `truth` [items, targets] or None. `notes` say what a reader
    of the verdicts must know of the data, `nouns` what groups and second groups are.
    """

    predicted: Mapping[str, np.ndarray]
    seeds: Mapping[str, tuple[int, ...]]
    targets: tuple[str, ...]
    items: tuple[str, ...]
    truth: np.ndarray | None
    groups: tuple[str, ...] | None
    second_groups: tuple[str, ...] | None
    notes: tuple[str, ...] = ()
    nouns: tuple[str, str] = ("groups", "second groups")


def read_frame(
    frame: pd.DataFrame, columns: Mapping[str, str] | None = None, where: Where | None = None, accuracy: bool = False,
    nouns: tuple[str, str] | None = None,
) -> Predictions:  # fmt: skip
    """Check a table of predictions.

    Parameters
    ----------
    frame
        One line for each prediction, columns as in `meanings.MEANINGS`; further ones are ignored.
    columns
        Meaning -> column, where the names are others.
    where
        Names a line in messages.
    accuracy
        Whether a prediction counts as 1 where it equals the truth, as text or number, and as 0 elsewhere.
    nouns
        What groups and second groups are, in the plural; by default after the names of their columns.

    Raises
    ------
    InputError
        With every line that cannot be used, and what to do.
    """
    given = frame.index
    name = where or (lambda position: f"line {given[position % len(given)]} of the frame")
    frame = frame if where else long_form(frame, columns)
    table, notes = _named(frame, columns)
    if table.empty:
        raise InputError("the table of predictions has no line. Give at least one prediction.")
    numbers = _correct(table, name) if accuracy else _numbers(table, name)
    _check_unique(numbers, name, _mixture(frame))
    for column in ("truth", "group", "second_group"):
        if column in numbers:
            _check_same(numbers, column, name)
    kept, lacking = _common_items(numbers.drop(columns="truth") if accuracy else numbers)
    found = meanings_of([str(column) for column in frame.columns], columns)
    return replace(_arrays(kept, notes + lacking), nouns=nouns or nouns_of(found))


def _named(frame: pd.DataFrame, chosen: Mapping[str, str] | None) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The columns under their meanings, a missing row, seed, item or target filled in, and notes."""
    header = [str(column) for column in frame.columns]
    found = meanings_of(header, chosen)
    if "prediction" not in found:
        raise InputError(
            f"the table of predictions has no column for prediction: found {', '.join(header)}. Name it 'prediction', "
            "or say which it is: --columns prediction=NAME."
        )
    places = [header.index(column) for column in found.values()]
    table = frame.iloc[:, places].set_axis(list(found), axis=1).reset_index(drop=True)
    for column, default in (("row", "predictions"), ("seed", 0), ("target", "score")):
        if column not in table:
            table[column] = default
    if "item" in table:
        return table, ()
    table["item"] = table.groupby(["row", "seed", "target"], sort=False, dropna=False).cumcount() + 1
    return table, ("No column names the items: runs are matched by the order of their lines.",)


def _numbers(table: pd.DataFrame, where: Where) -> pd.DataFrame:
    """Truth and prediction as finite numbers, names as text."""
    mistakes: list[str] = []
    found = table.copy()
    for column in ("prediction", "truth"):
        if column in table and not (column == "truth" and _empty(table[column]).all()):
            found[column] = _parsed(table[column], column, where, mistakes)
        elif column in table:
            found = found.drop(columns=column)
    return _with_names(found, where, mistakes)


def _correct(table: pd.DataFrame, where: Where) -> pd.DataFrame:
    """Whether each prediction is the truth; the truth as text, a number in one spelling."""
    if "truth" not in table or _empty(table["truth"]).all():
        raise InputError("metric 'accuracy' needs a column truth. Where predictions are 0 or 1 already, use 'mean'.")
    sides = [pd.to_numeric(table[column], errors="coerce") for column in ("prediction", "truth")]
    texts = [table[column].astype(str).str.strip() for column in ("prediction", "truth")]
    same = (sides[0] == sides[1]) | (texts[0] == texts[1])
    truth = texts[1].where(sides[1].isna(), sides[1].astype(str))
    mistakes: list[str] = []
    for column in ("prediction", "truth"):
        wrong = np.flatnonzero(_empty(table[column]))
        mistakes += [
            f"{where(int(position))}: {column} is empty, allowed: a class or a number. Leave the line out: items that "
            "a run lacks are left out of all runs; or write a word, such as 'none', where no answer is a wrong one."
            for position in wrong[:_MOST_LINES]
        ]
        if len(wrong) > _MOST_LINES:
            mistakes.append(f"... and {len(wrong) - _MOST_LINES:,} more lines whose {column} is empty.")
    return _with_names(table.assign(prediction=same.astype(float), truth=truth, target="accuracy"), where, mistakes)


def _parsed(values: pd.Series, column: str, where: Where, mistakes: list[str]) -> pd.Series:
    numbers = pd.to_numeric(values, errors="coerce").astype(np.float64)
    rest = ~np.isfinite(numbers.to_numpy())
    numbers[rest] = values[rest].astype(str).str.strip().str.lower().map(_TRUE_FALSE)
    wrong = np.flatnonzero(~np.isfinite(numbers.to_numpy()))
    for position in wrong[:_MOST_LINES]:
        word = str(values.iloc[position]).strip()
        advice = "Write decimals with a point."
        if word.lower() in _NO_NUMBER:
            advice = "Leave the line out: items that a run lacks are left out of all runs, and the table says so."
        elif not any(character.isdigit() for character in word):
            advice = "Of classes, judge the share that is right: --metric accuracy."
        mistakes.append(f"{where(int(position))}: {column} is '{word}', allowed: a finite number. {advice}")
    if len(wrong) > _MOST_LINES:
        mistakes.append(f"... and {len(wrong) - _MOST_LINES:,} more lines whose {column} is no number.")
    return numbers


def _with_names(table: pd.DataFrame, where: Where, mistakes: list[str]) -> pd.DataFrame:
    """Names as categories of texts, in order of appearance; an empty one is a mistake."""
    for column in ("row", "seed", "item", "target", "group", "second_group"):
        if column not in table:
            continue
        codes, values = pd.factorize(table[column])
        texts = ["" if value is None else str(value).strip() for value in values]
        empty = np.flatnonzero((codes < 0) | np.isin(codes, [code for code, text in enumerate(texts) if not text]))
        if len(empty) == len(table) and column in ("group", "second_group"):
            table = table.drop(columns=column)
            continue
        merged, names = pd.factorize(np.array(texts, dtype=object))
        table[column] = pd.Categorical.from_codes(np.append(merged, -1)[codes], categories=names)
        mistakes += [
            f"{where(int(position))}: {column} is empty, allowed: a name. Fill it in."
            for position in empty[:_MOST_LINES]
        ]
    raise_all(mistakes)
    return table


def _empty(values: pd.Series) -> np.ndarray:
    words = values.astype(str).str.strip().str.lower()
    empty: np.ndarray = (values.isna() | words.isin(["", "nan"])).to_numpy(bool)
    return empty


def _mixture(frame: pd.DataFrame) -> str:
    """What to do with stored predictions of several tables or splits, which may have the same rows."""
    for column in ("table", "split"):
        names = list(frame[column].unique()) if column in frame else []
        if len(names) > 1:
            listed = ", ".join(map(str, names[:5])) + (", ..." if len(names) > 5 else "")
            choice = f"predictions[predictions.{column} == '{names[0]}']"
            return f"predictions of {len(names)} {column}s ({listed}), allowed: one. Choose it, such as {choice}."
    return ""


def _check_unique(table: pd.DataFrame, where: Where, mixture: str) -> None:
    twice = np.flatnonzero(table.duplicated(_KEYS))
    if len(twice) and mixture:
        raise InputError(mixture)
    mistakes = []
    for position in twice[:_MOST_LINES]:
        line = table.iloc[position]
        first = int(np.flatnonzero((table[_KEYS] == line[_KEYS]).all(axis=1))[0])
        mistakes.append(
            f"{where(int(position))}: item '{line['item']}' of row '{line['row']}', seed {line['seed']} is there "
            f"already, at {where(first)}. Keep one, or give the runs of a row a column seed."
        )
    if len(twice) > _MOST_LINES:
        mistakes.append(f"... and {len(twice) - _MOST_LINES:,} more lines that are there twice.")
    raise_all(mistakes)


def _check_same(table: pd.DataFrame, column: str, where: Where) -> None:
    """Truth and groups belong to the item: every run must say the same."""
    by = ["item", "target"] if column == "truth" else ["item"]
    values = table[column] if column == "truth" else table[column].cat.codes
    places = table.groupby(by, sort=False, observed=True).ngroup().to_numpy()
    first = np.unique(places, return_index=True)[1][places]
    differing = np.flatnonzero(values.to_numpy() != values.to_numpy()[first])
    raise_all(
        [
            f"{where(int(position))}: {column} of item '{table['item'].iloc[position]}' is "
            f"{table[column].iloc[position]}, but {table[column].iloc[first[position]]} at "
            f"{where(int(first[position]))}. An item has one {column}: correct it, or name these items differently."
            for position in differing[:_MOST_LINES]
        ]
    )


def _common_items(table: pd.DataFrame) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The lines of the items that every run has, and a note where some runs lack some."""
    num_targets = table["target"].nunique()
    runs = table.groupby(["row", "seed"], sort=False, observed=True).size() / num_targets
    per_item = table.groupby("item", sort=False, observed=True).size()
    complete = per_item.index[per_item == len(runs) * num_targets]
    lacking = runs[runs < len(per_item)]
    if len(complete) < 2:
        found = ", ".join(f"{row} seed {seed}: {int(number):,}" for (row, seed), number in runs.head(5).items())
        raise InputError(
            f"found {len(complete)} items that every run has predicted ({found}), allowed: at least 2. Give all runs "
            "the same items, under the same names."
        )
    if not len(lacking):
        return table, ()
    names = [f"'{row}' seed {seed} lacks {len(per_item) - int(number):,}" for (row, seed), number in lacking.items()]
    more = f" and {len(names) - 5} more runs" if len(names) > 5 else ""
    note = (
        f"Judged on the {len(complete):,} of {len(per_item):,} items that every run has predicted "
        f"({', '.join(names[:5])}{more}). A run that fails on hard items looks better than it is."
    )
    return table[table["item"].isin(complete)], (note,)


def _arrays(table: pd.DataFrame, notes: tuple[str, ...]) -> Predictions:
    table = table.assign(item=table["item"].cat.remove_unused_categories())
    items, targets, labels = (tuple(table[name].cat.categories) for name in ("item", "target", "seed"))
    at_item, at_target, at_label = (table[name].cat.codes.to_numpy() for name in ("item", "target", "seed"))
    whole = all(_INTEGER.fullmatch(label) for label in labels)
    numbers = np.array([int(label) if whole else sorted(labels).index(label) for label in labels])
    predicted, seeds = {}, {}
    for code, row in enumerate(table["row"].cat.categories):
        own = (table["row"].cat.codes == code).to_numpy()
        runs, at_run = np.unique(numbers[at_label[own]], return_inverse=True)
        seeds[row] = tuple(int(number) for number in runs)
        predicted[row] = np.full((len(runs), len(items), len(targets)), np.nan)
        predicted[row][at_run, at_item[own], at_target[own]] = table["prediction"].to_numpy()[own]
    truth = None
    if "truth" in table:
        truth = np.full((len(items), len(targets)), np.nan)
        truth[at_item, at_target] = table["truth"].to_numpy()
    groups, second = (_of_items(table, at_item, name) for name in ("group", "second_group"))
    return Predictions(predicted, seeds, targets, items, truth, groups, second, notes)


def _of_items(table: pd.DataFrame, at_item: np.ndarray, column: str) -> tuple[str, ...] | None:
    if column not in table:
        return None
    first = np.unique(at_item, return_index=True)[1]
    return tuple(table[column].iloc[first].astype(str))
