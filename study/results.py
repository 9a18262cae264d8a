"""What the database knows of one ablation file, as plain values: the input of statistics, tables and figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from study.config import AblationFile, Row
from study.store import CellEntry, Conditions, Database, Run, StoredCorpus
from whisq_core.corpus import system_truth
from whisq_core.errors import InputError
from whisq_core.spec import differences

RESOLVED = ("train.device", "train.precision")
"""The settings whose `auto` depends on the machine."""


@dataclass(frozen=True)
class TableResults:
    """All cells of a table with their predictions; nothing here is ever retrained.

    `cells` has one line per (row, seed) in file order: row, seed, position (0..), state ("done", "failed", "missing"),
    reason, run_id, seconds, num_trainable, num_total, macs, audio_dim, untrained (an encoder without pretrained
    weights), and a column for each of `file.metrics` (NaN unless done). `predictions[row]` is float64 [seeds done,
    clips, 2] in the order of `seeds_done[row]`; columns are (OMQ, TA). `trials[row]` is the size of a row's own search,
    when the file asks for tuned rows; `file` then holds what the searches chose. `computed_in` are the precisions and
    devices that `auto` became where the runs were trained. `declared` says whether `compare` was there before the runs.
    `ratings[i]` are those of single raters, [raters, 2].
    """

    file: AblationFile
    corpus: StoredCorpus
    split: str
    cells: pd.DataFrame
    predictions: dict[str, np.ndarray]
    seeds_done: dict[str, tuple[int, ...]]
    truth: np.ndarray
    systems: tuple[str, ...]
    prompts: tuple[str, ...] | None
    ratings: tuple[np.ndarray, ...] | None
    utterances: tuple[str, ...]
    system_truth: dict[str, tuple[float, float]] | None
    curves: dict[tuple[str, int], list[dict[str, float]]]
    manifest: dict[str, Any]
    trials: dict[str, int] = field(default_factory=dict)
    computed_in: tuple[str, ...] = ()
    declared: "Declared" = field(default_factory=lambda: Declared())


@dataclass(frozen=True)
class Declared:
    """How many of the compared runs were begun under other declarations, those in words, and how many under unknown."""

    num_changed: int = 0
    before: tuple[str, ...] = ()
    num_unknown: int = 0

    @property
    def changed(self) -> str:
        """How it was changed, in words; empty when it was not."""
        if not self.num_changed:
            return ""
        return f"changed after {self.num_changed} run{'s' if self.num_changed > 1 else ''}"


def declared(file: AblationFile, database: Database, run_ids: Mapping[str, Sequence[str]]) -> Declared:
    """What was declared when the done runs of the compared rows (row -> run ids) were begun, beside what is now.

    Runs keep their declaration under whatever name, file or table they are used again.
    """
    if file.compare is None:
        return Declared()
    compared = [run_id for row in (file.compare.to, *file.compare.rows) for run_id in run_ids.get(row, ())]
    found, (now, text) = database.declarations(compared), file.declaration
    other = [declaration for declaration in found.values() if declaration.digest != now]
    told = ("the same with other settings of these rows" if one.text == text else one.text for one in other)
    texts = tuple(dict.fromkeys(told))
    return Declared(len(other), texts, len(set(compared)) - len(found))


def collect(file: AblationFile, database: Database, shared: Conditions | None = None) -> TableResults:
    """Gather what is stored of the table `file`, for the first split that its base scores.

    A run counts only when its settings are those of the file and all else is what the table's cells share: results of
    an edited row are "missing", with the reason. Without `shared`, as a table of an older version has none, it is that
    of the newest run.

    Raises
    ------
    InputError
        When the database holds nothing of this table.
    """
    entries = _entries(file, database)
    tuned = database.tuned(file.name) if file.hyperparameters == "tuned" else {}
    file = file.with_row_settings({row: choice.settings for row, choice in tuned.items()})
    runs = database.runs([entry.run_id for entry in entries.values() if entry.run_id])
    shared = shared or _conditions_of_newest(file, list(entries.values()), runs)
    corpus = database.corpus(shared.corpus)
    scoring = _Scoring(file, corpus)
    cells, done = _gathered(file, entries, runs, shared, scoring)
    shown = [(row, seed, run) for row, found in done.items() for seed, run in found]
    split = scoring.split
    if len({len(run.scored[split].clip_indices) for _, _, run in shown}) > 1:
        raise InputError(
            f"storage '{database.masked_url}': runs of table '{file.name}' have predictions for different clips. "
            "Restore the database from a copy."
        )
    scored_clips = scoring.clips(shown[0][2] if shown else None)
    newest = max(runs.values(), key=lambda run: run.finished_at, default=None)
    return TableResults(
        file=file,
        corpus=corpus,
        split=split,
        cells=cells,
        predictions={row: np.stack([run.scored[split].predicted for _, run in found]) for row, found in done.items()},
        seeds_done={row: tuple(seed for seed, _ in found) for row, found in done.items()},
        truth=scored_clips[["omq", "ta"]].to_numpy(np.float64),
        systems=tuple(scored_clips["system"]),
        prompts=tuple(scored_clips["prompt"]) if "prompt" in scored_clips else None,
        ratings=_ratings(scored_clips),
        utterances=tuple(scored_clips["utterance"]),
        system_truth=scoring.truth,
        curves={(row, seed): run.curve for row, seed, run in shown},
        manifest={} if newest is None else newest.manifest,
        trials={row: choice.num_trials for row, choice in tuned.items()},
        computed_in=tuple(sorted({text for _, _, run in shown for text in _computed_in(run)})),
        declared=declared(file, database, {row: [run.run_id for _, run in found] for row, found in done.items()}),
    )


def _gathered(
    file: AblationFile, entries: Mapping[tuple[str, int], CellEntry], runs: Mapping[str, Run], shared: Conditions,
    scoring: "_Scoring",
) -> tuple[pd.DataFrame, dict[str, list[tuple[int, Run]]]]:  # fmt: skip
    """The cells of a table, and the done seeds of each row with their runs."""
    lines: list[dict[str, Any]] = []
    done: dict[str, list[tuple[int, Run]]] = {}
    for row in file.rows:
        for position, seed in enumerate(row.seeds):
            entry = entries.get((row.id, seed))
            run = runs.get(entry.run_id) if entry and entry.run_id else None
            state, reason = _state(row, entry, run, shared)
            if state == "done" and run is not None:
                done.setdefault(row.id, []).append((seed, run))
            lines.append(_line(row, seed, position, state, reason, run, scoring))
    cells = pd.DataFrame(lines)
    cells["run_id"] = pd.Series([line["run_id"] for line in lines], dtype=object)  # else None would become NaN
    return cells, done


def _ratings(clips: pd.DataFrame) -> tuple[np.ndarray, ...] | None:
    """Those [raters, 2] of each clip, where the corpus has them."""
    if "omq_ratings" not in clips:
        return None
    pairs = zip(clips["omq_ratings"], clips["ta_ratings"], strict=True)
    return tuple(np.array(pair, dtype=np.float64).T for pair in pairs)


def _entries(file: AblationFile, database: Database) -> dict[tuple[str, int], CellEntry]:
    entries = database.cells(file.name)
    if not entries:
        raise InputError(
            f"storage '{database.masked_url}': holds nothing of table '{file.name}'. "
            f"Run: whisq-study ablate {file.path} --data DIR."
        )
    return entries


class _Scoring:
    """The split and the convention of system truth that a table is scored with."""

    def __init__(self, file: AblationFile, corpus: StoredCorpus) -> None:
        self.split, self._corpus, self.names = file.base.data.scored[0], corpus, file.metrics
        data = file.base.data
        self._convention, self._splits = data.system_truth, {data.fit, *data.score} if data.folds else {self.split}
        self.truth = system_truth(corpus.name, corpus.system_mos, self._convention, self.clips(None)["system"])

    def clips(self, run: Run | None) -> pd.DataFrame:
        """The clips that a run scored; those of the split where there is no run."""
        if run is None:
            clips = self._corpus.clips
            return clips[clips["split"].isin(self._splits)]
        return self._corpus.clips.iloc[self._indices(run)]

    def _indices(self, run: Run) -> np.ndarray:
        found = run.scored.get(self.split)
        if found is None or found.clip_indices.max() >= len(self._corpus.clips):
            raise InputError(
                f"run {run.run_id}: its stored predictions are not of the clips of corpus '{self._corpus.name}'. "
                "Restore the database from a copy."
            )
        return found.clip_indices

    def metrics(self, run: Run) -> dict[str, float]:
        """The metrics of the table; computed anew where they were stored under the other convention."""
        self._indices(run)  # are those of clips that there are
        scored = run.scored[self.split]
        if run.details.get("system_truth") != self._convention:
            scored = replace(scored, metrics={})
        return scored.measured(self.names, self._corpus.clips, self.truth)


def _computed_in(run: Run) -> set[str]:
    """The precision and device of a run's training; none where nothing was trained."""
    if "train.precision" not in run.identity:
        return set()
    return {f"{run.identity['train.precision']} on {run.identity['train.device']}"}


