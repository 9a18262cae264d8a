"""Published numbers as data: Tables I and II of the WhisQ paper and the other published rows on the same dev set.

Every number is the string that was printed, so that its digits can be judged; `PublishedRow.number` gives the float.
The column that Table II heads "OQM" is OMQ.
"""

from dataclasses import dataclass
from types import MappingProxyType

WHISQ_PAPER = "WhisQ paper, Table II"
BASELINE_README = "NKU-HLT/MusicEval-baseline, README"
FORK_README = "kehinde-elelu/mos_eval, README"

SECTIONS = (
    "Baseline Comparison",
    "Attention Mechanism Ablations",
    "Pretrained Backbone Ablations (with Sequence Co-Attention + OT + Huber loss)",
)

NUM_SYSTEMS = 29  # in MusicEval's dev set, on which every row here was scored
METRIC_ORDER = tuple(
    f"{target}.{level}.{name}"
    for target in ("omq", "ta")
    for level in ("utterance", "system")
    for name in ("mse", "lcc", "srcc", "ktau")
)


@dataclass(frozen=True)
class PublishedRow:
    """One published line: `values` maps a metric's name to the string printed for it."""

    id: str
    label: str
    source: str
    values: MappingProxyType[str, str]
    section: str | None = None

    def number(self, metric: str) -> float:
        """The printed value as a number."""
        return float(self.values[metric])


@dataclass(frozen=True)
class Hyperparameter:
    """One line of Table I: the printed value and the setting that it names here, with that setting's value."""

    name: str
    printed: str
    settings: MappingProxyType[str, object]


@dataclass(frozen=True)
class GainClaim:
    """A gain in percent that the paper claims for `row` over `against`, and the metrics that it may mean."""

    id: str
    percent: float
    row: str
    against: str
    metrics: tuple[str, ...]
    where: str


@dataclass(frozen=True)
class CountClaim:
    """A size or cost that the paper prints in section III-B."""

    id: str
    name: str
    printed: str
    value: float


def _row(
    row_id: str, label: str, printed: str, section: str | None = None, source: str = WHISQ_PAPER
) -> tuple[str, PublishedRow]:
    values = dict(zip(METRIC_ORDER, printed.split(), strict=True))
    return row_id, PublishedRow(row_id, label, source, MappingProxyType(values), section)


_BASELINE, _ATTENTION, _BACKBONES = SECTIONS

PUBLISHED: MappingProxyType[str, PublishedRow] = MappingProxyType(
    dict(
        (
            _row(
                "whisq",
                "WhisQ w/ OT (Proposed)",
                "0.3584 0.7523 0.7585 0.5891 0.1095 0.9044 0.8813 0.7143 "
                "0.4735 0.6176 0.6109 0.4474 0.0773 0.8721 0.8695 0.6749",
                _BASELINE,
            ),
            _row(
                "no_ot",
                "WhisQ w/o OT",
                "0.5705 0.6807 0.6941 0.5165 0.3118 0.7986 0.8079 0.6108 "
                "0.5688 0.4939 0.4895 0.3481 0.1442 0.7613 0.7828 0.5961",
                _BASELINE,
            ),
            _row(
                "official_baseline",
                "Official Baseline",
                "0.6175 0.6908 0.6881 0.5143 0.3863 0.8016 0.7764 0.5862 "
                "0.5936 0.5803 0.5425 0.3933 0.2322 0.7461 0.7202 0.5074",
                _BASELINE,
            ),
            _row(
                "vanilla",
                "Vanilla Co-Attention w/ OT",
                "0.4249 0.7156 0.7230 0.5411 0.1129 0.8884 0.8757 0.6896 "
                "0.5123 0.5934 0.5876 0.4287 0.0896 0.8456 0.8321 0.6234",
                _ATTENTION,
            ),
            _row(
                "cross",
                "Cross-Attention w/ OT",
                "0.4601 0.6741 0.6881 0.5038 0.1193 0.8721 0.8606 0.6700 "
                "0.5567 0.5645 0.5523 0.3987 0.0987 0.8234 0.8156 0.5987",
                _ATTENTION,
            ),
            _row(
                "mlp_only",
                "MLP Only",
                "0.4857 0.6487 0.6695 0.4878 0.1764 0.8582 0.8507 0.6798 "
                "0.5789 0.5456 0.5234 0.3856 0.1234 0.7987 0.7865 0.5678",
                _ATTENTION,
            ),
            _row(
                "w2v2_modernbert",
                "Wav2Vec2 + ModernBERT",
                "0.9766 -0.1206 -0.1540 -0.1044 0.5860 -0.3033 -0.3005 -0.1921 "
                "0.7778 -0.0291 0.0073 0.0061 0.3215 -0.2869 -0.0773 -0.0690",
                _BACKBONES,
            ),
            _row(
                "official_baseline_readme",
                "Official Baseline, as its authors print it",
                "0.617519 0.690845 0.688106 0.514346 0.386326 0.801622 0.776355 0.586207 "
                "0.593582 0.580330 0.542522 0.393303 0.232161 0.746149 0.720197 0.507389",
                source=BASELINE_README,
            ),
            _row(
                "mos_eval_fork",
                "CRNN fork of the baseline",
                "0.345045 0.771456 0.778182 0.590858 0.099312 0.920829 0.896059 0.729064 "
                "0.467342 0.628883 0.621530 0.459882 0.088042 0.879001 0.849754 0.689655",
                source=FORK_README,
            ),
        )
    )
)

