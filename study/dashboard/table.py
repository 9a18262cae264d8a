"""A table as a study of the dashboard: a view of the stored runs, one finished trial for each cell.

Optuna cannot change a finished trial, nor add a choice to a parameter: a study that no longer fits is made anew, of
the trials that still do.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from study.config import AblationFile
from study.dashboard.artifacts import attach_run, remove_files, shown_metrics
from study.dashboard.storage import open_storage, open_study, retried
from study.store import CellEntry, Database, Run

_KIND = "ablation"
_SHOWS = "shows"  # study attribute: metric, split, rows, seeds; a study of an older version has none
_MAX_REPORTS = 20  # intermediate values of a trial; the whole curve is in its curve.csv
_BATCH = 200  # cells read at a time

Key = tuple[str, int]
Columns = dict[str, BaseDistribution]


def show_table(database: Database, file: AblationFile) -> None:
    """Bring the study of a table up to date with its stored runs; cells that it shows already stay as they are.

    The study has the table's name. Row and seed are its parameters, metrics its user attributes, the loss its curve. A
    cell that failed, or whose primary metric is undefined, is a failed trial with its reason.

    Raises
    ------
    InputError
        When the name belongs to a search.
    """
    rows = [row.id for row in file.rows]
    cells = {key: entry for key, entry in database.cells(file.name).items() if key[0] in rows}
    if cells:
        storage = open_storage(database)
        retried(lambda: _reconcile(database, storage, file, cells))


def _reconcile(database: Database, storage: RDBStorage, file: AblationFile, cells: Mapping[Key, CellEntry]) -> None:
    metric, split = file.metric, file.base.data.scored[0]
    rows, seeds = [row.id for row in file.rows], [seed for _, seed in cells]
    columns: Columns = {"row": CategoricalDistribution(rows), "seed": IntDistribution(min(seeds), max(seeds))}
    shows = [metric, split, rows, [min(seeds), max(seeds)]]
    study = open_study(storage, file.name, _KIND, metric)
    before, trials = study.user_attrs.get(_SHOWS), study.get_trials()
    comparable = before is not None and before[:2] == shows[:2]
    kept = {_key(trial): trial for trial in trials if comparable and _is_current(trial, cells, database)}
    if before != shows or len(kept) < len(trials):
        numbers = {trial.number for trial in kept.values()}
        for trial in trials:
            trial.distributions = columns
            if trial.number not in numbers:
                remove_files(trial, database.url, storage)
        study = rebuilt(study, storage, kept.values(), shows)
    clips = cache(lambda digest: database.corpus(digest).clips)
    missing = [entry for key, entry in cells.items() if key not in kept]
    for start in range(0, len(missing), _BATCH):
        batch = missing[start : start + _BATCH]
        runs = database.runs([entry.run_id for entry in batch if entry.run_id])
        shown = [(entry, runs.get(entry.run_id or "")) for entry in batch]
        study.add_trials(_begun(entry, run, metric, split, columns) for entry, run in shown if run or entry.problem)
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):  # only these can be given files
            run = runs.get(trial.user_attrs["run_id"])
            if run is not None and run.state == "done":
                attach_run(trial, run, clips(run.identity["corpus"]), database.url, storage)
            if "reason" in trial.user_attrs:
                study.tell(trial.number, state=TrialState.FAIL)
            else:
                assert run is not None, "what has no run has a reason"
                study.tell(trial.number, run.scored[split].metrics[metric])


def rebuilt(
    study: optuna.Study, storage: RDBStorage, trials: Iterable[FrozenTrial] | None = None, shows: Any = None
) -> optuna.Study:
    """The view of a table made anew, by default as it is but without note and figures."""
    attributes = study.user_attrs
    assert attributes["kind"] == _KIND, "a search cannot be made anew"
    shows, kept = shows or attributes[_SHOWS], list(study.get_trials() if trials is None else trials)
    optuna.delete_study(study_name=study.study_name, storage=storage)
    study = open_study(storage, study.study_name, _KIND, shows[0])
    study.set_user_attr(_SHOWS, shows)
    study.add_trials(kept)
    return study


def _key(trial: FrozenTrial) -> Key:
    return trial.params["row"], trial.params["seed"]


def _is_current(trial: FrozenTrial, cells: Mapping[Key, CellEntry], database: Database) -> bool:
    """Whether a trial shows the run that its cell stands for now; one that had failed may be done since."""
    entry, run_id = cells.get(_key(trial)), trial.user_attrs["run_id"]
    if entry is None or entry.run_id != run_id or not trial.state.is_finished():
        return False
    return trial.user_attrs["state"] == "done" or run_id is None or database.state_of(run_id) != "done"


def _begun(entry: CellEntry, run: Run | None, metric: str, split: str, columns: Columns) -> FrozenTrial:
    """A running trial with all that is known of its cell but files and value."""
    state, reason = (run.state, run.reason) if run is not None else ("failed", entry.problem)
    metrics = run.scored[split].metrics if run is not None and state == "done" else {}
    if metrics and math.isnan(metrics[metric]):
        reason = f"{metric} is undefined for constant predictions"
    attributes = {"run_id": entry.run_id, "state": state, **({"reason": reason} if reason else {})}
    return optuna.create_trial(
        state=TrialState.RUNNING,
        params={"row": entry.row, "seed": entry.seed},
        distributions=columns,
        user_attrs={**attributes, **shown_metrics(metrics)},
        intermediate_values=_thinned(run.curve) if run is not None else {},
    )


def _thinned(curve: Sequence[Mapping[str, float]]) -> dict[int, float]:
    stride = max(1, math.ceil(len(curve) / _MAX_REPORTS))
    return {int(record["epoch"]): record["loss"] for record in curve[::-stride]}
