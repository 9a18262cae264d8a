"""Per-row tuning: each row of a table gets a search of its own, with the same budget and the same first guess."""

from collections.abc import Sequence

from study.config import AblationFile, Row
from study.engine.preflight import make_folder, noted
from study.engine.runs import Workspace
from study.search.optimize import OptimizeRequest, plan_search, run_search, search_of, write_best
from study.search.study import SearchPlan
from study.store.database import Database
from study.store.records import Tuned
from whisq_core.errors import raise_all


def tune_rows(
    file: AblationFile, rows: Sequence[Row], workspace: Workspace, database: Database, request: OptimizeRequest
) -> dict[str, Tuned]:
    """Search each row to the same total; a search that is complete is read from the database.

    The searches are those of `whisq-study optimize --row ID`; `request.row`, `study` and `source` are not used. Rows
    that differ in nothing but their seeds share a search: an A/A row that was tuned to something else would not be one.

    Raises:
        InputError: as `optimize` does; all rows are checked before the first search begins.
    """
    plans: dict[str, SearchPlan] = {}
    mistakes: list[str] = []
    for row in rows:
        with noted(mistakes):
            if _is_searched(file, row):
                plans[row.id] = plan_search(file, row, workspace, request)
    raise_all(mistakes)
    found: dict[tuple[str, str], Tuned] = {}
    tuned = {row.id: Tuned({}, 0) for row in rows}
    for row_id, plan in plans.items():
        same = (plan.identity.run_id, plan.search.fingerprint)
        if same not in found:
            found[same] = _tune(plan, workspace, database, request)
        tuned[row_id] = found[same]
    return tuned


def _is_searched(file: AblationFile, row: Row) -> bool:
    """Whether there is anything to search: not in a control, nor in a row that sets everything that is searched."""
    return row.spec.uses_features and bool(search_of(file).without(row.settings).space)


def _tune(plan: SearchPlan, workspace: Workspace, database: Database, request: OptimizeRequest) -> Tuned:
    folder = request.out / plan.name
    make_folder(folder)
    result = run_search(plan, workspace, database, request)
    write_best(result, folder)
    return Tuned(result.winner.settings if result.winner else {}, result.num_trials)
