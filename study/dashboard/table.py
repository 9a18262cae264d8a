"""A table as a study of the dashboard: a view of the stored runs, one finished trial for each cell.

Optuna cannot change a finished trial, nor add a choice to a parameter: a study that no longer fits is made anew, of
the trials that still do.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from study.dashboard.artifacts import attach_run, remove_files, shown_metrics
from study.dashboard.storage import open_storage, open_study, retried
from study.interrupts import heed_now
from study.results import TableResults
from study.store import Database, Run
from study.terminal import log
from whisq_core.metrics import brought

_KIND = "ablation"
_SHOWS = "shows"  # study attribute: metric, split, rows, seeds; a study of an older version has none
_SUPERSEDED = "superseded"  # trial attribute: why the table shows it no more
_MAX_REPORTS = 20  # intermediate values of a trial; the whole curve is in its curve.csv
_BATCH = 200  # cells read at a time

Key = tuple[str, int]
Columns = dict[str, BaseDistribution]


def show_table(database: Database, results: TableResults) -> None:
    """Bring the study of a table up to date with its results; cells that it shows already stay as they are.

    The study has the table's name. Row and seed are its parameters, metrics its user attributes, the loss its curve. A
    cell that failed, or whose primary metric is undefined, is a failed trial with its reason; so is one that the table
    shows no more: its user attribute `superseded` says why.

    Raises
    ------
    InputError
        When the name belongs to a search.
    """
    storage = open_storage(database)
    retried(lambda: _reconcile(database, storage, results))


def _reconcile(database: Database, storage: RDBStorage, results: TableResults) -> None:
    metric, split = results.file.metric, results.split
    study = open_study(storage, results.file.name, _KIND, metric)
    before, trials = study.user_attrs.get(_SHOWS), study.get_trials()
    version = [*brought([metric]).values()]  # another one of a plug-in gives other values
    comparable = before is not None and [*before[:2], *before[4:]] == [metric, split, *version]
    cells = results.cells[results.cells["state"] != "missing"].assign(value=lambda frame: frame[metric])
    current = {(cell.row, cell.seed): cell for cell in cells.itertuples()}
    kept = {_key(trial): trial for trial in trials if comparable and _is_current(trial, current)}
    shown = {trial.number for trial in kept.values()}
    showing = {cell.run_id for cell in current.values()}  # a failed or superseded trial of one of these is done anew
    old = [
        trial
        for trial in trials
        if comparable
        and trial.number not in shown
        and trial.state.is_finished()
        and trial.user_attrs["run_id"] not in showing
    ]
    rows = list(dict.fromkeys([*(row.id for row in results.file.rows), *(_key(trial)[0] for trial in old)]))
    seeds = [*results.cells["seed"].tolist(), *(_key(trial)[1] for trial in old)]
    columns: Columns = {"row": CategoricalDistribution(rows), "seed": IntDistribution(min(seeds), max(seeds))}
    shows = [metric, split, rows, [min(seeds), max(seeds)], *version]
    marked = [trial for trial in old if _SUPERSEDED in trial.user_attrs]
    if before != shows or len(kept) + len(marked) < len(trials):
        for trial in trials:
            trial.distributions = columns
            if trial not in old and trial.number not in shown:
                remove_files(trial, database.url, storage)
        superseded = [_superseded(trial, results, columns) for trial in old]
        study = rebuilt(study, storage, database.url, [*kept.values(), *superseded], shows)
    _add(study, storage, database, results, [cell for key, cell in current.items() if key not in kept], columns)


def _add(
    study: optuna.Study, storage: RDBStorage, database: Database, results: TableResults, cells: Sequence[Any],
    columns: Columns,
) -> None:  # fmt: skip
    """Add a trial with its files for each of some cells."""
    metric, split, clips = results.file.metric, results.split, results.corpus.clips
    for start in range(0, len(cells), _BATCH):
        if len(cells) > _BATCH:  # each takes about 65 ms
            log(f"the dashboard shows {start} of {len(cells)} new cells")
        batch = cells[start : start + _BATCH]
        runs = database.runs([cell.run_id for cell in batch if cell.run_id])
        study.add_trials(_begun(cell, runs.get(cell.run_id or ""), metric, split, columns) for cell in batch)
        values = {cell.run_id: cell.value for cell in batch}
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):  # only these can be given files
            heed_now()
            run = runs.get(trial.user_attrs["run_id"])
            if run is not None and run.state == "done":
                attach_run(trial, run, clips, database.url, storage)
            if "reason" in trial.user_attrs:
                study.tell(trial.number, state=TrialState.FAIL)
            else:
                assert run is not None, "what has no run has a reason"
                study.tell(trial.number, values[run.run_id])


def _superseded(trial: FrozenTrial, results: TableResults, columns: Columns) -> FrozenTrial:
    """A trial that the table shows no more, with the reason: it keeps its files and loses its value."""
    row, seed = _key(trial)
    cell = next((cell for cell in results.cells.itertuples() if (cell.row, cell.seed) == (row, seed)), None)
    why = "the table has no such cell any more" if cell is None else cell.reason or f"run {cell.run_id} is in its place"
    return optuna.create_trial(
        state=TrialState.FAIL,
        params=trial.params,
        distributions=columns,
        user_attrs={_SUPERSEDED: why, **trial.user_attrs},
        system_attrs=trial.system_attrs,
        intermediate_values=trial.intermediate_values,
    )


def remove_study(database: Database, name: str, row: str | None = None) -> None:
    """Remove the study of a table or search, or of a table the trials of one row, with their files, where it is."""
    storage = open_storage(database)

    def remove() -> None:
        if name not in optuna.get_all_study_names(storage):
            return
        study = optuna.load_study(study_name=name, storage=storage)
        stays = {trial.number: row is not None and _key(trial)[0] != row for trial in study.get_trials(deepcopy=False)}
        for trial in study.get_trials(deepcopy=False):
            if not stays[trial.number]:
                remove_files(trial, database.url, storage)
        if row is not None:
            rebuilt(study, storage, database.url, [trial for trial in study.get_trials() if stays[trial.number]])
        else:
            remove_files(study, database.url, storage)
            optuna.delete_study(study_name=name, storage=storage)

    retried(remove)


def rebuilt(
    study: optuna.Study, storage: RDBStorage, url: str, trials: Iterable[FrozenTrial] | None = None, shows: Any = None
) -> optuna.Study:
    """The view of a table made anew, by default as it is but without note, figures and files of its own."""
    attributes = study.user_attrs
    assert attributes["kind"] == _KIND, "a search cannot be made anew"
    shows, kept = shows or attributes[_SHOWS], list(study.get_trials() if trials is None else trials)
    remove_files(study, url, storage)
    optuna.delete_study(study_name=study.study_name, storage=storage)
    study = open_study(storage, study.study_name, _KIND, shows[0])
    study.set_user_attr(_SHOWS, shows)
    study.add_trials(kept)
    return study


def _key(trial: FrozenTrial) -> Key:
    return trial.params["row"], trial.params["seed"]


def _is_current(trial: FrozenTrial, cells: Mapping[Key, Any]) -> bool:
    """Whether a trial shows what its cell is now; one that had failed may be done since."""
    cell, shown = cells.get(_key(trial)), trial.user_attrs
    if cell is None or _SUPERSEDED in shown or not trial.state.is_finished():
        return False
    return (cell.run_id, cell.state) == (shown["run_id"], shown["state"])


def _begun(cell: Any, run: Run | None, metric: str, split: str, columns: Columns) -> FrozenTrial:
    """A running trial with all that is known of a cell of `TableResults` but files and value."""
    metrics = run.scored[split].metrics | {metric: cell.value} if run is not None and cell.state == "done" else {}
    reason = cell.reason
    if metrics and math.isnan(metrics[metric]):
        reason = f"{metric} is undefined for constant predictions"
    attributes = {"run_id": cell.run_id, "state": cell.state, **({"reason": reason} if reason else {})}
    return optuna.create_trial(
        state=TrialState.RUNNING,
        params={"row": cell.row, "seed": cell.seed},
        distributions=columns,
        user_attrs={**attributes, **shown_metrics(metrics)},
        intermediate_values=_thinned(run.curve) if run is not None else {},
    )


def _thinned(curve: Sequence[Mapping[str, float]]) -> dict[int, float]:
    stride = max(1, math.ceil(len(curve) / _MAX_REPORTS))
    return {int(record["epoch"]): record["loss"] for record in curve[::-stride]}
