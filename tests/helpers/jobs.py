"""A job of tiny tickets for tests of queue and workers: each writes one line to a file when it is performed."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from study.engine.workers import Emit, Event

from study.store.database import Database


@dataclass(frozen=True)
class TinyJob:
    study_name: str
    log: Path
    seconds: float = 0.0
    poison: int = -1  # the ticket number that kills its worker

    def wants(self, trial: FrozenTrial) -> bool:
        return True

    def load(self, storage: RDBStorage, worker: int) -> optuna.Study:
        return optuna.load_study(study_name=self.study_name, storage=storage, sampler=optuna.samplers.RandomSampler())

    def open(self, study: optuna.Study, database: Database, worker: int) -> "TinySession":
        return TinySession(self, worker)


@dataclass(frozen=True)
class TinySession:
    job: TinyJob
    worker: int

    def perform(self, trial: optuna.Trial, emit: Emit) -> None:
        if trial.number == self.job.poison:
            os.kill(os.getpid(), signal.SIGKILL)
        x = trial.suggest_float("x", 0.0, 1.0)
        emit(Event("start", self.worker, str(trial.number)))
        time.sleep(self.job.seconds)
        with open(self.job.log, "a") as log:
            log.write(f"{trial.number} {os.getpid()} {x}\n")
        trial.storage.set_trial_state_values(trial._trial_id, TrialState.COMPLETE, [x])
        emit(Event("done", self.worker, str(trial.number), text=str(os.getpid())))

    def abandon(self, trial: optuna.Trial, reason: str) -> None:
        trial.set_user_attr("reason", reason)
        trial.storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
