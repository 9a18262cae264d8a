"""Sinkhorn divergence between the frames of a clip and the tokens of its prompt (Eq. 10).

geomloss' debiased divergence is raw(x, y) - raw(x, x) / 2 - raw(y, y) / 2, where x are audio frames and y text
tokens, both with uniform weights. raw(x, x) costs a frames x frames matrix, and where audio is frozen it has no
gradient: it is a constant per clip, and left out of the loss and of the reported value. Everything else is
geomloss' own algorithm: symmetric Sinkhorn updates, annealed from `diameter` to `blur` by `scaling`, and a
gradient through the last update only. `diameter` is fixed, else a clip's loss would depend on its neighbours.
"""

import math

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from whisq_core.spec import LossSpec

Frames = Float[Tensor, "batch frames dim"]
Tokens = Float[Tensor, "batch tokens dim"]
LogWeights = Float[Tensor, "batch points"]


def schedule(loss: LossSpec) -> list[float]:
    """The temperatures epsilon, from diameter**p down to blur**p, as geomloss anneals them."""
    p, start, end = loss.p, math.log(loss.diameter), math.log(loss.blur)
    steps = np.exp(np.arange(p * start, p * end, p * math.log(loss.scaling)))
    return [loss.diameter**p, *(float(step) for step in steps), loss.blur**p]


def sinkhorn(
    x: Frames, x_mask: Bool[Tensor, "batch frames"], y: Tokens, y_mask: Bool[Tensor, "batch tokens"], loss: LossSpec
) -> Float[Tensor, " batch"]:
    """The divergence of frames `x` and tokens `y` of each clip, without the audio term where `x` needs no gradient.

    Computed in float32 whatever the precision around it. A clip whose value is not finite is computed by geomloss.
    """
    with torch.autocast(x.device.type, enabled=False):
        x, y = x.float(), y.float()
        if loss.p != 2:
            return divergence_by_geomloss(x, x_mask, y, y_mask, loss)
        value = _raw(x, x_mask, y, y_mask, loss) - _raw_self(y, y_mask, loss)
        if x.requires_grad:
            value = value - _raw_self(x, x_mask, loss)
        if bool(value.isfinite().all()):
            return value
        return torch.where(value.isfinite(), value.nan_to_num(), divergence_by_geomloss(x, x_mask, y, y_mask, loss))


def divergence_by_geomloss(
    x: Frames, x_mask: Bool[Tensor, "batch frames"], y: Tokens, y_mask: Bool[Tensor, "batch tokens"], loss: LossSpec
) -> Float[Tensor, " batch"]:
    """The same divergence from geomloss, clip by clip; the audio term only where audio needs a gradient."""
    from geomloss import SamplesLoss

    raw = SamplesLoss(
        "sinkhorn", p=loss.p, blur=loss.blur, diameter=loss.diameter, scaling=loss.scaling, debias=False,
        backend="tensorized",
    )  # fmt: skip
    values = []
    with torch.set_grad_enabled(torch.is_grad_enabled()):  # geomloss switches gradients on and leaves them on
        for clip in range(len(x)):
            frames, tokens = x[clip][x_mask[clip]], y[clip][y_mask[clip]]
            value = raw(frames, tokens) - 0.5 * raw(tokens, tokens)
            values.append(value - 0.5 * raw(frames, frames) if x.requires_grad else value)
    return torch.stack(values)


def _raw(
    x: Frames, x_mask: Bool[Tensor, "batch frames"], y: Tokens, y_mask: Bool[Tensor, "batch tokens"], loss: LossSpec
) -> Float[Tensor, " batch"]:
    log_a, log_b = _log_weights(x_mask), _log_weights(y_mask)
    with torch.no_grad():
        cost = _cost(x, y)
        first = loss.diameter**loss.p
        f, g = _softmin(first, cost, log_b, 2), _softmin(first, cost, log_a, 1)
        for epsilon in schedule(loss):
            f_next = _softmin(epsilon, cost, log_b + g / epsilon, 2)
            g_next = _softmin(epsilon, cost, log_a + f / epsilon, 1)
            f, g = (f + f_next) / 2, (g + g_next) / 2
    epsilon = loss.blur**loss.p
    # As in geomloss, each potential carries the gradient towards its own points only.
    cost_x = _cost(x, y.detach()) if x.requires_grad else cost
    last_f = _softmin(epsilon, cost_x, log_b + g / epsilon, 2)
    last_g = _softmin(epsilon, _cost(x.detach(), y), log_a + f / epsilon, 1)
    return _mean(last_f, x_mask) + _mean(last_g, y_mask)


def _raw_self(
    y: Float[Tensor, "batch points dim"], mask: Bool[Tensor, "batch points"], loss: LossSpec
) -> Float[Tensor, " batch"]:
    """Half of raw(y, y): both of its potentials are equal."""
    log_b = _log_weights(mask)
    with torch.no_grad():
        cost = _cost(y, y)
        g = _softmin(loss.diameter**loss.p, cost, log_b, 2)
        for epsilon in schedule(loss):
            g = (g + _softmin(epsilon, cost, log_b + g / epsilon, 2)) / 2
    epsilon = loss.blur**loss.p
    return _mean(_softmin(epsilon, _cost(y, y.detach()), log_b + g / epsilon, 2), mask)


def _cost(x: Float[Tensor, "batch rows dim"], y: Float[Tensor, "batch columns dim"]) -> Tensor:
    """|x - y|^2 / 2, multiplied out."""
    return (x.square().sum(2).unsqueeze(2) + y.square().sum(2).unsqueeze(1)) / 2 - x @ y.transpose(1, 2)


def _softmin(epsilon: float, cost: Float[Tensor, "batch rows columns"], h: LogWeights, over: int) -> LogWeights:
    return -epsilon * (h.unsqueeze(3 - over) - cost / epsilon).logsumexp(over)


def _log_weights(mask: Bool[Tensor, "batch points"]) -> LogWeights:
    """Uniform over points that count; the others weigh nothing."""
    uniform = -mask.sum(dim=1, keepdim=True).float().log()
    return torch.where(mask, uniform, -math.inf)


def _mean(potential: LogWeights, mask: Bool[Tensor, "batch points"]) -> Float[Tensor, " batch"]:
    return torch.where(mask, potential, 0.0).sum(dim=1) / mask.sum(dim=1)
