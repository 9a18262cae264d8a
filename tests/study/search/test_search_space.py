"""The search space: defaults, checks against the settings' own bounds, Optuna's parameters and back."""

import math
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from study.config import Range, Search, difference, read_ablation_file, search_mistakes
from study.config.search_space import DEFAULT_SPACE
from study.search.params import suggest, to_params, to_settings
from whisq_core.errors import InputError
from whisq_core.spec import RunSpec, try_settings

ROOT = Path(__file__).parents[3]
MIXED: dict[str, Range] = {
    **DEFAULT_SPACE,
    "train.epochs": Range(low=10, high=200, log=True),
    "train.patience": Range(low=5, high=50),
    "model.attention": Range(),
    "model.residual": Range(),
    "loss.p": Range(choices=(1, 2)),
    "model.dropout": Range(choices=(0.0, 0.1)),
}


@pytest.fixture(autouse=True, scope="module")
def quiet_optuna() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def _one(name: str, where: Range) -> list[str]:
    return [text for _, text in search_mistakes(Search(space={name: where}), RunSpec())]


def test_default_space_is_the_four_parameters_of_the_paper() -> None:
    shown = {name: (where.low, where.high, where.log, where.power_of_two) for name, where in Search().space.items()}
    assert shown == {
        "train.learning_rate": (1e-5, 1e-1, True, False),
        "train.momentum": (0.0, 0.99, False, False),
        "loss.ot_weight": (1e-7, 1e-1, True, False),
        "train.batch_size": (16, 256, False, True),
    }
    assert search_mistakes(Search(), RunSpec()) == []


def test_a_search_selects_on_an_inner_split_and_maximises_the_primary_metric_unless_told_otherwise() -> None:
    assert (Search().score, Search().objective) == ("inner", ("ta.utterance.srcc",))
    assert Search.model_validate({"data.score": ["dev"]}).score == "dev"
    assert Search.model_validate({"objective": "omq.system.srcc"}).objective == ("omq.system.srcc",)


def test_search_of_table_two_is_the_default_search() -> None:
    assert read_ablation_file(ROOT / "ablations.yaml").search == Search()


def test_every_setting_of_a_suggestion_is_one_that_a_run_accepts() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(30):
        found = suggest(study.ask(), MIXED)
        assert list(found) == list(MIXED)
        assert try_settings(RunSpec(), found)[1] == []
        assert math.log2(found["train.batch_size"]).is_integer()
        assert isinstance(found["train.patience"], int)


def test_parameters_of_a_trial_stand_for_the_settings_that_were_suggested() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    for _ in range(10):
        trial = study.ask()
        found = suggest(trial, MIXED)
        assert to_settings(trial.params, MIXED) == found
        assert to_params(found, MIXED) == trial.params


def test_enqueued_settings_come_back_from_the_trial_unchanged() -> None:
    base = RunSpec().settings()
    params = to_params(base, DEFAULT_SPACE)
    assert params == {
        "train.learning_rate": 7.307e-4,
        "train.momentum": 0.7435,
        "loss.ot_weight": 4.057e-5,
        "train.log2_batch_size": 7,
    }
    study = optuna.create_study()
    study.enqueue_trial(params)
    assert suggest(study.ask(), DEFAULT_SPACE) == {name: base[name] for name in DEFAULT_SPACE}


@settings(deadline=None, max_examples=30)
@given(exponent=st.integers(4, 8), rate=st.floats(1e-5, 1e-1))
def test_parameters_and_settings_are_inverse(exponent: int, rate: float) -> None:
    found = {**RunSpec().settings(), "train.batch_size": 2**exponent, "train.learning_rate": rate}
    searched = {name: found[name] for name in DEFAULT_SPACE}
    assert to_settings(to_params(found, DEFAULT_SPACE), DEFAULT_SPACE) == searched


def test_settings_outside_the_space_are_all_named_instead_of_being_enqueued() -> None:
    outside: dict[str, Any] = {
        "train.learning_rate": 1.0,
        "train.momentum": 0.5,
        "loss.ot_weight": 0.0,
        "train.batch_size": 100,
        "train.patience": None,
        "model.attention": "cross",
    }
    space = {
        **DEFAULT_SPACE,
        "train.patience": Range(low=5, high=50),
        "model.attention": Range(choices=("none", "pooled")),
    }
    with pytest.raises(InputError) as caught:
        to_params(outside, space)
    end = "Widen it or change the value."
    assert caught.value.mistakes == (
        f"setting 'train.learning_rate' = 1.0 lies outside the search space (1e-05 to 0.1, log). {end}",
        f"setting 'loss.ot_weight' = 0.0 lies outside the search space (1e-07 to 0.1, log). {end}",
        f"setting 'train.batch_size' = 100 lies outside the search space (16 to 256, powers of two). {end}",
        f"setting 'train.patience' = None lies outside the search space (5 to 50). {end}",
        f"setting 'model.attention' = cross lies outside the search space (one of none, pooled). {end}",
    )


