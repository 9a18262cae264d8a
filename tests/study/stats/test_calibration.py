import csv
import importlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[3]
NUM_TABLES = 60


@pytest.fixture(scope="module")
def calibration() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        yield importlib.import_module("calibration")


def test_rows_that_are_the_same_procedure_are_hardly_ever_called_different(calibration: ModuleType) -> None:
    found = calibration.run(calibration.SAME, NUM_TABLES)
    assert found.false_verdicts <= 5 / NUM_TABLES
    assert found.seed_interval_coverage == pytest.approx(0.95, abs=0.03)


def test_rows_equal_in_the_population_are_hardly_ever_called_different(calibration: ModuleType) -> None:
    found = calibration.run(calibration.EQUAL, NUM_TABLES)
    assert found.seeds_alone > 0.9  # so these tables can convict a procedure
    assert found.false_verdicts <= 5 / NUM_TABLES
    assert found.item_interval_coverage == pytest.approx(0.95, abs=0.03)
    # Tables like those of MusicEval
    assert found.mean_srcc == pytest.approx(0.6, abs=0.06)
    assert found.seed_sd == pytest.approx(0.01, abs=0.003)


def test_a_row_that_is_much_worse_is_found_and_the_others_are_left_alone(calibration: ModuleType) -> None:
    world = replace(calibration.SHARED, effect=0.2)
    tables = [calibration.simulate(world, 2.0, table) for table in range(8)]
    assert sum(table.found for table in tables) >= 7
    assert sum(table.false_verdict for table in tables) <= 1


def test_the_result_does_not_depend_on_the_number_of_workers(calibration: ModuleType) -> None:
    world = replace(calibration.SAME, num_seeds=6, num_systems=8)
    with ThreadPoolExecutor(2) as pool:
        assert repr(calibration.run(world, calibration.CHUNK + 5, pool)) == repr(
            calibration.run(world, calibration.CHUNK + 5)
        )


@pytest.fixture(scope="module")
def committed() -> list[dict[str, str]]:
    with (ROOT / "results" / "calibration.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_committed_calibration_is_that_of_this_plan(
    calibration: ModuleType, committed: list[dict[str, str]]
) -> None:
    assert list(committed[0]) == [field.name for field in fields(calibration.Outcome)]
    assert [(line["scenario"], int(line["tables"])) for line in committed] == [
        (world.name, 5000 // share) for world, share in calibration.PLAN
    ]


def test_the_committed_calibration_keeps_the_promise_under_every_null(
    calibration: ModuleType, committed: list[dict[str, str]]
) -> None:
    nulls = committed[: len(calibration.NULLS)]
    assert [int(line["tables"]) for line in nulls] == [5000] * 3
    assert all(float(line["upper_bound"]) <= 0.06 for line in nulls)
    assert 0.93 <= float(nulls[0]["seed_interval_coverage"]) <= 0.97
    assert 0.93 <= float(nulls[1]["item_interval_coverage"]) <= 0.97
