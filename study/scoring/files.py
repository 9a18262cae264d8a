"""Files of predictions as one table: long CSV files, a CSV for each run, answer files with the labels of a corpus."""

import io
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from study.columns import check_header
from study.scoring.corpus_scores import Mistakes, answer_content, labelled_clips, match, raise_mistakes
from study.scoring.meanings import SEED_AT_END, long_form, meanings_of, nouns_of
from study.scoring.predictions import Predictions, Where, read_frame
from whisq_core.errors import InputError, raise_all
from whisq_core.files import TEXT_BYTES, open_regular
from whisq_core.metrics import TARGETS

_LAST_NUMBER = re.compile(r"[-_.]?\d+$")
_GENERIC = {"answer", "answers", "prediction", "predictions", "preds", "pred", "output", "outputs", "result", "results"}
_SEPARATORS = (",", ";", "\t")
_HEADER_BYTES = 2**20


def read_files(
    paths: str | Path | Iterable[str | Path],
    pattern: str | None = None,
    columns: Mapping[str, str] | None = None,
    data: str | Path | None = None,
    split: str = "dev",
    accuracy: bool = False,
) -> Predictions:
    """Read predictions of several runs.

    Parameters
    ----------
    paths
        One or several CSV files with a header (see `MEANINGS`); with `data` also answer files ``utterance,OMQ,TA``. A
        file without a column for row or seed gets them from its name.
    pattern
        How names hold them, as ``"{row}/seed{seed}/*.csv"``, matched against the end of each path. Without one a name
        like ``whisq-seed3.csv`` or ``whisq/run3/answer.txt`` tells both, and any other name is a row.
    columns
        Meaning -> column, where the names are others.
    data, split
        A corpus whose labels are the truth (OMQ and TA), systems the groups and prompts the second groups.
    accuracy
        As `read_frame`.

    Raises
    ------
    InputError
        With every mistake of all files.
    """
    files = [Path(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]
    names = names_of(files, pattern)
    clips = None if data is None else labelled_clips(Path(data), split)[1]
    frames, mistakes = [], list[str]()
    nouns = ("systems", "prompts") if data is not None else None
    for path, (row, seed) in zip(files, names, strict=True):
        try:
            frame, found = _read(path, columns, clips, split)
        except InputError as error:
            mistakes += error.mistakes
            continue
        for name, value in (("row", row), ("seed", seed)):
            if name not in frame:
                frame[name] = value
        frames.append(frame)
        nouns = nouns or nouns_of(found)
    raise_all(mistakes or _lacking(files, frames))
    lines = pd.concat(frames, ignore_index=True)
    return read_frame(lines.drop(columns="_where"), None, _where(lines["_where"]), accuracy, nouns)


def _lacking(paths: Sequence[Path], frames: Sequence[pd.DataFrame]) -> list[str]:
    """The files without something that others have: each of their lines would be a mistake."""
    names = ("item", "target", "truth", "group", "second_group")
    has = {name: [name in each and bool(each[name].ne("").any()) for each in frames] for name in names}
    found = []
    for place, path in enumerate(paths):
        lacking = [name for name, of_files in has.items() if any(of_files) and not of_files[place]]
        if lacking:
            what = "line" if frames[place].empty else f"column {', '.join(lacking)}"
            found.append(
                f"{path}: has no {what}, but {paths[has[lacking[0]].index(True)]} has, allowed: the same columns in "
                "all files. Add what is missing, or leave the file out."
            )
    return found


def wants_scores(paths: Sequence[Path], pattern: str | None, to: str | None, metric: str | None) -> bool:
    """Whether it is one answer file, whose metrics are asked for: a table of rows has a column for them."""
    if len(paths) > 1 or pattern or to or metric:
        return False
    with suppress(OSError, UnicodeDecodeError, InputError), open_regular(paths[0], TEXT_BYTES) as file:
        header = file.readline(_HEADER_BYTES).decode("utf-8-sig")
        return "row" not in meanings_of([name.strip() for name in header.split(",")], None)  # refuses a line of data
    return True


def names_of(paths: Sequence[Path], pattern: str | None) -> list[tuple[str, str]]:
    """Row and seed of each file, from its name.

    Raises
    ------
    InputError
        When there is no file, the pattern does not fit, or two files would be one run.
    """
    if not paths:
        raise InputError("no file of predictions was given. Give at least one.")
    names = [_by_pattern(path, pattern) if pattern else _by_habit(path) for path in paths]
    seen: dict[tuple[str, str], Path] = {}
    for path, name in zip(paths, names, strict=True):
        other = seen.setdefault(name, path)
        if other is not path:
            raise InputError(
                f"{path} and {other}: both would be row '{name[0]}', seed {name[1]}. Say how names hold them, such as "
                "--pattern '{row}/seed{seed}/*.csv'."
            )
    return names


def numbered_rows(rows: Sequence[str], paths: Sequence[Path]) -> str:
    """A hint where file names differ in a last number only: perhaps these are seeds of one row."""
    stems: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        if {row} & {part for path in paths for part in (path.stem, path.parent.name)}:
            stems[_LAST_NUMBER.sub("", row)].append(row)
    alike = max(stems.values(), key=len, default=[])
    if len(alike) < 2:
        return ""
    separator = alike[0][len(_LAST_NUMBER.sub("", alike[0])) :].rstrip("0123456789")
    pattern = f"{{row}}{separator}{{seed}}{paths[0].suffix}"
    return f"rows {', '.join(alike[:4])} differ in a number only. If these are seeds, give --pattern '{pattern}'."


def _by_pattern(path: Path, pattern: str) -> tuple[str, str]:
    parts = {"{row}": "(?P<row>[^/]+?)", "{seed}": "(?P<seed>[^/]+?)", "*": "[^/]*"}
    if pattern.count("{row}") != 1 or pattern.count("{seed}") > 1:
        raise InputError(f"--pattern '{pattern}': allowed: one {{row}}, at most one {{seed}}, and * for any text.")
    regex = "".join(parts.get(part, re.escape(part)) for part in re.split(r"(\{row\}|\{seed\}|\*)", pattern))
    match_ = re.search(f"(?:^|/){regex}$", path.as_posix())
    if match_ is None:
        raise InputError(f"{path}: does not end as --pattern '{pattern}' says. Correct the pattern.")
    return match_["row"], match_.groupdict().get("seed", "0")


def _by_habit(path: Path) -> tuple[str, str]:
    """`whisq-seed3.csv` and `whisq/seed3/answer.txt`."""
    plain = path.with_suffix("")
    parts = [part for part in plain.parts if part not in ("/", ".", "..")]
    if len(parts) > 1 and parts[-1].lower() in _GENERIC:
        parts = parts[:-1]
    found = SEED_AT_END.fullmatch(parts[-1])
    if found is None and len(parts) > 1:
        found = SEED_AT_END.fullmatch("/".join(parts[-2:]))
    return (found["row"], found["seed"]) if found else (parts[-1], "0")


def _read(
    path: Path, columns: Mapping[str, str] | None, clips: pd.DataFrame | None, split: str
) -> tuple[pd.DataFrame, dict[str, str]]:
    """One file as lines, columns under their meanings, and `_where` each stands; and what the meanings were called."""
    mistakes: Mistakes = defaultdict(list)
    label, content = answer_content(path, mistakes["lines that cannot be read"])
    raise_mistakes(mistakes)
    frame = _csv(label, content)
    header = [column for column in frame.columns if column != "_where"]
    pair = {column.lower(): column for column in header if column.lower() in TARGETS}
    if clips is not None and len(pair) == len(TARGETS):
        frame = frame.rename(columns={name: target for target, name in pair.items()})
        kept = [column for column in frame.columns if column not in TARGETS]
        frame = frame.melt(kept, TARGETS, "target_name", "prediction")
    elif clips is None:
        frame = long_form(frame, columns)
    header = [column for column in frame.columns if column != "_where"]
    found = meanings_of(header, columns)
    if clips is not None and not {"row", "prediction"} <= set(found):
        return _answers(path, clips, split), found
    if "prediction" not in found:
        raise InputError(
            f"{label}:1: found the columns {', '.join(header)}, allowed: prediction and, as there are, item, row, "
            "seed, truth, group, second_group; or item, truth and a column of numbers for each of several models. Name "
            "the column of predictions so, or say which it is: --columns prediction=NAME; an answer file "
            "utterance,OMQ,TA needs the labels of its corpus: --data DIR."
        )
    named = frame[[*found.values(), "_where"]].set_axis([*found, "_where"], axis=1)
    return (named if clips is None else _with_labels(named, clips, split)), found


def _csv(label: str, content: bytes) -> pd.DataFrame:
    """Every line as text, with `_where` it stands; fields that a line lacks are empty."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError(f"{label}:1: found UTF-16 text, allowed: UTF-8. Save the file as UTF-8.")
    text = content.decode("utf-8-sig", errors="replace")
    first = text.lstrip().partition("\n")[0]
    separator = max(_SEPARATORS, key=first.count)
    how: dict[str, Any] = {"header": None, "dtype": str, "keep_default_na": False, "skip_blank_lines": False}
    try:
        lines = pd.read_csv(io.StringIO(text), sep=separator, **how)
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        reason = " ".join(str(error).split()).removeprefix("Error tokenizing data. C error: ")
        advice = "Give each line as many fields as the header, and quote texts with commas."
        raise InputError(f"{label}: not a CSV with a header ({reason}). {advice}") from None
    lines["_where"] = [f"{label}:{number}" for number in range(1, len(lines) + 1)]
    fields = lines.columns[:-1]
    lines = lines[(lines[fields] != "").any(axis=1)]
    header = [str(name).strip() for name in lines.iloc[0][fields]]
    check_header(label, header)
    return lines.iloc[1:].set_axis([*header, "_where"], axis=1)


def _where(places: pd.Series) -> Where:
    return lambda position: str(places.iloc[position])


def _answers(path: Path, clips: pd.DataFrame, split: str) -> pd.DataFrame:
    """An answer file: every clip of the split, both targets, labels as truth."""
    predicted = match(path, clips, split)
    parts = [
        pd.DataFrame(
            {
                "item": clips["utterance"].to_numpy(),
                "group": clips["system"].to_numpy(),
                "second_group": clips["prompt"].to_numpy(),
                "truth": clips[target].to_numpy(np.float64),
                "prediction": predicted[:, column],
                "target": target,
                "_where": str(path),
            }
        )
        for column, target in enumerate(TARGETS)
    ]
    return pd.concat(parts, ignore_index=True)


def _with_labels(frame: pd.DataFrame, clips: pd.DataFrame, split: str) -> pd.DataFrame:
    """Lines with row, item and target, the truth and the groups from the corpus."""
    if not {"item", "target"} <= set(frame.columns):
        raise InputError(
            f"{frame['_where'].iloc[0]}: a CSV of rows needs the columns utterance, omq and ta beside row."
        )
    frame = frame.assign(item=frame["item"].str.strip().str.removesuffix(".wav"))
    unknown = frame[~frame["item"].isin(clips["utterance"])]
    raise_all(
        [
            f"{line['_where']}: unknown utterance '{line['item']}', allowed: the clips of split '{split}'."
            for _, line in unknown.head(20).iterrows()
        ]
    )
    truth = clips.melt(["utterance", "system", "prompt"], list(TARGETS), "target", "truth")
    names = {"utterance": "item", "system": "group", "prompt": "second_group"}
    labels = truth.rename(columns=names)
    kept = ["row", "seed", "item", "target", "prediction", "_where"]
    return frame[[name for name in kept if name in frame]].merge(labels, "left", ["item", "target"])