def _conditions_of_newest(file: AblationFile, entries: Sequence[CellEntry], runs: Mapping[str, Run]) -> Conditions:
    """What the cells of a table of an older version share, as its newest runs tell."""
    oldest_first = sorted(runs.values(), key=lambda run: run.finished_at)
    finished = {run.run_id: run.finished_at for run in oldest_first}
    features: dict[str, str] = {}
    base: dict[str, Any] = {}
    for run in oldest_first:
        features |= features_of(run.identity)
        base |= {name: run.identity[name] for name in RESOLVED if name in run.identity}
    return Conditions(
        file=str(file.path),
        declared=file.name,
        override={},
        base=base,
        seeds=list(file.seeds),
        corpus=max(entries, key=lambda entry: finished.get(entry.run_id or "", 0.0)).corpus_digest,
        features=features,
        numerics_version=oldest_first[-1].identity.get("numerics_version", 0) if oldest_first else 0,
        out="",
    )


def features_of(identity: Mapping[str, Any]) -> dict[str, str]:
    """The digests of a run's features by encoder and number format; none of a control."""
    kinds = [kind for kind in ("audio", "text") if f"features.{kind}" in identity]
    return {
        f"{kind} {identity[f'backbone.{kind}']} in {identity['backbone.precision']}": identity[f"features.{kind}"]
        for kind in kinds
    }


