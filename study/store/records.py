"""What the database keeps, as values: corpora, runs with predictions, cells, what a table's cells share, tuned rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from whisq_core.metrics import evaluate


@dataclass(frozen=True)
class StoredCorpus:
    """The labels that runs were scored on; audio stays outside the database."""

    digest: str
    name: str
    simulated: bool
    clips: pd.DataFrame
    system_mos: pd.DataFrame | None


@dataclass(frozen=True)
class Scored:
    """Predictions of one run on one split: float64 [clips, 2] for rows `clip_indices` of the corpus, and metrics."""

    clip_indices: np.ndarray
    predicted: np.ndarray
    metrics: dict[str, float]

    def measured(
        self, names: Sequence[str], clips: pd.DataFrame, system_truth: Mapping[str, tuple[float, ...]] | None
    ) -> dict[str, float]:
        """The stored metrics and, of these `names`, those that are not stored, from the predictions.

        A plug-in's never are: another version of it may give another number. `clips` are those of the corpus;
        without `system_truth` a system's is the mean of its clips.
        """
        lacking = [name for name in names if name not in self.metrics]
        if not lacking:
            return self.metrics
        own = clips.iloc[self.clip_indices]
        labels, systems = own[["omq", "ta"]].to_numpy(np.float64), list(own["system"])
        return self.metrics | evaluate(self.predicted, labels, systems, system_truth, names=lacking)


@dataclass(frozen=True)
class Run:
    """One finished or failed run. `identity` is everything its `run_id` was made from."""

    run_id: str
    table_name: str
    row: str
    seed: int
    state: str
    identity: dict[str, Any]
    reason: str | None = None
    details: dict[str, Any] = field(default_factory=dict)
    curve: list[dict[str, float]] = field(default_factory=list)
    manifest: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    finished_at: float = 0.0
    scored: dict[str, Scored] = field(default_factory=dict)


@dataclass(frozen=True)
class Tuned:
    """What a row's own search chose: dotted settings to put over the row, after so many finished trials.

    A row that cannot be tuned (a control, or one that sets everything that is searched) has no trials and no settings.
    """

    settings: dict[str, Any]
    num_trials: int


@dataclass(frozen=True)
class CellEntry:
    """Which run a cell of a table stands for now, or why it has none."""

    row: str
    seed: int
    run_id: str | None
    problem: str | None
    corpus_digest: str


@dataclass(frozen=True)
class Conditions:
    """What all cells of a table share: runs under other conditions are another table.

    `file` and `declared` are the ablation file and the name that it declares; `override` are the dotted settings over
    its base (`--base`, `--set`); `base` are the deciding settings of the base with every `auto` resolved. `features`
    has the digest of each encoder's features. `out` is the folder of the tables.
    """

    file: str
    declared: str
    override: dict[str, Any]
    base: dict[str, Any]
    seeds: list[int]
    corpus: str
    features: dict[str, str]
    numerics_version: int
    out: str


@dataclass(frozen=True)
class Declaration:
    """The comparisons that were declared when a run was begun: their digest, whatever rows are called, and words."""

    digest: str
    text: str


@dataclass(frozen=True)
class _RunColumns:
    run_id: str
    table_name: str
    row: str
    seed: int
    state: str
    reason: str | None
    seconds: float
    finished_at: float


@dataclass(frozen=True)
class RunHeader(_RunColumns):
    """What planning needs of a run."""

    identity: dict[str, Any]


@dataclass(frozen=True)
class RunLine(_RunColumns):
    """A run in a list: `value` is the metric that was asked for, None where it is undefined or there is none."""

    value: float | None
