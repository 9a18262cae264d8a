"""Our Sinkhorn against geomloss: value and gradient, over shapes, masks and scales, and where numbers end."""

import math

import pytest
import torch
from geomloss import SamplesLoss
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from whisq_core.model.alignment import near_itself, schedule, self_transport, sinkhorn
from whisq_core.spec import LossSpec

DIM = 8
lengths = st.lists(st.integers(1, 9), min_size=1, max_size=4)


def cloud(counts: list[int], seed: int, scale: float, offset: float = 0.0) -> tuple[Tensor, Tensor]:
    """Padded random points and their mask; the padding is far away, so that reading it would show."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.arange(max(counts)) < torch.tensor(counts).unsqueeze(1)
    points = torch.randn(len(counts), max(counts), DIM, generator=generator) * scale + offset
    return torch.where(mask.unsqueeze(2), points, torch.full_like(points, 50.0)), mask


def by_geomloss(
    x: Tensor, x_mask: Tensor, y: Tensor, y_mask: Tensor, loss: LossSpec, weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """geomloss' debiased divergence in float64, and the gradients of its weighted sum towards x and y."""
    divergence = SamplesLoss(
        "sinkhorn", p=loss.p, blur=loss.blur, diameter=loss.diameter, scaling=loss.scaling, backend="tensorized"
    )
    x, y = x.double().requires_grad_(), y.double().requires_grad_()
    a, b = (mask.double() / mask.sum(dim=1, keepdim=True) for mask in (x_mask, y_mask))
    value = divergence(a, x, b, y)
    towards_x, towards_y = torch.autograd.grad((value * weights).sum(), (x, y))
    return value.detach().float(), towards_x.float(), towards_y.float()


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@settings(max_examples=25, deadline=None)
@given(
    lengths,
    st.integers(0, 2**16),
    st.sampled_from([0.05, 0.3, 1.0, 3.0]),
    st.sampled_from([0.05, 0.5]),
    st.sampled_from([0.5, 0.8]),
)
def test_value_and_gradients_are_those_of_geomloss(
    counts: list[int], seed: int, scale: float, blur: float, scaling: float
) -> None:
    loss = LossSpec(blur=blur, scaling=scaling)
    x, x_mask = cloud([4 * count for count in counts], seed, scale)
    y, y_mask = cloud(counts[::-1], seed + 1, scale, offset=scale)
    weights = torch.linspace(1, 2, len(counts))
    expected, towards_x, towards_y = by_geomloss(x, x_mask, y, y_mask, loss, weights)

    frozen = sinkhorn(x, x_mask, y, y_mask, loss)
    x.requires_grad_()
    y.requires_grad_()
    value = sinkhorn(x, x_mask, y, y_mask, loss)
    ours_x, ours_y = torch.autograd.grad((value * weights).sum(), (x, y))

    audio_term = self_transport(x.detach(), x_mask, loss)
    torch.testing.assert_close(frozen - audio_term, expected, rtol=1e-4, atol=1e-3)
    near = torch.zeros_like(audio_term).index_fill(0, near_itself(x.detach(), x_mask, loss), 1)
    torch.testing.assert_close(value.detach(), frozen - near * audio_term, rtol=1e-4, atol=1e-3)
    assert relative(ours_y, towards_y) < 2e-3
    assert relative(ours_x, towards_x) < 2e-3


def test_the_frozen_side_changes_no_gradient_of_the_other() -> None:
    loss = LossSpec()
    x, x_mask = cloud([20, 12], 0, 0.1)
    y, y_mask = cloud([4, 6], 1, 0.1)
    y.requires_grad_()

    (frozen,) = torch.autograd.grad(sinkhorn(x, x_mask, y, y_mask, loss).sum(), y)
    (moving,) = torch.autograd.grad(sinkhorn(x.clone().requires_grad_(), x_mask, y, y_mask, loss).sum(), y)

    assert torch.equal(frozen, moving)


@pytest.mark.parametrize(("p", "value"), [(2, 0.5), (1, 1.0)])
def test_two_points_at_distance_one(p: int, value: float) -> None:
    loss = LossSpec.model_validate({"p": p, "diameter": 4.0})
    x, y = torch.zeros(1, 1, 3), torch.tensor([[[1.0, 0.0, 0.0]]], requires_grad=True)
    mask = torch.ones(1, 1, dtype=torch.bool)

    found = sinkhorn(x, mask, y, mask, loss)

    assert found.item() == pytest.approx(value, abs=1e-4)
    (towards,) = torch.autograd.grad(found.sum(), y)
    torch.testing.assert_close(towards, torch.tensor([[[1.0, 0.0, 0.0]]]), rtol=1e-4, atol=1e-4)


def test_p_1_is_that_of_geomloss() -> None:
    loss = LossSpec(p=1)
    x, x_mask = cloud([12, 7], 2, 1.0)
    y, y_mask = cloud([3, 5], 3, 1.0, offset=1.0)
    weights = torch.tensor([1.0, 2.0])
    expected, towards_x, towards_y = by_geomloss(x, x_mask, y, y_mask, loss, weights)
    x.requires_grad_()
    y.requires_grad_()

    value = sinkhorn(x, x_mask, y, y_mask, loss)
    ours_x, ours_y = torch.autograd.grad((value * weights).sum(), (x, y))

    assert len(near_itself(x.detach(), x_mask, LossSpec(p=1, blur=0.5))) == 2
    left_out = self_transport(x.detach(), x_mask, loss).index_fill(0, near_itself(x.detach(), x_mask, loss), 0)
    torch.testing.assert_close(value.detach() - left_out, expected, rtol=1e-4, atol=1e-4)
    assert relative(ours_y, towards_y) < 1e-3
    assert relative(ours_x, towards_x) < 1e-3