def _state(row: Row, entry: CellEntry | None, run: Run | None, shared: Conditions) -> tuple[str, str]:
    if entry is None:
        return "missing", "not run yet"
    if entry.problem:
        return "failed", entry.problem
    if entry.corpus_digest != shared.corpus:
        return "missing", "run on another corpus"
    if run is None:
        return "missing", "not run yet"
    if run.state == "failed":
        return "failed", run.reason or ""
    changed = _changed(row, run, shared)
    return ("missing", f"the row has changed: {changed}") if changed else ("done", "")


def _changed(row: Row, run: Run, shared: Conditions) -> str:
    """How a run differs from the file's settings of its row and from what the table's cells share."""
    wanted = {name: value for name, value in row.spec.deciding_settings().items() if name != "seed"}
    wanted |= {name: shared.base.get(name, run.identity.get(name)) for name in RESOLVED if wanted.get(name) == "auto"}
    wanted["numerics_version"] = shared.numerics_version
    theirs = {name: run.identity.get(name, 0 if name == "numerics_version" else None) for name in wanted}
    made = features_of(run.identity)
    known = {name: shared.features.get(name, found) for name, found in made.items()}
    return "; ".join([*differences(wanted, theirs), *differences(known, made)])


def _line(
    row: Row, seed: int, position: int, state: str, reason: str, run: Run | None, scoring: _Scoring
) -> dict[str, Any]:
    details = run.details if run is not None else {}
    metrics = scoring.metrics(run) if state == "done" and run is not None else {}
    return {
        "row": row.id,
        "seed": seed,
        "position": position,
        "state": state,
        "reason": reason,
        "run_id": run.run_id if run is not None else None,
        "seconds": run.seconds if run is not None else float("nan"),
        **{name: details.get(name) for name in ("num_trainable", "num_total", "macs", "audio_dim")},
        "untrained": bool(details.get("untrained", False)),
        **{name: metrics.get(name, float("nan")) for name in scoring.names},
    }


def failures(results: TableResults, rows: Sequence[str]) -> list[str]:
    """One line for each failed cell of `rows`."""
    wanted = results.cells[results.cells["row"].isin(rows) & (results.cells["state"] == "failed")]
    return [f"{cell.row} seed {cell.seed}: {cell.reason}" for cell in wanted.itertuples()]
