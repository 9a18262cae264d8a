"""Sinkhorn divergence between the frames of a clip and the tokens of its prompt (Eq. 10).

geomloss' debiased divergence is raw(x, y) - raw(x, x) / 2 - raw(y, y) / 2, where x are audio frames and y text tokens,
both with uniform weights, and raw is entropic OT. Self-transport of the frames costs a frames x frames matrix, and
where audio is frozen it has no gradient: it is a constant per clip, and left out of the loss and of the reported
value. Everything else is geomloss' algorithm: symmetric updates of the potentials, annealed from `diameter` to `blur`
by `scaling`, and a gradient through the last update only, where each side moves against the other one held fixed.
`diameter` is fixed, else a clip's loss would depend on its neighbours.

For p = 2 (cost |x_i - y_j|^2 / 2) the potentials f_i - |x_i|^2 / 2 and g_j - |y_j|^2 / 2 follow the same updates with
the cost -x_i . y_j. So inner products are all that is needed, and float32 does not lose what matters to the large norms
of encoder features. This is the reference form; `csrc/transport.h` does the same for one clip on a CPU.
"""

import math
from functools import cache

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from whisq_core.plugins import Plugin, find
from whisq_core.spec import LossSpec

_SEPARATED = 10  # blurs between nearest points from which on self-transport has no gradient
_SKETCH_DIM = 32  # dimensions in which distances are bounded from below before they are computed
_SMALLEST_SQUARE = 1e-8  # geomloss' bound under the square root of p = 1

Points = Float[Tensor, "clips points dim"]
PointMask = Bool[Tensor, "clips points"]
Frames = Float[Tensor, "clips frames dim"]
FrameMask = Bool[Tensor, "clips frames"]
Tokens = Float[Tensor, "clips tokens dim"]
TokenMask = Bool[Tensor, "clips tokens"]


def sinkhorn(
    x: Frames, x_mask: FrameMask, y: Tokens, y_mask: TokenMask, loss: LossSpec, near: Int[Tensor, ""] | None = None
) -> Float[Tensor, " clips"]:
    """The divergence of valid frames `x` and valid tokens `y` of each clip, differentiable.

    Computed in float32 (float64 where given) whatever the precision around it. Self-transport of the frames is left
    out where it has no gradient: where `x` needs none, or its points are so far apart that none reaches another.
    That question is the only one to the device, and asked only where audio is projected. With `near` it is not asked:
    clips whose frames may be near each other are added to that count, and the divergence is right where there is none.
    """
    with torch.autocast(x.device.type, enabled=False):
        x, y = at_least_float32(x), at_least_float32(y)
        value = entropic_ot(x, x_mask, y, y_mask, loss) - self_transport(y, y_mask, loss)
        if x.requires_grad and near is not None:
            near += _unsettled(x.detach(), x_mask, loss).sum()
        elif x.requires_grad:
            close = near_itself(x.detach(), x_mask, loss)
            value = value.index_add(0, close, self_transport(x[close], x_mask[close], loss), alpha=-1)
    return value


def plugin_objective(frames: Tensor, frame_mask: Tensor, tokens: Tensor, token_mask: Tensor, loss: LossSpec) -> Tensor:
    """The value of each clip, [batch], that training makes small; in float32 whatever the precision around it."""
    plugin = find("objective", loss.alignment)
    inputs = at_least_float32(frames), frame_mask, at_least_float32(tokens), token_mask
    with torch.autocast(frames.device.type, enabled=False), plugin.blamed():
        found = plugin.load()(*inputs, loss)
    return checked(plugin, found, (len(frames),), inputs)


def checked(plugin: Plugin, found: object, shape: tuple[int, ...], inputs: tuple[Tensor, ...]) -> Tensor:
    """What a plug-in returned, if it is of this shape and finite wherever its inputs are.

    Only a CPU is asked within a step; on other devices the epoch's loss tells that a number is not finite.
    """
    if not isinstance(found, Tensor) or tuple(found.shape) != shape or not found.is_floating_point():
        kind = f"{found.dtype} {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        raise plugin.error(f"returns {kind} instead of a float tensor of shape {shape}")
    if found.device.type == "cpu" and not found.isfinite().all() and all(each.isfinite().all() for each in inputs):
        raise plugin.error("returns values that are not finite for inputs that are")
    return found


def entropic_ot(x: Frames, x_mask: FrameMask, y: Tokens, y_mask: TokenMask, loss: LossSpec) -> Float[Tensor, " clips"]:
    """raw(x, y) of each clip."""
    log_a, log_b = _log_weights(x_mask, x), _log_weights(y_mask, y)
    with torch.no_grad():
        affinity, of_frames = _affinity(y, x, loss), _offset(x, loss)
        f, g = -of_frames, -_offset(y, loss)
        *annealed, last = updates(loss)
        for step, epsilon in enumerate(annealed):
            new_f = _softmin(affinity, log_b + g / epsilon, epsilon, over=1)
            new_g = _softmin(affinity, log_a + f / epsilon, epsilon, over=2)
            f, g = ((f + new_f) / 2, (g + new_g) / 2) if step else (new_f, new_g)
    of_x = _affinity(y.detach(), x, loss) if x.requires_grad else affinity
    of_y = _affinity(y, x.detach(), loss) if y.requires_grad else affinity
    last_f = _softmin(of_x, log_b + g / last, last, over=1) + (_offset(x, loss) if x.requires_grad else of_frames)
    last_g = _softmin(of_y, log_a + f / last, last, over=2) + _offset(y, loss)
    return (log_a.exp() * last_f).sum(dim=1) + (log_b.exp() * last_g).sum(dim=1)


