"""A search ends in best.yaml, goes on where it stopped, and never compares what cannot be compared."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from helpers import browser
from helpers.command import run
from helpers.dashboards import dashboard, get_json
from helpers.searches import SPACE, options, request, runs_of, search, trained, trials, write_file
from optuna.trial import TrialState

from study.config import read_ablation_file
from study.engine import Pool, preflight
from study.search import tune_rows
from study.search.held_out import HELD_OUT_SEEDS, REPORT_SEEDS, TRIAL_SEED, mean_and_sd
from study.search.importance import MIN_TRIALS
from whisq_core.errors import InputError


def test_a_search_ends_in_a_best_yaml_that_base_accepts(data: Path, tmp_path: Path) -> None:
    asked = request(data, tmp_path)

    outcome = search(asked)

    assert outcome.exit_status == 0
    stored = trials(asked)
    assert [trial.state for trial in stored] == [TrialState.COMPLETE] * 3
    assert stored[0].params == {"train.learning_rate": 0.01, "train.momentum": 0.7435}
    best, winner = outcome.best, outcome.result.winner
    assert best is not None
    assert winner is not None
    over = read_ablation_file(asked.sources.file, best).base
    assert over.train.learning_rate == winner.settings["train.learning_rate"]
    assert over.train.momentum == winner.settings["train.momentum"]
    values = [mean_and_sd(values) for values in (winner.held_out, winner.reported)]
    assert f"{winner.search_value:.4f}  {values[0]:>17}  {values[1]:>17}" in best.read_text()
    frame = pd.read_csv(outcome.folder / "trials.csv")
    assert frame["value"].tolist() == [trial.value for trial in stored]
    assert frame["omq.utterance.lcc"].tolist() == pytest.approx(frame["value"].tolist(), abs=1e-6)
    names = ["search_candidates", "search_history", "search_parallel", "search_slices", "search_curves"]
    assert list(outcome.figures) == names
    drawn = {trace.name: trace.y for trace in outcome.figures["search_candidates"].data}
    assert set(winner.held_out) <= set(drawn["held-out seeds"])
    assert set(winner.reported) <= set(drawn["reported"])
    assert (outcome.folder / "plots.html").stat().st_size > 100_000
    with dashboard(tmp_path, asked.sources.storage) as address:
        (summary,) = get_json(f"{address}/api/studies")["study_summaries"]
        described = get_json(f"{address}/api/studies/{summary['study_id']}")
        importance = get_json(f"{address}/api/studies/{summary['study_id']}/param_importances")
        if browser.executable() is not None:
            with browser.page(tmp_path / "profile", width=1400) as tab:
                tab.visit(f"{address}/dashboard/studies/{summary['study_id']}", limit=240)
                tab.wait_for("document.querySelectorAll('.main-svg').length > 4", limit=240)
                assert tab.problems == []
    assert {each["filename"] for each in described["artifacts"]} == {"best.yaml", "trials.csv"}
    assert importance == {"param_importances": [[]]}, "as the command line says: too few trials"


def test_the_winner_is_chosen_on_seeds_that_no_trial_used_and_reported_on_others(data: Path, tmp_path: Path) -> None:
    asked = request(data, tmp_path, top=3)

    outcome = search(replace(asked, trials=4))

    result = outcome.result
    searched, held_out, reported = (runs_of(asked, f"tiny-whisq{kind}") for kind in ("", "-held-out", "-reported"))
    assert {run.seed for run in searched} == {TRIAL_SEED}
    assert {run.seed for run in held_out} == set(HELD_OUT_SEEDS)
    assert len(held_out) == len(result.candidates) * len(HELD_OUT_SEEDS)
    assert {tuple(run.identity["data.score"]) for run in [*searched, *held_out]} == {("inner",)}
    assert result.winner is max(result.candidates, key=lambda candidate: candidate.mean)
    assert {run.seed for run in reported} == set(REPORT_SEEDS)
    assert {run.row for run in reported} == {f"trial-{n}" for n in (0, result.winner.number)}
    (split,) = {run.identity["data.inner_seed"] for run in reported}
    assert {run.identity["data.inner_seed"] for run in searched} == {0} != {split}
    assert [len(each.reported) for each in result.candidates if each.is_first_guess] == [3]
    assert not any(each.reported for each in result.candidates if not (each.is_first_guess or each == result.winner))
    assert f"another inner split: inner_seed {split}, " in outcome.summary
    assert mean_and_sd(result.winner.held_out) in outcome.summary
    assert mean_and_sd(result.winner.reported) in outcome.summary


def test_a_split_by_clips_is_searched_as_well(data: Path, tmp_path: Path) -> None:
    asked = request(data, tmp_path)
    text = asked.sources.file.read_text().replace("  model:\n", "  data:\n    inner_by: clip\n  model:\n")
    asked.sources.file.write_text(text)

    outcome = search(replace(asked, trials=1))

    assert outcome.exit_status == 0
    assert {run.identity["data.inner_by"] for run in runs_of(asked, "tiny-whisq")} == {"clip"}


def test_a_search_tells_its_settings_its_best_value_its_phases_and_its_few_clips(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = request(data, tmp_path)

    outcome = search(asked)

    said = capsys.readouterr().err
    first, second, *_ = trials(asked)
    settings = f"learning_rate {second.params['train.learning_rate']:.4g}, momentum"
    best = max([first, second], key=lambda trial: trial.value or 0)
    assert f"[2/3] trial 1 ({settings} {second.params['train.momentum']:.4g}) done: omq.utterance.lcc" in said
    assert f"best so far {best.value:.4f} (trial {best.number})" in said
    assert "search 'tiny-whisq': 2 configuration(s) on held-out seeds 1000001 to 1000003, 0 of 6 runs found" in said
    assert "configuration(s) on reported seeds 1000004 to 1000006, 0 of" in said
    warning = "Few clips to choose on: split 'inner' has 4, over which a correlation of .6 has a standard error of "
    assert warning in said
    assert warning in outcome.summary
    search(asked)
    assert capsys.readouterr().err == ""  # nothing was left to do, and nothing is said


def test_a_stopped_search_goes_on_as_if_it_had_not_stopped_to_the_last_byte(data: Path, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    straight, stopped = request(data, tmp_path / "a"), request(data, tmp_path / "b")
    whole = search(replace(straight, trials=13))  # the TPE sampler takes over after ten

    search(replace(stopped, trials=4))
    outcome = search(replace(stopped, trials=13))

    assert trained(stopped) == trained(straight)
    assert outcome.result.candidates == whole.result.candidates
    assert outcome.best is not None
    assert whole.best is not None
    assert outcome.best.read_bytes() == whole.best.read_bytes()
    assert outcome.result.num_found == 4
    assert len({json.dumps(trial.params) for trial in trials(stopped)}) == 13
    again = search(replace(stopped, trials=5))
    assert again.result.num_found == 13
    assert "13 of them were found stored" in again.summary


def test_a_time_limit_starts_no_further_trial(data: Path, tmp_path: Path) -> None:
    asked = request(data, tmp_path)

    outcome = search(replace(asked, timeout=1e-6))

    assert outcome.exit_status == 1
    assert "no trial is complete: there is no best.yaml" in outcome.summary
    assert trials(asked) == []
    assert search(asked).result.counts == {"complete": 3}


def test_a_changed_search_is_refused_with_the_difference_and_the_way_out(data: Path, tmp_path: Path) -> None:
    asked = request(data, tmp_path)
    search(replace(asked, trials=1))
    narrow = {**SPACE, "train.momentum": {"low": 0.5, "high": 0.9}}
    write_file(tmp_path, train={"epochs": 3}, space=narrow)

    with pytest.raises(InputError) as caught:
        search(replace(asked, seed=7))

    where = f"study 'tiny-whisq' in {asked.sources.storage}"
    assert caught.value.mistakes == (
        f"{where} was begun with another search: train.momentum: was 0.0 to 0.9, is 0.5 to 0.9",
        f"{where} was begun with another search: train.epochs: 2 -> 3",
        f"{where}: trials of two searches cannot be compared. Change it back, or begin a new study that takes over the "
        "old trials that still fit: --study NEW --from tiny-whisq.",
        f"--seed 7: {where} was begun with --seed 0. Give that one again.",
    )
    assert len(trials(asked)) == 1


def test_a_new_study_takes_over_the_old_trials_that_still_fit(data: Path, tmp_path: Path) -> None:
    asked = request(data, tmp_path, sampler="random")
    search(replace(asked, trials=5))
    old = trials(asked)
    runs = len(runs_of(asked, "tiny-whisq"))
    write_file(tmp_path, sampler="random", space={**SPACE, "train.momentum": {"low": 0.4, "high": 0.95}})
    fitting = [trial for trial in old if trial.params["train.momentum"] >= 0.4]
    assert 1 < len(fitting) < 5

    outcome = search(replace(asked, study="wider", source="tiny-whisq", trials=len(fitting)))

    new = trials(asked, "wider")
    assert {json.dumps(trial.params) for trial in new} == {json.dumps(trial.params) for trial in fitting}
    assert {trial.value for trial in new} == {trial.value for trial in fitting}
    assert [trial.intermediate_values for trial in new if trial.number == 0] == [old[0].intermediate_values]
    assert len(runs_of(asked, "tiny-whisq")) == runs
    assert not runs_of(asked, "wider")
    assert outcome.result.plan.name == "wider"
    search(replace(asked, study="wider", source="tiny-whisq", trials=len(fitting)))  # the same command goes on
    with pytest.raises(InputError, match="exists already"):
        search(replace(asked, study="wider", source="wider"))


def test_a_first_guess_outside_the_space_is_left_out_with_a_note(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = request(data, tmp_path, space={**SPACE, "train.momentum": {"low": 0.0, "high": 0.5}})

    outcome = search(replace(asked, trials=1))

    said = " ".join(capsys.readouterr().err.split())
    assert "first guess left out: setting 'train.momentum' = 0.7435 lies outside the search space (0.0 to 0.5)" in said
    assert not any(candidate.is_first_guess for candidate in outcome.result.candidates)


def test_a_search_on_the_reported_split_says_what_it_costs(data: Path, tmp_path: Path) -> None:
    asked = request(data, tmp_path, objective="omq.utterance.mse", **{"data.score": "dev"})

    outcome = search(replace(asked, trials=2))

    assert (
        "The search selected on split 'dev', which the table reports: its values there are too good" in outcome.summary
    )
    values = [trial.value for trial in trials(asked)]
    assert outcome.result.candidates[0].search_value == min(value for value in values if value is not None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"row": "constant"}, "a control is not trained, so there is nothing to search"),
        ({"row": "whisk"}, "unknown row 'whisk'. Did you mean 'whisq'?"),
        ({"trials": 0}, "--trials: found 0, allowed: 1 or more"),
        ({"source": "other"}, "--from other: no such search"),
    ],
)
def test_what_cannot_be_searched_is_refused(
    data: Path, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message.replace("?", r"\?")):
        search(replace(request(data, tmp_path), **change))  # type: ignore[arg-type]


def test_seeds_of_searches_cannot_be_seeds_of_the_table(data: Path, tmp_path: Path) -> None:
    asked = request(data, tmp_path)
    asked.sources.file.write_text(asked.sources.file.read_text().replace("- 1\n", f"- {HELD_OUT_SEEDS[0]}\n"))

    with pytest.raises(InputError, match=f"seed {HELD_OUT_SEEDS[0]} is one of those that searches use"):
        search(asked)


def test_tuned_rows_get_the_same_budget_and_keep_what_they_fix(data: Path, tmp_path: Path) -> None:
    space = {**SPACE, "loss.ot_weight": {"low": 1e-6, "high": 1e-2, "log": True}}
    asked = request(data, tmp_path, ot_weight=1e-4, space=space, trials=2)
    inputs = preflight(asked.sources)

    with Pool(1) as pool, inputs.database.writing("a test"):
        tuned = tune_rows(inputs.file, inputs.file.rows, inputs, pool)
        again = tune_rows(inputs.file, inputs.file.rows, inputs, pool)

    assert {row: found.num_trials for row, found in tuned.items()} == {"whisq": 2, "no_ot": 2, "constant": 0}
    assert "loss.ot_weight" in tuned["whisq"].settings
    assert set(tuned["no_ot"].settings) == set(SPACE)
    assert tuned["constant"].settings == {}
    assert trials(asked, "tiny-no_ot")[0].params == {"train.learning_rate": 0.01, "train.momentum": 0.7435}
    assert again == tuned


def test_the_mean_of_several_metrics_can_be_searched(data: Path, tmp_path: Path) -> None:
    asked = request(data, tmp_path, objective=["omq.utterance.lcc", "ta.utterance.mse"])

    outcome = search(replace(asked, trials=1))

    trial = trials(asked)[0]
    metrics = trial.user_attrs
    assert trial.value == pytest.approx((metrics["omq.utterance.lcc"] - metrics["ta.utterance.mse"]) / 2, abs=1e-6)
    assert "objective: mean of omq.utterance.lcc, -ta.utterance.mse" in outcome.summary
    assert math.isfinite(outcome.result.candidates[0].mean)


def test_the_report_shows_what_mattered_once_a_search_has_enough_trials(data: Path, tmp_path: Path) -> None:
    asked = request(data, tmp_path, sampler="random", pruner="none", train={"epochs": 1})
    where = (*options(asked), "--workers", 1)
    assert run(tmp_path, "ablate", asked.sources.file, *where, "--out", "out", "--rows", "constant").status == 0
    report = ("report", asked.sources.file, "--storage", asked.sources.storage, "--out", "out")
    page = tmp_path / "out/report.html"

    search(replace(asked, trials=MIN_TRIALS - 1))
    assert run(tmp_path, *report).status == 0
    assert 'id="figure-importance"' not in page.read_text(encoding="utf-8")
    search(replace(asked, trials=MIN_TRIALS))
    assert run(tmp_path, *report).status == 0

    shown = page.read_text(encoding="utf-8")
    assert 'id="figure-importance"' in shown
    assert f"Search tiny-whisq: fANOVA over {MIN_TRIALS} trials" in shown
    assert '<a href="#importance">Importance</a>' in shown
