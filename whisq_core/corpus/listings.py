"""What every written form of a corpus shares, line by line, and the simplest form: a plain CSV manifest.

Mistakes are collected, each as ``path:line: found, allowed``, so that a reader reports all of them at once.
"""

import csv
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from whisq_core.errors import raise_all
from whisq_core.files import read_regular

SPLITS = ("train", "dev", "test", "eval")
MIN_LABEL, MAX_LABEL = 1.0, 5.0  # mean opinion scores
MANIFEST_COLUMNS = ("utterance", "system", "prompt", "audio", "omq", "ta", "split")


@dataclass(frozen=True)
class Clip:
    """One utterance. Labels are NaN when the list has none; `audio` is an absolute path."""

    utterance: str
    system: str
    prompt: str
    audio: str
    omq: float
    ta: float
    split: str


@dataclass(frozen=True, eq=False)
class Corpus:
    """`clips` has the columns of `Clip` in listed order; `system_mos` is indexed by system (omq, ta), or None."""

    name: str
    clips: pd.DataFrame
    system_mos: pd.DataFrame | None
    simulated: bool

    @classmethod
    def of(
        cls, name: str, clips: Iterable[Clip | None], system_mos: dict[str, tuple[float, float]] | None, *said: Path
    ) -> "Corpus":
        """A corpus of clips; its labels are simulated where one of the folders `said` says so."""
        table = None
        if system_mos is not None:
            table = pd.DataFrame.from_dict(system_mos, orient="index", columns=["omq", "ta"])
            table.index.name = "system"
        simulated = any((folder / "SIMULATED.txt").exists() for folder in said)
        return cls(name, pd.DataFrame([clip for clip in clips if clip]), table, simulated)


@dataclass(frozen=True)
class Line:
    """One line of a text file; `clean` is False when its bytes are not UTF-8 (already reported)."""

    where: str
    text: str
    clean: bool


@dataclass(frozen=True)
class Seen:
    """Mistakes so far, and where each utterance was first listed."""

    mistakes: list[str] = field(default_factory=list)
    first: dict[str, str] = field(default_factory=dict)

    def is_new(self, utterance: str, where: str) -> bool:
        known = self.first.setdefault(utterance, where)
        if known != where:
            self.mistakes.append(
                f"{where}: duplicate utterance '{utterance}', already at {known}. List each clip once."
            )
        return known == where