def self_transport(y: Points, mask: PointMask, loss: LossSpec) -> Float[Tensor, " clips"]:
    """raw(y, y) / 2 of each clip: both potentials are alike, and so are both halves of the gradient."""
    log_b = _log_weights(mask, y)
    with torch.no_grad():
        affinity = _affinity(y, y, loss)
        g = -_offset(y, loss)
        *annealed, last = updates(loss)
        for step, epsilon in enumerate(annealed):
            new_g = _softmin(affinity, log_b + g / epsilon, epsilon, over=2)
            g = (g + new_g) / 2 if step else new_g
    moving = _affinity(y, y.detach(), loss) if y.requires_grad else affinity
    last_g = _softmin(moving, log_b + g / last, last, over=2) + _offset(y, loss)
    return (log_b.exp() * last_g).sum(dim=1)


def updates(loss: LossSpec) -> list[float]:
    """epsilon of every update: the first and the last one are full, those of `schedule` between them go half-way."""
    return [loss.diameter**loss.p, *schedule(loss), loss.blur**loss.p]


def schedule(loss: LossSpec) -> list[float]:
    """The temperatures epsilon, from diameter**p down to blur**p, as geomloss anneals them."""
    p, start, end = loss.p, math.log(loss.diameter), math.log(loss.blur)
    steps = np.exp(np.arange(p * start, p * end, p * math.log(loss.scaling)))
    return [loss.diameter**p, *(float(step) for step in steps), loss.blur**p]


def near_itself(x: Points, mask: PointMask, loss: LossSpec) -> Int[Tensor, " near"]:
    """The clips whose self-transport has a gradient: two of their points are near each other."""
    unsettled = _unsettled(x, mask, loss).nonzero().squeeze(1)
    return unsettled[_nearest(x[unsettled], mask[unsettled]) <= _SEPARATED * loss.blur]


def _unsettled(x: Points, mask: PointMask, loss: LossSpec) -> Bool[Tensor, " clips"]:
    """The clips of which two points may be near each other.

    Distances between sketches (projections on a few orthonormal directions) are lower bounds and cheap; true
    distances are computed for the clips which that does not settle.
    """
    return _nearest(x @ _directions(x.shape[2], x.dtype, x.device), mask) <= _SEPARATED * loss.blur


@cache
def _directions(dim: int, dtype: torch.dtype, device: torch.device) -> Float[Tensor, "dim sketch"]:
    """Made once on the CPU: a copy to a device in the midst of a step would make it wait."""
    directions = torch.randn(dim, min(_SKETCH_DIM, dim), generator=torch.Generator().manual_seed(0))
    return torch.linalg.qr(directions).Q.to(device, dtype)


def at_least_float32(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Half precision widened."""
    return values if values.dtype == torch.float64 else values.float()


def _nearest(x: Points, mask: PointMask) -> Float[Tensor, " clips"]:
    """The smallest distance between two valid points of each clip."""
    pairs = mask.unsqueeze(1) & mask.unsqueeze(2) & ~torch.eye(x.shape[1], dtype=torch.bool, device=x.device)
    return torch.cdist(x, x).masked_fill_(~pairs, math.inf).amin(dim=(1, 2))


def _log_weights(mask: PointMask, like: Tensor) -> Float[Tensor, "clips points"]:
    """Uniform over valid points, -inf where there is padding."""
    uniform = -mask.sum(dim=1, keepdim=True).to(like.dtype).log()
    return torch.where(mask, uniform, -math.inf)


def _offset(x: Points, loss: LossSpec) -> Float[Tensor, "clips points"]:
    """What the potentials leave out: half squared norms for p = 2, nothing for p = 1."""
    return x.square().sum(dim=2) / 2 if loss.p == 2 else torch.zeros_like(x[:, :, 0])


def _affinity(y: Tokens, x: Frames, loss: LossSpec) -> Float[Tensor, "clips tokens frames"]:
    """Minus the cost, without the offsets."""
    products = torch.bmm(y, x.mT)
    if loss.p == 2:
        return products
    squares = y.square().sum(dim=2).unsqueeze(2) + x.square().sum(dim=2).unsqueeze(1) - 2 * products
    return -squares.clamp_min(_SMALLEST_SQUARE).sqrt()


def _softmin(
    affinity: Float[Tensor, "clips tokens frames"], scaled: Float[Tensor, "clips others"], epsilon: float, over: int
) -> Float[Tensor, "clips kept"]:
    """One update of the side that is kept; `scaled` holds the other side's log weights + potentials / epsilon."""
    return torch.logsumexp(affinity / epsilon + scaled.unsqueeze(3 - over), dim=over) * -epsilon
