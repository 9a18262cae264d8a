import csv
import importlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
NUM_TABLES = 60
BOUND = 0.06  # of the rate of tables with a false verdict


@pytest.fixture(scope="module")
def calibration() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        yield importlib.import_module("calibration")


def test_in_sixty_tables_whose_prompts_carry_the_errors_hardly_any_verdict_is_false(calibration: ModuleType) -> None:
    world = next(world for world in calibration.NULLS if world.prompt_share == 0.8)
    found = calibration.simulate_many(world, range(NUM_TABLES))
    for counts in found.values():
        assert counts.seeds_alone > 0.9 * NUM_TABLES  # so these tables can convict a procedure
        assert counts.false_verdicts <= 5
        assert counts.covered / NUM_TABLES == pytest.approx(0.95, abs=0.03)
    assert found[calibration.U_MSE].one_way >= 5  # as errors over systems alone do
    # Tables like those of MusicEval
    assert found[calibration.U_SRCC].value / NUM_TABLES == pytest.approx(0.6, abs=0.06)


def test_a_row_that_is_much_worse_is_found_and_the_others_are_left_alone(calibration: ModuleType) -> None:
    world = replace(calibration.ALIKE, effect=0.2)
    found = calibration.simulate_many(world, range(8))[calibration.U_SRCC]
    assert found.found >= 7
    assert found.false_verdicts <= 1


def test_counts_are_kept_and_a_run_goes_on_where_it_stopped(calibration: ModuleType, tmp_path: Path) -> None:
    world = replace(calibration.SAME, num_seeds=6, num_systems=8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibration, "CHUNK", 3)
        ((_, whole),) = calibration.run(((world, 1),), 6, 1, tmp_path / "whole")
        ((_, part),) = calibration.run(((world, 1),), 3, 1, tmp_path / "parts")
        assert part.totals()[calibration.U_SRCC].tables == 3
        ((_, rest),) = calibration.run(((world, 1),), 6, 1, tmp_path / "parts")
    assert rest.totals() == whole.totals()
    assert rest.totals()[calibration.U_MSE].tables == 6


@pytest.fixture(scope="module")
def committed() -> list[dict[str, str]]:
    with (ROOT / "results" / "calibration.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_committed_calibration_is_that_of_this_plan(
    calibration: ModuleType, committed: list[dict[str, str]]
) -> None:
    planned = {(world.name, metric) for world, _ in calibration.PLAN for metric in world.metrics}
    assert {(line["scenario"], line["metric"]) for line in committed} <= planned
    worlds = {world.name for world in (*calibration.NULLS, *calibration.EQUIVALENCE)}
    assert worlds <= {line["scenario"] for line in committed}


def numbers(lines: list[dict[str, str]], name: str) -> dict[Any, float]:
    return {(line["scenario"], line["metric"]): float(line[name]) for line in lines if line[name]}


def test_the_committed_calibration_keeps_the_promise_in_every_world(committed: list[dict[str, str]]) -> None:
    bounds = numbers(committed, "false_verdicts_bound") | numbers(committed, "false_equivalence_bound")
    few = {(line["scenario"], line["metric"]) for line in committed if int(line["tables"]) < 1000}
    assert {world: bound for world, bound in bounds.items() if bound > BOUND and world not in few} == {}
    coverage = numbers(committed, "coverage")
    assert {world: rate for world, rate in coverage.items() if not 0.93 <= rate <= 0.97 and world not in few} == {}
