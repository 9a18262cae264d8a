"""The part of `gpu_check.py` that compares: what must be equal is equal, what may differ is near."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from gpu_tools import dataset, graphs, no_room, run_spec
from step import Sizes
from torch import Tensor

from whisq_core.features import Dataset, on_device
from whisq_core.model import Batch, WhisQ
from whisq_core.spec import RunSpec
from whisq_core.training.clips import Clips
from whisq_core.training.fit import computing
from whisq_core.training.step import Trainer, task_loss

if TYPE_CHECKING:
    from gpu_check import Check

VARIANTS: dict[str, dict[str, Any]] = {
    "sequence": {},
    "sequence, no OT": {"loss.ot_weight": 0.0},
    "cross": {"model.attention": "cross"},
    "pooled": {"model.attention": "pooled"},
    "pooled_query": {"model.attention": "pooled_query"},
    "none": {"model.attention": "none", "loss.ot_weight": 0.0},
    "valid frames": {"model.audio_frames": "valid"},
    "residual, layer norm": {"model.residual": True, "model.layer_norm": True},
    "max pooling": {"model.pool": "max"},
    "p = 1, sum": {"loss.p": 1, "loss.reduction": "sum"},
    "projected audio": {"model.feature_dim": 8},
    "eight heads": {"model.heads": 8, "loss.blur": 0.5},
}


def equality(check: "Check") -> None:
    """Everything that must be equal, or near. `failed` lists what is not."""
    check.put("equality", failed=[])

    def expect(name: str, holds: bool, **facts: Any) -> None:
        failed = check.found["equality"]["failed"] + ([] if holds else [name])
        check.put("equality", **{name: facts or holds, "failed": failed})
        print(f"   {'ok    ' if holds else 'FAILED'} {name} {facts or ''}", flush=True)

    for number, (name, settings) in enumerate(VARIANTS.items()):
        _guarded(expect, f"float32 is float64: {name}", lambda: _against_float64(check, settings, number))  # noqa: B023
    for precision in ("bf16", "float16"):
        _guarded(expect, f"{precision} follows float32", lambda: _against_float32(check, precision))  # noqa: B023
    for precision in ("float32", "bf16", "float16"):
        for settings in ({}, {"train.optimizer": "adamw", "model.dropout": 0.1, "train.learning_rate": 1e-3}):
            name = f"graph is eager: {precision}{', dropout, adamw' if settings else ''}"
            _guarded(expect, name, lambda: _graph_against_eager(check, precision, settings))  # noqa: B023
    for name, settings in (("graph", {}), ("eager", {}), ("streamed", {}), ("float16", {})):
        _guarded(expect, f"no question to the device: {name}", lambda: _asks_nothing(check, name, settings))  # noqa: B023
    _guarded(expect, "streamed features are kept ones", lambda: _streamed_against_kept(check))
    _guarded(expect, "twice the same bits", lambda: _twice(check))


def _guarded(expect: Callable[..., None], name: str, test: Callable[[], tuple[bool, dict[str, Any]]]) -> None:
    try:
        holds, facts = test()
        expect(name, holds, **facts)
    except Exception as error:
        expect(name, False, error=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")


def _against_float64(check: "Check", settings: dict[str, Any], number: int) -> tuple[bool, dict[str, Any]]:
    """Loss and gradients, and 50 steps, in float32 on the device against float64 on the CPU; float32 there beside it.

    At the paper's blur a rounding of the cost moves the transport's plan, on any device: hence the yardstick.
    """
    draw = np.random.default_rng(number)
    sizes = Sizes(int(draw.integers(5, 60)), int(draw.integers(1, 9)), 16, 12, int(draw.integers(3, 9)), 3, 3)
    data = dataset(sizes)
    spec = run_spec(check, sizes, "float32", **{"loss.ot_weight": 1e-3, **settings})
    exact, cpu, found = (
        _descent(spec, data, device, dtype, 5 if check.small else 50)
        for device, dtype in (("cpu", torch.float64), ("cpu", torch.float32), (check.device, torch.float32))
    )
    errors = [_distance(found[part], exact[part]) for part in range(2)]
    usual = [_distance(cpu[part], exact[part]) for part in range(2)]
    holds = all(error <= max(1e-4, 5 * usual_one) for error, usual_one in zip(errors, usual, strict=True))
    return holds, {"gradient": errors[0], "losses": errors[1], "gradient_cpu": usual[0], "losses_cpu": usual[1]}


def _descent(spec: RunSpec, data: Dataset, device: str, dtype: torch.dtype, steps: int) -> tuple[Tensor, Tensor]:
    """The first gradient of all parameters, and the losses of some steps downhill, on the CPU in float64."""
    with torch.random.fork_rng(devices=[]):
        model = WhisQ(spec.model, data.audio.dim, data.text.dim, spec.seed).to(device, dtype)
    order = torch.arange(len(data))
    clips = Clips(data, spec, torch.device(device), spec.needs_frames)
    batch = _widened(clips.batch(next(clips.batches(order, len(data)))), dtype)
    truth = torch.from_numpy(np.stack([data.omq, data.ta])).to(device, dtype)
    losses, first = [], None
    for _ in range(steps):
        result = model.ta(batch, spec.loss)
        omq, ta = (
            task_loss(each, truth[head], spec.loss, len(data))
            for head, each in enumerate((model.omq(batch.audio_pooled), result.ta))
        )
        loss = (omq + ta) / 2
        if result.divergence is not None:
            loss = loss + spec.loss.ot_weight * result.divergence.mean()
        gradients = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
        known = [(p, g) for p, g in zip(model.parameters(), gradients, strict=True) if g is not None]
        norm = torch.cat([g.flatten() for _, g in known]).norm()
        if first is None:
            first = torch.cat([g.flatten() for _, g in known]).double().cpu()
        with torch.no_grad():
            for parameter, gradient in known:
                parameter -= 0.01 * gradient / norm.clamp_min(1)
        losses.append(loss.detach())
    assert first is not None
    return first, torch.stack(losses).double().cpu()


def _widened(batch: Batch, dtype: torch.dtype) -> Batch:
    parts = (batch.audio_pooled, batch.text_pooled, batch.tokens, batch.token_mask, batch.frames, batch.frame_mask)
    return Batch(*(part.to(dtype) if part is not None and part.is_floating_point() else part for part in parts))  # type: ignore[arg-type]


def _distance(found: Tensor, exact: Tensor) -> float:
    return float((found - exact).norm() / exact.norm())


def _middle(check: "Check") -> Sizes:
    """Three batches, the last one smaller."""
    if check.small:
        return Sizes(20, 5, 16, 12, 6, 3, 4, steps=3)
    return Sizes(200, 12, 128, 96, 32, 8, 24, steps=4)


def _trained(check: "Check", precision: str, epochs: int, **settings: Any) -> tuple[dict[str, Tensor], list[float]]:
    """Weights and losses of some epochs whose last batch is smaller."""
    sizes = _middle(check)
    data = dataset(sizes).select(np.arange(sizes.clips - 2))
    spec = run_spec(check, sizes, precision, **{"train.learning_rate": 0.01, "loss.ot_weight": 1e-3, **settings})
    with computing(spec.train):
        trainer = Trainer(spec, data)
        losses = [trainer.epoch(epoch).loss for epoch in range(1, epochs + 1)]
    return {name: values.cpu() for name, values in trainer.model.state_dict().items()}, losses


def _against_float32(check: "Check", precision: str) -> tuple[bool, dict[str, Any]]:
    exact, rounded = (np.array(_trained(check, each, 12)[1]) for each in ("float32", precision))
    error = float(np.abs(rounded / exact - 1).max())
    return 0 < error < 0.03, {"largest_loss_difference": error}


def _graph_against_eager(check: "Check", precision: str, settings: dict[str, Any]) -> tuple[bool, dict[str, Any]]:
    results = []
    for switch in ("on", "off"):
        with graphs(switch):
            results.append(_trained(check, precision, 5, **settings))
    return _same(*results)


def _same(one: tuple[dict[str, Tensor], list[float]], other: tuple[dict[str, Tensor], list[float]]) -> tuple[bool, Any]:
    equal = one[1] == other[1] and all(torch.equal(values, other[0][name]) for name, values in one[0].items())
    largest = max(float((values - other[0][name]).abs().max()) for name, values in one[0].items())
    return equal, {"bit_identical": equal, "largest_weight_difference": largest}


def _asks_nothing(check: "Check", name: str, settings: dict[str, Any]) -> tuple[bool, dict[str, Any]]:
    """Steps of an epoch while PyTorch refuses every wait for the device; on a CPU there is nothing to refuse."""
    sizes = _middle(check)
    spec = run_spec(check, sizes, "float16" if name == "float16" else "float32", **settings)
    room = no_room() if name == "streamed" else nullcontext()
    with graphs("off" if name == "eager" else "on"), room, computing(spec.train):
        trainer = Trainer(spec, dataset(sizes))
        for epoch in (1, 2):
            trainer.epoch(epoch)
        if check.device == "cuda":
            torch.cuda.set_sync_debug_mode("error")
        try:
            trainer.steps()
        finally:
            if check.device == "cuda":
                torch.cuda.set_sync_debug_mode("default")
    return True, {"asked": check.device == "cuda"}


def _streamed_against_kept(check: "Check") -> tuple[bool, dict[str, Any]]:
    kept = _trained(check, "float32", 4)
    on_device._kept.clear()
    with no_room():
        return _same(kept, _trained(check, "float32", 4))


def _twice(check: "Check") -> tuple[bool, dict[str, Any]]:
    return _same(*(_trained(check, "auto", 4) for _ in range(2)))