def decode_lines(content: bytes, path: Path | str, mistakes: list[str]) -> list[Line]:
    """The lines of a UTF-8 text (a byte order mark and CRLF are fine); adds to `mistakes`."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        mistakes.append(f"{path}:1: found UTF-16 text, allowed: UTF-8. Save the file as UTF-8.")
        return []
    lines = []
    for number, raw in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        where = f"{path}:{number}"
        try:
            text, clean = raw.decode(), True
        except UnicodeDecodeError as error:
            text, clean = raw.decode(errors="replace"), False
            byte = raw[error.start]
            mistakes.append(f"{where}: byte 0x{byte:02x} is not UTF-8, allowed: UTF-8. Save the file as UTF-8.")
        lines.append(Line(where, text.rstrip("\r"), clean))
    return lines


def read_lines(path: Path, mistakes: list[str]) -> list[Line] | None:
    """The lines of a file that are not blank, or None with a mistake when nothing of it can be read."""
    before = len(mistakes)
    content = read_bytes(path, mistakes)
    lines = [line for line in decode_lines(content or b"", path, mistakes) if line.text.strip()]
    return lines if lines or len(mistakes) == before else None


def read_bytes(path: Path, mistakes: list[str]) -> bytes | None:
    """The content of a file, or None with a mistake when it cannot be read."""
    try:
        return read_regular(path)
    except FileNotFoundError:
        mistakes.append(f"{path}: no such file.")
    except OSError as error:
        mistakes.append(f"{path}: cannot be read ({error.strerror}).")
    return None


def read_records(lines: list[Line], mistakes: list[str]) -> Iterator[tuple[str, list[str]]]:
    """The CSV records of `lines` as (where, fields), without blank lines.

    Quoted fields may span lines. A broken quote ends the file with a mistake.
    """
    reader = csv.reader([f"{line.text}\n" for line in lines], strict=True)
    at = 0
    while True:
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            mistakes.append(
                f"{lines[at].where}: broken CSV ({error}), allowed: quotes that are closed and doubled inside."
            )
            return
        if any(text.strip() for text in fields):
            yield lines[at].where, fields
        at = reader.line_num


def read_table(path: Path, mistakes: list[str]) -> tuple[list[str], Iterator[tuple[str, dict[str, str]]]]:
    """The header of a CSV, and its lines as (where, text of each column); a line of another length is a mistake."""
    records = list(read_records(decode_lines(read_bytes(path, mistakes) or b"", path, mistakes), mistakes))
    header = [name.strip() for name in records[0][1]] if records else []

    def lines() -> Iterator[tuple[str, dict[str, str]]]:
        for where, fields in records[1:]:
            if len(fields) == len(header):
                yield where, {name: text.strip() for name, text in zip(header, fields, strict=True)}
            else:
                found = f"found {len(fields)} fields, allowed: {len(header)}, as the header"
                mistakes.append(f"{where}: {found}. Quote commas.")

    return header, lines()


def parse_number(text: str) -> float | None:
    """A finite number, or None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def read_manifest(path: Path) -> Corpus:
    """A CSV with the header of `MANIFEST_COLUMNS` in any order; further columns are ignored.

    `audio` is relative to the manifest; an utterance loses its ending .wav, as in the official lists. `omq` and `ta`
    may be empty in split `eval` only.
    """
    seen = Seen()
    header, lines = read_table(path, seen.mistakes)
    raise_all(seen.mistakes)
    absent = [name for name in MANIFEST_COLUMNS if header.count(name) != 1]
    if absent:
        found = f"found the header '{','.join(header)}'" if header else "found no header"
        wanted = f"allowed: {','.join(MANIFEST_COLUMNS)}, each once"
        raise_all([f"{path}:1: {found}, {wanted}. Missing or doubled: {', '.join(absent)}."])
    clips = [_manifest_clip(path, where, cells, seen) for where, cells in lines]
    if not clips and not seen.mistakes:
        seen.mistakes.append(f"{path}:1: found no clip below the header, allowed: at least one.")
    raise_all(seen.mistakes)
    return Corpus.of(path.stem, clips, None, path.parent)


def _manifest_clip(path: Path, where: str, cells: dict[str, str], seen: Seen) -> Clip | None:
    for name in ("utterance", "system", "prompt", "audio"):
        if not cells[name]:
            seen.mistakes.append(f"{where}: found no {name}, allowed: a text that is not empty.")
    if cells["split"] not in SPLITS:
        seen.mistakes.append(f"{where}: found split '{cells['split']}', allowed: {', '.join(SPLITS)}.")
    unlabelled = cells["split"] == "eval" and not cells["omq"] and not cells["ta"]
    omq, ta = (math.nan, math.nan) if unlabelled else parse_labels(where, (cells["omq"], cells["ta"]), seen.mistakes)
    utterance = cells["utterance"].removesuffix(".wav")
    if utterance and not seen.is_new(utterance, where):
        return None
    audio = os.path.abspath(path.parent / cells["audio"])
    return Clip(utterance, cells["system"], cells["prompt"], audio, omq, ta, cells["split"])


def parse_labels(where: str, texts: tuple[str, str], mistakes: list[str]) -> tuple[float, float]:
    """OMQ and TA; a text that is no number in [1, 5] is reported and becomes NaN."""
    values = []
    for name, text in zip(("OMQ", "TA"), texts, strict=True):
        value = parse_number(text)
        if value is None or not MIN_LABEL <= value <= MAX_LABEL:
            mistakes.append(f"{where}: found {name} '{text}', allowed: a number from {MIN_LABEL:g} to {MAX_LABEL:g}.")
            value = math.nan
        values.append(value)
    return values[0], values[1]