TABLE_II: tuple[PublishedRow, ...] = tuple(row for row in PUBLISHED.values() if row.source == WHISQ_PAPER)


def _hyperparameter(name: str, printed: str, settings: dict[str, object]) -> Hyperparameter:
    return Hyperparameter(name, printed, MappingProxyType(settings))


TABLE_I: tuple[Hyperparameter, ...] = (
    _hyperparameter("Learning Rate", "7.307 × 10−4", {"train.learning_rate": 7.307e-4}),
    _hyperparameter("Optimizer", "SGD", {"train.optimizer": "sgd"}),
    _hyperparameter("Momentum", "0.7435", {"train.momentum": 0.7435}),
    _hyperparameter("Batch Size", "128", {"train.batch_size": 128}),
    _hyperparameter("Epochs", "148", {"train.epochs": 148}),
    _hyperparameter("Loss Function", "Huber", {"loss.task": "huber"}),
    _hyperparameter(
        "OT Method", "Sinkhorn (p=2, blur=0.05)", {"loss.alignment": "sinkhorn", "loss.p": 2, "loss.blur": 0.05}
    ),
    _hyperparameter("OT Weight (λ)", "4.057 × 10−5", {"loss.ot_weight": 4.057e-5}),
    # Paper conflict: the text says 512, and 1280 cannot have the printed number of parameters (see `audit`).
    _hyperparameter("Feature Dimension", "1280", {"model.feature_dim": 1280}),
)

_SRCC = {target: (f"{target}.utterance.srcc", f"{target}.system.srcc") for target in ("omq", "ta")}

GAIN_CLAIMS: tuple[GainClaim, ...] = (
    GainClaim("omq_srcc", 7, "whisq", "official_baseline", _SRCC["omq"], "abstract, introduction, conclusion"),
    GainClaim("ta_srcc", 14, "whisq", "official_baseline", _SRCC["ta"], "abstract, introduction, conclusion"),
    GainClaim("ot_srcc", 10, "whisq", "no_ot", (*_SRCC["ta"], *_SRCC["omq"]), "abstract, introduction"),
)

COUNT_CLAIMS: tuple[CountClaim, ...] = (
    CountClaim("trainable", "Trainable parameters", "2.66M", 2.66e6),
    CountClaim("total", "Total parameters", "619.45M", 619.45e6),
    CountClaim("macs", "Multiply-accumulates of one inference", "32.54 GMACs", 32.54e9),
)

OMQ_LABEL_VARIANCE = 0.805  # of MusicEval's labels: the MSE of always predicting their mean

STATE_OF_THE_ART_CLAIM = ("whisq", "state of the art on MusicEval Track 1 (introduction)")
