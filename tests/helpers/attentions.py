"""Random sides of an attention, and PyTorch's own attention with the parameters of ours."""

import torch
from torch import Tensor, nn

from whisq_core.model.attention import Attention, MultiHead, Side, masked_mean
from whisq_core.model.interaction import interact
from whisq_core.spec import LossSpec


def random_side(lengths: list[int], dim: int, generator: torch.Generator, scale: float = 1.0) -> Side:
    """Padded random sequences of these lengths, with padding that is not zero: nothing may read it."""
    longest = max(lengths)
    frames = torch.randn(len(lengths), longest, dim, generator=generator) * scale
    mask = torch.arange(longest) < torch.tensor(lengths).unsqueeze(1)
    frames = torch.where(mask.unsqueeze(2), frames, torch.full_like(frames, 7.0))
    return Side(masked_mean(frames, mask), frames, mask)


def attend(attention: Attention, audio: Side, text: Side) -> Tensor:
    """The TA head's input: by `interact` where the mean over queries commutes, else from whole sequences."""
    if not attention.commutes:
        return attention.unpooled(audio, text)
    rows = attention.rows(text.sequence[0])
    contexts, _ = interact(*audio.sequence, audio.pooled, *text.sequence, rows, LossSpec())
    return attention.embed(contexts, audio.pooled, text.pooled)


def random_multihead(dim: int, heads: int, generator: torch.Generator) -> MultiHead:
    """With biases that are not zero, as after training."""
    attention = MultiHead(dim, heads)
    attention.reset(generator)
    with torch.no_grad():
        for name, parameter in attention.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(generator=generator)
    return attention


@torch.no_grad()
def by_pytorch(ours: MultiHead) -> nn.MultiheadAttention:
    """`nn.MultiheadAttention` with the same parameters."""
    theirs = nn.MultiheadAttention(len(ours.out_weight), ours.heads, batch_first=True)
    theirs.in_proj_weight.copy_(torch.cat([ours.query_weight, ours.key_weight, ours.value_weight]))
    theirs.in_proj_bias.copy_(torch.cat([ours.query_bias, ours.key_bias, ours.value_bias]))
    theirs.out_proj.weight.copy_(ours.out_weight)
    theirs.out_proj.bias.copy_(ours.out_bias)
    return theirs


def mean_by_pytorch(attention: nn.MultiheadAttention, queries: Side, keys: Side) -> Tensor:
    """Attend with every query, then the mean over valid ones."""
    query_frames, query_mask = queries.sequence
    key_frames, key_mask = keys.sequence
    found, _ = attention(query_frames, key_frames, key_frames, key_padding_mask=~key_mask, need_weights=False)
    return masked_mean(found, query_mask)


def gradients_like(ours: MultiHead, theirs: nn.MultiheadAttention) -> list[tuple[Tensor, Tensor]]:
    """Pairs of gradients of the same parameters, after backward through both."""
    assert theirs.in_proj_weight.grad is not None
    assert theirs.in_proj_bias.grad is not None
    pairs: list[tuple[Tensor | None, Tensor | None]] = []
    stacked = zip(theirs.in_proj_weight.grad.chunk(3), theirs.in_proj_bias.grad.chunk(3), strict=True)
    for name, (weight, bias) in zip(("query", "key", "value"), stacked, strict=True):
        pairs += [(ours.get_parameter(f"{name}_weight").grad, weight), (ours.get_parameter(f"{name}_bias").grad, bias)]
    pairs += [(ours.out_weight.grad, theirs.out_proj.weight.grad), (ours.out_bias.grad, theirs.out_proj.bias.grad)]
    return [(torch.zeros_like(right) if left is None else left, right) for left, right in pairs]
