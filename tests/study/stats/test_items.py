import numpy as np
import pytest

from study.stats import influence
from study.stats.influence import Array
from study.stats.items import Error, Items

MEAN = "score.utterance.mean"


def error_of(items: Items, values: Array) -> Error:
    """Of the mean of one seed's values."""
    return items.error(MEAN, (values - values.mean())[None]).error


def crossed(num_groups: int, num_second: int, seed: int) -> tuple[Array, list[str], list[str]]:
    """Every group meets every second group once; both, and each item, have errors of their own."""
    generator = np.random.default_rng(seed)
    first, second = np.divmod(np.arange(num_groups * num_second), num_second)
    values = generator.normal(size=num_groups)[first] + generator.normal(size=num_second)[second]
    return (
        values + generator.normal(size=len(first)),
        [f"S{index}" for index in first],
        [f"P{index}" for index in second],
    )


# Of the mean by statsmodels 0.15: OLS on a constant, cov_type="cluster" with the groups, then with both groupings.
OF_STATSMODELS = [
    (0.17599222965289674, 0.3235216253131643),
    (0.2796775520143413, 0.2874870787095661),
    (0.5008408763047322, 0.5176483254139969),
]


@pytest.mark.parametrize("seed", range(3))
def test_over_crossed_groups_the_error_of_a_mean_is_that_of_statsmodels(seed: int) -> None:
    values, groups, second = crossed(8, 12, seed)
    found = [error_of(Items.of(groups, other), values).value for other in (None, second)]
    assert found == pytest.approx(OF_STATSMODELS[seed])


def test_over_unequal_groups_the_error_of_a_mean_is_the_jackknife() -> None:
    generator = np.random.default_rng(0)
    group = np.repeat(np.arange(7), [3, 9, 4, 12, 5, 3, 8])
    values = generator.normal(size=7)[group] + generator.normal(size=len(group))
    without = np.array([values[group != one].mean() for one in range(7)])
    expected = np.sqrt(6 / 7 * np.sum((without - values.mean()) ** 2))
    assert error_of(Items.of([f"{one}" for one in group], None), values).value == pytest.approx(expected)


@pytest.mark.parametrize("metric", ["ta.utterance.lcc", "ta.utterance.srcc", "ta.utterance.ktau", "ta.system.lcc"])
def test_the_error_of_a_correlation_is_that_of_scipys_bootstrap_of_whole_systems(metric: str) -> None:
    from whisq_core.metrics import evaluate

    generator = np.random.default_rng(4)
    member = np.repeat(np.arange(60), 6)
    truth = generator.normal(size=60)[member] + generator.normal(size=len(member))
    predicted = truth + generator.normal(size=60)[member] + generator.normal(size=len(member))
    items = Items.of([f"{one:02}" for one in member], None)
    found = items.error(metric, influence(metric, predicted[None], truth, items.groups.codes)[1]).error

    def statistic(systems: Array) -> float:
        clips = (systems[:, None] * 6 + np.arange(6)).ravel()
        names = [f"{copy}" for copy in np.repeat(np.arange(60), 6)]
        return evaluate(predicted[clips, None], truth[clips, None], names, targets=("ta",))[metric]

    draws = [statistic(generator.integers(0, 60, 60)) for _ in range(600)]
    assert found.value == pytest.approx(np.std(draws, ddof=1), rel=0.12)
    assert found.freedom == pytest.approx(59)


def test_prompts_that_carry_the_errors_make_the_error_larger_and_never_smaller() -> None:
    generator = np.random.default_rng(1)
    _, groups, second = crossed(10, 40, 0)
    number = np.unique(second, return_inverse=True)[1]
    heavy = generator.normal(size=40)[number] + 0.1 * generator.normal(size=len(number))
    for values, at_least in ((heavy, 2.0), (generator.normal(size=len(number)), 1.0)):
        one, two = (error_of(Items.of(groups, known), values) for known in (None, second))
        assert two.value >= at_least * one.value


def test_fewer_than_five_prompts_have_no_error_of_their_own() -> None:
    _, groups, second = crossed(8, 4, 0)
    assert Items.of(groups, second).second is None


def test_fewer_than_five_systems_say_nothing_about_other_systems() -> None:
    for count, known in ((4, False), (5, True)):
        values, groups, _ = crossed(count, 9, 0)
        assert np.isfinite(error_of(Items.of(groups, None), values).value) == known


def test_groups_of_unequal_size_count_as_fewer() -> None:
    sizes = [40, 2, 2, 2, 2, 2]
    groups = [f"{one}" for one in np.repeat(np.arange(6), sizes)]
    values = np.random.default_rng(0).normal(size=len(groups))
    assert error_of(Items.of(groups, None), values).freedom < 1
    even = [f"{one}" for one in np.repeat(np.arange(6), 8)]
    assert error_of(Items.of(even, None), values[:48]).freedom == pytest.approx(5)


def test_errors_add_up_as_satterthwaite_says() -> None:
    both = Error(0.3, 9) + Error(0.4, 28)
    assert both.value == pytest.approx(0.5)
    assert both.freedom == pytest.approx(0.5**4 / (0.3**4 / 9 + 0.4**4 / 28))


def test_influences_that_are_not_finite_leave_the_error_unknown() -> None:
    values, groups, _ = crossed(8, 12, 0)
    values[3] = np.nan
    assert np.isnan(error_of(Items.of(groups, None), values).value)


def test_the_noise_of_seeds_in_single_items_is_told_apart() -> None:
    """Balanced: the mean square of seeds x systems in a two-way analysis of variance, over all values."""
    generator = np.random.default_rng(3)
    of_systems, noise = generator.normal(size=12), generator.normal(size=(6, 12))
    groups = [f"S{one:02}" for one in np.repeat(np.arange(12), 4)]
    values = np.repeat(of_systems + noise, 4, axis=1)
    moved = values - values.mean(axis=1, keepdims=True)
    residual = of_systems + noise - (of_systems + noise).mean(axis=1, keepdims=True)
    residual = residual - residual.mean(axis=0)
    expected = np.sum(residual**2) / (5 * 11) / (6 * 12)
    assert Items.of(groups, None).error(MEAN, moved).seed_noise == pytest.approx(expected)
