"""From stored results to verdicts: what `TableResults` hold, as the evidence that the statistics judge."""

from threadpoolctl import threadpool_limits

from study.config import Row
from study.judgement import Evidence, Judgement, judge
from study.results import TableResults
from study.tables.method import searched_settings
from whisq_core.spec import heads


def judge_table(results: TableResults) -> Judgement:
    """The verdicts of a table, from its stored predictions.

    Parameters
    ----------
    results
        What was measured; rows may still lack seeds.

    Returns
    -------
    Judgement
        Intervals, comparisons with the reference, and a decision for each declared row.
    """
    with threadpool_limits(1):  # its products are small: threads would wait for each other, above all beside workers
        return judge(evidence(results))


def evidence(results: TableResults) -> Evidence:
    """What was predicted and what was declared beforehand, as the statistics want it."""
    file, compare = results.file, results.file.compare
    reference = file.row(compare.to) if compare else None
    shown = [row for row in file.rows if row.id in results.predictions]
    return Evidence(
        predictions=results.predictions,
        seeds=results.seeds_done,
        num_seeds={row.id: len(row.seeds) for row in file.rows},
        truth=results.truth,
        groups=results.systems,
        second_groups=results.prompts,
        group_truth=results.system_truth,
        reference=reference.id if reference else None,
        compared=compare.rows if compare else (),
        metric=file.metric,
        metrics=file.metrics,
        margin=compare.equivalence_margin if compare else 0.0,
        aa=tuple(row.id for row in shown if reference and _repeats(row, reference, searched_settings(file))),
        placeholders=frozenset(row.id for section in file.sections if section.stand_in for row in section.rows),
        ta_only=tuple(row.id for row in shown if reference and _must_agree_on_omq(results, row, reference)),
        constant=next((row.id for row in shown if row.spec.model.predictor == "constant"), None),
        group_means=next((row.id for row in shown if row.spec.model.predictor == "system_lookup"), None),
        changed=results.declared.changed,
        contrasts={each.id: each.rows for each in file.contrasts},
        ratings=results.ratings,
        clip_scope=file.base.train.clip_scope,
    )


def _repeats(row: Row, reference: Row, searched: tuple[str, ...]) -> bool:
    """An A/A row: the reference again, on other seeds; what each row's own search chose may differ."""
    same = not _differing(row, reference) - set(searched)
    return row.id != reference.id and same and not set(row.seeds) & set(reference.seeds)


def _must_agree_on_omq(results: TableResults, row: Row, reference: Row) -> bool:
    """Whether the rows differ in settings of the TA head alone, at the same seeds."""
    if row.id == reference.id or row.seeds != reference.seeds or row.spec.model.predictor != "whisq":
        return False
    cells = results.cells[results.cells["row"] == reference.id]
    projected = (cells["audio_dim"] != reference.spec.model.feature_dim).any()
    differing = _differing(row, reference)
    return bool(differing) and all(heads(name, row.spec, bool(projected)) == ("ta",) for name in differing)


def _differing(row: Row, reference: Row) -> set[str]:
    ours, theirs = row.spec.settings(), reference.spec.settings()
    return {name for name in ours if name != "seed" and ours[name] != theirs[name]}
