import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from study.stats.resampling import Array, Resampling, resample
from whisq_core.metrics import METRICS, evaluate

NUM_SYSTEMS = 6


def corpus(seed: int, num_clips: int = 40) -> tuple[Array, list[str], Array]:
    """Labels with ties, system names, predictions of three seeds of which one has ties."""
    generator = np.random.default_rng(seed)
    members = np.concatenate([np.arange(NUM_SYSTEMS), generator.integers(0, NUM_SYSTEMS, num_clips - NUM_SYSTEMS)])
    truth = np.round(generator.normal(3, 0.8, (num_clips, 2)) * 5) / 5
    predictions = truth + generator.normal(0, 0.7, (3, num_clips, 2))
    predictions[1] = np.round(predictions[1], 1)
    return truth, [f"S{member}" for member in members], predictions


def written_out(resampling: Resampling, draw: int) -> tuple[np.ndarray, list[str]]:
    """The clips of a draw with every repetition written out, and a name for each repetition of a system."""
    counts = resampling.levels["ta", "utterance"].counts[draw].astype(int)
    clips, names = [], []
    for system, count in enumerate(counts):
        members = np.flatnonzero(resampling.system_of == system)
        for repetition in range(count):
            clips.append(members)
            names += [f"{system}x{repetition}"] * len(members)
    return np.concatenate(clips), names


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("seed", [0, 1])
def test_each_draw_equals_the_metric_on_the_clips_written_out(metric: str, seed: int) -> None:
    truth, systems, predictions = corpus(seed)
    resampling = resample(truth, systems, None, 15, np.random.default_rng(seed))
    draws = resampling.seed_mean(metric, predictions)
    for draw, found in enumerate(draws):
        clips, names = written_out(resampling, draw)
        expected = np.mean([evaluate(seed[clips], truth[clips], names)[metric] for seed in predictions])
        assert found == pytest.approx(expected, rel=0, abs=1e-12)


SCIPY = {
    "mse": lambda x, y: np.mean((x - y) ** 2),
    "lcc": lambda x, y: stats.pearsonr(x, y).statistic,
    "srcc": lambda x, y: stats.spearmanr(x, y).statistic,
    "ktau": lambda x, y: stats.kendalltau(x, y).statistic,
}


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10_000), statistic=st.sampled_from(sorted(SCIPY)))
def test_each_draw_equals_scipy_on_the_clips_written_out(seed: int, statistic: str) -> None:
    truth, systems, predictions = corpus(seed)
    resampling = resample(truth, systems, None, 3, np.random.default_rng(seed))
    draws = resampling.seed_mean(f"ta.utterance.{statistic}", predictions)
    for draw, found in enumerate(draws):
        clips, _ = written_out(resampling, draw)
        expected = np.mean([SCIPY[statistic](one[clips, 1], truth[clips, 1]) for one in predictions])
        assert found == pytest.approx(expected, rel=0, abs=1e-12)


def test_the_csv_convention_takes_the_systems_truth_from_the_table() -> None:
    truth, systems, predictions = corpus(3)
    table = {f"S{system}": (1.0 + system % 4, 5.0 - system / 2) for system in range(NUM_SYSTEMS)}
    resampling = resample(truth, systems, table, 5, np.random.default_rng(0))
    found = resampling.seed_mean("omq.system.mse", predictions)
    for draw in range(5):
        clips, names = written_out(resampling, draw)
        repeated = {name: table[f"S{name.partition('x')[0]}"] for name in names}
        scores = [evaluate(one[clips], truth[clips], names, repeated)["omq.system.mse"] for one in predictions]
        assert found[draw] == pytest.approx(np.mean(scores), rel=0, abs=1e-12)


@pytest.mark.parametrize("metric", [name for name in METRICS if not name.endswith("mse")])
def test_correlations_of_constant_predictions_are_undefined_in_every_draw(metric: str) -> None:
    truth, systems, predictions = corpus(0)
    resampling = resample(truth, systems, None, 10, np.random.default_rng(0))
    predictions[2] = 3.1
    assert np.isnan(resampling.seed_mean(metric, predictions)).all()


@pytest.mark.parametrize("metric", METRICS)
def test_one_prediction_that_is_not_finite_makes_every_draw_undefined(metric: str) -> None:
    truth, systems, predictions = corpus(0)
    resampling = resample(truth, systems, None, 10, np.random.default_rng(0))
    predictions[1, 4] = np.inf
    assert np.isnan(resampling.seed_mean(metric, predictions)).all()


@pytest.mark.parametrize("statistic", ["lcc", "srcc", "ktau"])
def test_a_draw_of_one_system_only_has_no_system_level_correlation(statistic: str) -> None:
    truth, systems, predictions = corpus(0)
    two = ["A" if system in ("S0", "S1") else "B" for system in systems]
    resampling = resample(truth, two, None, 40, np.random.default_rng(0))
    alone = (resampling.levels["ta", "system"].counts == 0).any(axis=1)
    draws = resampling.seed_mean(f"ta.system.{statistic}", predictions)
    assert alone.any()
    assert not alone.all()
    assert np.array_equal(np.isnan(draws), alone)


def test_every_draw_takes_as_many_systems_as_there_are() -> None:
    truth, systems, _ = corpus(0)
    counts = resample(truth, systems, None, 500, np.random.default_rng(0)).levels["ta", "system"].counts
    assert (counts.sum(axis=1) == NUM_SYSTEMS).all()
    assert counts.mean(axis=0) == pytest.approx(np.ones(NUM_SYSTEMS), abs=0.15)


def test_the_order_of_the_clips_does_not_matter() -> None:
    truth, systems, predictions = corpus(5)
    order = np.random.default_rng(1).permutation(len(systems))
    straight = resample(truth, systems, None, 20, np.random.default_rng(2))
    shuffled = resample(truth[order], [systems[clip] for clip in order], None, 20, np.random.default_rng(2))
    for metric in METRICS:
        expected = straight.seed_mean(metric, predictions)
        assert shuffled.seed_mean(metric, predictions[:, order]) == pytest.approx(expected, rel=0, abs=1e-12)
