"""Bad trials: pruned or failed with the reason, never the best, and never for ever."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.searches import SPACE, request, search, trials, write_file
from optuna.trial import TrialState

from whisq_core.errors import InputError

TOO_WIDE = 65_536  # one matrix of an attention's weights takes 17 GB
ATTENTION = {"model.attention": {"choices": ["sequence", "cross"]}}


def test_a_diverged_trial_is_reported_as_nan_and_pruned_with_the_reason(data: Path, tmp_path: Path) -> None:
    wild = {"train.learning_rate": {"low": 1e20, "high": 1e30, "log": True}}
    asked = request(data, tmp_path, train={"clip_scope": "none"}, space=wild)

    outcome = search(asked)

    assert outcome.best is None
    for trial in trials(asked):
        assert trial.state == TrialState.PRUNED
        assert trial.value is None
        assert trial.user_attrs["reason"].startswith("the loss is not finite in epoch ")
        assert [value != value for value in trial.intermediate_values.values()][-1]


@contextmanager
def little_memory() -> Iterator[None]:
    """Inside, this process may map 3 GB more than it has."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 3 * 2**30, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def test_an_undefined_objective_is_pruned_with_the_reason(data: Path, tmp_path: Path) -> None:
    asked = request(data, tmp_path, objective="omq.within_system.srcc", pruner="none")  # systems of one or two clips

    outcome = search(asked)

    assert outcome.exit_status == 1
    assert {trial.state for trial in trials(asked)} == {TrialState.PRUNED}
    reasons = {trial.user_attrs["reason"] for trial in trials(asked)}
    assert reasons == {"omq.within_system.srcc is undefined: predictions are constant, or clips are too few"}


def test_out_of_memory_fails_the_trial_and_names_a_batch_that_would_fit(data: Path, tmp_path: Path) -> None:
    space = {**ATTENTION, "model.feature_dim": {"choices": [32, TOO_WIDE]}, "train.batch_size": {"low": 8, "high": 64}}
    asked = request(data, tmp_path, sampler="random", pruner="none", space=space)

    with little_memory():
        outcome = search(replace(asked, trials=8))

    stored = trials(asked)
    wide = [trial for trial in stored if trial.params["model.feature_dim"] == TOO_WIDE]
    assert 0 < len(wide) < len(stored)
    fitted: list[int] = []
    for trial in stored:
        batch = trial.params["train.batch_size"]
        if trial not in wide:
            assert trial.state == TrialState.COMPLETE
            fitted.append(batch)
            continue
        assert trial.state == TrialState.FAIL
        smaller = [size for size in fitted if size < batch]
        fits = f"{max(smaller)} has fitted in this study" if smaller else ""
        advice = fits or f"try train.batch_size {batch // 2} (half of it) or less"
        expected = f"out of memory with train.batch_size {batch}: {advice}, or fewer --workers"
        assert trial.user_attrs["reason"] == expected
    assert outcome.result.counts == {"complete": len(fitted), "fail": len(wide)}


def test_ten_failures_in_a_row_stop_the_search_with_the_last_error(data: Path, tmp_path: Path) -> None:
    hopeless = {**ATTENTION, "model.feature_dim": {"choices": [TOO_WIDE, TOO_WIDE // 2]}}
    asked = replace(request(data, tmp_path, space=hopeless), trials=30)

    with little_memory(), pytest.raises(InputError) as caught:
        search(asked)

    message = caught.value.mistakes[0]
    assert message.startswith("study 'tiny-whisq': 10 trials failed in a row, so the search stops. ")
    assert "out of memory with train.batch_size 16: try train.batch_size 8 (half of it) or less" in message
    states = [trial.state for trial in trials(asked)]
    assert states.count(TrialState.FAIL) == 10
    assert TrialState.RUNNING not in states
    with little_memory(), pytest.raises(InputError, match="10 trials failed in a row"):
        search(asked)
    assert [trial.state for trial in trials(asked)].count(TrialState.FAIL) == 20


def test_settings_that_exclude_each_other_fail_with_the_reason(data: Path, tmp_path: Path) -> None:
    space = {**SPACE, "model.heads": {"low": 1, "high": 8}}  # 3, 5, 6 and 7 do not divide 32
    asked = request(data, tmp_path, sampler="random", space=space)

    search(replace(asked, trials=6))

    failed = [trial for trial in trials(asked) if trial.state == TrialState.FAIL]
    assert failed
    assert {trial.params["model.heads"] for trial in failed} <= {3, 5, 6, 7}
    for trial in failed:
        heads = trial.params["model.heads"]
        assert trial.user_attrs["reason"] == f"setting 'model': heads ({heads}) must divide feature_dim (32)."


def test_a_hopeless_trial_is_pruned_below_the_median_of_the_others(data: Path, tmp_path: Path) -> None:
    asked = request(data, tmp_path, objective="omq.utterance.mse", sampler="random", train={"epochs": 6})

    search(replace(asked, trials=12))

    pruned = [trial for trial in trials(asked) if trial.state == TrialState.PRUNED]
    assert pruned
    assert min(trial.number for trial in pruned) >= 5
    for trial in pruned:
        last = max(trial.intermediate_values)
        assert trial.value == trial.intermediate_values[last]
        expected = f"median pruner: omq.utterance.mse was {trial.value:.4f} in epoch {last}"
        assert trial.user_attrs["reason"] == expected


@pytest.mark.parametrize("sampler", ["random", "gp"])
def test_every_sampler_and_pruner_finishes_a_search(data: Path, tmp_path: Path, sampler: str) -> None:
    asked = request(data, tmp_path, sampler=sampler, pruner="hyperband")

    outcome = search(replace(asked, trials=12))

    assert outcome.result.num_trials == 12
    assert write_file(tmp_path, sampler="tpe")  # how trials are proposed may change; what they are compared on may not
    assert search(replace(asked, trials=13)).result.num_found == 12
