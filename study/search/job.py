"""One trial of a search in a worker: propose, train, report each few epochs, store, close."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import DBAPIError

from study.config.search_space import Search, suggest
from study.dashboard.artifacts import artifact_folder, attach_run, show_metrics
from study.engine.patient_storage import PatientStorage, patiently
from study.engine.provenance import manifest
from study.engine.queue import owns, worker_name
from study.engine.runs import Outcome, Workspace, execute, identify, score, stored
from study.engine.workers import Emit, Event
from study.search.bad_trials import failure, too_many_failures
from study.search.objective import objective_name, objective_value, stride
from study.search.sampler import TicketSampler, make_pruner
from study.search.study import top_up
from study.store.database import Database
from study.store.records import StoredRun
from whisq_core.corpus.table import split
from whisq_core.errors import InputError
from whisq_core.spec import RunSpec, with_settings


@dataclass(frozen=True)
class SearchJob:
    """What each worker process of a search needs to know.

    `spec` is the row that is tuned, resolved, with the seed and the scored split of the search. Trials numbered
    `total` and above are not wanted, and none after `deadline` (seconds since the epoch). `old_failures` are the
    trials that had failed before this command began.
    """

    study_name: str
    row: str
    spec: RunSpec
    search: Search
    seed: int
    data: Path
    features: Path
    total: int
    workers: int = 1
    deadline: float = math.inf
    old_failures: frozenset[int] = frozenset()

    def wants(self, trial: FrozenTrial) -> bool:
        """Slots below the total, until the time is over."""
        return trial.number < self.total and time.time() < self.deadline

    def load(self, storage: RDBStorage, worker: int) -> optuna.Study:
        """The study with sampler and pruner, on a storage that outlives a lost connection."""
        return optuna.load_study(
            study_name=self.study_name,
            storage=PatientStorage(storage),
            sampler=TicketSampler(self.search.sampler, self.seed),
            pruner=make_pruner(self.search.pruner, self.spec.train.epochs),
        )

    def open(self, study: optuna.Study, database: Database, worker: int) -> "SearchSession":
        """Open the corpus in this process and take this worker's share of the GPU."""
        _share_gpu(self.spec, self.workers)
        workspace = Workspace(self.data, self.features)
        clips = split(workspace.corpus, self.spec.data).score[self.search.score]
        return SearchSession(self, study, database, worker, workspace, clips, manifest(corpus=workspace.digest))


@dataclass(frozen=True)
class SearchSession:
    """Runs the trials of one process; `scored_clips` are the rows of the corpus on which they are judged."""

    job: SearchJob
    study: optuna.Study
    database: Database
    worker: int
    workspace: Workspace
    scored_clips: np.ndarray
    manifest: dict[str, Any]

    def perform(self, trial: optuna.Trial, emit: Emit) -> None:
        """Run one trial to its end.

        Raises:
            InputError: when so many trials have failed one after the other that the next would too.
        """
        title = f"trial {trial.number}"
        emit(Event("start", self.worker, title))
        top_up(self.study, self.database, self.job.total)
        try:
            text = self._run(trial, title, emit)
        except UpdateFinishedTrialError:  # we were silent for too long: another worker has finished this trial
            return emit(Event("done", self.worker, title, text="finished by another worker"))
        except (DBAPIError, StorageInternalError):  # the database stayed away: the trial itself is not to blame
            raise
        except optuna.TrialPruned as pruned:
            self._close(trial, TrialState.PRUNED, _last_report(trial), str(pruned))
            return emit(Event("pruned", self.worker, title, text=str(pruned)))
        except Exception as error:  # a trial's failure is its own: the others still run
            reason = failure(error, trial, self.study, self.job.search, self.job.spec)
            self._fail(trial, reason)
            return emit(Event("failed", self.worker, title, text=reason))
        return emit(Event("done", self.worker, title, text=text))

    def abandon(self, trial: optuna.Trial, reason: str) -> None:
        """Fail a trial that kills its workers."""
        top_up(self.study, self.database, self.job.total)
        self._fail(trial, reason)

    def _run(self, trial: optuna.Trial, title: str, emit: Emit) -> str:
        """Train unless this very run is stored, and close the trial with its value; returns what to tell the user."""
        from whisq_core.training import Diverged

        spec = with_settings(self.job.spec, suggest(trial, self.job.search.space))
        identity = identify(spec, self.workspace)
        trial.set_user_attr("seed", spec.seed)
        trial.set_user_attr("run_id", identity.run_id)
        run, text = self._stored(identity.run_id), "stored already"
        if run is None:
            watch = _Watch(self, trial, spec, lambda step, text: emit(self._epoch(title, spec, step, text)))
            try:
                outcome = execute(spec, self.workspace, watch, watch=self.job.search.score)
            except Diverged as diverged:  # a wrong learning rate, and the sampler should learn so
                watch.report(diverged.epoch, math.nan)
                raise optuna.TrialPruned(str(diverged)) from None
            outcome = watch.with_scores(outcome)
            names = {"table_name": self.job.study_name, "row": self.job.row}
            run = stored(identity, outcome, **names, seed=spec.seed, manifest=self.manifest)
            self.database.save_run(run)
            text = f"{outcome.seconds:.1f} s"
        value = self._finish(trial, run)
        return f"{objective_name(self.job.search.objective)} {value:.4f}  {text}"

    def _epoch(self, title: str, spec: RunSpec, step: int, text: str) -> Event:
        return Event("epoch", self.worker, title, step, spec.train.epochs, text)

    def _stored(self, run_id: str) -> StoredRun | None:
        """The run of this very configuration, when it has been trained before: by a trial, or a worker that died."""
        if patiently(lambda: self.database.state_of(run_id)) != "done":
            return None
        return patiently(lambda: self.database.runs([run_id])[run_id])

    def _finish(self, trial: optuna.Trial, run: StoredRun) -> float:
        """Show a stored run in Optuna and complete its trial.

        Raises:
            optuna.TrialPruned: when the objective is undefined.
        """
        search, metrics = self.job.search, run.scored[self.job.search.score].metrics
        reported = trial.storage.get_trial(trial._trial_id).intermediate_values
        for line in run.curve:
            step = int(line["epoch"])
            if set(search.objective) <= set(line) and step not in reported:  # trained before this trial
                trial.report(objective_value(_numbers(line), search.objective), step)
        show_metrics(trial, metrics, self.database)
        attach_run(trial, run, self.workspace.corpus.clips, artifact_folder(self.database.url))
        value = objective_value(metrics, search.objective)
        if math.isnan(value):
            why = "predictions are constant, or clips are too few"
            raise optuna.TrialPruned(f"{objective_name(search.objective)} is undefined: {why}")
        self._close(trial, TrialState.COMPLETE, value)
        return value

    def _fail(self, trial: optuna.Trial, reason: str) -> None:
        self._close(trial, TrialState.FAIL, None, reason)
        stop = too_many_failures(self.study, self.job.old_failures)
        if stop:
            raise InputError(stop)

    def _close(self, trial: optuna.Trial, state: TrialState, value: float | None, reason: str | None = None) -> None:
        """End the trial unless another worker has taken it over while this one was silent."""
        if not owns(trial, worker_name()):
            return
        if reason is not None:
            trial.set_user_attr("reason", reason)
        trial.storage.set_trial_state_values(trial._trial_id, state, None if value is None else [value])


