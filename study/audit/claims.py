"""The paper's own claims recomputed: gains both ways, sizes from the equations, and the state of the art."""

import math
from dataclasses import dataclass

from study.published.paper import (
    COUNT_CLAIMS,
    GAIN_CLAIMS,
    METRIC_ORDER,
    OMQ_LABEL_VARIANCE,
    PUBLISHED,
    CountClaim,
    GainClaim,
)

TOKENS = 24  # a prompt of usual length; the paper does not say what its MACs assume


@dataclass(frozen=True)
class Gain:
    """One reading of a claimed gain: `points` is 100 times the difference, `relative` is in percent of the reference.

    `reading` names what the claim agrees with when rounded or cut to whole percent: "points", "relative" or "".
    """

    claim: GainClaim
    metric: str
    value: float
    reference: float
    points: float
    relative: float
    reading: str


@dataclass(frozen=True)
class Count:
    """A way to count what the paper prints, and whether it gives the printed figure."""

    claim: CountClaim
    what: str
    value: int
    agrees: bool


@dataclass(frozen=True)
class Rival:
    """A published row against another one, column by column: the metrics on which it is better."""

    row: str
    rival: str
    better: tuple[str, ...]
    worse: tuple[str, ...]


def gains() -> tuple[Gain, ...]:
    """Every claimed gain on every metric that it may mean."""
    return tuple(_gain(claim, metric) for claim in GAIN_CLAIMS for metric in claim.metrics)


def _gain(claim: GainClaim, metric: str) -> Gain:
    value, reference = PUBLISHED[claim.row].number(metric), PUBLISHED[claim.against].number(metric)
    points = 100 * (value - reference)
    relative = points / reference
    readings = {"points": points, "relative": relative}
    agreeing = (name for name, percent in readings.items() if claim.percent in (round(percent), math.floor(percent)))
    return Gain(claim, metric, value, reference, points, relative, next(agreeing, ""))


def state_of_the_art() -> Rival:
    """The proposed row against the public fork of the baseline on the same dev set."""
    row, rival = PUBLISHED["whisq"], PUBLISHED["mos_eval_fork"]
    better = tuple(name for name in METRIC_ORDER if _is_better(name, rival.number(name), row.number(name)))
    return Rival(row.id, rival.id, better, tuple(name for name in METRIC_ORDER if name not in better))


def worse_than_constant() -> tuple[str, ...]:
    """The published rows whose OMQ error is above that of always predicting the mean label: failed runs."""
    return tuple(row.id for row in PUBLISHED.values() if row.number("omq.utterance.mse") > OMQ_LABEL_VARIANCE)


def _is_better(metric: str, value: float, other: float) -> bool:
    return value < other if metric.endswith(".mse") else value > other


# ---- sizes: from the equations and the published architectures of the encoders


@dataclass(frozen=True)
class _Sizes:
    """Parameters, or multiply-accumulates of one clip, by part."""

    audio: int
    text: int
    projection: int
    attention: int  # one of the two directions, or both together for multiply-accumulates
    omq_head: int
    ta_head: int


def parameters(dim: int = 512) -> _Sizes:
    """Parameters of the parts of Eqs. 1-7 at feature dimension `dim`; the encoders are frozen."""
    return _Sizes(
        audio=20_590_592,  # encoder of Whisper-base
        text=596_049_920,  # Qwen3-0.6B without lm_head
        projection=1024 * dim + dim,
        attention=4 * dim * dim + 4 * dim,
        omq_head=_head(dim),
        ta_head=_head(2 * dim),
    )


def _head(inputs: int) -> int:
    return (inputs + 1) * 256 + 257 * 64 + 65


def multiply_accumulates(products: bool, tokens: int = TOKENS, dim: int = 512) -> _Sizes:
    """Multiply-accumulates of one clip of 3000 mel frames and a prompt of `tokens` tokens.

    `products` includes the products of queries, keys and values, which hook-based counters do not see.
    """
    frames, width, inner = 1500, 512, 2048  # Whisper-base: 6 layers
    convolutions = 3 * 80 * width * 2 * frames + 3 * width * width * frames
    layer = frames * (4 * width * width + 2 * width * inner) + products * 2 * frames * frames * width
    linear = 1024 * (2048 + 2 * 1024) + 2048 * 1024 + 3 * 1024 * 3072  # Qwen3-0.6B: 28 layers, grouped queries
    projected = (4 * frames + 4 * tokens) * dim * dim
    return _Sizes(
        audio=convolutions + 6 * layer,
        text=28 * tokens * (linear + products * 2 * tokens * 2048),
        projection=tokens * 1024 * dim,
        attention=projected + products * 4 * frames * tokens * dim,
        omq_head=dim * 256 + 256 * 64 + 64,
        ta_head=2 * dim * 256 + 256 * 64 + 64,
    )


def counts() -> tuple[Count, ...]:
    """Each printed size beside ways to count it: as the equations say, and what reproduces the printed figure."""
    trainable, total, macs = COUNT_CLAIMS
    part, wide = parameters(), parameters(1280)
    encoders = part.audio + part.text
    written = 2 * part.attention + part.omq_head + part.ta_head + part.projection
    printed = 2 * part.attention + 2 * part.ta_head
    full, hooks = multiply_accumulates(products=True), multiply_accumulates(products=False)
    return (
        _count(trainable, "Eqs. 2-7 as written, D = 512: two attentions, both heads, Proj", written),
        _count(trainable, "two attentions and two heads of TA's size, without Proj", printed),
        _count(trainable, "two attentions alone at Table I's D = 1280", 2 * wide.attention),
        _count(total, "Eqs. 1-7 as written, with both encoders", written + encoders),
        _count(
            total,
            "two attentions, two heads of TA's size, one OMQ head, both encoders",
            printed + part.omq_head + encoders,
        ),
        _count(macs, f"Eqs. 1-7 as written, prompt of {TOKENS} tokens", _sum(full)),
        _count(macs, "Whisper-base encoder alone", full.audio),
        _count(macs, "Whisper-base encoder alone, without attention products", hooks.audio),
        _count(macs, f"all linear layers, prompt of {TOKENS} tokens, without attention products", _sum(hooks)),
    )


def _sum(sizes: _Sizes) -> int:
    return sizes.audio + sizes.text + sizes.projection + sizes.attention + sizes.omq_head + sizes.ta_head


def _count(claim: CountClaim, what: str, value: int) -> Count:
    unit = 1e9 if "G" in claim.printed else 1e6
    return Count(claim, what, value, f"{value / unit:.2f}" == f"{claim.value / unit:.2f}")
