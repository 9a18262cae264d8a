"""Metrics that other packages bring: judged as ours are, with errors found from nothing but their values."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.evidence import evidence
from helpers.plugins import METRICS, forget, install

import study
from study.judgement import judge
from whisq_core.errors import InputError
from whisq_core.metrics import evaluate, higher_is_better, known_metrics, statistic, title, unknown_metric


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder from which this process imports; whatever is installed there is forgotten afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    monkeypatch.undo()
    forget("their_metrics")


@pytest.mark.parametrize("level", ["utterance", "system"])
@pytest.mark.parametrize("name", ["lcc", "mse"])
def test_a_plug_in_that_computes_one_of_our_metrics_gets_its_verdict_and_nearly_its_interval(
    site: Path, level: str, name: str
) -> None:
    install(site, METRICS, lcc="lcc", mse="mse")
    table = evidence(errors={"whisq": 0.3, "bad": 3.0, "near": 0.31}, num_seeds=7, num_systems=20)
    ours, theirs = f"ta.{level}.{name}", f"ta.{level}.their-metrics.{name}"

    expected = judge(replace(table, metric=ours, metrics=(ours,)))
    found = judge(replace(table, metric=theirs, metrics=(theirs,)))

    assert higher_is_better(theirs) == higher_is_better(ours)
    assert expected.rows["bad"].decision.verdict == "worse"
    for row in ("bad",) if level == "system" else ("bad", "near"):
        one, other = expected.rows[row], found.rows[row]
        assert other.summaries[theirs].mean == pytest.approx(one.summaries[ours].mean, abs=1e-10)
        assert other.decision.verdict == one.decision.verdict
        ends = (other.decision.interval.low, other.decision.interval.high)
        width = one.decision.interval.high - one.decision.interval.low
        few = 0.3 if level == "system" else 0.03  # the jackknife differs by the inverse of the number of points
        assert ends == pytest.approx((one.decision.interval.low, one.decision.interval.high), abs=few * width)


def test_the_jackknife_of_a_mean_is_its_influence(site: Path) -> None:
    install(site, METRICS, mse="mse")
    table = evidence(errors={"whisq": 0.3, "bad": 1.2})

    metrics = ("ta.utterance.mse", "ta.utterance.their-metrics.mse")
    ours, theirs = (judge(replace(table, metric=name, metrics=(name,))).primary("bad") for name in metrics)

    assert theirs.by_systems.value == pytest.approx(ours.by_systems.value, rel=1e-9)


MISTAKES = {
    "return 1 / 0": "ZeroDivisionError: division by zero",
    "return predicted": "returns ndarray of shape (48,) instead of a number",
    "return np.array(1.0)": "returns ndarray instead of a number",
    "return 1j": "returns complex instead of a number",
    "return None": "returns NoneType instead of a number",
    "return '1'": "returns str instead of a number",
    "return True": "returns bool instead of a number",
    "return 10 ** 400": "OverflowError",
    "raise SystemExit('no more')": "SystemExit: no more",
}


@pytest.mark.parametrize("body", MISTAKES)
def test_a_plug_in_that_measures_nothing_is_named_in_one_line(site: Path, body: str) -> None:
    install(
        site, f"import numpy as np\n\ndef own(predicted, truth):\n    {body}\n\nown.higher_is_better = True", own="own"
    )
    table = evidence(errors={"whisq": 0.3, "bad": 1.2}, num_seeds=2, clips_per_system=4)

    with pytest.raises(InputError) as error:
        judge(replace(table, metric="ta.utterance.their-metrics.own", metrics=("ta.utterance.their-metrics.own",)))

    (line,) = str(error.value).splitlines()
    assert line.startswith("metric plug-in 'their-metrics.own' of their-metrics==1.0: ")
    assert MISTAKES[body] in line


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("def own(predicted, truth): return 0.0", "has no attribute higher_is_better, which is True or False"),
        ("class own:\n    higher_is_better = True", "is a class instead of a function of two arrays"),
        ("own = 3.0", "is float instead of a function of two arrays"),
        ("import nowhere_to_be_found", "ModuleNotFoundError"),
    ],
)
def test_a_plug_in_that_is_no_metric_is_named_in_one_line(site: Path, source: str, told: str) -> None:
    install(site, source, own="own")

    with pytest.raises(InputError, match=f"^metric plug-in 'their-metrics.own' of their-metrics==1.0: {told}"):
        statistic("their-metrics.own")


def test_a_plug_in_that_is_undefined_never_wins(site: Path) -> None:
    source = "def own(predicted, truth): return float('inf')\n\nown.higher_is_better = True"
    install(site, source, own="own")
    table = evidence(errors={"whisq": 0.3, "bad": 1.2}, num_seeds=2)

    found = judge(replace(table, metric="ta.system.their-metrics.own", metrics=("ta.system.their-metrics.own",)))

    assert found.rows["bad"].decision.verdict == "undefined"


def test_a_plug_in_that_changes_its_arguments_changes_nothing_else(site: Path) -> None:
    source = "def own(predicted, truth):\n    predicted.sort()\n    truth.sort()\n    return 1.0"
    install(site, f"{source}\n\nown.higher_is_better = True", own="own")
    generator = np.random.default_rng(0)
    predicted, truth = generator.normal(size=(2, 12, 2))
    systems = [f"S{index % 3}" for index in range(12)]

    found = evaluate(predicted, truth, systems, names=("ta.utterance.their-metrics.own", "ta.utterance.srcc"))

    assert found["ta.utterance.srcc"] == evaluate(predicted, truth, systems)["ta.utterance.srcc"]


def test_names_of_plug_ins_are_known_shown_in_full_and_suggested(site: Path) -> None:
    install(site, METRICS, lcc="lcc")

    assert {name for name in known_metrics() if "their" in name} == {
        f"{target}.{level}.their-metrics.lcc" for target in ("omq", "ta") for level in ("utterance", "system")
    }
    assert title("ta.system.their-metrics.lcc") == "TA S-their-metrics.lcc"
    assert unknown_metric("ta.utterance.their-metric.lcc") == (
        "unknown metric 'ta.utterance.their-metric.lcc'. Did you mean 'ta.utterance.their-metrics.lcc'? "
        "Installed metric plug-ins: their-metrics.lcc. Install its package."
    )


def test_anybodys_predictions_are_judged_on_a_plug_in_by_any_of_its_names(site: Path) -> None:
    install(site, METRICS, lcc="lcc")
    generator = np.random.default_rng(0)
    lines = pd.MultiIndex.from_product((["ours", "base"], range(3), range(40)), names=["row", "seed", "item"])
    frame = lines.to_frame(index=False).assign(group=lambda table: table["item"] % 8)
    frame["truth"] = frame["item"].map(dict(enumerate(generator.normal(size=40))))
    frame["prediction"] = frame["truth"] + generator.normal(0, np.where(frame["row"] == "ours", 0.3, 1.0))

    ours, *found = (
        study.judge(frame, to="base", metric=name)
        for name in ("lcc", "their-metrics.lcc", "utterance.their-metrics.lcc", "U-their-metrics.lcc")
    )

    for table in found:
        assert table.judgement.metric.endswith(".utterance.their-metrics.lcc")
        np.testing.assert_allclose(table.verdicts["mean"], ours.verdicts["mean"])
        assert "U-their-metrics.lcc comes from their-metrics==1.0, a package other than this one" in table.text()
    with pytest.raises(InputError, match=r"Did you mean '.*their-metrics\.lcc'\? Installed metric plug-ins: their"):
        study.judge(frame, metric="their-metrics.lc")
    with pytest.raises(InputError, match=r"^metric 'their-metrics\.lcc' needs a column truth"):
        study.judge(frame.drop(columns="truth"), metric="their-metrics.lcc")


def test_a_plug_in_that_is_not_installed_is_told_so() -> None:
    for name in ("ta.utterance.their-metrics.lcc", "their-metrics.ccc"):
        assert unknown_metric(name) == (
            f"unknown metric '{name}'. Installed metric plug-ins: none. Install its package."
        )
    assert unknown_metric("ta.utterance.scc") == "unknown metric 'ta.utterance.scc'. Did you mean 'ta.utterance.srcc'?"