def test_what_a_row_fixes_is_not_searched() -> None:
    file = read_ablation_file(ROOT / "ablations.yaml")
    assert file.search is not None
    kept = file.search.without(file.row("no_ot").settings)
    assert list(kept.space) == ["train.learning_rate", "train.momentum", "train.batch_size"]


@pytest.mark.parametrize(
    ("name", "where", "mistake"),
    [
        ("train.lr", Range(low=0.1, high=1.0), "unknown setting 'train.lr'. "),
        ("data.inner_by", Range(), "'data.inner_by' cannot be searched: it decides what is measured. Set it in base."),
        ("seed", Range(low=0, high=9), "'seed' cannot be searched: it decides what is measured. Set it in base."),
        ("train.momentum", Range(low=0.5), "'train.momentum' needs low and high, or choices."),
        ("train.momentum", Range(low=0.9, high=0.1), "'train.momentum': low (0.9) must be below high (0.1)."),
        (
            "train.momentum",
            Range(low=0.0, high=1.5),
            "setting 'train.momentum': Input should be less than 1, found 1.5.",
        ),
        (
            "train.momentum",
            Range(low=0.0, high=0.9, log=True),
            "'train.momentum': a logarithmic range starts above 0, found low 0.0.",
        ),
        (
            "train.momentum",
            Range(low=0.1, high=0.9, power_of_two=True),
            "'train.momentum': power_of_two is for whole numbers. Use log.",
        ),
        (
            "train.batch_size",
            Range(low=16, high=100, power_of_two=True),
            "'train.batch_size': low and high must be powers of two, found 16 and 100.",
        ),
        (
            "train.batch_size",
            Range(low=16, high=128, power_of_two=True, log=True),
            "'train.batch_size': power_of_two is logarithmic already. Remove log.",
        ),
        (
            "train.batch_size",
            Range(low=0.5, high=128),
            "'train.batch_size' is a whole number: so must be low and high, found 0.5 and 128.",
        ),
        (
            "train.batch_size",
            Range(low=0, high=128),
            "setting 'train.batch_size': Input should be greater than or equal to 1, found 0.",
        ),
        (
            "model.attention",
            Range(low=0, high=1),
            "'model.attention' has no low and high. Give choices, such as "
            "{choices: ['sequence', 'pooled', 'pooled_query', 'cross', 'none']}.",
        ),
        (
            "model.attention",
            Range(choices=("none", "crss")),
            "setting 'model.attention': Input should be 'sequence', 'pooled', 'pooled_query', 'cross' or 'none', "
            "found 'crss'.",
        ),
        ("model.heads", Range(choices=(2, 3)), "setting 'model': heads (3) must divide feature_dim (512)."),
        ("backbone.audio", Range(), "'backbone.audio' is free text. Give choices: [A, B]."),
        (
            "train.momentum",
            Range(choices=(0.1, 0.2), low=0.1),
            "'train.momentum': choices exclude low, high, log and power_of_two. Keep one kind.",
        ),
        ("train.momentum", Range(choices=(0.1, 0.1)), "'train.momentum': a choice is duplicated. Name each once."),
    ],
)
def test_ranges_that_cannot_be_searched_are_refused(name: str, where: Range, mistake: str) -> None:
    found = _one(name, where)
    assert len(found) == 1
    assert found[0] == mistake or (mistake.endswith(" ") and found[0].startswith(mistake))


def test_unknown_and_repeated_metrics_are_refused() -> None:
    search = Search(objective=("ta.srcc", "omq.utterance.srcc", "omq.utterance.srcc"))
    assert search_mistakes(search, RunSpec()) == [
        (("objective",), "unknown metric 'ta.srcc'. Did you mean 'ta.system.srcc'?"),
        (("objective",), "a metric is duplicated. Name each once."),
    ]


def test_an_unchanged_search_continues_whatever_its_sampler_and_budget() -> None:
    assert difference(Search().fingerprint, Search(sampler="gp", pruner="none", trials=7, top=1)) == []


def test_a_changed_search_is_described_line_by_line() -> None:
    changed = Search.model_validate(
        {
            "objective": ["omq.utterance.srcc", "ta.utterance.srcc"],
            "data.score": "dev",
            "space": {
                "train.learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
                "train.momentum": {"low": 0.0, "high": 0.99},
                "train.batch_size": {"low": 16, "high": 64, "power_of_two": True},
                "loss.task": {},
                "model.attention": {"choices": ["none", "cross"]},
            },
        }
    )
    assert difference(Search().fingerprint, changed) == [
        "objective: was ta.utterance.srcc, is mean of omq.utterance.srcc, ta.utterance.srcc",
        "score: was inner, is dev",
        "loss.ot_weight: was searched (1e-07 to 0.1, log), is not any more",
        "train.batch_size: was 16 to 256, powers of two, is 16 to 64, powers of two",
        "train.learning_rate: was 1e-05 to 0.1, log, is 0.0001 to 0.1, log",
        "loss.task: was not searched, is now (any value)",
        "model.attention: was not searched, is now (one of none, cross)",
    ]
