"""Every figure of the note on the paper's own arithmetic, recomputed from Table II and from the equations."""

import math
from pathlib import Path

from study.audit import audit
from study.published import PUBLISHED
from whisq_core.metrics import METRICS, title
from whisq_core.model import count
from whisq_core.spec import ModelSpec

NOTE = (Path(__file__).parents[3] / "results" / "table2" / "CLAIMS.md").read_text(encoding="utf-8")
WORDS = " ".join(NOTE.split())
LINES = [[cell.strip() for cell in line.strip("|").split("|")] for line in NOTE.splitlines() if line.startswith("|")]

# ---- gains

GAINS = [
    ("official_baseline", 7, "omq.utterance.srcc"),
    ("official_baseline", 7, "omq.system.srcc"),
    ("official_baseline", 14, "ta.utterance.srcc"),
    ("official_baseline", 14, "ta.system.srcc"),
    ("no_ot", 10, "ta.utterance.srcc"),
    ("no_ot", 10, "ta.system.srcc"),
    ("no_ot", 10, "omq.utterance.srcc"),
    ("no_ot", 10, "omq.system.srcc"),
]


def _marked(text: str, agrees: bool) -> str:
    return f"**{text}**" if agrees else text


def test_gains_are_recomputed_in_points_and_percent_and_the_one_that_a_claim_means_is_marked() -> None:
    expected = []
    for against, claimed, metric in GAINS:
        printed, reference = PUBLISHED["whisq"].values[metric], PUBLISHED[against].values[metric]
        points = 100 * (float(printed) - float(reference))
        percent = points / float(reference)
        meant = [claimed in (round(value), math.floor(value)) for value in (points, percent)]
        shown = [_marked(f"{points:+.2f}", meant[0]), _marked(f"{percent:+.1f} %", meant[1])]
        expected.append([title(metric), reference, printed, *shown])
    assert [line[1:] for line in LINES if len(line) == 6][2:] == expected


# ---- sizes

FRAMES, TOKENS, WIDTH = 1500, 24, 512  # of Whisper-base, of a usual prompt
ENCODERS = 20_590_592 + 596_049_920  # encoder of Whisper-base, Qwen3-0.6B without lm_head


def _attention(dim: int) -> int:
    return 4 * dim * dim + 4 * dim


def _head(inputs: int) -> int:
    return (inputs + 1) * 256 + 257 * 64 + 65


def _whisper_macs(products: bool) -> int:
    convolutions = 3 * 80 * WIDTH * 2 * FRAMES + 3 * WIDTH * WIDTH * FRAMES
    layer = FRAMES * (4 * WIDTH * WIDTH + 2 * WIDTH * 2048) + products * 2 * FRAMES * FRAMES * WIDTH
    return convolutions + 6 * layer


def _qwen_macs(products: bool) -> int:
    linear = 1024 * (2048 + 2 * 1024) + 2048 * 1024 + 3 * 1024 * 3072  # grouped queries
    return 28 * TOKENS * (linear + products * 2 * TOKENS * 2048)


def _trainable_macs(products: bool) -> int:
    attention = (4 * FRAMES + 4 * TOKENS) * WIDTH * WIDTH + products * 4 * FRAMES * TOKENS * WIDTH
    heads = 3 * WIDTH * 256 + 2 * (256 * 64 + 64)
    return TOKENS * 1024 * WIDTH + attention + heads


def test_sizes_are_recounted_from_the_equations_and_those_that_give_the_printed_figure_are_marked() -> None:
    ours = count(ModelSpec(), audio_dim=512, text_dim=1024, frames=FRAMES, tokens=TOKENS)
    proj = 1024 * WIDTH + WIDTH
    assert (_attention(512), _head(512), _head(1024), proj) == (1_050_624, 147_841, 278_913, 524_800)
    assert ours.trainable == 2 * _attention(512) + _head(512) + _head(1024) + proj
    assert ours.macs == _trainable_macs(products=True)
    printed = 2 * _attention(512) + 2 * _head(1024)
    values = [
        (ours.trainable, 2.66e6),
        (printed, 2.66e6),
        (2 * _attention(1280), 2.66e6),
        (ours.trainable + ENCODERS, 619.45e6),
        (printed + _head(512) + ENCODERS, 619.45e6),
        (_whisper_macs(True) + _qwen_macs(True) + ours.macs, 32.54e9),
        (_whisper_macs(True), 32.54e9),
        (_whisper_macs(False), 32.54e9),
        (_whisper_macs(False) + _qwen_macs(False) + _trainable_macs(False), 32.54e9),
    ]
    expected = []
    for value, claimed in values:
        unit = 1e9 if claimed > 1e9 else 1e6
        expected.append(_marked(f"{value:,}", f"{value / unit:.2f}" == f"{claimed / unit:.2f}"))
    assert [line[2] for line in LINES if len(line) == 3][2:] == expected


# ---- the rest


def test_a_public_row_is_better_than_the_paper_on_most_columns() -> None:
    ours, fork = PUBLISHED["whisq"].values, PUBLISHED["mos_eval_fork"].values
    better = {
        name: float(fork[name]) < float(ours[name]) if name.endswith("mse") else float(fork[name]) > float(ours[name])
        for name in METRICS
    }
    worse = ", ".join(title(name) for name in METRICS if not better[name])
    assert f"on {sum(better.values())} of {len(METRICS)} columns, not on {worse}." in WORDS


def test_the_row_that_is_worse_than_a_constant_is_so_in_every_error() -> None:
    failed = PUBLISHED["w2v2_modernbert"]
    expected = [
        [f"{title(f'{each.column}.mse')}", f"{each.bound:.3f}", each.row, failed.values[f"{each.column}.mse"]]
        for each in audit().variances
        if each.worse == (failed.label,)
    ]
    assert _table("| column | variance") == expected
    assert len(expected) == 4


def test_gains_are_split_into_correlation_and_bias_or_scale() -> None:
    expected = [
        [each.row, title(f"{each.column}.mse").removesuffix("-MSE"), f"{each.gain:.4f}", _percent(1 - each.correlation)]
        for name in ("no_ot", "official_baseline")
        for each in audit().gains
        if each.row == PUBLISHED[name].label
    ]
    assert _table("| against") == expected


def _percent(share: float) -> str:
    return f"{math.floor(100 * share)} %"


def _table(head: str) -> list[list[str]]:
    """The cells of the table whose header begins so."""
    lines = NOTE[NOTE.index(head) :].partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
