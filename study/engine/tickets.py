"""The tickets of an ablation: one Optuna trial per cell, enqueued once, run by any worker."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from study.dashboard.artifacts import artifact_folder, attach_run, show_metrics
from study.engine.failures import failure_reason
from study.engine.patient_storage import PatientStorage
from study.engine.plan import PlannedCell
from study.engine.provenance import manifest
from study.engine.queue import open_storage, owns, unfinished, worker_name
from study.engine.runs import Identity, Workspace, execute, stored
from study.engine.workers import Emit, Event
from study.store.database import Database
from study.store.records import StoredRun
from whisq_core.errors import InputError
from whisq_core.metrics import higher_is_better
from whisq_core.spec import RunSpec

_TICKET = "whisq:ticket"  # the system attribute that holds the resolved spec of a cell
_MAX_REPORTS = 20  # intermediate values per cell in Optuna; the whole curve is in our own table


def create_study(database: Database, name: str, metric: str, kind: str) -> optuna.Study:
    """Create or load the Optuna study of a table or a search; `kind` is "ablation" or "search".

    Raises:
        InputError: when the name belongs to a study of the other kind.
    """
    storage = open_storage(database)
    with database.exclusive():
        direction = StudyDirection.MAXIMIZE if higher_is_better(metric) else StudyDirection.MINIMIZE
        study = optuna.create_study(study_name=name, storage=storage, direction=direction, load_if_exists=True)
        found = study.user_attrs.get("kind")
        if found is None:
            study.set_user_attr("kind", kind)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                study.set_metric_names([metric])
        elif found != kind:
            raise InputError(
                f"storage '{database.masked_url}': study '{name}' is a {found}, not a {kind}. Give another name."
            )
    return study


def enqueue(study: optuna.Study, database: Database, cells: Sequence[PlannedCell]) -> int:
    """Put the cells that are not queued yet into the queue, in the order given; returns how many were new there."""
    with database.exclusive():
        queued = set(open_run_ids(study))
        added = 0
        for planned in cells:
            cell = planned.cell
            assert cell.identity is not None, "a cell without identity cannot run"
            if cell.identity.run_id in queued:
                continue
            study.add_trial(
                optuna.create_trial(
                    state=TrialState.WAITING,
                    user_attrs={"row": cell.row.id, "seed": cell.seed, "run_id": cell.identity.run_id},
                    system_attrs={
                        "fixed_params": {},
                        _TICKET: {"spec": cell.spec.model_dump(mode="json"), "identity": cell.identity.parts},
                    },
                )
            )
            queued.add(cell.identity.run_id)
            added += 1
    return added


def open_run_ids(study: optuna.Study) -> frozenset[str]:
    """The runs whose tickets wait or run."""
    return frozenset(trial.user_attrs["run_id"] for trial in unfinished(study, lambda _: True))


@dataclass(frozen=True)
class AblationJob:
    """What each worker process of `ablate` needs to know."""

    study_name: str
    table_name: str
    data: Path
    features: Path
    metric: str
    split: str
    run_ids: frozenset[str]
    models: Path | None = None

    def wants(self, trial: FrozenTrial) -> bool:
        """Only the cells asked for; others may wait in the same study."""
        return trial.user_attrs.get("run_id") in self.run_ids

    def load(self, storage: RDBStorage, worker: int) -> optuna.Study:
        """The study; a cell samples nothing, so the cheapest sampler serves."""
        return optuna.load_study(
            study_name=self.study_name,
            storage=PatientStorage(storage),
            sampler=optuna.samplers.RandomSampler(seed=worker),
        )

    def open(self, study: optuna.Study, database: Database, worker: int) -> "AblationSession":
        """Open the corpus in this process."""
        return AblationSession(self, study, database, worker, Workspace(self.data, self.features))


@dataclass(frozen=True)
class AblationSession:
    """Runs cells one after the other in one process."""

    job: AblationJob
    study: optuna.Study
    database: Database
    worker: int
    workspace: Workspace

    def perform(self, trial: optuna.Trial, emit: Emit) -> None:
        """Run one cell, store it, and only then close its ticket."""
        row, seed, identity, spec = self._read(trial)
        title = f"{row} seed {seed}"
        emit(Event("start", self.worker, title))
        if self.database.state_of(identity.run_id) == "done":
            self._close(trial, self.database.runs([identity.run_id])[identity.run_id])
            return emit(Event("done", self.worker, title, text="stored already"))

        def on_epoch(record: Any, _predictions: np.ndarray | None) -> None:
            emit(Event("epoch", self.worker, title, record.epoch, spec.train.epochs, f"loss {record.loss:.4f}"))

        try:
            outcome = execute(spec, self.workspace, on_epoch)
        except Exception as error:  # a cell's failure is its own: the others still run
            reason = failure_reason(error)
            self._fail(trial, identity, row, seed, reason)
            return emit(Event("failed", self.worker, title, text=reason))
        run = stored(
            identity, outcome, table_name=self.job.table_name, row=row, seed=seed, manifest=manifest(**self._digests())
        )
        self.database.save_run(run)
        if self.job.models is not None and outcome.model is not None:
            from whisq_core.training import save

            save(self.job.models / identity.run_id, outcome.model)
        value = run.scored[self.job.split].metrics[self.job.metric]
        self._close(trial, run)
        return emit(Event("done", self.worker, title, text=f"{self.job.metric} {value:.4f}  {outcome.seconds:.1f} s"))

    def abandon(self, trial: optuna.Trial, reason: str) -> None:
        """Record a cell that kills its workers as failed."""
        row, seed, identity, _ = self._read(trial)
        self._fail(trial, identity, row, seed, reason)

    def _read(self, trial: optuna.Trial) -> tuple[str, int, Identity, RunSpec]:
        attrs, ticket = trial.user_attrs, trial.storage.get_trial(trial._trial_id).system_attrs[_TICKET]
        identity = Identity(attrs["run_id"], ticket["identity"])
        return attrs["row"], attrs["seed"], identity, RunSpec.model_validate(ticket["spec"])

    def _digests(self) -> dict[str, str]:
        return {"corpus": self.workspace.digest}

    def _fail(self, trial: optuna.Trial, identity: Identity, row: str, seed: int, reason: str) -> None:
        self.database.save_run(
            StoredRun(
                run_id=identity.run_id,
                table_name=self.job.table_name,
                row=row,
                seed=seed,
                state="failed",
                reason=reason,
                identity=identity.parts,
                manifest=manifest(**self._digests()),
            )
        )
        trial.set_user_attr("reason", reason)
        self._tell(trial, None, TrialState.FAIL)

    def _close(self, trial: optuna.Trial, run: StoredRun) -> None:
        """Show the run in Optuna: metrics, a thinned loss curve, and its value. An undefined value is PRUNED, not 0."""
        scored = run.scored[self.job.split]
        show_metrics(trial, scored.metrics, self.database)
        stride = max(1, math.ceil(len(run.curve) / _MAX_REPORTS))
        reported = trial.storage.get_trial(trial._trial_id).intermediate_values
        for record in run.curve[::-stride][::-1]:
            if int(record["epoch"]) not in reported:
                trial.report(record["loss"], step=int(record["epoch"]))
        attach_run(trial, run, self.workspace.corpus.clips, artifact_folder(self.database.url))
        value = scored.metrics[self.job.metric]
        if math.isnan(value):
            trial.set_user_attr("reason", f"{self.job.metric} is undefined for constant predictions")
            return self._tell(trial, None, TrialState.PRUNED)
        return self._tell(trial, value, TrialState.COMPLETE)

    def _tell(self, trial: optuna.Trial, value: float | None, state: TrialState) -> None:
        """Close the ticket unless another worker took it over while we were silent: its run is the same one."""
        if owns(trial, worker_name()):
            trial.storage.set_trial_state_values(trial._trial_id, state, None if value is None else [value])
