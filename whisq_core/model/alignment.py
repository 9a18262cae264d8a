"""Sinkhorn divergence between the frames of a clip and the tokens of its prompt (Eq. 10).

geomloss' debiased divergence is raw(x, y) - raw(x, x) / 2 - raw(y, y) / 2, where x are audio frames and y text
tokens, both with uniform weights. raw(x, x) costs a frames x frames matrix, and where audio is frozen it has no
gradient: it is a constant per clip, and left out of the loss and of the reported value. Everything else is
geomloss' algorithm: symmetric Sinkhorn updates, annealed from `diameter` to `blur` by `scaling`, and a gradient
through the last update only. `diameter` is fixed, else a clip's loss would depend on its neighbours.

Three identities make it cheap (p = 2, cost C_ij = |x_i - y_j|^2 / 2, potentials f of frames and g of tokens):

* Both soft-minima of an update are taken from the same potentials, so one exponential serves both directions.
* f_i - |x_i|^2 / 2 and g_j - |y_j|^2 / 2 follow the same updates with the cost -x_i . y_j. So inner products are
  all that is needed, and float32 does not lose what matters to the large norms of encoder features.
* In base 2 an exponential is twice as fast, and the change of base is part of the division by the temperature.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from whisq_core.spec import LossSpec

_SMALLEST = -126.0  # base-2 exponent below which a float32 is denormal, and its exponential slow
_TRUSTED = 2.0**-100  # column sums below this have lost digits to underflow
_SEPARATED = 10  # blurs between nearest points from which on a set's transport to itself has no gradient
_SKETCH_DIM = 32  # dimensions in which distances are bounded from below before they are computed


@dataclass(frozen=True)
class Points:
    """One side of the transport: half squared norms, and uniform weights (-inf in base 2 where there is padding)."""

    half_norms: Float[Tensor, "clips points"]
    log2_weights: Float[Tensor, "clips points"]

    def mean(self, potential: Float[Tensor, "clips points"]) -> Float[Tensor, " clips"]:
        """The weighted mean of a potential, whose half squared norms were left out."""
        counts = self.log2_weights > -math.inf
        return (torch.where(counts, potential + self.half_norms, 0.0) * self.log2_weights.exp2()).sum(dim=1)


def points(sequences: Float[Tensor, "clips points dim"], mask: Bool[Tensor, "clips points"]) -> Points:
    """The points of padded sequences that count, weighted uniformly."""
    uniform = -mask.sum(dim=1, keepdim=True).to(sequences.dtype).log2()
    return Points(half_squared_norms(sequences), torch.where(mask, uniform, -math.inf))


def half_squared_norms(sequences: Float[Tensor, "*points dim"]) -> Float[Tensor, "*points"]:
    """|x|^2 / 2 of each point."""
    return torch.linalg.vector_norm(sequences, dim=-1).square_().div_(2)


@dataclass(frozen=True)
class Solution:
    """raw(x, y), and what its gradient needs: the kernel before the last update and its sums.

    `trusted` is false for a clip whose numbers underflowed or are not finite.
    """

    value: Float[Tensor, " clips"]
    kernel: Float[Tensor, "clips tokens frames"]
    row_weights: Float[Tensor, "clips frames"]
    row_sums: Float[Tensor, "clips frames"]
    column_sums: Float[Tensor, "clips tokens"]
    trusted: Bool[Tensor, " clips"]

    def plan_of_tokens(self, tokens: Points) -> Float[Tensor, "clips tokens frames"]:
        """P with the gradient towards token j being b_j y_j - sum_i P_ji x_i. Overwrites `kernel`."""
        rows = (tokens.log2_weights.exp2() / self.column_sums).unsqueeze(2)
        return self.kernel.mul_(self.row_weights.unsqueeze(1)).mul_(rows)

    def plan_of_frames(self, frames: Points) -> Float[Tensor, "clips tokens frames"]:
        """Q with the gradient towards frame i being a_i x_i - sum_j Q_ji y_j."""
        return self.kernel * (frames.log2_weights.exp2() / self.row_sums).unsqueeze(1)


def schedule(loss: LossSpec) -> list[float]:
    """The temperatures epsilon, from diameter**p down to blur**p, as geomloss anneals them."""
    p, start, end = loss.p, math.log(loss.diameter), math.log(loss.blur)
    steps = np.exp(np.arange(p * start, p * end, p * math.log(loss.scaling)))
    return [loss.diameter**p, *(float(step) for step in steps), loss.blur**p]


def annealing(loss: LossSpec) -> list[float]:
    """1 / (epsilon log 2) of every update: one full update before the schedule and one after it, as geomloss does."""
    epsilons = [loss.diameter**2, *schedule(loss), loss.blur**2]
    return [1 / (epsilon * math.log(2)) for epsilon in epsilons]


def solve(
    products: Float[Tensor, "clips tokens frames"],
    frames: Points,
    tokens: Points,
    loss: LossSpec,
    kernel: Float[Tensor, "clips tokens frames"],
) -> Solution:
    """Anneal the potentials of raw(x, y) for p = 2 from the inner products y_j . x_i; `kernel` is overwritten."""
    assert loss.p == 2
    f, g = -frames.half_norms, -tokens.half_norms
    smallest = torch.full_like(g, math.inf)
    updates = annealing(loss)
    for step, per_epsilon in enumerate(updates):
        scaled_g = torch.add(tokens.log2_weights, g, alpha=per_epsilon)
        torch.add(scaled_g.unsqueeze(2), products, alpha=per_epsilon, out=kernel)
        row_maxima = kernel.amax(dim=1)
        kernel.sub_(row_maxima.unsqueeze(1)).clamp_min_(_SMALLEST).exp2_()
        row_sums = kernel.sum(dim=1)
        row_weights = torch.add(row_maxima, f, alpha=per_epsilon).add_(frames.log2_weights)
        maximum = row_weights.amax(dim=1, keepdim=True)
        row_weights.sub_(maximum).exp2_()
        column_sums = torch.bmm(row_weights.unsqueeze(1), kernel.mT).squeeze(1)
        smallest = torch.minimum(smallest, column_sums, out=smallest)
        minus_f = row_sums.log2().add_(row_maxima)  # both in units of epsilon, base 2
        minus_g = column_sums.log2().add_(maximum).sub_(scaled_g)
        if 0 < step < len(updates) - 1:
            f = f.mul_(0.5).add_(minus_f, alpha=-0.5 / per_epsilon)
            g = g.mul_(0.5).add_(minus_g, alpha=-0.5 / per_epsilon)
        else:  # the first and the last update are full ones
            f, g = minus_f.mul_(-1 / per_epsilon), minus_g.mul_(-1 / per_epsilon)
    value = frames.mean(f) + tokens.mean(g)
    kept = (smallest > _TRUSTED) | (tokens.log2_weights == -math.inf)
    return Solution(value, kernel, row_weights, row_sums, column_sums, kept.all(dim=1) & value.isfinite())


@dataclass(frozen=True)
class Divergence:
    """The value of each clip and its gradients; None towards frames that need none."""

    value: Float[Tensor, " clips"]
    towards_tokens: Float[Tensor, "clips tokens dim"]
    towards_frames: Float[Tensor, "clips frames dim"] | None


Frames = Float[Tensor, "clips frames dim"]
FrameMask = Bool[Tensor, "clips frames"]
Tokens = Float[Tensor, "clips tokens dim"]
TokenMask = Bool[Tensor, "clips tokens"]


def sinkhorn(x: Frames, x_mask: FrameMask, y: Tokens, y_mask: TokenMask, loss: LossSpec) -> Float[Tensor, " clips"]:
    """The divergence of frames `x` and tokens `y` of each clip, differentiable.

    Computed in float32 whatever the precision around it. The audio term is left out where it has no gradient:
    where `x` needs none, or its points are so far apart that they only transport to themselves.
    """
    value: Float[Tensor, " clips"] = _Sinkhorn.apply(x.float(), x_mask, y.float(), y_mask, loss)  # type: ignore[no-untyped-call]
    return value


class _Sinkhorn(torch.autograd.Function):
    """The gradients are known together with the value: computed forward, scaled backward."""

    @staticmethod
    def forward(
        ctx: Any, x: Frames, x_mask: FrameMask, y: Tokens, y_mask: TokenMask, loss: LossSpec
    ) -> Float[Tensor, " clips"]:
        between = raw(x, x_mask, y, y_mask, loss, with_frames=ctx.needs_input_grad[0])
        text = raw(y, y_mask, y, y_mask, loss)
        value, towards_tokens = between.value - text.value / 2, between.towards_tokens - text.towards_tokens
        towards_frames = between.towards_frames
        if towards_frames is not None and not only_reaches_itself(x, x_mask, loss):
            audio = raw(x, x_mask, x, x_mask, loss)
            value, towards_frames = value - audio.value / 2, towards_frames - audio.towards_tokens
        ctx.save_for_backward(towards_tokens, towards_frames)
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Float[Tensor, " clips"]) -> tuple[Tensor | None, ...]:
        towards_tokens, towards_frames = ctx.saved_tensors
        each = gradient[:, None, None]
        return None if towards_frames is None else each * towards_frames, None, each * towards_tokens, None, None


def raw(
    x: Frames, x_mask: FrameMask, y: Tokens, y_mask: TokenMask, loss: LossSpec, with_frames: bool = False
) -> Divergence:
    """raw(x, y) with its gradients; by geomloss for p = 1 and for clips whose numbers underflow.

    raw(y, y) / 2 has the gradient `towards_tokens` of raw(y, y): both of its sides move.
    """
    if loss.p == 1:
        empty = Divergence(y.new_zeros(len(y)), torch.zeros_like(y), torch.zeros_like(x) if with_frames else None)
        return _by_geomloss(empty, range(len(y)), x, x_mask, y, y_mask, loss)
    products = torch.bmm(y, x.transpose(1, 2))
    frames, tokens = points(x, x_mask), points(y, y_mask)
    solution = solve(products, frames, tokens, loss, torch.empty_like(products))
    towards_frames = None
    if with_frames:
        arriving = torch.bmm(solution.plan_of_frames(frames).transpose(1, 2), y)
        towards_frames = x * frames.log2_weights.exp2().unsqueeze(2) - arriving
    leaving = torch.bmm(solution.plan_of_tokens(tokens), x)
    result = Divergence(solution.value, y * tokens.log2_weights.exp2().unsqueeze(2) - leaving, towards_frames)
    untrusted = (~solution.trusted).nonzero().flatten().tolist()
    return _by_geomloss(result, untrusted, x, x_mask, y, y_mask, loss)


def _by_geomloss(
    result: Divergence, clips: Iterable[int], x: Frames, x_mask: FrameMask, y: Tokens, y_mask: TokenMask, loss: LossSpec
) -> Divergence:
    """`result` with these clips overwritten."""
    for clip in clips:
        value, towards_tokens, towards_frames = raw_by_geomloss(x[clip][x_mask[clip]], y[clip][y_mask[clip]], loss)
        result.value[clip] = value
        result.towards_tokens[clip, y_mask[clip]] = towards_tokens
        if result.towards_frames is not None:
            result.towards_frames[clip, x_mask[clip]] = towards_frames
    return result


def raw_by_geomloss(
    x: Float[Tensor, "frames dim"], y: Float[Tensor, "tokens dim"], loss: LossSpec
) -> tuple[Float[Tensor, ""], Float[Tensor, "tokens dim"], Float[Tensor, "frames dim"]]:
    """raw(x, y) of one clip, and its gradients towards tokens and frames."""
    from geomloss import SamplesLoss

    reference = SamplesLoss(
        "sinkhorn", p=loss.p, blur=loss.blur, diameter=loss.diameter, scaling=loss.scaling, debias=False,
        backend="tensorized",
    )  # fmt: skip
    enabled = torch.is_grad_enabled()
    try:
        with torch.enable_grad():
            x, y = x.detach().requires_grad_(), y.detach().requires_grad_()
            value = reference(x, y)
            towards_tokens, towards_frames = torch.autograd.grad(value, (y, x))
    finally:
        torch.set_grad_enabled(enabled)  # geomloss leaves gradients switched on
    return value.detach(), towards_tokens, towards_frames


def only_reaches_itself(x: Frames, mask: FrameMask, loss: LossSpec) -> bool:
    """Whether raw(x, x) has no gradient, because all frames are far apart.

    Distances between sketches (projections on a few orthonormal directions) are lower bounds and cheap; true
    distances are computed for the clips which that does not settle.
    """
    limit = _SEPARATED * loss.blur
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(x.shape[2], min(_SKETCH_DIM, x.shape[2]), generator=generator)
    sketch = x @ torch.linalg.qr(directions).Q.to(x)
    return all(
        _nearest(near[counts]) > limit or _nearest(far[counts]) > limit
        for near, far, counts in zip(sketch, x, mask, strict=True)
    )


def _nearest(x: Float[Tensor, "points dim"]) -> float:
    """The smallest distance between two points."""
    return float(torch.cdist(x, x).fill_diagonal_(math.inf).min())
