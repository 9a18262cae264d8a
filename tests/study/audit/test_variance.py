"""What errors and correlations say together: bounds of the labels' variance, and where a gain lies."""

import numpy as np
import pytest

from study.audit import audit
from study.audit.table import TableLine
from study.audit.variance import gains, label_variances


def _scored(name: str, truth: np.ndarray, predicted: np.ndarray) -> TableLine:
    mse, lcc = np.mean((truth - predicted) ** 2), np.corrcoef(truth, predicted)[0, 1]
    return TableLine(name, name, {"a.utterance.mse": f"{mse:.4f}", "a.utterance.lcc": f"{lcc:.4f}"})


def test_the_bound_holds_for_any_predictions_and_finds_rows_worse_than_a_constant() -> None:
    draw = np.random.default_rng(0)
    for _ in range(50):
        truth = draw.normal(3, draw.uniform(0.5, 2), size=40)
        rows = [
            _scored(str(number), truth, draw.normal() + draw.uniform(0, 2) * truth + draw.normal(size=40) * spread)
            for number, spread in enumerate(draw.uniform(0.05, 4, size=4))
        ]
        (found,) = label_variances(rows)
        assert found.bound >= np.var(truth) - 1e-9
        worse = {row.label for row in rows if float(row.values["a.utterance.mse"]) > np.var(truth) + 1e-3}
        assert set(found.worse) <= worse


def test_a_gain_by_scale_alone_is_no_correlation() -> None:
    truth = np.random.default_rng(1).normal(size=200)
    predicted = truth + np.random.default_rng(2).normal(size=200)
    slope = np.cov(truth, predicted)[0, 1] / np.var(predicted, ddof=1)
    lines = [_scored("scaled", truth, slope * (predicted - predicted.mean())), _scored("raw", truth, predicted)]
    (gain,) = gains(lines, label_variances(lines))
    assert gain.gain == pytest.approx(
        float(lines[1].values["a.utterance.mse"]) - float(lines[0].values["a.utterance.mse"])
    )
    assert gain.correlation == pytest.approx(0, abs=0.01)


def test_wav2vec2_is_worse_than_a_constant_on_all_errors_and_no_other_row_is() -> None:
    variances = {each.column: each for each in audit().variances}
    assert {column: round(each.bound, 3) for column, each in variances.items()} == {
        "omq.utterance": 0.826,
        "omq.system": 0.499,
        "ta.utterance": 0.753,  # .7525
        "ta.system": 0.307,
    }
    assert all(each.worse == ("Wav2Vec2 + ModernBERT",) for each in variances.values())
