"""The exact pooled form against `nn.MultiheadAttention`, and what each variant of Table II is."""

import pytest
import torch
from helpers.attentions import attend, by_pytorch, gradients_like, mean_by_pytorch, random_multihead, random_side
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from whisq_core.model.attention import ATTENTION, Attention, MultiHead, Side, masked_max
from whisq_core.model.interaction import attend_to_audio, attend_to_text
from whisq_core.spec import ModelSpec

DIM, HEADS = 16, 4
lengths = st.lists(st.integers(1, 9), min_size=1, max_size=4)


def variant(kind: str, **settings: object) -> tuple[Attention, Side, Side]:
    """A variant with random parameters, and a random batch for it."""
    generator = torch.Generator().manual_seed(3)
    spec = ModelSpec.model_validate({"attention": kind, "feature_dim": DIM, "heads": HEADS, **settings})
    attention = ATTENTION[kind](spec)
    for direction in attention.directions:
        attention.of(direction).load_state_dict(random_multihead(DIM, HEADS, generator).state_dict())
    audio, text = random_side([7, 5, 2], DIM, generator), random_side([3, 4, 1], DIM, generator)
    return attention, audio, text


def assert_same_gradients(ours: MultiHead, theirs: torch.nn.MultiheadAttention) -> None:
    for left, right in gradients_like(ours, theirs):
        torch.testing.assert_close(left, right, rtol=1e-4, atol=5e-6 * max(1.0, float(right.abs().max())))


