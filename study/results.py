"""What the database knows of one ablation file, as plain values: the input of statistics, tables and figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from study.config import AblationFile, Row
from study.store import CellEntry, Database, Run, StoredCorpus
from whisq_core.corpus import system_truth
from whisq_core.errors import InputError
from whisq_core.metrics import EXTRA, METRICS, evaluate
from whisq_core.spec import differences


@dataclass(frozen=True)
class TableResults:
    """All cells of a table with their predictions; nothing here is ever retrained.

    `cells` has one line per (row, seed) in file order: row, seed, position (0..), state ("done", "failed", "missing"),
    reason, run_id, seconds, num_trainable, num_total, macs, audio_dim, untrained (an encoder without pretrained
    weights), and the 16 + 2 metric columns (NaN unless done). `predictions[row]` is float64 [seeds done, clips, 2] in
    the order of `seeds_done[row]`; columns are (OMQ, TA). `trials[row]` is the size of a row's own search, when the
    file asks for tuned rows; `file` then holds what the searches chose. `computed_in` are the precisions and devices
    that `auto` became where the runs were trained.
    """

    file: AblationFile
    corpus: StoredCorpus
    split: str
    cells: pd.DataFrame
    predictions: dict[str, np.ndarray]
    seeds_done: dict[str, tuple[int, ...]]
    truth: np.ndarray
    systems: tuple[str, ...]
    utterances: tuple[str, ...]
    system_truth: dict[str, tuple[float, float]] | None
    curves: dict[tuple[str, int], list[dict[str, float]]]
    manifest: dict[str, Any]
    trials: dict[str, int] = field(default_factory=dict)
    computed_in: tuple[str, ...] = ()


def collect(file: AblationFile, database: Database, corpus_digest: str | None = None) -> TableResults:
    """Gather the results of `file` on one corpus, by default the newest, for the first split that its base scores.

    A run counts only when its settings are those of the file: results of an edited row are "missing", with the reason.

    Raises
    ------
    InputError
        When the database holds nothing of this table.
    """
    entries = _entries(file, database)
    tuned = database.tuned(file.name) if file.hyperparameters == "tuned" else {}
    file = file.with_row_settings({row: choice.settings for row, choice in tuned.items()})
    runs = database.runs([entry.run_id for entry in entries.values() if entry.run_id])
    corpus = database.corpus(corpus_digest or _newest_corpus(list(entries.values()), runs))
    scoring = _Scoring(file, corpus)
    lines: list[dict[str, Any]] = []
    done: dict[str, list[tuple[int, Run]]] = {}
    for row in file.rows:
        for position, seed in enumerate(row.seeds):
            entry = entries.get((row.id, seed))
            run = runs.get(entry.run_id) if entry and entry.run_id else None
            state, reason = _state(row, entry, run, corpus.digest)
            if state == "done" and run is not None:
                done.setdefault(row.id, []).append((seed, run))
            lines.append(_line(row, seed, position, state, reason, run, scoring))
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
        cells=pd.DataFrame(lines),
        predictions={row: np.stack([run.scored[split].predicted for _, run in found]) for row, found in done.items()},
        seeds_done={row: tuple(seed for seed, _ in found) for row, found in done.items()},
        truth=scored_clips[["omq", "ta"]].to_numpy(np.float64),
        systems=tuple(scored_clips["system"]),
        utterances=tuple(scored_clips["utterance"]),
        system_truth=scoring.truth,
        curves={(row, seed): run.curve for row, seed, run in shown},
        manifest={} if newest is None else newest.manifest,
        trials={row: choice.num_trials for row, choice in tuned.items()},
        computed_in=tuple(sorted({text for _, _, run in shown for text in _computed_in(run)})),
    )


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
        self.split, self._corpus = file.base.data.score[0], corpus
        self._convention = file.base.data.system_truth
        systems = corpus.clips.loc[corpus.clips["split"] == self.split, "system"]
        self.truth = system_truth(corpus, self._convention, systems)

    def clips(self, run: Run | None) -> pd.DataFrame:
        """The clips that a run scored; those of the split where there is no run."""
        if run is None:
            return self._corpus.clips[self._corpus.clips["split"] == self.split]
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
        """The stored metrics; computed anew where they are of the other convention or of an older program."""
        indices, scored = self._indices(run), run.scored[self.split]
        if run.details.get("system_truth") == self._convention and set(METRICS + EXTRA) <= set(scored.metrics):
            return scored.metrics
        clips = self._corpus.clips.iloc[indices]
        truth = clips[["omq", "ta"]].to_numpy(np.float64)
        return evaluate(scored.predicted, truth, list(clips["system"]), self.truth)


def _computed_in(run: Run) -> set[str]:
    """The precision and device of a run's training; none where nothing was trained."""
    if "train.precision" not in run.identity:
        return set()
    return {f"{run.identity['train.precision']} on {run.identity['train.device']}"}


def _newest_corpus(entries: Sequence[CellEntry], runs: Mapping[str, Run]) -> str:
    """The corpus of the run that was finished last; there are several when only a part was run on a new one."""
    finished = {run_id: run.finished_at for run_id, run in runs.items()}
    return max(entries, key=lambda entry: finished.get(entry.run_id or "", 0.0)).corpus_digest


def _state(row: Row, entry: CellEntry | None, run: Run | None, corpus_digest: str) -> tuple[str, str]:
    if entry is None:
        return "missing", "not run yet"
    if entry.problem:
        return "failed", entry.problem
    if entry.corpus_digest != corpus_digest:
        return "missing", "run on another corpus"
    if run is None:
        return "missing", "not run yet"
    if run.state == "failed":
        return "failed", run.reason or ""
    changed = _settings_changed(row, run)
    return ("missing", f"the row has changed: {changed}") if changed else ("done", "")


def _settings_changed(row: Row, run: Run) -> str:
    """How the file's settings of this row differ from those of the run; machine-resolved values are not the file's."""
    wanted = row.spec.deciding_settings()
    ignored = {"seed"} | {name for name, value in wanted.items() if value == "auto"}
    ours = {name: value for name, value in wanted.items() if name not in ignored}
    theirs = {name: run.identity.get(name) for name in ours}
    return "; ".join(differences(ours, theirs))


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
        **{name: metrics.get(name, float("nan")) for name in METRICS + EXTRA},
    }


def failures(results: TableResults, rows: Sequence[str]) -> list[str]:
    """One line for each failed cell of `rows`."""
    wanted = results.cells[results.cells["row"].isin(rows) & (results.cells["state"] == "failed")]
    return [f"{cell.row} seed {cell.seed}: {cell.reason}" for cell in wanted.itertuples()]
