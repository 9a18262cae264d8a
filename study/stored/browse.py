"""`whisq-study runs`: what is stored, in lists; one run with all that belongs to it; and one run trained again."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from study.engine import Task, Workspace, execute, identify, open_database
from study.store import Database, Run, RunLine, Scored, StoredCorpus, list_runs, stored_tables
from study.terminal import log, task_progress
from whisq_core.corpus import system_truth
from whisq_core.errors import InputError, did_you_mean
from whisq_core.metrics import brought, known_metrics, unknown_metric
from whisq_core.spec import RunSpec, differences, nested

_STATES = ("done", "failed")


def open_stored(url: str) -> Database:
    """The database of a storage that is there."""
    return open_database(url, False, "whisq-study ablate --data DIR")


def _tables_frame(database: Database) -> pd.DataFrame:
    """Every table and search: its cells, the runs that were made for it, and when the last was done."""
    lines = stored_tables(database)
    return pd.DataFrame(
        {
            "table": [line.name for line in lines],
            "cells": [line.num_cells for line in lines],
            "runs": [line.num_runs for line in lines],
            "done": [line.num_done for line in lines],
            "last": [_time(line.finished_at) for line in lines],
        }
    )


def look_up(database: Database, what: str | None, state: str | None, metric: str) -> pd.DataFrame | Run:
    """What a name stands for: nothing (all tables), a table, TABLE/ROW or TABLE/ROW/SEED, else the id of a run.

    Raises
    ------
    InputError
        When nothing of that name is stored, and for an unknown state or metric.
    """
    if metric not in known_metrics():
        raise InputError(f"--metric: {unknown_metric(metric)}")
    if state not in (None, *_STATES):
        raise InputError(f"--state: found '{state}', allowed: {', '.join(_STATES)}.")
    if what is None and state is None:
        return _tables_frame(database)
    lines = _stored(database, what, state, metric)
    if isinstance(lines, Run):
        return lines
    return pd.DataFrame(
        {
            "run": [line.run_id[:12] for line in lines],
            "table": [line.table_name for line in lines],
            "row": [line.row for line in lines],
            "seed": [line.seed for line in lines],
            "state": [line.state for line in lines],
            metric: _values(database, metric, lines),
            "seconds": [round(line.seconds, 1) for line in lines],
            "finished": [_time(line.finished_at) for line in lines],
        }
    )


def _stored(database: Database, what: str | None, state: str | None, metric: str) -> Run | list[RunLine]:
    """The run that a name is of, by its cell or its id, else the runs of a table or row."""
    names = [table.name for table in stored_tables(database)]
    table, _, cell = (what or "").partition("/")
    if what is not None and table not in names:
        found = [] if cell else [line.run_id for line in list_runs(database, "", run_id=what)]
        if not found:
            raise InputError(f"runs: no table, search or run '{what}' in {database.masked_url}. {known(what, names)}")
        if len(found) > 1:
            several = ", ".join(run_id[:16] for run_id in found[:5])
            raise InputError(f"run '{what}': {len(found)} runs begin so: {several}. Give more of the id.")
        return database.runs(found)[found[0]]
    row, _, seed = cell.partition("/")
    if seed and not (seed.isdecimal() and len(seed) < 10):
        raise InputError(f"runs {what}: '{seed}' is no seed. Give TABLE/ROW/SEED, such as {table}/{row}/0.")
    entry = database.cells(table).get((row, int(seed))) if seed else None
    if entry is not None and entry.run_id is not None and (made := database.runs([entry.run_id])):
        return made[entry.run_id]
    lines = list_runs(database, metric, table or None, row or None, int(seed) if seed else None, state)
    if not lines and cell:
        raise InputError(f"runs {what}: nothing of it is stored. `whisq-study runs {table}` lists what is.")
    return lines


def known(name: str, names: Sequence[str]) -> str:
    """What may be meant by a name that no table has."""
    return did_you_mean(name, names) if names else "It holds none."


def find_run(database: Database, what: str) -> Run:
    """The only run that a name stands for, as `look_up` takes them.

    Raises
    ------
    InputError
        When there is none, or there are several.
    """
    found = _stored(database, what, None, "")
    if isinstance(found, Run):
        return found
    if len(found) != 1:
        raise InputError(f"runs {what}: {len(found)} runs, and one is needed. `whisq-study runs {what}` lists them.")
    return database.runs([found[0].run_id])[found[0].run_id]


def described(run: Run) -> dict[str, Any]:
    """A run as JSON-ready values: settings, metrics by split, curve, and where and with what it was made."""
    values = asdict(run)
    scored = values.pop("scored")
    return {
        **values,
        "finished_at": _time(run.finished_at),
        "metrics": {split: {name: _finite(v) for name, v in part["metrics"].items()} for split, part in scored.items()},
    }


def run_text(run: Run) -> str:
    """A run for a reader: what it is, its metrics, its curve, its settings, its manifest."""
    lines = [f"run {run.run_id}: table '{run.table_name}', row '{run.row}', seed {run.seed}, {run.state}"]
    lines += [f"reason: {run.reason}"] if run.reason else []
    lines.append(f"finished {_time(run.finished_at)} after {run.seconds:.1f} s")
    for split, part in run.scored.items():
        lines += ["", f"metrics on {split} ({len(part.predicted)} clips):"]
        lines += [f"  {name:<26} {value:.4f}" for name, value in part.metrics.items()]
    if run.curve:
        shown = [*run.curve[:: max(1, len(run.curve) // 10)], run.curve[-1]]
        lines += ["", "curve:", *(f"  epoch {int(at['epoch']):>4}  loss {at['loss']:.6f}" for at in _distinct(shown))]
    lines += ["", "settings:", *(f"  {name}: {value}" for name, value in run.identity.items())]
    lines += ["", "made with:", *(f"  {name}: {_short(value)}" for name, value in run.manifest.items())]
    return "\n".join(lines)


def repeat(run: Run, data: Path, features: Path) -> str:
    """Train a stored run again, compare its predictions bit by bit, and say so; nothing is stored.

    Raises
    ------
    InputError
        When corpus, features or program are not those of the run, or the predictions differ.
    """
    if run.state != "done":
        raise InputError(f"run {run.run_id}: it has failed ({run.reason}), so there is nothing to compare with.")
    workspace, spec = Workspace(data, features), spec_of(run)
    identity = identify(spec, workspace)
    if identity.run_id != run.run_id:
        lines = "; ".join(differences(identity.parts, run.identity))
        raise InputError(f"run {run.run_id}: cannot be repeated here, since something else is not as it was: {lines}.")
    task = Task(run.run_id, f"{run.row} seed {run.seed}", spec, run.table_name, run.row)
    with task_progress("repeat", 1):
        again = execute(task, workspace)
    for split, part in run.scored.items():
        ours, theirs = again.scored[split].predicted, part.predicted
        if not np.array_equal(ours.view(np.uint64), theirs.view(np.uint64)):
            raise InputError(
                f"run {run.run_id}: not bit-identical on {split}: predictions differ by up to "
                f"{np.abs(ours - theirs).max():.3g}. Stored: {_made(run.manifest)}; here: {_made(again.manifest)}."
            )
    clips = sum(len(part.predicted) for part in run.scored.values())
    return f"run {run.run_id}: trained again in {again.seconds:.1f} s, {clips} predictions bit-identical"


def spec_of(run: Run) -> RunSpec:
    """The settings that a run was made with."""
    settings = {n: v for n, v in run.identity.items() if n == "seed" or n.partition(".")[0] in RunSpec.model_fields}
    spec = RunSpec.model_validate(nested(settings))
    convention = run.details.get("system_truth", spec.data.system_truth)
    return spec.model_copy(update={"data": spec.data.model_copy(update={"system_truth": convention})})


def as_json(frame: pd.DataFrame) -> str:
    """A list as JSON: an object for each line."""
    text: str = frame.to_json(orient="records", indent=1)
    return text


def _values(database: Database, metric: str, lines: Sequence[RunLine]) -> list[float]:
    """The metric of each run; that of a plug-in, which is never stored, from its predictions."""
    found = {line.run_id: line.value for line in lines}
    for distribution in brought([metric]).values():
        log(f"{metric}: computed now, from stored predictions, by {distribution}")
        corpus_of = cache(database.corpus)
        for run_id, run in database.runs(list(found)).items():
            values = [_measured(run, part, metric, corpus_of) for part in run.scored.values()]
            found[run_id] = min(values, default=None)  # as `list_runs`
    return [float("nan") if value is None else round(value, 4) for value in found.values()]


def _measured(run: Run, part: Scored, metric: str, corpus_of: Callable[[str], StoredCorpus]) -> float:
    corpus = corpus_of(run.identity["corpus"])
    systems = corpus.clips["system"].iloc[part.clip_indices]
    truth = system_truth(corpus.name, corpus.system_mos, run.details.get("system_truth", "clips"), systems)
    return part.measured([metric], corpus.clips, truth)[metric]


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M") if seconds else ""


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _distinct(lines: Sequence[dict[str, float]]) -> list[dict[str, float]]:
    return list({line["epoch"]: line for line in lines}.values())


def _short(value: object) -> str:
    return json.dumps(value) if isinstance(value, dict | list) else str(value)


def _made(manifest: dict[str, Any]) -> str:
    torch = manifest.get("packages", {}).get("torch")
    return f"{manifest.get('processor')}, {manifest.get('kernels')} kernels, torch {torch}"
