"""Planning is pure: cells against stored runs give new, stale or done, with the reason."""

from dataclasses import replace

from study.engine.runs import Identity

from study.config import Row
from study.engine.plan import Cell, plan
from study.store.records import RunHeader
from whisq_core.spec import RunSpec

ROW = Row(
    id="whisq",
    label="WhisQ",
    section="Baseline",
    settings={},
    extends=None,
    seeds=(0,),
    spec=RunSpec(),
    note=None,
    quoted=None,
    compared=False,
    line=1,
)
CELL = Cell(ROW, 0, 0, RunSpec(), Identity("id-1", {"loss.ot_weight": 1.0, "corpus": "c1"}))
DONE = RunHeader("id-1", "table2", "whisq", 0, "done", None, {"loss.ot_weight": 1.0, "corpus": "c1"}, 60.0, 1.0)


def states(cell: Cell, *headers: RunHeader) -> tuple[str, str]:
    (planned,) = plan([cell], headers, "table2")
    return planned.state, planned.reason


def test_a_cell_without_a_run_is_new() -> None:
    assert states(CELL) == ("new", "no run yet")


def test_a_cell_whose_run_is_stored_is_done() -> None:
    assert states(CELL, DONE) == ("done", "")


def test_a_run_made_for_another_table_serves_this_one() -> None:
    assert states(CELL, replace(DONE, table_name="other")) == ("done", "")


def test_a_cell_is_stale_when_its_newest_run_has_other_settings_and_the_reason_names_them() -> None:
    older = replace(DONE, run_id="id-0", identity={"loss.ot_weight": 0.5, "corpus": "c1"})
    oldest = replace(DONE, run_id="id-9", identity={"loss.ot_weight": 9.0, "corpus": "c9"}, finished_at=0.0)

    assert states(CELL, oldest, older) == ("stale", "loss.ot_weight: 0.5 -> 1.0")


def test_the_same_row_of_another_table_does_not_make_a_cell_stale() -> None:
    assert states(CELL, replace(DONE, run_id="id-0", table_name="other")) == ("new", "no run yet")


def test_a_failed_cell_runs_again_and_says_why_it_failed() -> None:
    failed = replace(DONE, state="failed", reason="out of memory")

    assert states(CELL, failed) == ("new", "failed before: out of memory")


def test_a_cell_without_weights_is_blocked() -> None:
    blocked = replace(CELL, identity=None, problem="weights are missing")

    (planned,) = plan([blocked], [], "table2")

    assert (planned.state, planned.reason, planned.to_run) == ("blocked", "weights are missing", False)