def real_norms(seed: int, num_frames: int, num_tokens: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Frames and tokens as large as real ones: most of the kernel underflows in the last updates."""
    generator = torch.Generator().manual_seed(seed)
    center = 1.1 * torch.randn(512, generator=generator)
    sections = 0.6 * torch.randn(8, 512, generator=generator)[torch.arange(num_frames) * 8 // num_frames]
    x = (center + sections + 0.3 * torch.randn(num_frames, 512, generator=generator)).unsqueeze(0)
    y = 0.6 * torch.randn(1, num_tokens, 512, generator=generator)
    return x, torch.ones(1, num_frames, dtype=torch.bool), y, torch.ones(1, num_tokens, dtype=torch.bool)


def test_rows_of_the_kernel_that_underflow_cost_no_digits() -> None:
    loss = LossSpec()
    x, x_mask, y, y_mask = real_norms(0, 200, 12)
    assert x.norm(dim=2).mean() == pytest.approx(30, rel=0.1), "as real Whisper frames"
    expected, _, towards_y = by_geomloss(x, x_mask, y, y_mask, loss, torch.ones(1))
    y.requires_grad_()

    value = sinkhorn(x, x_mask, y, y_mask, loss)
    (ours,) = torch.autograd.grad(value.sum(), y)

    audio_term = self_transport(x, x_mask, loss)
    assert (value.detach() - audio_term).item() == pytest.approx(expected.item(), rel=1e-5)
    assert relative(ours, towards_y) < 2e-3


def test_the_kernel_of_that_test_does_underflow() -> None:
    loss = LossSpec()
    x, _, y, _ = real_norms(0, 200, 12)
    cost = torch.cdist(y[0].double(), x[0].double()).square() / 2
    f, g = torch.zeros(200, dtype=torch.float64), torch.zeros(12, dtype=torch.float64)
    underflows = []
    for step, epsilon in enumerate([loss.diameter**2, *schedule(loss)]):
        kernel = ((f + g[:, None] - cost) / epsilon).exp().float()
        underflows.append(bool((kernel.amax(dim=0) == 0).any()))
        f_next = -epsilon * ((g[:, None] - cost) / epsilon - math.log(12)).logsumexp(0)
        g_next = -epsilon * ((f - cost) / epsilon - math.log(200)).logsumexp(1)
        f, g = ((f + f_next) / 2, (g + g_next) / 2) if step else (f_next, g_next)

    assert underflows[-1], "a whole row of some frame is zero in float32"


def test_a_blur_at_which_whole_columns_underflow_costs_nothing() -> None:
    loss = LossSpec(blur=0.001, scaling=0.1)
    x, x_mask = cloud([30, 20], 5, 3.0)
    y, y_mask = cloud([6, 3], 6, 3.0, offset=20.0)
    y.requires_grad_()

    value = sinkhorn(x, x_mask, y, y_mask, loss)
    exact = sinkhorn(x.double(), x_mask, y.double(), y_mask, loss)

    assert exact.dtype == torch.float64
    torch.testing.assert_close(value.double(), exact, rtol=1e-3, atol=0.1)
    assert torch.autograd.grad(value.sum(), y)[0].isfinite().all()


def test_a_clip_that_is_not_finite_leaves_the_others_alone() -> None:
    loss = LossSpec()
    x, x_mask = cloud([10, 10], 7, 1.0)
    y, y_mask = cloud([4, 4], 8, 1.0)
    alone = sinkhorn(x[1:], x_mask[1:], y[1:], y_mask[1:], loss)
    x[0, 0, 0] = math.nan

    value = sinkhorn(x, x_mask, y, y_mask, loss)

    assert not value[0].isfinite()
    torch.testing.assert_close(value[1:], alone, rtol=1e-5, atol=1e-4)


@settings(max_examples=15, deadline=None)
@given(lengths, st.integers(0, 2**16))
def test_padding_and_neighbours_change_nothing(counts: list[int], seed: int) -> None:
    loss = LossSpec()
    x, x_mask = cloud([3 * count for count in counts], seed, 1.0)
    y, y_mask = cloud(counts[::-1], seed + 1, 1.0)

    together = sinkhorn(x, x_mask, y, y_mask, loss)

    for clip in range(len(counts)):
        frames, tokens = x[clip][x_mask[clip]], y[clip][y_mask[clip]]
        every = [torch.ones(1, len(points), dtype=torch.bool) for points in (frames, tokens)]
        alone = sinkhorn(frames[None], every[0], tokens[None], every[1], loss)
        torch.testing.assert_close(together[clip : clip + 1], alone, rtol=1e-5, atol=1e-4)


def test_the_schedule_is_geomloss() -> None:
    from geomloss._legacy.sinkhorn_divergence import epsilon_schedule

    for loss in (LossSpec(), LossSpec(p=1), LossSpec(scaling=0.9, blur=0.3, diameter=17.0)):
        assert schedule(loss) == pytest.approx(epsilon_schedule(loss.p, loss.diameter, loss.blur, loss.scaling))


def test_near_frames_have_a_term_of_their_own_and_far_ones_have_none() -> None:
    loss = LossSpec()
    mask = torch.ones(1, 40, dtype=torch.bool)
    apart = torch.randn(1, 40, 64, generator=torch.Generator().manual_seed(0)) * 3
    near = apart.clone()
    near[0, 1] = near[0, 0] + 0.01

    both, masks = torch.cat([apart, near]), mask.repeat(2, 1)
    assert near_itself(both, masks, loss).tolist() == [1]
    masks[1, 1] = False
    assert near_itself(both, masks, loss).tolist() == [], "padding is not a neighbour"
