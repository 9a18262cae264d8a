"""Per-row tuning: each row of a table gets a search of its own, with the same budget and the same first guess."""

from collections.abc import Sequence
from dataclasses import replace

from study.config import AblationFile, Row
from study.engine import Inputs, Pool, collect_errors, make_folder
from study.search.optimize import plan_search, run_search, search_of
from study.search.study import SearchPlan
from study.search.summary import write_best
from study.store import Tuned
from whisq_core.errors import raise_all


def tune_rows(file: AblationFile, rows: Sequence[Row], inputs: Inputs, pool: Pool) -> dict[str, Tuned]:
    """Search each row to the same total; a search that is complete is read from the database.

    The searches are those of `whisq-study optimize --row ID`. A row that repeats another on other seeds (A/A) has a
    search of its own, drawn anew: what tuning adds to the noise of a row is noise of both. The caller holds the
    storage's lock.

    Raises
    ------
    InputError
        As `optimize` does; all rows are checked before the first search begins.
    """
    plans, mistakes = dict[str, SearchPlan](), list[str]()
    for row in rows:
        with collect_errors(mistakes):
            if row.spec.uses_features and search_of(file).without(row.settings).space:
                plan = plan_search(file, row, inputs.workspace, pool)
                same = [other.identity.run_id == plan.identity.run_id for other in plans.values()]
                plans[row.id] = replace(plan, seed=sum(same))
    raise_all(mistakes)
    tuned = {row.id: Tuned({}, 0) for row in rows}  # a control, or a row that sets everything that is searched
    for row_id, plan in plans.items():
        folder = inputs.out / plan.name
        make_folder(folder)
        result = run_search(plan, inputs, pool)
        write_best(result, folder)
        tuned[row_id] = Tuned(result.winner.settings if result.winner else {}, result.num_trials)
    return tuned
