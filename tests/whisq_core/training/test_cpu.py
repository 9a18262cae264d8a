"""The kernels' form of `interact` gives the losses and gradients of the reference form, which autograd makes.

Every test here runs with all kernels that this machine has.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.features import write_table
from helpers.kernels import all_kernels, kernels_in_use, using
from hypothesis import given, settings
from hypothesis import strategies as st

from whisq_core import kernels
from whisq_core.features import Dataset
from whisq_core.model import WhisQ
from whisq_core.spec import RunSpec, with_settings
from whisq_core.training import cpu
from whisq_core.training.clips import Clips
from whisq_core.training.step import autocast, task_loss

DIM, TEXT_DIM = 16, 12
CPU = {"model.feature_dim": DIM, "train.device": "cpu", "train.precision": "float32", "loss.ot_weight": 0.01}


@pytest.fixture(scope="module", autouse=True, params=[name for name in all_kernels() if name != "pytorch"])
def _kernels(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with kernels_in_use(request.param, tmp_path_factory.getbasetemp()):
        yield


def ragged_dataset(
    folder: Path, frames: list[int], tokens: list[int], seed: int = 0, scale: float = 1.0, shared: float = 0.0
) -> Dataset:
    """Clips of these lengths on prompts of these lengths; clips share prompts in turn, and frames a vector."""
    generator = np.random.default_rng(seed)
    audio = [generator.normal(size=(count, DIM), scale=scale) + shared * np.ones(DIM) for count in frames]
    text = [generator.normal(size=(count, TEXT_DIM)) for count in tokens]
    num = len(frames)
    return Dataset(
        audio=write_table(folder, "audio", audio, [max(1, count - 1) for count in frames]),
        text=write_table(folder, "text", text),
        prompt_of=np.arange(num) % len(tokens),
        omq=generator.uniform(1, 5, num),
        ta=generator.uniform(1, 5, num),
    )


@dataclass(frozen=True)
class Found:
    """TA loss, OT term and gradients of one batch of all clips, and the OT term's gradient on the tokens."""

    ta: float
    ot: float
    gradients: dict[str, torch.Tensor]
    share: float


def found(spec: RunSpec, data: Dataset, by_kernels: bool) -> Found:
    """One batch, forward and back."""
    model = WhisQ(spec.model, DIM, TEXT_DIM, spec.seed)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):  # zero at the start, and then no test of anything
            torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(1))
    assert kernels.serve(spec, DIM)
    clips = cpu.RaggedClips(data, spec) if by_kernels else Clips(data, spec, torch.device("cpu"), with_frames=True)
    order = torch.arange(len(data))
    with autocast(spec.train):
        result = model.ta(clips.batch(order), spec.loss)
    ta = task_loss(result.ta, torch.from_numpy(data.ta).float(), spec.loss, len(data))
    ot = torch.zeros(())
    if result.divergence is not None and result.points is not None:
        # Clips weigh differently, so that no gradient is taken for another clip's.
        ot = spec.loss.ot_weight * (result.divergence * torch.linspace(0.5, 1.5, len(data))).mean()
        result.points.retain_grad()
    torch.autograd.backward(ta / 2 + ot, retain_graph=True)
    share = 0.0
    if result.points is not None:
        (towards,) = torch.autograd.grad(result.points, model.text_projection.weight, result.points.grad)
        share = float(towards.norm())
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return Found(ta.item(), ot.item(), gradients, share)


def assert_equals_reference(spec: RunSpec, data: Dataset) -> None:
    ours, reference = found(spec, data, by_kernels=True), found(spec, data, by_kernels=False)

    assert ours.ta == pytest.approx(reference.ta, rel=1e-5)
    assert ours.ot == pytest.approx(reference.ot, rel=1e-5, abs=1e-7)
    assert ours.share == pytest.approx(reference.share, rel=1e-3)
    assert set(ours.gradients) == set(reference.gradients)
    largest = max(float(gradient.norm()) for gradient in reference.gradients.values())
    for name, gradient in ours.gradients.items():
        assert float((gradient - reference.gradients[name]).norm()) <= 1e-5 * largest, name


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
def test_kernels_equal_the_reference(tmp_path: Path, attention: str, extra: dict[str, object]) -> None:
    spec = with_settings(RunSpec(), {**CPU, "model.attention": attention, **extra})
    if not spec.needs_frames:
        pytest.skip("a row without frames does not interact")
    assert_equals_reference(spec, ragged_dataset(tmp_path, [9, 30, 12, 1, 25], [4, 7, 1]))


@settings(max_examples=12, deadline=None)
@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=9),
    st.lists(st.integers(1, 9), min_size=1, max_size=4),
    st.integers(0, 2**16),
    st.sampled_from([0.2, 1.0, 3.0]),
)
def test_kernels_equal_the_reference_for_any_lengths(
    tmp_path_factory: pytest.TempPathFactory, frames: list[int], tokens: list[int], seed: int, scale: float
) -> None:
    data = ragged_dataset(tmp_path_factory.mktemp("store"), frames, tokens, seed, scale)
    # At a blur this large, rounding of the cost does not decide which frame a token goes to.
    assert_equals_reference(with_settings(RunSpec(), {**CPU, "loss.blur": 0.5}), data)