@settings(max_examples=25, deadline=None)
@given(lengths, st.integers(0, 2**16), st.sampled_from([1, 2, 4]), st.sampled_from([0.1, 1.0, 4.0]))
def test_frames_that_query_text_attend_as_in_pytorch(counts: list[int], seed: int, heads: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    ours = random_multihead(DIM, heads, generator)
    theirs = by_pytorch(ours)
    audio = random_side([3 * count for count in counts], DIM, generator, scale)
    text = random_side(counts[::-1], DIM, generator)
    weights = torch.randn(len(counts), DIM, generator=generator)

    found = ours.values(attend_to_text(*ours.rows_of_keys(text.sequence[0]), *audio.sequence, *text.sequence))
    expected = mean_by_pytorch(theirs, audio, text)

    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    assert_same_gradients(ours, theirs)


@settings(max_examples=25, deadline=None)
@given(lengths, st.integers(0, 2**16), st.sampled_from([1, 2, 4]), st.sampled_from([0.1, 1.0, 4.0]))
def test_text_that_queries_frames_attends_as_in_pytorch(counts: list[int], seed: int, heads: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    ours = random_multihead(DIM, heads, generator)
    theirs = by_pytorch(ours)
    audio = random_side([3 * count for count in counts], DIM, generator, scale)
    text = random_side(counts[::-1], DIM, generator)
    weights = torch.randn(len(counts), DIM, generator=generator)

    tokens, mask = text.sequence
    found = ours.values(attend_to_audio(ours.rows_of_queries(tokens), mask, *audio.sequence))
    expected = mean_by_pytorch(theirs, text, audio)

    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    assert_same_gradients(ours, theirs)


def test_sides_get_the_gradients_of_pytorch() -> None:
    attention, audio, text = variant("sequence")
    theirs = {name: by_pytorch(attention.of(name)) for name in ("audio", "text")}
    results = []
    for way in (
        lambda audio, text: attend(attention, audio, text),
        lambda audio, text: torch.cat(
            [mean_by_pytorch(theirs["audio"], audio, text), mean_by_pytorch(theirs["text"], text, audio)], dim=1
        ),
    ):
        leaves = [side.sequence[0].clone().requires_grad_() for side in (audio, text)]
        sides = [Side(side.pooled, leaf, side.mask) for side, leaf in zip((audio, text), leaves, strict=True)]
        results.append(torch.autograd.grad(way(*sides).square().sum(), leaves))
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-6)


def test_single_queries_attend_as_in_pytorch() -> None:
    attention, audio, text = variant("sequence")
    frames, keys = audio.sequence[0], text.sequence[0]

    found = attention.of("audio").every_query(audio, text)

    expected, _ = by_pytorch(attention.of("audio"))(frames, keys, keys, key_padding_mask=~text.sequence[1])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_pooled_attends_single_vectors_and_leaves_queries_and_keys_without_gradient() -> None:
    attention, audio, text = variant("pooled")

    embedded = attend(attention, audio, text)

    halves = []
    for direction, query, key in (("audio", audio, text), ("text", text, audio)):
        single = key.pooled.unsqueeze(1)
        found, _ = by_pytorch(attention.of(direction))(query.pooled.unsqueeze(1), single, single)
        halves.append(found.squeeze(1))
    torch.testing.assert_close(embedded, torch.cat(halves, dim=1), rtol=1e-5, atol=1e-5)
    embedded.sum().backward()
    assert attention.of("audio").query_weight.grad is None
    assert attention.of("text").key_weight.grad is None
    assert attention.of("text").value_weight.grad is not None


def test_pooled_query_attends_the_other_sequence_with_one_vector() -> None:
    attention, audio, text = variant("pooled_query")
    halves = []
    for direction, query, keys in (("audio", audio, text), ("text", text, audio)):
        frames, mask = keys.sequence
        found, _ = by_pytorch(attention.of(direction))(
            query.pooled.unsqueeze(1), frames, frames, key_padding_mask=~mask
        )
        halves.append(found.squeeze(1))

    torch.testing.assert_close(attend(attention, audio, text), torch.cat(halves, dim=1), rtol=1e-5, atol=1e-5)


def test_cross_is_pooled_audio_beside_text_that_queries_audio() -> None:
    attention, audio, text = variant("cross")

    expected = torch.cat([audio.pooled, mean_by_pytorch(by_pytorch(attention.of("text")), text, audio)], dim=1)

    torch.testing.assert_close(attend(attention, audio, text), expected, rtol=1e-5, atol=1e-5)


def test_none_is_both_pooled_vectors() -> None:
    attention, audio, text = variant("none")

    assert torch.equal(attend(attention, audio, text), torch.cat([audio.pooled, text.pooled], dim=1))


def every_frame_then_pool(attention: Attention, audio: Side, text: Side, pool: str) -> Tensor:
    """The variant `sequence` written out from its options, with PyTorch's attention."""
    halves = []
    for direction, queries, keys in (("audio", audio, text), ("text", text, audio)):
        frames, mask = queries.sequence
        values, key_mask = keys.sequence
        found, _ = by_pytorch(attention.of(direction))(frames, values, values, key_padding_mask=~key_mask)
        finished = attention.finish(direction, found, frames)
        counted = finished.masked_fill(~mask.unsqueeze(2), 0.0).sum(dim=1) / mask.sum(dim=1, keepdim=True)
        halves.append(masked_max(finished, mask) if pool == "max" else counted)
    return torch.cat(halves, dim=1)


@pytest.mark.parametrize("pool", ["mean", "max"])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("layer_norm", [False, True])
def test_residual_layer_norm_and_pool_act_on_every_frame(pool: str, residual: bool, layer_norm: bool) -> None:
    attention, audio, text = variant("sequence", pool=pool, residual=residual, layer_norm=layer_norm)

    expected = every_frame_then_pool(attention, audio, text, pool)

    torch.testing.assert_close(attend(attention, audio, text), expected, rtol=1e-5, atol=1e-5)


def test_the_longest_frame_is_not_the_padding() -> None:
    side = random_side([2, 4], DIM, torch.Generator().manual_seed(0))
    frames, mask = side.sequence

    assert torch.equal(masked_max(frames, mask)[0], frames[0, :2].amax(dim=0))


@pytest.mark.parametrize("kind", list(ATTENTION))
def test_neighbours_in_a_batch_change_nothing(kind: str) -> None:
    attention, audio, text = variant(kind)

    def only(side: Side, clip: int) -> Side:
        frames, mask = side.sequence
        count = int(mask[clip].sum())
        return Side(side.pooled[clip : clip + 1], frames[clip : clip + 1, :count], mask[clip : clip + 1, :count])

    alone = torch.cat([attend(attention, only(audio, clip), only(text, clip)) for clip in range(3)])
    torch.testing.assert_close(attend(attention, audio, text), alone, rtol=1e-5, atol=1e-6)


def test_an_attention_of_512_and_4_heads_has_as_many_parameters_as_pytorchs() -> None:
    ours = sum(parameter.numel() for parameter in MultiHead(512, 4).parameters())

    assert ours == sum(parameter.numel() for parameter in torch.nn.MultiheadAttention(512, 4).parameters())
    assert ours == 1_050_624


def test_an_attention_starts_from_pytorchs_distributions() -> None:
    attention = MultiHead(64, 4)
    attention.reset(torch.Generator().manual_seed(0))
    theirs = torch.nn.MultiheadAttention(64, 4)

    for weight in (attention.query_weight, attention.key_weight, attention.value_weight):
        assert weight.abs().max().item() == pytest.approx(theirs.in_proj_weight.abs().max().item(), rel=0.02)
    assert attention.out_weight.abs().max().item() == pytest.approx(theirs.out_proj.weight.abs().max().item(), rel=0.02)
    assert not attention.query_bias.any()
