import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from study.stats.influence import Array
from study.stats.influence import influence as influences
from whisq_core.metrics import evaluate, metrics_of

SCIPY = {
    "mse": lambda x, y: np.mean((x - y) ** 2),
    "lcc": lambda x, y: stats.pearsonr(x, y).statistic,
    "srcc": lambda x, y: stats.spearmanr(x, y).statistic,
    "ktau": lambda x, y: stats.kendalltau(x, y).statistic,
}


def influence(metric: str, predicted: Array, truth: Array | None, group_truth: Array | None = None) -> Array:
    """Of a single seed."""
    return influences(metric, predicted[None], truth, MEMBER[: len(predicted)], group_truth)[1][0]


TIMES = 100
MEMBER = np.repeat([0, 1, 2, 3], [3, 5, 2, 4])


def sample(seed: int) -> tuple[Array, Array]:
    """Predictions and labels of fourteen items, both with ties."""
    generator = np.random.default_rng(seed)
    truth = np.round(generator.normal(3, 1, len(MEMBER)) * 2) / 2
    return np.round(truth + generator.normal(0, 1, len(MEMBER)), 1), truth


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10_000), statistic=st.sampled_from(sorted(SCIPY)))
def test_an_influence_is_what_scipys_statistic_changes_by_when_an_item_counts_more(seed: int, statistic: str) -> None:
    predicted, truth = sample(seed)
    found = influence(f"ta.utterance.{statistic}", predicted, truth)
    for item, expected in enumerate(found):
        counts = np.full((2, len(truth)), TIMES)
        counts[:, item] += [1, -1]
        more, less = (SCIPY[statistic](np.repeat(predicted, one), np.repeat(truth, one)) for one in counts)
        assert (more - less) / 2 * TIMES * len(truth) == pytest.approx(expected, abs=2e-3)
    assert found.sum() == pytest.approx(0, abs=1e-9)


def test_the_influences_of_a_mean_are_its_deviations() -> None:
    predicted, _ = sample(0)
    assert influence("score.utterance.mean", predicted, None) == pytest.approx(predicted - predicted.mean())


@pytest.mark.parametrize("statistic", sorted(SCIPY))
def test_at_system_level_the_points_are_the_means_of_the_systems(statistic: str) -> None:
    predicted, truth = sample(3)
    of_systems = [np.array([side[system == MEMBER].mean() for system in range(4)]) for side in (predicted, truth)]
    points = np.arange(4)
    expected = influences(f"ta.utterance.{statistic}", of_systems[0][None], of_systems[1], points)[1][0]
    assert influence(f"ta.system.{statistic}", predicted, truth) == pytest.approx(expected)
    table = np.array([1.0, 4.0, 2.0, 5.0])
    other = influences(f"ta.utterance.{statistic}", of_systems[0][None], table, points)[1][0]
    assert influence(f"ta.system.{statistic}", predicted, truth, table) == pytest.approx(other)


@pytest.mark.parametrize("seed", range(5))
def test_a_system_that_is_there_twice_moves_the_within_system_correlation_by_its_influence(seed: int) -> None:
    predicted, truth = sample(seed)
    name = "ta.within_system.srcc"
    found = influence(name, predicted, truth)
    if np.isnan(found).all():
        pytest.skip("no system with a correlation")

    def repeated(system: int, times: int) -> float:
        clips = np.concatenate([np.arange(len(truth))] * TIMES + [np.flatnonzero(system == MEMBER)] * times)
        copies = np.repeat(
            [*range(TIMES), *range(TIMES, TIMES + times)], [len(truth)] * TIMES + [(system == MEMBER).sum()] * times
        )
        names = [f"{copy} {MEMBER[clip]}" for copy, clip in zip(copies, clips, strict=True)]
        return evaluate(predicted[clips, None], truth[clips, None], names, targets=("ta",))[name]

    for system in range(4):
        moved = (repeated(system, 1) - repeated(system, 0)) * TIMES * len(truth)
        assert moved == pytest.approx(found[system == MEMBER].sum(), abs=0.15)
    assert found.sum() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    "metric", ["ta.utterance.lcc", "ta.utterance.srcc", "ta.utterance.ktau", "ta.within_system.srcc"]
)
def test_constant_predictions_have_no_influences_on_a_correlation(metric: str) -> None:
    _, truth = sample(0)
    assert np.isnan(influence(metric, np.full(len(truth), 3.1), truth)).all()


@pytest.mark.parametrize("level", ["utterance", "system", "within_system"])
def test_a_prediction_that_is_not_finite_leaves_no_influence(level: str) -> None:
    predicted, truth = sample(0)
    predicted[4] = np.inf
    assert np.isnan(influence(f"ta.{level}.srcc", predicted, truth)).all()


@pytest.mark.parametrize("seed", range(5))
def test_the_values_beside_the_influences_are_those_of_evaluate(seed: int) -> None:
    predicted, truth = sample(seed)
    seeds = np.stack([predicted, truth + np.linspace(0, 1, len(truth)), np.full(len(truth), 3.1)])
    names = [f"{member}" for member in MEMBER]
    for name in metrics_of("ta"):
        expected = [evaluate(one[:, None], truth[:, None], names, targets=("ta",))[name] for one in seeds]
        found, moved = influences(name, seeds, truth, MEMBER)
        assert found == pytest.approx(expected, abs=1e-12, nan_ok=True)
        assert np.array_equal(np.isnan(moved).all(axis=1), np.isnan(expected))


@pytest.mark.parametrize("name", metrics_of("ta"))
def test_seeds_with_a_truth_of_their_own_are_as_one_at_a_time(name: str) -> None:
    sides = [np.stack(side) for side in zip(*map(sample, range(6)), strict=True)]
    together = influences(name, *sides, MEMBER)
    alone = [influences(name, predicted[None], truth, MEMBER) for predicted, truth in zip(*sides, strict=True)]
    for found, expected in zip(together, zip(*alone, strict=True), strict=True):
        assert np.array_equal(found, np.concatenate(expected), equal_nan=True)
    one_row = influences(name, sides[0][:1], sides[1], MEMBER)
    for found, expected in zip(one_row, influences(name, np.repeat(sides[0][:1], 6, 0), sides[1], MEMBER), strict=True):
        assert np.array_equal(found, expected, equal_nan=True)


def test_pairs_of_many_values_without_ties_are_those_of_scipy() -> None:
    predicted, truth = np.random.default_rng(0).normal(size=(2, 300))
    (found,), _ = influences("ta.utterance.ktau", (predicted + truth)[None], truth, np.arange(300))
    assert found == pytest.approx(stats.kendalltau(predicted + truth, truth).statistic, abs=1e-12)
