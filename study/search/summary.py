"""What a search leaves behind: best.yaml, a table of its trials, and words for terminal and dashboard."""

import math
from dataclasses import dataclass
from pathlib import Path

import optuna
import pandas as pd

from study.config import settings_yaml
from study.dashboard import MIN_TRIALS
from study.search.held_out import HELD_OUT_SEEDS, REPORT_SEEDS, TRIAL_SEED, Candidate, mean_and_sd
from study.search.importance import Importances
from study.search.objective import brought_text, objective_name
from study.search.params import shown_settings
from study.search.study import SearchPlan, finished_trials, settings_of, trials_by_state
from whisq_core.corpus import Corpus, splits
from whisq_core.errors import inert
from whisq_core.files import write_atomically
from whisq_core.metrics import EXTRA, METRICS, parsed

_SMALL_ERROR = 0.05  # of a correlation: 200 clips


@dataclass(frozen=True)
class SearchResult:
    """A search as it stands: its study, the candidates, the winner, and on which clips its values are reported."""

    plan: SearchPlan
    study: optuna.Study
    corpus: Corpus
    num_found: int
    candidates: tuple[Candidate, ...]
    winner: Candidate | None
    reported_on: str

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
    """The winner's settings, ready for `--base`; comments say where they come from."""
    assert result.winner is not None, "without a winner there is no best.yaml"
    name = f"Search '{result.plan.name}', row '{result.plan.row.id}'"
    origin = f"{name}, trial {result.winner.number} of {result.num_trials}; {_objective(result.plan)}"
    comments = "".join(f"# {line}\n" for line in (origin, *_candidates(result), *_warnings(result)))
    return comments + settings_yaml(result.winner.settings)


def trials_frame(result: SearchResult) -> pd.DataFrame:
    """One line per trial: number, state, value, reason, run id, settings, seconds, and the metrics of complete ones."""
    lines, names = {}, dict.fromkeys((*METRICS, *EXTRA, *result.plan.search.objective))
    for state, trials in trials_by_state(result.study).items():
        for trial in trials:
            lines[trial.number] = {
                "trial": trial.number,
                "state": state,
                "value": trial.value,
                "reason": trial.user_attrs.get("reason"),
                "run_id": trial.user_attrs.get("run_id"),
                "seconds": trial.duration.total_seconds() if trial.duration else math.nan,
                **settings_of(trial, result.plan.search),
                **{name: trial.user_attrs[name] for name in names if name in trial.user_attrs},
            }
    return pd.DataFrame([lines[number] for number in sorted(lines)])


def summary(result: SearchResult, found: Importances | None) -> str:
    """The search in words and small tables."""
    plan = result.plan
    counts = ", ".join(f"{count} {state}" for state, count in result.counts.items())
    lines = [
        f"search '{plan.name}', row '{plan.row.id}': {counts}; {result.num_found} of them were found stored",
        _objective(plan),
        *_warnings(result),
    ]
    return "\n".join([*lines, "", *_candidates(result), "", *_importance(found, result)])


def _objective(plan: SearchPlan) -> str:
    names = plan.search.objective
    return f"objective: {objective_name(names)}{brought_text(names)} on split '{plan.search.score}'"


def _warnings(result: SearchResult) -> list[str]:
    score, simulated = result.plan.search.score, "values and settings say nothing about music that people rated"
    lines = (
        split_warning(result.plan, result.corpus),
        f"The search selected on split '{score}', which the table reports: its values there are too good (the best of "
        "100 trials by .025 at a seed noise of .01). data.score: inner avoids it." * (score != "inner"),
        f"Simulated data: {simulated}." * result.corpus.simulated,
    )
    return list(filter(None, lines))


def split_warning(plan: SearchPlan, corpus: Corpus) -> str:
    """Why the clips that trials are judged on are too few to choose on; empty where there are enough."""
    scored = corpus.clips.iloc[splits(corpus, plan.spec.data, 0)[0].score[plan.search.score]]
    what = "systems" if any(parsed(name).level == "system" for name in plan.search.objective) else "clips"
    number = scored["system"].nunique() if what == "systems" else len(scored)
    error = (1 - 0.6**2) * math.sqrt((1 + 0.6**2 / 2) / max(1, number - 3))  # of Spearman's, Bonett and Wright (2000)
    if error <= _SMALL_ERROR:
        return ""
    return (
        f"Few {what} to choose on: split '{plan.search.score}' has {number}, over which a correlation of .6 has a "
        f"standard error of {error:.2f}: settings whose values differ by less are told apart by chance. "
        f"More seeds do not help; a larger data.inner_fraction or more rated clips do."
    )


def _candidates(result: SearchResult) -> list[str]:
    if not result.candidates:
        return ["no trial is complete: there is no best.yaml"]
    lines = [f"{'trial':>5}  {'search value':>12}  {'held-out value':>17}  {'reported value':>17}  settings"]
    for each in sorted(result.candidates, key=lambda each: each is not result.winner):
        marks = ("  (first guess)" if each.is_first_guess else "") + ("  <- winner" if each is result.winner else "")
        values = f"{each.search_value:>12.4f}  {mean_and_sd(each.held_out):>17}  {mean_and_sd(each.reported):>17}"
        lines.append(f"{each.number:>5}  {values}  {shown_settings(each.settings)}{marks}")
    lines += [
        f"search value: seed {TRIAL_SEED}, the best of many and so too good. The held-out value chose the winner: "
        f"mean ± sd over seeds {HELD_OUT_SEEDS[0]} to {HELD_OUT_SEEDS[-1]}, which no trial used.",
        f"reported value: seeds {REPORT_SEEDS[0]} to {REPORT_SEEDS[-1]}, {result.reported_on}; it chose nothing.",
    ]
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
