"""What Python programs and notebooks use: a storage as DataFrames, verdicts, figures, scores, predictions.

`study._HOMES` lists the names; what has another home is imported here under its own name for type checkers.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from study.ablation import stored_table
from study.config import read_ablation_file
from study.engine import open_database
from study.models import Model as Model
from study.results import TableResults, collect
from study.scoring import JudgedTable as JudgedTable
from study.scoring import Scores as Scores
from study.scoring import judge as judge
from study.scoring import read_files as read_files
from study.scoring import score_file
from study.store import DEFAULT_STORAGE, CellEntry, Run, conditions, list_runs, stored_tables
from study.tables import judge_table, table_frame
from whisq_core.errors import InputError as InputError
from whisq_core.errors import did_you_mean
from whisq_core.metrics import EXTRA, METRICS, TARGETS

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def load(storage: str | Path = DEFAULT_STORAGE, file: str | Path | None = None) -> "Storage":
    """Open the storage of finished and running studies; nothing is written.

    Parameters
    ----------
    storage
        A URL as `--storage` takes it, or the path of a SQLite file.
    file
        The ablation file of its tables, where it is not where the runs were started.

    Raises
    ------
    InputError
        When there is no such storage.
    """
    url = str(storage) if "://" in str(storage) else f"sqlite:///{storage}"
    return Storage(url, None if file is None else Path(file))


def evaluate(
    predictions: str | Path, data: str | Path, split: str = "dev", system_truth: Literal["clips", "csv"] = "clips"
) -> Scores:
    """The 16 metrics of one predictions file on labelled clips: `values` by name; see `whisq-study evaluate`."""
    return score_file(Path(predictions), Path(data), split, system_truth)


def predict(
    model: "str | Path | Model", audio: str | Path | Sequence[str | Path], prompt: str | Sequence[str] | None = None
) -> pd.DataFrame:
    """OMQ and TA of clips by a saved model: `Model.from_folder(model).predict(audio, prompt)`."""
    return (model if isinstance(model, Model) else Model.from_folder(model)).predict(audio, prompt)


def figures(table: "StudyTable | JudgedTable") -> "dict[str, Figure]":
    """Plotly figures of a table by name: differences, and of a stored one seeds, curves, scatter and systems."""
    from study.report import difference_figure, figures

    if isinstance(table, StudyTable):
        return figures(table.results, table.judgement)
    drawn = difference_figure(table.frame, table.judgement)
    return {} if drawn is None else {"differences": drawn}


@dataclass(frozen=True)
class StudyTable(JudgedTable):
    """A stored table with its verdicts; `results` has its cells, predictions and learning curves."""

    results: TableResults


class Storage:
    """What a storage holds, as DataFrames. They are read when they are first asked for; `load` again for newer ones."""

    def __init__(self, url: str, file: Path | None) -> None:
        self._database = open_database(url, writes=False, made_by="whisq-study ablate --data DIR")
        self._file = file

    @cached_property
    def tables(self) -> pd.DataFrame:
        """One line for each table and search: its cells, its runs, how many are done, when the last was, its file."""
        known = conditions(self._database)
        return pd.DataFrame(
            [
                {
                    "table": each.name,
                    "cells": each.num_cells,
                    "runs": each.num_runs,
                    "done": each.num_done,
                    "finished_at": _time(each.finished_at),
                    "file": known[each.name].file if each.name in known else "",
                }
                for each in stored_tables(self._database)
            ],
            columns=["table", "cells", "runs", "done", "finished_at", "file"],
        )

    @cached_property
    def runs(self) -> pd.DataFrame:
        """One line for each run and scored split with its metrics, trials of searches among them; failed runs too."""
        names = METRICS + EXTRA
        lines: list[dict[str, Any]] = []
        for run in self._runs.values():
            line = {
                "run_id": run.run_id,
                "table": run.table_name,
                "row": run.row,
                "seed": run.seed,
                "state": run.state,
                "reason": run.reason or "",
                "seconds": run.seconds,
                "finished_at": _time(run.finished_at),
            }
            for split, scored in run.scored.items() or [("", None)]:
                metrics = scored.metrics if scored else {}
                lines.append({**line, "split": split, **{name: metrics.get(name, float("nan")) for name in names}})
        return pd.DataFrame(lines)

    @cached_property
    def settings(self) -> pd.DataFrame:
        """Everything that decided each run, a column for each dotted setting, by `run_id`."""
        return pd.DataFrame({run_id: run.identity for run_id, run in self._runs.items()}).T.rename_axis("run_id")

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """One line for each cell, split, clip and target: table, row, seed, split, item, group, second_group (the
        prompt), target, truth, prediction. One table and split of it is what `judge` takes."""
        frames = [frame for table, entry, run in self._cells() for frame in self._predicted(table, entry, run)]
        columns = ["table", "row", "seed", "split", "item", "group", "second_group", "target", "truth", "prediction"]
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)

    @cached_property
    def curves(self) -> pd.DataFrame:
        """One line for each cell and epoch: losses, norms of gradients, seconds."""
        return pd.DataFrame(
            [
                {"table": table, "row": entry.row, "seed": entry.seed, **record}
                for table, entry, run in self._cells()
                for record in run.curve
            ]
        )

    @cached_property
    def verdicts(self) -> pd.DataFrame:
        """The verdicts of every table whose file is known, a line for each row."""
        judged = {name: self.table(name).verdicts for name in self._known_files()}
        return pd.concat(judged, names=["table"]).reset_index("table") if judged else pd.DataFrame(columns=["table"])

    def table(self, name: str | None = None) -> StudyTable:
        """A table with its verdicts, as JudgedTable; the only one where there is one.

        Raises
        ------
        InputError
            When there is no such table, or its ablation file is not where it was.
        """
        files = self._known_files()
        names = [each for each, cells in zip(self.tables["table"], self.tables["cells"], strict=True) if cells]
        if name is None and len(names) == 1:
            name = names[0]
        if name is None or name not in names:
            found = f"unknown table '{name}'" if name else f"{len(names)} tables"
            raise InputError(f"{self._database.masked_url}: {found}. {did_you_mean(name or '', names)}")
        if name not in files:
            where = self.tables.set_index("table")["file"][name] or "an older version did not store where"
            raise InputError(
                f"table '{name}': its ablation file is not there ({where}). Give it: load(..., file=PATH)."
            )
        file, shared = stored_table(read_ablation_file(files[name]), self._database, name)
        return _judged(collect(replace(file, name=name), self._database, shared))

    def _repr_html_(self) -> str:
        tables = self.tables.to_html(index=False)
        verdicts = self.verdicts
        return f"<p>{self._database.masked_url}</p>{tables}{verdicts.to_html(index=False) if len(verdicts) else ''}"

    def _known_files(self) -> dict[str, Path]:
        """The ablation files of the tables: that which was given, else those of the runs as far as they are there."""
        shared = conditions(self._database)
        known = {name: self._file or Path(each.file) for name, each in shared.items()}
        if self._file is not None:  # tables of an older version do not tell their file
            known.setdefault(read_ablation_file(self._file).name, self._file)
        return {name: path for name, path in known.items() if path.is_file()}

    @cached_property
    def _runs(self) -> dict[str, Run]:
        lines = list_runs(self._database, METRICS[0])
        return self._database.runs([line.run_id for line in lines])

    def _cells(self) -> Iterator[tuple[str, CellEntry, Run]]:
        for name in self.tables["table"]:
            for entry in self._database.cells(name).values():
                run = self._runs.get(entry.run_id or "")
                if run is not None and run.state == "done":
                    yield name, entry, run

    def _predicted(self, table: str, entry: CellEntry, run: Run) -> Iterator[pd.DataFrame]:
        clips = self._corpora[entry.corpus_digest]
        for split, scored in run.scored.items():
            lines = clips.iloc[scored.clip_indices]
            for column, target in enumerate(TARGETS):
                yield pd.DataFrame(
                    {
                        "table": table,
                        "row": entry.row,
                        "seed": entry.seed,
                        "split": split,
                        "item": lines["utterance"].to_numpy(),
                        "group": lines["system"].to_numpy(),
                        "second_group": lines["prompt"].to_numpy(),
                        "target": target,
                        "truth": lines[target].to_numpy(),
                        "prediction": scored.predicted[:, column],
                    }
                )

    @cached_property
    def _corpora(self) -> Mapping[str, pd.DataFrame]:
        digests = {
            entry.corpus_digest for name in self.tables["table"] for entry in self._database.cells(name).values()
        }
        return {digest: self._database.corpus(digest).clips for digest in digests}


def _judged(results: TableResults) -> StudyTable:
    judgement = judge_table(results)
    return StudyTable(table_frame(results, judgement), judgement, results)


def _time(seconds: float) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=0) if seconds else None
