"""Per-row tuning: each row of a table gets a search of its own, with the same budget and the same first guess."""

from collections.abc import Sequence

from study.database import Database
from study.optimize import OptimizeRequest, plan_search, run_search, search_of, write_best
from study.preparation import make_folder
from study.records import Tuned
from study.runs import Workspace
from study.table_design import AblationFile, Row


def tune_rows(
    file: AblationFile, rows: Sequence[Row], workspace: Workspace, database: Database, request: OptimizeRequest
) -> dict[str, Tuned]:
    """Search each row to the same total; a search that is complete is read from the database.

    The searches are those of `whisq-study optimize --row ID`; `request.row`, `study` and `source` are not used.

    Raises:
        InputError: as `optimize` does.
    """
    return {row.id: _tune(file, row, workspace, database, request) for row in rows}


def _tune(file: AblationFile, row: Row, workspace: Workspace, database: Database, request: OptimizeRequest) -> Tuned:
    if not row.spec.uses_features or not search_of(file).without(row.settings).space:
        return Tuned({}, 0)
    plan = plan_search(file, row, workspace, request)
    folder = request.out / plan.name
    make_folder(folder)
    result = run_search(plan, workspace, database, request)
    write_best(result, folder)
    return Tuned(result.winner.settings if result.winner else {}, result.num_trials)
