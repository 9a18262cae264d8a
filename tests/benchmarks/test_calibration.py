import csv
import importlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
NUM_TABLES = 60
BOUND = 0.06  # of the rate of tables with a false verdict
# Intervals that cover more than they say, which costs power alone; squares of t with 3 degrees have no variance.
WIDER_THAN_NEEDED = {
    ("equal, system level", "ta.system.srcc"),
    ("equal, heaviest tails", "ta.utterance.mse"),
}


@pytest.fixture(scope="module")
def calibration() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        yield importlib.import_module("calibration")


@pytest.fixture(scope="module")
def worlds(calibration: ModuleType) -> ModuleType:
    return importlib.import_module("calibration_worlds")


def test_in_sixty_tables_whose_prompts_carry_the_errors_hardly_any_verdict_is_false(
    calibration: ModuleType, worlds: ModuleType
) -> None:
    world = next(world for world in worlds.NULLS if world.prompt_share == 0.8)
    found = calibration.simulate_many(world, range(NUM_TABLES))
    for counts in found.values():
        assert counts.seeds_alone > 0.9 * NUM_TABLES  # so these tables can convict a procedure
        assert counts.false_verdicts <= 5
        assert counts.covered / NUM_TABLES == pytest.approx(0.95, abs=0.03)
    assert found[worlds.U_MSE].one_way >= 5  # as errors over systems alone do
    # Tables like those of MusicEval
    assert found[worlds.U_SRCC].value / NUM_TABLES == pytest.approx(0.6, abs=0.06)


def test_a_row_that_is_much_worse_is_found_and_the_others_are_left_alone(
    calibration: ModuleType, worlds: ModuleType
) -> None:
    world = replace(worlds.ALIKE, effect=0.2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worlds, "NUM_CORPORA", 10)
        found = calibration.simulate_many(world, range(8))[worlds.U_SRCC]
    assert found.found >= 7
    assert found.false_verdicts <= 1


def test_counts_are_kept_and_a_run_goes_on_where_it_stopped(
    calibration: ModuleType, worlds: ModuleType, tmp_path: Path
) -> None:
    world = replace(worlds.SAME, num_seeds=6, num_systems=8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibration, "CHUNK", 3)
        ((_, whole),) = calibration.run(((world, 1),), 6, 1, tmp_path / "whole")
        ((_, part),) = calibration.run(((world, 1),), 3, 1, tmp_path / "parts")
        assert part.totals()[worlds.U_SRCC].tables == 3
        ((_, rest),) = calibration.run(((world, 1),), 6, 1, tmp_path / "parts")
    assert rest.totals() == whole.totals()
    assert rest.totals()[worlds.U_MSE].tables == 6


@pytest.fixture(scope="module")
def committed() -> list[dict[str, str]]:
    with (ROOT / "results" / "calibration.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_committed_calibration_is_of_worlds_of_this_plan(
    calibration: ModuleType, committed: list[dict[str, str]]
) -> None:
    planned = {(world.name, metric) for world, _ in calibration.PLAN for metric in world.metrics}
    assert {(line["scenario"], line["metric"]) for line in committed} <= planned
    assert {"same procedure", "equal, prompts 80 %"} <= {line["scenario"] for line in committed}


def test_the_committed_calibration_keeps_the_promise_in_every_world(committed: list[dict[str, str]]) -> None:
    for line in committed:
        enough = int(line["tables"]) >= 1000  # to bound a rate; with fewer it is but an estimate
        for name in ("false_verdicts", "false_equivalence"):
            found = line[f"{name}_bound" if enough else name]
            assert not found or float(found) <= BOUND, line
        highest = 1 if (line["scenario"], line["metric"]) in WIDER_THAN_NEEDED else 0.97
        assert not enough or 0.93 <= float(line["coverage"]) <= highest, line