@pytest.mark.parametrize("by_kernels", [True, False], ids=["kernels", "reference"])
@pytest.mark.parametrize("attention", ["sequence", "cross"])
def test_in_bf16_only_what_frames_differ_in_is_rounded(tmp_path: Path, attention: str, by_kernels: bool) -> None:
    data = ragged_dataset(tmp_path, [60, 45, 80], [4, 7, 3], shared=50.0)
    spec = with_settings(RunSpec(), {**CPU, "model.attention": attention, "loss.blur": 2.0})

    exact = found(spec, data, by_kernels=False).gradients
    rounded = found(with_settings(spec, {"train.precision": "bf16"}), data, by_kernels).gradients

    largest = max(float(gradient.norm()) for gradient in exact.values())
    errors = {
        name: float((gradient - exact[name]).norm() / exact[name].norm())
        for name, gradient in rounded.items()
        if exact[name].norm() > 1e-4 * largest
    }
    # Autograd also rounds the gradients of softmaxes, which the kernels keep in float32.
    assert 0 < max(errors.values()) < (0.05 if by_kernels else 0.1), errors


def test_threads_divide_the_work_and_nothing_else(tmp_path: Path) -> None:
    data = ragged_dataset(tmp_path, [5 + clip % 7 for clip in range(11)], [3, 5, 2, 4])
    for threads in (1, 2, 3):
        assert_equals_reference(with_settings(RunSpec(), {**CPU, "train.threads": threads}), data)


@pytest.mark.parametrize("attention", ["sequence", "cross"])
@pytest.mark.parametrize("threads", [1, 2])
def test_predictions_are_those_of_the_reference(tmp_path: Path, attention: str, threads: int) -> None:
    data = ragged_dataset(tmp_path, [9, 30, 12, 1, 25, 7], [4, 7, 1])
    changed = {"model.attention": attention, "train.threads": threads, "model.audio_frames": "valid"}
    spec = with_settings(RunSpec(), {**CPU, **changed})
    model = WhisQ(spec.model, DIM, TEXT_DIM, spec.seed).eval()

    with torch.no_grad():
        ours, reference = (
            torch.cat([model.ta(clips.batch(part)).ta for part in torch.arange(6).split(4)])
            for clips in (cpu.RaggedClips(data, spec), Clips(data, spec, torch.device("cpu"), with_frames=True))
        )

    torch.testing.assert_close(ours, reference, rtol=1e-5, atol=1e-6)


def test_a_clip_whose_transport_underflows_is_solved_by_the_reference_form(tmp_path: Path) -> None:
    """In clips without two transports nearly as cheap, of which rounding, other on each processor, would choose."""
    harsh = {"loss.blur": 0.02, "loss.scaling": 0.1}
    data = ragged_dataset(tmp_path, [20, 30], [6, 5], seed=2, scale=10.0)
    spec = with_settings(RunSpec(), {**CPU, **harsh})
    assert_equals_reference(spec, data)


def test_a_model_that_is_not_finite_gives_no_number_and_no_error(tmp_path: Path) -> None:
    data = ragged_dataset(tmp_path, [20, 30], [6, 5])
    spec = with_settings(RunSpec(), CPU)
    model = WhisQ(spec.model, DIM, TEXT_DIM, spec.seed)
    torch.nn.init.constant_(model.text_projection.bias, math.nan)

    result = model.ta(cpu.RaggedClips(data, spec).batch(torch.arange(2)), spec.loss)

    assert result.divergence is not None
    assert result.divergence.isnan().all()
    torch.autograd.backward(result.divergence.sum())


def test_a_batch_leaves_no_trace_in_the_next(tmp_path: Path) -> None:
    data = ragged_dataset(tmp_path, [30, 11, 25, 9], [7, 4])
    spec = with_settings(RunSpec(), CPU)
    model, used, fresh = WhisQ(spec.model, DIM, TEXT_DIM, 0), cpu.RaggedClips(data, spec), cpu.RaggedClips(data, spec)
    model.ta(used.batch(torch.tensor([0, 2])), spec.loss)

    after, alone = (model.ta(clips.batch(torch.tensor([1, 3])), spec.loss) for clips in (used, fresh))

    assert torch.equal(after.ta, alone.ta)
    assert after.divergence is not None
    assert alone.divergence is not None
    assert torch.equal(after.divergence, alone.divergence)


@pytest.mark.parametrize(
    "changed",
    [
        {"model.layer_norm": True},
        {"model.pool": "max"},
        {"model.attention": "pooled_query"},
        {"train.precision": "float16"},
        {"train.device": "cuda"},
        {"loss.p": 1},
    ],
)
def test_other_runs_take_the_reference_form(changed: dict[str, object]) -> None:
    assert kernels.serve(with_settings(RunSpec(), CPU), DIM)
    assert not kernels.serve(with_settings(RunSpec(), {**CPU, **changed}), DIM)


def test_so_do_projected_audio_sizes_that_do_not_fill_a_vector_and_the_switch() -> None:
    spec = with_settings(RunSpec(), CPU)
    assert not kernels.serve(spec, audio_dim=2 * DIM)
    assert not kernels.serve(with_settings(spec, {"model.feature_dim": 500}), audio_dim=500)
    with using("pytorch"):
        assert not kernels.serve(spec, DIM)
