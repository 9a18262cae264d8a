"""Where the frames of a clip and the tokens of its prompt interact: all of a step that is as large as frames x tokens.

Only the mean over queries of an attention's output is used, and the mean commutes with everything after the softmax.
So the projections of the long (audio) side are absorbed into the short (text) side (`attention`), frames are multiplied
with (heads x tokens) rows directly, and one vector per head and direction leaves. No frame is ever projected.

`interact` is the only operation of which there are two forms: this one, the reference, in PyTorch with autograd on any
device, and `training.cpu`'s over compiled kernels.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from whisq_core.model.alignment import at_least_float32, plugin_objective, sinkhorn
from whisq_core.plugins import is_plugin
from whisq_core.spec import LossSpec


@dataclass(frozen=True)
class Rows:
    """The text side of the scores, with the audio side's projections absorbed; None for a direction not taken.

    Scores of frame x are `to_text` . x + `to_text_constants` where x queries tokens, and `to_audio` . x where tokens
    query frames; each up to what cancels in the softmax. `points` are the tokens as the OT term sees them, None
    without it: an edge of the graph of its own, so that its gradient can be told from that of the task.
    """

    to_text: Float[Tensor, "*tokens heads dim"] | None = None
    to_text_constants: Float[Tensor, "*tokens heads"] | None = None
    to_audio: Float[Tensor, "*tokens heads dim"] | None = None
    points: Float[Tensor, "*tokens dim"] | None = None


@dataclass(frozen=True)
class Contexts:
    """What the mean query of each direction attends to, per head, before value and output projections."""

    of_text: Float[Tensor, "batch heads dim"] | None = None
    of_audio: Float[Tensor, "batch heads dim"] | None = None


def interact(
    frames: Shaped[Tensor, "batch frames dim"],
    frame_mask: Bool[Tensor, "batch frames"],
    centre: Float[Tensor, "batch dim"],
    tokens: Float[Tensor, "batch tokens dim"],
    token_mask: Bool[Tensor, "batch tokens"],
    rows: Rows,
    loss: LossSpec | None,
    near: Int[Tensor, ""] | None = None,
) -> tuple[Contexts, Float[Tensor, " batch"] | None]:
    """The contexts of each clip, and its divergence (Sinkhorn's, or a plug-in's) where `rows` have points.

    `centre` is any vector in the midst of a clip's frames. Exactly, it changes nothing: distances do not depend on it,
    a softmax over frames ignores what is added to all of them, and elsewhere its share is added back in float32. But
    what half precision rounds then is how frames differ, not what they share, which is most of an encoder's output.
    `near` is that of `sinkhorn`.
    """
    centre = centre.detach()
    relative, kind = frames - centre.unsqueeze(1), frames.device.type
    rounded = relative.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else relative
    of_text = of_audio = divergence = None
    if rows.to_text is not None and rows.to_text_constants is not None:
        constants = rows.to_text_constants + (rows.to_text * centre[:, None, None]).sum(dim=3)
        of_text = attend_to_text(rows.to_text, constants, rounded, frame_mask, tokens, token_mask)
    if rows.to_audio is not None:
        of_audio = attend_to_audio(rows.to_audio, token_mask, rounded, frame_mask) + centre.unsqueeze(1)
    if rows.points is not None and loss is not None and is_plugin(loss.alignment):
        divergence = plugin_objective(frames, frame_mask, rows.points, token_mask, loss)
    elif rows.points is not None and loss is not None:
        divergence = sinkhorn(relative, frame_mask, rows.points - centre.unsqueeze(1), token_mask, loss, near)
    return Contexts(of_text, of_audio), divergence


Interact = Callable[..., tuple[Contexts, Float[Tensor, " batch"] | None]]  # the signature of `interact`


def attend_to_text(
    to_text: Float[Tensor, "batch tokens heads dim"],
    constants: Float[Tensor, "batch tokens heads"],
    frames: Float[Tensor, "batch frames dim"],
    frame_mask: Bool[Tensor, "batch frames"],
    tokens: Float[Tensor, "batch tokens dim"],
    token_mask: Bool[Tensor, "batch tokens"],
) -> Float[Tensor, "batch heads dim"]:
    """`Contexts.of_text`: frames, or one pooled vector, query tokens."""
    scores = torch.einsum("bjhd,bid->bhji", to_text, frames) + constants.mT.unsqueeze(3)
    probabilities = scores.masked_fill(~token_mask[:, None, :, None], -math.inf).softmax(dim=2)
    total = torch.einsum("bhji,bi->bhj", probabilities, frame_mask.to(probabilities.dtype))
    mean = total / frame_mask.sum(dim=1)[:, None, None]
    return at_least_float32(torch.einsum("bhj,bjd->bhd", mean.to(tokens.dtype), tokens))


def attend_to_audio(
    to_audio: Float[Tensor, "batch queries heads dim"],
    query_mask: Bool[Tensor, "batch queries"],
    frames: Float[Tensor, "batch frames dim"],
    frame_mask: Bool[Tensor, "batch frames"],
) -> Float[Tensor, "batch heads dim"]:
    """`Contexts.of_audio`: tokens, or one pooled vector, query frames."""
    scores = at_least_float32(torch.einsum("bjhd,bid->bhji", to_audio, frames))
    probabilities = scores.masked_fill(~frame_mask[:, None, None, :], -math.inf).softmax(dim=3)
    total = torch.einsum("bhji,bj->bhi", probabilities, query_mask.to(probabilities.dtype))
    mean = total / query_mask.sum(dim=1)[:, None, None]
    return at_least_float32(torch.einsum("bhi,bid->bhd", mean.to(frames.dtype), frames))
