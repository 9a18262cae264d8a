"""The trials of a search as a stream of tasks: asks Optuna for the next one and tells it what came of it."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import optuna
from optuna.trial import TrialState

from study.dashboard import attach_run, retried, shown_metrics
from study.engine import Failure, Jobs, Task, Watch, Workspace, identify, metrics_of
from study.search.objective import objective_name, objective_value, stride
from study.search.params import shown_settings, suggest
from study.search.sampler import fixed_sampler, make_sampler
from study.search.study import SearchPlan, finished_trials, settings_of, trials_by_state, wanted_params
from study.store import Database, Run
from whisq_core.errors import InputError
from whisq_core.metrics import brought
from whisq_core.spec import with_settings

MAX_FAILURES = 10  # in a row: the next would fail for the same reason


@dataclass
class _Running:
    """A training, the trials that wait for it (several where equal settings were proposed), and what they know."""

    trials: list[optuna.Trial]
    last_epoch: int = 0


class SearchJobs(Jobs):
    """Trials until `total` have finished, none begun after `deadline` (seconds since the epoch).

    Each call leaves Optuna's storage in a state that the next start of the same search can go on from.
    """

    ahead = 0  # a trial is proposed when a worker is free: it then knows the most

    def __init__(
        self, study: optuna.Study, plan: SearchPlan, workspace: Workspace, database: Database, total: int,
        deadline: float = math.inf,
    ) -> None:  # fmt: skip
        self._study, self._plan, self._search = study, plan, plan.search
        self._workspace, self._database = workspace, database
        self._total, self._deadline = total, deadline
        self._wanted = wanted_params(study, plan.search)
        self._begun = len(finished_trials(study))  # trials that have finished or run now
        self._running: dict[str, _Running] = {}
        pruned = trials_by_state(study).get("pruned", ())
        self._pruned = {trial.user_attrs.get("run_id"): trial.number for trial in pruned}
        self._failures = 0  # in a row, in this command
        self._watch = Watch(plan.search.score, plan.search.objective, stride(plan.spec.train.epochs))

    def next(self) -> Task | None:
        """The next trial that needs a training; one whose run is stored is finished on the way."""
        while self._begun < self._total and time.time() < self._deadline:
            trial = self._ask()
            try:
                settings = retried(partial(suggest, trial, self._search.space))
                spec = with_settings(self._plan.spec, settings)
                identity = identify(spec, self._workspace)
            except InputError as error:  # settings that exclude each other
                self._fail([trial], " ".join(error.mistakes))
                continue
            self._set(trial, seed=spec.seed, run_id=identity.run_id)
            if identity.run_id in self._running:
                self._running[identity.run_id].trials.append(trial)
            elif self._database.state_of(identity.run_id) == "done":
                self._finish(trial, self._database.runs([identity.run_id])[identity.run_id])
            elif identity.run_id in self._pruned:
                self._prune([trial], f"has the settings of trial {self._pruned[identity.run_id]}, which was pruned")
            else:
                self._running[identity.run_id] = _Running([trial])
                title, row = f"trial {trial.number} ({shown_settings(settings)})", self._plan.row.id
                return Task(identity.run_id, title, spec, self._plan.name, row, self._watch)
        return None

    def report(self, task: Task, epoch: int, metrics: dict[str, float]) -> str | None:
        """Report the objective and ask the pruner."""
        running = self._running[task.run_id]
        if epoch <= running.last_epoch:  # the training began again after its worker was killed
            return None
        running.last_epoch = epoch
        value, (trial, *_) = objective_value(metrics, self._search.objective), running.trials
        retried(partial(trial.report, value, epoch))
        if epoch == task.spec.train.epochs or not retried(trial.should_prune):
            return None
        why = f"was {value:.4f}" if math.isfinite(value) else "was undefined"
        return f"{self._search.pruner} pruner: {objective_name(self._search.objective)} {why} in epoch {epoch}"

    def done(self, task: Task, run: Run) -> str:
        """Finish the trials of a run that has just been stored."""
        running = self._running.pop(task.run_id)
        first, *others = running.trials
        text = self._finish(first, run, running.last_epoch)
        for other in others:
            self._finish(other, run)
        return text

    def failed(self, task: Task, failure: Failure) -> None:
        """Close the trials of a training without a run; one that diverged is pruned too: the sampler learns from it."""
        running = self._running.pop(task.run_id)
        if failure.kind == "stopped":
            self._prune(running.trials, failure.reason)
        elif failure.kind == "diverged":
            epoch = max(failure.epoch or 0, running.last_epoch + 1)
            retried(partial(running.trials[0].report, math.nan, epoch))
            self._prune(running.trials, failure.reason)
        elif failure.kind == "out_of_memory":
            self._fail(running.trials, self._out_of_memory(task, failure.reason))
        else:
            self._fail(running.trials, failure.reason)

    def _ask(self) -> optuna.Trial:
        sampled = make_sampler(self._search.sampler, self._plan.seed, self._begun)
        self._study.sampler = fixed_sampler(self._wanted.pop(0)) if self._wanted else sampled
        trial = retried(self._study.ask)
        self._begun += 1
        return trial

    def _finish(self, trial: optuna.Trial, run: Run, last_epoch: int = 0) -> str:
        """Complete a trial with a stored run; returns what to tell the user."""
        objective, name = self._search.objective, objective_name(self._search.objective)
        for line in run.curve:
            # Trained for another trial; a plug-in's values may be those of another version.
            if line["epoch"] > last_epoch and set(objective) <= set(line) and not brought(objective):
                retried(partial(trial.report, objective_value(line, objective), int(line["epoch"])))
        metrics = metrics_of(run.scored[self._search.score], objective, self._workspace, self._plan.spec)
        self._set(trial, **shown_metrics(metrics))
        retried(partial(attach_run, trial, run, self._workspace.corpus.clips, self._database.url))
        value = objective_value(metrics, objective)
        if math.isnan(value):
            self._prune([trial], f"{name} is undefined: predictions are constant, or clips are too few")
            return f"{name} is undefined"
        self._tell(trial, TrialState.COMPLETE, value)
        self._failures = 0
        best = retried(lambda: self._study.best_trial)
        return f"{name} {value:.4f}, best so far {best.value:.4f} (trial {best.number})"

    def _prune(self, trials: Sequence[optuna.Trial], reason: str) -> None:
        self._failures = 0
        for trial in trials:
            self._set(trial, reason=reason)
            self._tell(trial, TrialState.PRUNED)
            self._pruned.setdefault(trial.user_attrs["run_id"], trial.number)

    def _fail(self, trials: Sequence[optuna.Trial], reason: str) -> None:
        for trial in trials:
            self._set(trial, reason=reason)
            self._tell(trial, TrialState.FAIL)
        self._failures += len(trials)
        if self._failures >= MAX_FAILURES:
            raise InputError(
                f"study '{self._plan.name}': {self._failures} trials failed in a row, so the search stops. The last: "
                f"{reason.rstrip('.')}. Mend that and run the same command again: it goes on where it stopped."
            )

    def _set(self, trial: optuna.Trial, **attributes: object) -> None:
        for name, value in attributes.items():
            retried(partial(trial.set_user_attr, name, value))

    def _tell(self, trial: optuna.Trial, state: TrialState, value: float | None = None) -> None:
        """Close a trial; one that was closed, but whose answer was lost, is found closed."""
        retried(partial(self._study.tell, trial, value, state=state, skip_if_finished=True))

    def _out_of_memory(self, task: Task, reason: str) -> str:
        """The reason, with a batch size that has fitted in this study where there is one."""
        batch = task.spec.train.batch_size
        trials = [trial for trial in finished_trials(self._study) if trial.state != TrialState.FAIL]
        fitted = [settings_of(trial, self._search).get("train.batch_size", batch) for trial in trials]
        smaller = [size for size in fitted if size < batch]
        if not smaller:
            return reason
        advice = f"{max(smaller)} has fitted in this study, or fewer --workers"
        return f"out of memory with train.batch_size {batch}: {advice}"
