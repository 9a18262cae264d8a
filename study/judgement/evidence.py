"""What is judged: predictions of any targets on items in groups, and what was declared about them beforehand."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from study.stats import Array
from whisq_core.metrics import MEAN, TARGETS, higher_is_better, metrics_of, parsed


@dataclass(frozen=True)
class Evidence:
    """What the rows of a table have predicted, and what was declared about it beforehand.

    Parameters
    ----------
    predictions
        Row -> float64 [seeds done, items, targets], on the scale of the truth.
    seeds
        Row -> the number of each of these seeds. Rows with common seeds are paired by them; rows without are compared
        as independent samples.
    groups
        The group (system) of each item: items of one group share errors, and verdicts are about other groups.
    truth
        [items, targets]; None when only means are judged.
    targets
        The names of the last axis.
    metric, margin
        The primary metric (``"TARGET.LEVEL.STATISTIC"``, one of `metrics`), and what difference of it counts as none.
    metrics
        What is summarised and compared; () means all of each target, or its mean where there is no truth. A mean is
        ``"TARGET.utterance.mean"``.
    second_groups
        The second group (prompt) of each item, crossed with the first; None where unknown.
    group_truth
        True scores [targets] of each group; None means the mean truth of its items.
    reference, compared
        The row that the declared rows are compared with, and those rows; None and nothing without a declaration.
    lower_is_better
        True for a mean of costs; other metrics have directions of their own.
    group_noun, second_noun
        What groups and second groups are, in the plural, for sentences.
    num_seeds
        Row -> the seeds it was to have; a row that has fewer says so in its verdict.
    changed
        Empty, or how the declaration was changed after runs were seen: verdicts are exploratory then.
    aa
        Rows that repeat the reference on other seeds.
    placeholders
        Rows of untrained encoders: they show a path and are never compared.
    ta_only
        Rows that differ from the reference on the side of the last target only, at the same seeds: their first target's
        predictions must be the same.
    constant, group_means
        The rows that predict the training mean, and the training mean of each group, if any: a row that is worse than
        the first is flagged, a reference that is worse than either on any metric is an alarm.
    clip_scope
        `train.clip_scope` of the table: whether gradient clipping couples the two heads.
    contrasts
        Name -> weights of rows, which cancel.
    ratings
        The ratings [raters, targets] of each item, where they are known.
    """

    predictions: Mapping[str, Array]
    seeds: Mapping[str, tuple[int, ...]]
    groups: tuple[str, ...]
    metric: str
    margin: float
    reference: str | None
    compared: tuple[str, ...]
    truth: Array | None = None
    targets: tuple[str, ...] = TARGETS
    metrics: tuple[str, ...] = ()
    second_groups: tuple[str, ...] | None = None
    group_truth: Mapping[str, tuple[float, ...]] | None = None
    lower_is_better: bool = False
    group_noun: str = "test systems"
    second_noun: str = "prompts"
    num_seeds: Mapping[str, int] | None = None
    changed: str = ""
    aa: tuple[str, ...] = ()
    placeholders: frozenset[str] = frozenset()
    ta_only: tuple[str, ...] = ()
    constant: str | None = None
    group_means: str | None = None
    clip_scope: str = "per_head"
    contrasts: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    ratings: tuple[Array, ...] | None = None

    @property
    def all_metrics(self) -> tuple[str, ...]:
        """What is summarised and compared, the primary metric among it."""
        if self.metrics:
            return self.metrics
        if self.truth is None:
            return tuple(f"{target}.utterance.{MEAN}" for target in self.targets)
        return tuple(name for target in self.targets for name in metrics_of(target))

    @property
    def higher_is_better(self) -> bool:
        """The direction of the primary metric."""
        return not self.lower_is_better if parsed(self.metric).statistic == MEAN else higher_is_better(self.metric)

    def paired(self, row: str, reference: str) -> tuple[list[int], list[int], bool]:
        """Where common seeds stand in the predictions of both rows; all of each, unpaired, where none is common."""
        ours, theirs = self.seeds.get(row, ()), self.seeds.get(reference, ())
        common = sorted(set(ours) & set(theirs))
        if not common:
            return list(range(len(ours))), list(range(len(theirs))), False
        return [ours.index(seed) for seed in common], [theirs.index(seed) for seed in common], True