class _Watch:
    """Follows one training: scores its predictions every few epochs, reports the objective, and obeys the pruner."""

    def __init__(
        self, session: SearchSession, trial: optuna.Trial, spec: RunSpec, show: Callable[[int, str], None]
    ) -> None:
        self._session, self._trial, self._spec, self._show = session, trial, spec, show
        self._search = session.job.search
        self._every = stride(session.job.spec.train.epochs)  # the same in all trials: pruners compare equal steps
        self._reported = set(trial.storage.get_trial(trial._trial_id).intermediate_values)
        self._scores: dict[int, dict[str, float]] = {}

    def __call__(self, record: Any, predicted: np.ndarray | None) -> None:
        """After each epoch.

        Raises:
            optuna.TrialPruned: with the reason.
        """
        assert predicted is not None, "the scored split is watched"
        last = record.epoch == self._spec.train.epochs
        if record.epoch % self._every and not last:
            return self._show(record.epoch, f"loss {record.loss:.4f}")
        session, objective = self._session, self._search.objective
        metrics = score(session.scored_clips, predicted, session.workspace, self._spec).metrics
        self._scores[record.epoch] = {name: metrics[name] for name in objective}
        value = objective_value(metrics, objective)
        self._show(record.epoch, f"{objective_name(objective)} {value:.4f}")
        self.report(record.epoch, value)
        if not last and self._trial.should_prune():
            why = f"was {value:.4f}" if math.isfinite(value) else "was undefined"
            name = objective_name(objective)
            raise optuna.TrialPruned(f"{self._search.pruner} pruner: {name} {why} in epoch {record.epoch}")
        return None

    def report(self, step: int, value: float) -> None:
        """Tell Optuna, unless a worker that died over this trial has told it."""
        if step not in self._reported:
            self._trial.report(value, step)

    def with_scores(self, outcome: Outcome) -> Outcome:
        """`outcome` with the watched scores in its learning curve."""
        curve = [{**line, **self._scores.get(int(line["epoch"]), {})} for line in outcome.curve]
        return replace(outcome, curve=curve)


def _share_gpu(spec: RunSpec, workers: int) -> None:
    """Let one of `workers` processes use its share of the GPU's memory, so that one cannot starve the others."""
    if spec.train.device == "cuda" and workers > 1:
        import torch

        torch.cuda.set_per_process_memory_fraction(1 / workers)


def _last_report(trial: optuna.Trial) -> float | None:
    """The last objective that a pruned trial reported, as Optuna itself keeps it."""
    reports = trial.storage.get_trial(trial._trial_id).intermediate_values
    last = reports[max(reports)] if reports else math.nan
    return last if math.isfinite(last) else None


def _numbers(line: dict[str, Any]) -> dict[str, float]:
    """A stored line of a learning curve: undefined numbers are null there."""
    return {name: math.nan if value is None else float(value) for name, value in line.items()}
