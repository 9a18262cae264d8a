"""Score any predictions file, of this project or another, against the labels of a corpus."""

import io
import json
import math
import zipfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from whisq_core.corpus import Corpus
from whisq_core.corpus import table as corpora
from whisq_core.corpus.listings import decode_lines, parse_number, read_bytes, read_records
from whisq_core.errors import InputError, did_you_mean, raise_all
from whisq_core.files import TEXT_BYTES
from whisq_core.metrics import EXTRA, LEVELS, METRICS, STATISTICS, TARGETS, evaluate, title

COLUMNS = ("utterance", "omq", "ta")
_MOST_LINES = 20  # listed for each kind of mistake
_UNREADABLE = "lines that cannot be read"
Mistakes = dict[str, list[str]]  # by kind, so that many of one kind do not hide another
_Convention = Literal["clips", "csv"]
_TRUTH_TEXT = {
    "clips": "clips (mean label of the system's evaluated clips)",
    "csv": "csv (the corpus' system_mos table)",
}


@dataclass(frozen=True)
class Scores:
    """The metrics of one predictions file, and what they were measured on."""

    values: dict[str, float]
    corpus: str
    simulated: bool
    split: str
    system_truth: _Convention
    num_clips: int
    num_systems: int

    def to_text(self) -> str:
        """A table for reading: one line per target and level, then what was evaluated."""
        lines = ["".join([" " * 14, *(f"{name.upper():>8}" for name in STATISTICS)])]
        for target in TARGETS:
            for level in LEVELS:
                cells = [f"{_cell(self.values[f'{target}.{level}.{name}']):>8}" for name in STATISTICS]
                lines.append("".join([f"{target.upper():4}{level:10}", *cells]))
        lines += ["", *(f"{title(name)}: {_cell(self.values[name])}" for name in EXTRA)]
        labels = ", simulated labels" if self.simulated else ""
        lines.append(
            f"Corpus {self.corpus}{labels}, split {self.split}: {self.num_clips} clips, {self.num_systems} systems."
        )
        lines.append(f"System truth: {_TRUTH_TEXT[self.system_truth]}.")
        return "\n".join(lines)

    def to_json(self) -> str:
        """One object with the 16 metrics of Table II; an undefined one is null."""
        numbers = {name: None if math.isnan(self.values[name]) else self.values[name] for name in METRICS}
        return json.dumps(numbers, indent=2, allow_nan=False)


def score_file(predictions: Path, data: Path, split: str, system_truth: _Convention) -> Scores:
    """The metrics of a predictions file, of this project or of any other, on labelled clips.

    Parameters
    ----------
    predictions
        An ``answer.txt`` (utterance,OMQ,TA without header), a CSV with the header ``utterance,omq,ta`` (further columns
        are ignored), or a zip that holds an answer.txt. Utterances may end in .wav.
    data
        The corpus.
    split
        Which of its clips; they need labels.
    system_truth
        A system's true score: the mean label of its clips, or the corpus's table.

    Raises
    ------
    InputError
        Every mistake of the corpus; or a split without labels, and every line that cannot be read, is not finite, is
        duplicated, or names a clip that is not in the split, and every clip without a line.
    """
    corpus, clips = labelled_clips(data, split)
    truth_table = corpora.system_truth(corpus.name, corpus.system_mos, system_truth, clips["system"])
    predicted = match(predictions, clips, split)
    values = evaluate(predicted, clips[["omq", "ta"]].to_numpy(np.float64), list(clips["system"]), truth_table)
    num_systems = clips["system"].nunique()
    return Scores(values, corpus.name, corpus.simulated, split, system_truth, len(clips), num_systems)


def labelled_clips(data: Path, split: str) -> tuple[Corpus, pd.DataFrame]:
    """A corpus, and its clips of a split that has labels."""
    corpus = corpora.read_corpus(data)
    clips = corpus.clips[corpus.clips["split"] == split]
    if not len(clips) or clips[["omq", "ta"]].isna().to_numpy().any():
        labelled = corpus.clips.dropna(subset=["omq", "ta"])["split"].unique()
        advice = did_you_mean(split, labelled) if len(labelled) else "No clip of this corpus has labels."
        raise InputError(f"{data}: no labelled split '{split}'. {advice}")
    return corpus, clips


