"""The fused step gives the losses and gradients of the plain one, which autograd makes from the equations.

Every test here runs with all kernels that this machine has: compiled ones, and PyTorch's.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.features import write_table
from helpers.kernels import all_kernels, kernels_in_use
from hypothesis import given, settings
from hypothesis import strategies as st

from whisq_core.features.store import Dataset
from whisq_core.model.batches import Loader
from whisq_core.model.whisq import WhisQ
from whisq_core.spec import RunSpec, with_settings
from whisq_core.training import fused_step
from whisq_core.training.fused_frames import FusedFrames, can_fuse
from whisq_core.training.fused_step import FusedStep
from whisq_core.training.kernel import Frames, Meeting
from whisq_core.training.optimisation import Updater
from whisq_core.training.plain_step import PlainStep
from whisq_core.training.text_side import Scratch, TextSide

DIM, TEXT_DIM = 16, 12
CPU = {"model.feature_dim": DIM, "train.device": "cpu", "train.precision": "float32", "loss.ot_weight": 0.01}


@pytest.fixture(scope="module", autouse=True, params=all_kernels())
def kernels(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with kernels_in_use(request.param, tmp_path_factory.getbasetemp()):
        yield request.param


def ragged_dataset(
    folder: Path, frames: list[int], tokens: list[int], seed: int = 0, scale: float = 1.0, shared: float = 0.0
) -> Dataset:
    """Clips of these lengths on prompts of these lengths; clips share prompts in turn, and frames a vector."""
    generator = np.random.default_rng(seed)
    audio = [generator.normal(size=(count, DIM), scale=scale) + shared * np.ones(DIM) for count in frames]
    text = [generator.normal(size=(count, TEXT_DIM)) for count in tokens]
    num = len(frames)
    return Dataset(
        utterances=tuple(f"clip{clip}" for clip in range(num)),
        systems=("S001",) * num,
        audio=write_table(folder, "audio", audio, [max(1, count - 1) for count in frames]),
        text=write_table(folder, "text", text),
        prompt_of=np.arange(num) % len(tokens),
        omq=generator.uniform(1, 5, num),
        ta=generator.uniform(1, 5, num),
    )


def accumulated(
    spec: RunSpec, data: Dataset, fused: bool
) -> tuple[float, float, float | None, dict[str, torch.Tensor]]:
    """TA loss, OT term, share and gradients of one batch of all clips."""
    model = WhisQ(spec, DIM, TEXT_DIM)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):  # zero at the start, and then no test of anything
            torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(1))
    truth = torch.from_numpy(data.ta).float()
    updater = Updater([], list(model.parameters()), spec.train)
    step = FusedStep(model, data, truth) if fused else PlainStep(model, data, truth, updater)
    terms = step.accumulate(torch.arange(len(data)), with_share=spec.loss.ot_weight > 0)
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return terms.ta, terms.ot, terms.share, gradients


def assert_fused_equals_plain(spec: RunSpec, data: Dataset) -> None:
    assert can_fuse(spec, DIM)
    ta, ot, share, gradients = accumulated(spec, data, fused=True)
    plain_ta, plain_ot, plain_share, plain_gradients = accumulated(spec, data, fused=False)

    assert ta == pytest.approx(plain_ta, rel=1e-5)
    assert ot == pytest.approx(plain_ot, rel=1e-5, abs=1e-7)
    assert (share is None) == (plain_share is None)
    assert share is None or share == pytest.approx(plain_share, rel=1e-3)
    assert set(gradients) == set(plain_gradients) - {"attention.audio.key_bias", "attention.text.key_bias"}
    largest = max(float(gradient.norm()) for gradient in plain_gradients.values())
    for name, gradient in gradients.items():
        assert float((gradient - plain_gradients[name]).norm()) <= 1e-5 * largest, name


@pytest.mark.parametrize("attention", ["sequence", "cross", "pooled", "none"])
@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"loss.ot_weight": 0.0},
        {"model.residual": True},
        {"model.audio_frames": "valid", "model.heads": 1},
        {"loss.task": "l1", "loss.reduction": "sum"},
        {"model.head": "linear", "loss.task": "mse"},
    ],
    ids=lambda extra: ",".join(extra) or "base",
)
def test_fused_equals_plain(tmp_path: Path, attention: str, extra: dict[str, object]) -> None:
    spec = with_settings(RunSpec(), {**CPU, "model.attention": attention, **extra})
    if not spec.needs_frames:
        pytest.skip("a row without frames has no fused step")
    assert_fused_equals_plain(spec, ragged_dataset(tmp_path, [9, 30, 12, 1, 25], [4, 7, 1]))


@settings(max_examples=12, deadline=None)
@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=9),
    st.lists(st.integers(1, 9), min_size=1, max_size=4),
    st.integers(0, 2**16),
    st.sampled_from([0.2, 1.0, 3.0]),
)
def test_fused_equals_plain_for_any_lengths(
    tmp_path_factory: pytest.TempPathFactory, frames: list[int], tokens: list[int], seed: int, scale: float
) -> None:
    data = ragged_dataset(tmp_path_factory.mktemp("store"), frames, tokens, seed, scale)
    # At a blur this large, rounding of the cost does not decide which frame a token goes to.
    assert_fused_equals_plain(with_settings(RunSpec(), {**CPU, "loss.blur": 0.5}), data)


@pytest.mark.parametrize("attention", ["sequence", "cross"])
def test_in_bf16_only_what_frames_differ_in_is_rounded(tmp_path: Path, attention: str) -> None:
    data = ragged_dataset(tmp_path, [60, 45, 80], [4, 7, 3], shared=50.0)
    spec = with_settings(RunSpec(), {**CPU, "model.attention": attention, "loss.blur": 2.0})

    *_, exact = accumulated(spec, data, fused=False)
    *_, rounded = accumulated(with_settings(spec, {"train.precision": "bf16"}), data, fused=True)

    largest = max(float(gradient.norm()) for gradient in exact.values())
    errors = {
        name: float((gradient - exact[name]).norm() / exact[name].norm())
        for name, gradient in rounded.items()
        if exact[name].norm() > 1e-4 * largest
    }
    assert 0 < max(errors.values()) < 0.05, errors


def test_threads_and_waves_divide_the_work_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused_step, "WAVE", 3)
    data = ragged_dataset(tmp_path, [5 + clip % 7 for clip in range(11)], [3, 5, 2, 4])
    for threads in (1, 2):
        assert_fused_equals_plain(with_settings(RunSpec(), {**CPU, "train.threads": threads}), data)


@pytest.mark.parametrize("attention", ["sequence", "cross"])
@pytest.mark.parametrize("threads", [1, 2])
def test_fused_predictions_are_those_of_the_model(tmp_path: Path, attention: str, threads: int) -> None:
    data = ragged_dataset(tmp_path, [9, 30, 12, 1, 25, 7], [4, 7, 1])
    settings = {"model.attention": attention, "train.threads": threads, "model.audio_frames": "valid"}
    model = WhisQ(with_settings(RunSpec(), {**CPU, **settings}), DIM, TEXT_DIM).eval()

    predicted = FusedFrames(model, data).predict_ta()

    batch = Loader(data, "valid", torch.device("cpu")).batch(np.arange(6), with_sequences=True)
    torch.testing.assert_close(predicted, model(batch)[:, 1], rtol=1e-5, atol=1e-6)


def test_a_clip_whose_transport_cannot_be_trusted_is_solved_by_geomloss(tmp_path: Path) -> None:
    harsh = {"loss.blur": 0.001, "loss.scaling": 0.1}
    data = ragged_dataset(tmp_path, [20, 30], [6, 5], scale=20.0)
    assert_fused_equals_plain(with_settings(RunSpec(), {**CPU, **harsh}), data)


@pytest.mark.parametrize(
    "settings",
    [
        {"model.layer_norm": True},
        {"model.pool": "max"},
        {"model.attention": "pooled_query"},
        {"train.precision": "float16"},
        {"train.device": "cuda"},
    ],
)
def test_other_models_take_the_plain_step(settings: dict[str, object]) -> None:
    assert not can_fuse(with_settings(RunSpec(), {**CPU, **settings}), DIM)


def test_projected_audio_takes_the_plain_step() -> None:
    assert not can_fuse(with_settings(RunSpec(), CPU), audio_dim=DIM + 1)


def test_one_meeting_leaves_no_trace_in_the_next() -> None:
    generator = torch.Generator().manual_seed(0)

    def side() -> TextSide:
        return TextSide(
            torch.randn(4, DIM, generator=generator),
            None,
            torch.randn(2, 4, DIM, generator=generator),
            torch.randn(2, 4, generator=generator),
            torch.randn(2, 4, DIM, generator=generator),
        )

    text, other, frames = side(), side(), torch.randn(11, DIM, generator=generator)
    scratch, fresh = Scratch(), Scratch()
    centre = torch.randn(DIM, generator=generator)
    Meeting(scratch, 0, other).forward(Frames(centre, torch.randn(30, DIM, generator=generator)))

    after = Meeting(scratch, 0, text).forward(Frames(centre, frames))
    alone = Meeting(fresh, 0, text).forward(Frames(centre, frames))

    for left, right in zip(after, alone, strict=True):
        assert left is not None
        assert torch.equal(left, right)
