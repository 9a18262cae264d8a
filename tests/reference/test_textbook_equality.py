"""Our step against the same one as a researcher writes it from the paper: `textbook.py` beside this file.

Every test here runs with the reference form of `interact`, and with the compiled kernels where they were built.
"""

from itertools import product

import numpy as np
import pytest
import torch
from helpers.features import write_table
from helpers.kernels import using
from reference.textbook import PaddedBatch, TextbookLoss, TextbookWhisQ, pad

from whisq_core import kernels
from whisq_core.features import Dataset
from whisq_core.model import WhisQ
from whisq_core.model.alignment import self_transport
from whisq_core.spec import RunSpec, with_settings
from whisq_core.training import fit
from whisq_core.training.step import Trainer

DIM, TEXT_DIM, NUM_CLIPS, STEPS = 64, 48, 8, 50
BASE = with_settings(
    RunSpec(),
    {
        "model.feature_dim": DIM,
        "loss.ot_weight": 1e-3,
        "train.batch_size": NUM_CLIPS,
        "train.epochs": STEPS,
        "train.learning_rate": 0.002,
        "train.device": "cpu",
        "train.precision": "float32",
    },
)


FORMS = ["pytorch"] + ([kernels.chosen()[0]] if kernels.chosen()[1] else [])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Clips of different lengths, some frames of each being padding; prompts are shared."""
    generator = np.random.default_rng(0)
    frames = generator.integers(30, 60, NUM_CLIPS)
    folder = tmp_path_factory.mktemp("features")
    audio = [generator.normal(size=(count, DIM)) + generator.normal(size=DIM) for count in frames]
    audio = [clip.astype(np.float16).astype(np.float32) for clip in audio]  # stored pooled vectors are not rounded
    text = [generator.normal(size=(count, TEXT_DIM)) for count in (5, 9, 1, 7)]
    return Dataset(
        audio=write_table(folder, "audio", audio, [int(count) - 10 for count in frames]),
        text=write_table(folder, "text", text),
        prompt_of=np.arange(NUM_CLIPS) % 4,
        omq=generator.uniform(1, 5, NUM_CLIPS),
        ta=generator.uniform(1, 5, NUM_CLIPS),
    )


def textbook_batch(spec: RunSpec, data: Dataset) -> PaddedBatch:
    """All clips; textbook gets what `audio_frames` leaves of them."""
    counts = data.audio.num_frames if spec.model.audio_frames == "all" else data.audio.num_valid
    audio = [data.audio.frames(clip)[: int(counts[clip])] for clip in range(len(data))]
    text = [data.text.frames(int(prompt)) for prompt in data.prompt_of]
    return pad(audio, text, torch.from_numpy(np.stack([data.omq, data.ta], axis=1)).float())


def audio_term(spec: RunSpec, batch: PaddedBatch) -> float:
    """The part of textbook's loss which has no gradient and which ours leaves out: a constant."""
    return spec.loss.ot_weight * float(self_transport(batch.audio, batch.audio_mask, spec.loss).mean())


def textbook_curve(spec: RunSpec, batch: PaddedBatch, text_dim: int) -> list[float]:
    """Losses before each step of SGD with momentum, each head's gradient clipped by its own norm."""
    model = TextbookWhisQ(WhisQ(spec.model, batch.audio.shape[2], text_dim, spec.seed))
    loss_of = TextbookLoss(spec.loss)
    omq = list(model.omq_head.parameters())
    rest = [parameter for name, parameter in model.named_parameters() if not name.startswith("omq_head")]
    optimizer = torch.optim.SGD(model.parameters(), spec.train.learning_rate, spec.train.momentum)
    losses = []
    for _ in range(spec.train.epochs):
        optimizer.zero_grad()
        loss = loss_of(model, batch)
        loss.backward()
        for group in (omq, rest):
            torch.nn.utils.clip_grad_norm_(group, spec.train.clip_norm)
        optimizer.step()
        losses.append(loss.item())
    return losses


SHORT = {("sequence", "all", 1e-3), ("sequence", "valid", 0.0), ("cross", "valid", 1e-3), ("none", "all", 1e-3)}


@pytest.mark.parametrize(
    ("attention", "audio_frames", "ot_weight"),
    [
        pytest.param(*case, marks=() if case in SHORT else pytest.mark.slow)
        for case in product(["sequence", "cross", "none"], ["all", "valid"], [0.0, 1e-3])
    ],
)
def test_fifty_steps_follow_textbook(data: Dataset, attention: str, audio_frames: str, ot_weight: float) -> None:
    spec = with_settings(
        BASE, {"model.attention": attention, "model.audio_frames": audio_frames, "loss.ot_weight": ot_weight}
    )
    batch = textbook_batch(spec, data)
    expected, left_out = textbook_curve(spec, batch, TEXT_DIM), audio_term(spec, batch)

    for form in FORMS:
        with using(form):
            ours = [record.loss - left_out for record in fit(spec, data).curve]
        assert ours == pytest.approx(expected, rel=1e-4), form
    assert expected[-1] < 0.9 * expected[0], "there was something to follow"


def test_fifty_steps_follow_textbook_where_audio_is_projected(data: Dataset) -> None:
    spec = with_settings(BASE, {"model.feature_dim": 32})
    batch = textbook_batch(spec, data)
    expected = textbook_curve(spec, batch, TEXT_DIM)

    ours = [record.loss for record in fit(spec, data).curve]

    # The audio term is left out where it has no gradient; it moves with the projection, but by less than this.
    assert ours == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("attention", ["sequence", "cross", "none"])
@pytest.mark.parametrize("form", FORMS)
def test_the_first_gradient_is_that_of_textbook(data: Dataset, form: str, attention: str) -> None:
    spec = with_settings(BASE, {"model.attention": attention, "train.learning_rate": 1.0, "train.momentum": 0.0,
                                "train.clip_scope": "none"})  # fmt: skip
    textbook = TextbookWhisQ(WhisQ(spec.model, DIM, TEXT_DIM, spec.seed))
    TextbookLoss(spec.loss)(textbook, textbook_batch(spec, data)).backward()
    with using(form):
        trainer = Trainer(spec, data)
        before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
        trainer.epoch(1)

    moved = {name: before[name] - value for name, value in trainer.model.state_dict().items()}
    expected = {name: p.grad for name, p in textbook.named_parameters() if not name.startswith("attentions")}
    for direction in trainer.model.attention.directions:
        theirs = textbook.attentions[direction]
        stacked = zip(theirs.in_proj_weight.grad.chunk(3), theirs.in_proj_bias.grad.chunk(3), strict=True)
        for name, (weight, bias) in zip(("query", "key", "value"), stacked, strict=True):
            expected[f"attention.{direction}.{name}_weight"] = weight
            expected[f"attention.{direction}.{name}_bias"] = bias
        expected[f"attention.{direction}.out_weight"] = theirs.out_proj.weight.grad
        expected[f"attention.{direction}.out_bias"] = theirs.out_proj.bias.grad
    assert set(moved) == set(expected)
    for name, gradient in expected.items():
        # At this blur a rounding of the cost moves the plan, and with it what OT asks of the projection.
        tolerance = 1e-3 if name.startswith("text_projection") else 1e-4
        assert float((moved[name] - gradient).norm()) <= tolerance * float(gradient.norm()) + 1e-6, name
