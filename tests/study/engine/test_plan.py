"""A plan compares a table's cells with the runs that are stored: new, stale, done or blocked, and why."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from study.config import read_ablation_file
from study.engine import Cell, Pool, Task, Workspace, execute, plan
from study.store import Database, Run
from whisq_core.errors import InputError

TABLE = {
    "name": "table",
    "base": {"data": {"score": ["dev"]}},
    "seeds": "0-1",
    "sections": [
        {
            "title": "Controls",
            "rows": [
                {"id": "constant", "label": "Constant", "set": {"model.predictor": "constant"}},
                {"id": "lookup", "label": "Lookup", "set": {"model.predictor": "system_lookup"}},
            ],
        }
    ],
}


class Planner:
    """Plans one table, whose file may change."""

    def __init__(self, path: Path, workspace: Workspace, database: Database) -> None:
        self.path, self.workspace, self.database = path, workspace, database
        self.table = yaml.safe_load(yaml.safe_dump(TABLE))

    def __call__(self) -> tuple[Cell, ...]:
        self.path.write_text(yaml.safe_dump(self.table), encoding="utf-8")
        file = read_ablation_file(self.path)
        return plan(file, file.rows, self.workspace, Pool(1), self.database)

    def run(self, cell: Cell, table: str = "table") -> Run:
        """The run of a cell, not stored yet."""
        assert cell.run_id is not None
        return execute(Task(cell.run_id, "cell", cell.spec, table, cell.row), self.workspace)


@pytest.fixture
def planner(tmp_path: Path, workspace: Workspace, database: Database) -> Planner:
    return Planner(tmp_path / "table.yaml", workspace, database)


def test_cells_without_a_run_are_new_and_come_seed_by_seed(planner: Planner) -> None:
    cells = planner()

    assert [(cell.row, cell.seed) for cell in cells] == [("constant", 0), ("lookup", 0), ("constant", 1), ("lookup", 1)]
    assert {(cell.state, cell.reason, cell.to_run) for cell in cells} == {("new", "no run yet", True)}


def test_a_cell_whose_run_is_stored_is_done_also_when_it_was_made_for_another_table(planner: Planner) -> None:
    first, second, *_ = planner()
    planner.database.save_run(planner.run(first))
    planner.database.save_run(planner.run(second, table="other"))

    assert [cell.state for cell in planner()] == ["done", "done", "new", "new"]


def test_a_cell_is_stale_when_its_newest_run_has_other_settings_and_the_reason_names_them(planner: Planner) -> None:
    first, *_ = planner()
    planner.database.save_run(replace(planner.run(first), finished_at=1.0))
    planner.table["sections"][0]["rows"][0]["set"] = {"model.predictor": "system_lookup"}

    cell = planner()[0]

    assert (cell.state, cell.reason) == ("stale", "model.predictor: constant -> system_lookup")
    assert cell.to_run


def test_a_failed_cell_runs_again_and_says_why_it_failed(planner: Planner) -> None:
    first, *_ = planner()
    failed = replace(planner.run(first), state="failed", reason="out of memory", scored={})
    planner.database.save_run(failed)

    assert (planner()[0].state, planner()[0].reason) == ("new", "failed before: out of memory")


def test_a_row_without_weights_is_blocked_and_the_others_can_run(planner: Planner, tmp_path: Path) -> None:
    missing = {"id": "whisq", "label": "WhisQ", "set": {"backbone.audio": str(tmp_path / "none")}}
    planner.table["sections"][0]["rows"].append(missing)

    blocked = [cell for cell in planner() if cell.state == "blocked"]

    assert [(cell.row, cell.seed, cell.run_id, cell.to_run) for cell in blocked] == [
        ("whisq", 0, None, False),
        ("whisq", 1, None, False),
    ]
    assert str(tmp_path / "none") in blocked[0].reason


def test_a_table_of_which_nothing_can_run_is_refused(planner: Planner, tmp_path: Path) -> None:
    planner.table["sections"][0]["rows"] = [
        {"id": "whisq", "label": "WhisQ", "set": {"backbone.audio": str(tmp_path / "none")}}
    ]

    with pytest.raises(InputError, match="none"):
        planner()