def match(path: Path, clips: pd.DataFrame, split: str) -> np.ndarray:
    """Predictions (OMQ, TA) in the order of `clips`."""
    mistakes: Mistakes = defaultdict(list)
    rows = {utterance: position for position, utterance in enumerate(clips["utterance"])}
    predicted = np.full((len(rows), 2), math.nan)
    first: dict[str, str] = {}
    for where, name, numbers in _read_predictions(path, mistakes):
        utterance = name.removesuffix(".wav")
        known = first.setdefault(utterance, where)
        if known != where:
            mistakes["duplicate lines"].append(f"{where}: duplicate utterance '{name}', already at {known}.")
        elif utterance not in rows:
            found = f"unknown utterance '{name}'"
            mistakes["unknown utterances"].append(f"{where}: {found}, allowed: the clips of split '{split}'.")
        elif numbers:
            predicted[rows[utterance]] = _parse(where, numbers, mistakes)
    readable = first or not mistakes[_UNREADABLE]  # else the one mistake is the file, not each of its clips
    for utterance in sorted(rows.keys() - first.keys()) if readable else ():
        mistakes["missing utterances"].append(f"{path}: no prediction for '{utterance}' of split '{split}'.")
    raise_mistakes(mistakes)
    return predicted


def _parse(where: str, texts: Sequence[str], mistakes: Mistakes) -> tuple[float, float]:
    values = []
    for name, text in zip(("OMQ", "TA"), texts, strict=True):
        value = parse_number(text)
        if value is None:
            mistakes["values that are no numbers"].append(f"{where}: {name} is '{text}', allowed: a finite number.")
        values.append(math.nan if value is None else value)
    return values[0], values[1]


def _read_predictions(path: Path, mistakes: Mistakes) -> list[tuple[str, str, list[str]]]:
    """Lines of either form as (where, utterance, [OMQ, TA]); a CSV is known by its header.

    A line with the wrong number of fields keeps its utterance and has no numbers, so that it is one mistake only.
    """
    broken = mistakes[_UNREADABLE]
    label, content = answer_content(path, broken)
    records = list(read_records(decode_lines(content, label, broken), broken))
    if not records:
        if not broken:
            broken.append(f"{label}: found no line, allowed: utterance,OMQ,TA.")
        return []
    header = [name.strip().lower() for name in records[0][1]]
    columns = [0, 1, 2]
    if COLUMNS[0] in header:
        absent = [name for name in COLUMNS if header.count(name) != 1]
        if absent:
            found = f"found the header '{','.join(header)}'"
            broken.append(f"{label}:1: {found}, allowed: {','.join(COLUMNS)}, each once. Correct {', '.join(absent)}.")
            return []
        columns, records = [header.index(name) for name in COLUMNS], records[1:]
    wanted = len(header) if COLUMNS[0] in header else 3
    lines = []
    for where, fields in records:
        cells = [fields[column].strip() for column in columns if column < len(fields)]
        if len(fields) != wanted:
            broken.append(f"{where}: found {len(fields)} fields in '{','.join(fields)}', allowed: {wanted}.")
        if len(fields) == wanted or columns[0] < len(fields):
            lines.append((where, cells[0], cells[1:] if len(fields) == wanted else []))
    return lines


def answer_content(path: Path, broken: list[str]) -> tuple[str, bytes]:
    """The text file's name for messages and its bytes; of a zip, the one answer.txt in it."""
    content = read_bytes(path, broken) or b""
    if not zipfile.is_zipfile(io.BytesIO(content)):
        return str(path), content
    try:
        return _unpacked(path, content)
    except InputError as error:
        broken.extend(error.mistakes)
    except Exception as error:  # a broken archive raises half a dozen kinds, by its method of compression
        reason = str(error) or type(error).__name__
        broken.append(f"{path}: cannot be unpacked ({reason}). Zip answer.txt again.")
    return str(path), b""


def _unpacked(path: Path, content: bytes) -> tuple[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        answers = [name for name in archive.namelist() if name.rpartition("/")[2] == "answer.txt"]
        if len(answers) != 1:
            raise InputError(f"{path}: found {len(answers)} files answer.txt in the zip, allowed: one.")
        with archive.open(answers[0]) as member:
            text = member.read(TEXT_BYTES + 1)  # the size that the archive announces may be a lie
    if len(text) > TEXT_BYTES:
        raise InputError(
            f"{path}: {answers[0]} has more than {TEXT_BYTES:,} bytes unpacked. Zip the predictions alone."
        )
    return f"{path}/{answers[0]}", text


def raise_mistakes(mistakes: Mistakes) -> None:
    lines = []
    for kind, of_kind in mistakes.items():
        lines += of_kind[:_MOST_LINES]
        if len(of_kind) > _MOST_LINES:
            lines.append(f"... and {len(of_kind) - _MOST_LINES} more {kind}.")
    raise_all(lines)


def _cell(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.4f}"
