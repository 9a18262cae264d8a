"""What a search leaves behind: best.yaml, a table of its trials, and words for terminal and dashboard."""

import math
from dataclasses import dataclass
from pathlib import Path

import optuna
import pandas as pd

from study.config import settings_yaml
from study.search.held_out import HELD_OUT_SEEDS, TRIAL_SEED, Candidate
from study.search.importance import MIN_TRIALS, Importances
from study.search.objective import objective_name
from study.search.study import SearchPlan, finished_trials, settings_of, trials_by_state
from whisq_core.errors import inert
from whisq_core.files import write_atomically
from whisq_core.metrics import EXTRA, METRICS


@dataclass(frozen=True)
class SearchResult:
    """A search as it stands: its study, the candidates with both values, and the winner by the held-out one."""

    plan: SearchPlan
    study: optuna.Study
    simulated: bool
    num_found: int
    candidates: tuple[Candidate, ...]
    winner: Candidate | None

    @property
    def num_trials(self) -> int:
        """How many trials are finished, whatever their end."""
        return len(finished_trials(self.study))

    @property
    def counts(self) -> dict[str, int]:
        """Number of trials by state."""
        return {state: len(trials) for state, trials in trials_by_state(self.study).items()}


def write_best(result: SearchResult, folder: Path) -> Path | None:
    """Write trials.csv and, when there is a winner, best.yaml; an older best.yaml does not outlive its search."""
    write_atomically(folder / "trials.csv", [trials_frame(result).map(inert).to_csv(index=False).encode()])
    path = folder / "best.yaml"
    if result.winner is None:
        path.unlink(missing_ok=True)
        return None
    write_atomically(path, [best_yaml(result).encode()])
    return path


def best_yaml(result: SearchResult) -> str:
    """The winner's settings, ready for `--base`; comments say where they come from.

    The caller has made sure that there is a winner.
    """
    best, plan = result.winner, result.plan
    assert best is not None, "without a winner there is no best.yaml"
    seeds = ", ".join(map(str, HELD_OUT_SEEDS))
    comments = [
        f"Search '{plan.name}', row '{plan.row.id}', trial {best.number} of {result.num_trials}.",
        f"{objective_name(plan.search.objective)} on split '{plan.search.score}':",
        f"  search value   {best.search_value:.4f} (one seed, chosen as one of the best: too good)",
        f"  held-out value {best.mean:.4f} ± {best.sd:.4f} (mean and sd over seeds {seeds}, which no trial used)",
    ]
    if plan.search.score != "inner":
        comments.append(_selection_warning(plan))
    if result.simulated:
        comments.append("Simulated data: these settings say nothing about music that people rated.")
    return "".join(f"# {line}\n" for line in comments) + settings_yaml(best.settings)


def trials_frame(result: SearchResult) -> pd.DataFrame:
    """One line per trial: number, state, value, reason, run id, settings, seconds, and the metrics of complete ones."""
    lines = {}
    for state, trials in trials_by_state(result.study).items():
        for trial in trials:
            started, ended = trial.datetime_start, trial.datetime_complete
            lines[trial.number] = {
                "trial": trial.number,
                "state": state,
                "value": trial.value,
                "reason": trial.user_attrs.get("reason"),
                "run_id": trial.user_attrs.get("run_id"),
                "seconds": (ended - started).total_seconds() if started and ended else math.nan,
                **settings_of(trial, result.plan.search),
                **{name: trial.user_attrs[name] for name in METRICS + EXTRA if name in trial.user_attrs},
            }
    return pd.DataFrame([lines[number] for number in sorted(lines)])


def summary(result: SearchResult, found: Importances | None) -> str:
    """The search in words and small tables."""
    plan = result.plan
    counts = ", ".join(f"{count} {state}" for state, count in result.counts.items())
    lines = [
        f"search '{plan.name}', row '{plan.row.id}': {counts}; {result.num_found} of them were found stored",
        f"objective: {objective_name(plan.search.objective)} on split '{plan.search.score}'",
    ]
    if plan.search.score != "inner":
        lines.append(_selection_warning(plan))
    if result.simulated:
        lines.append("simulated data: values and settings say nothing about music that people rated")
    return "\n".join([*lines, "", *_candidates(result), "", *_importance(found, result)])


def _selection_warning(plan: SearchPlan) -> str:
    return (
        f"The search selected on split '{plan.search.score}', which the table reports: its values there are too good "
        "(the best of 100 trials by .025 at a seed noise of .01). data.score: inner avoids it."
    )


def _candidates(result: SearchResult) -> list[str]:
    if not result.candidates:
        return ["no trial is complete: there is no best.yaml"]
    lines = [f"{'trial':>5}  {'search value':>12}  {'held-out value':>17}  settings"]
    for candidate in sorted(result.candidates, key=lambda each: each is not result.winner):
        held_out = f"{candidate.mean:.4f} ± {candidate.sd:.4f}" if math.isfinite(candidate.mean) else "–"
        settings = ", ".join(f"{name.partition('.')[2]} {_short(value)}" for name, value in candidate.settings.items())
        mark = "  <- winner" if candidate is result.winner else ""
        first = "  (first guess)" if candidate.is_first_guess else ""
        lines.append(f"{candidate.number:>5}  {candidate.search_value:>12.4f}  {held_out:>17}  {settings}{first}{mark}")
    lines.append(
        f"search value: seed {TRIAL_SEED}, the best of many and so too good; held-out value: mean ± sd over seeds "
        f"{', '.join(map(str, HELD_OUT_SEEDS))}, which no trial used. The winner is chosen by the held-out value."
    )
    if result.winner is None:
        lines.append("no candidate has a value on every held-out seed: no best.yaml. Run the same command again")
    return lines


def _importance(found: Importances | None, result: SearchResult) -> list[str]:
    if found is None:
        number = result.counts.get("complete", 0)
        return [f"importance: not shown; it takes {MIN_TRIALS} complete trials of different value, there are {number}"]
    lines = [f"importance (fANOVA over {found.num_trials} complete trials; mean ± sd over forests)"]
    lines += [
        f"  {each.name:<24} {each.mean:6.3f} ± {each.sd:.3f}"
        + ("  not distinguishable from noise" if each.is_noise else "")
        for each in found.parameters
    ]
    lines.append(f"  {'(a random column)':<24} {found.noise_mean:6.3f} ± {found.noise_sd:.3f}")
    return lines


def markdown_note(result: SearchResult, text: str) -> str:
    """The study's note in the dashboard: the best configuration and the summary as it was printed."""
    best = f"```yaml\n{best_yaml(result)}```\n\n" if result.winner else ""
    return f"# {result.plan.name}\n\n{best}```\n{text}\n```\n"


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
