"""The parts of `gpu_check.py`: what each one measures, and the table of what was found."""

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from step import Sizes, synthetic_dataset
from torch import Tensor

from whisq_core.device import resolve_auto
from whisq_core.features import Dataset, on_device
from whisq_core.model import Batch, WhisQ
from whisq_core.spec import RunSpec, with_settings
from whisq_core.training import EpochRecord, fit, predict
from whisq_core.training.clips import Clips
from whisq_core.training.fit import computing
from whisq_core.training.replay import SWITCH
from whisq_core.training.step import Trainer, task_loss

if TYPE_CHECKING:
    from gpu_check import Check

PAPER = Sizes(frames=1500, tokens=24, audio_dim=512, text_dim=1024, batch=128, textbook_batch=128, prompts=384)
TINY = Sizes(frames=20, tokens=5, audio_dim=16, text_dim=12, batch=6, textbook_batch=3, prompts=4)
OPERATIONS, BYTES = 865e6, 1e9 / 128  # of a clip at paper size: floating-point operations, memory traffic
SEEDS, EPOCHS = 10, 148
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
ROWS: dict[str, dict[str, Any]] = {  # of Table II; features of the baseline are two vectors of CLAP
    "WhisQ w/ OT": {},
    "WhisQ w/o OT": {"loss.ot_weight": 0.0},
    "Official Baseline": {"model.attention": "none", "model.head": "linear", "loss.task": "l1", "loss.ot_weight": 0.0,
                          "train.batch_size": 64},
    "Vanilla Co-Attention": {"model.attention": "pooled"},
    "Cross-Attention": {"model.attention": "cross"},
    "MLP Only": {"model.attention": "none", "loss.ot_weight": 0.0},
    "Wav2Vec2 + ModernBERT": {"data": (768, 768)},
}  # fmt: skip


def run_spec(check: "Check", sizes: Sizes, precision: str, **settings: Any) -> RunSpec:
    """Table I on the device that is checked."""
    fixed = {
        "model.feature_dim": sizes.audio_dim,
        "train.batch_size": sizes.batch,
        "train.device": check.device,
        "train.precision": precision,
        "train.threads": 1,
    }
    spec = with_settings(RunSpec(), fixed | settings)
    return spec.model_copy(update={"train": resolve_auto(spec.train)})


@cache
def dataset(sizes: Sizes) -> Dataset:
    """Random features of these sizes, in a store that lives as long as this process."""
    folder = tempfile.TemporaryDirectory(prefix="gpu-check-")
    _folders.append(folder)
    return synthetic_dataset(Path(folder.name), sizes)


_folders: list[tempfile.TemporaryDirectory[str]] = []


def settle(device: str) -> None:
    """Wait until the device has done what it was given."""
    if device != "cpu":
        getattr(torch, device).synchronize()


def seconds_of(check: "Check", task: Callable[[], object], repeats: int = 5) -> float:
    """The median over repeats; the first two calls are not counted: they compile, capture and warm up."""
    times = []
    for _ in range(repeats + 2):
        settle(check.device)
        started = time.perf_counter()
        task()
        settle(check.device)
        times.append(time.perf_counter() - started)
    return statistics.median(times[2:])


@contextmanager
def graphs(switch: str) -> Iterator[None]:
    """Inside, steps are replayed ("on") or eager ("off")."""
    os.environ[SWITCH] = switch
    try:
        yield
    finally:
        del os.environ[SWITCH]


def ceilings(check: "Check") -> None:
    """One large bf16 product, one large float32 product, one large copy."""
    size = 256 if check.small else 8192
    for name, dtype in (("bf16", torch.bfloat16), ("float32", torch.float32)):
        left, right = (torch.randn(size, size, device=check.device).to(dtype) for _ in range(2))
        check.put("ceilings", **{f"{name}_tflops": 2 * size**3 / seconds_of(check, lambda: left @ right) / 1e12})  # noqa: B023
    source = torch.empty(2**20 if check.small else 2**31, dtype=torch.uint8, device=check.device)
    target = torch.empty_like(source)
    seconds = seconds_of(check, lambda: target.copy_(source))
    check.put("ceilings", copy_gb_per_s=2 * source.numel() / seconds / 1e9)


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
    room = _no_room() if name == "streamed" else nullcontext()
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


@contextmanager
def _no_room() -> Iterator[None]:
    """Inside, no table finds room on the device."""
    before = on_device._KEPT_SHARE, on_device._KEPT_BYTES
    on_device._KEPT_SHARE, on_device._KEPT_BYTES = 0.0, 0
    try:
        yield
    finally:
        on_device._KEPT_SHARE, on_device._KEPT_BYTES = before


def _streamed_against_kept(check: "Check") -> tuple[bool, dict[str, Any]]:
    kept = _trained(check, "float32", 4)
    on_device._kept.clear()
    with _no_room():
        return _same(kept, _trained(check, "float32", 4))


def _twice(check: "Check") -> tuple[bool, dict[str, Any]]:
    return _same(*(_trained(check, "auto", 4) for _ in range(2)))


def step(check: "Check") -> None:
    """Milliseconds of a step at paper size: textbook, ours eager, replayed, streamed, and side by side."""
    sizes = TINY if check.small else PAPER
    steps = Sizes(**{**vars(sizes), "steps": 2 if check.small else 8})
    data = dataset(steps)
    check.put("step", batch=sizes.batch, frames=sizes.frames, tokens=sizes.tokens)

    def measure(name: str, room: Any = None, switch: str = "on", **settings: Any) -> None:
        spec = run_spec(check, sizes, settings.pop("precision", "auto"), **settings)
        with graphs(switch), room or nullcontext(), computing(spec.train):
            trainer = Trainer(spec, data)
            _reset_peak(check)
            seconds = seconds_of(check, trainer.steps, 3 if check.small else 7) / steps.steps
        check.put("step", **{f"{name}_ms": 1e3 * seconds, f"{name}_peak_gb": _peak(check)})
        print(f"   {name}: {1e3 * seconds:.2f} ms a step", flush=True)

    measure("ours")
    ours = check.found["step"]["ours_ms"] / 1e3
    check.put("step", gflops=OPERATIONS * 128 / ours / 1e9, gb_per_s=BYTES * 128 / ours / 1e9)
    measure("eager", switch="off")
    measure("not_deterministic", **{"train.deterministic": False})
    measure("float32", precision="float32")
    measure("without_ot", **{"loss.ot_weight": 0.0})
    measure("streamed", room=_no_room())
    for more in (_textbook, _side_by_side, _kernels):
        try:
            more(check, data, sizes, steps.steps)
        except Exception as error:
            check.put("step", **{f"{more.__name__}_error": f"{type(error).__name__}: {str(error)[:300]}"})


def _textbook(check: "Check", data: Dataset, sizes: Sizes, _steps: int) -> None:
    """The step as written from the paper, in the same autocast, features ready on the device; by as many as fit."""
    from textbook import PaddedBatch, TextbookLoss, TextbookWhisQ, pad

    spec = run_spec(check, sizes, "auto")
    model = TextbookWhisQ(WhisQ(spec.model, data.audio.dim, data.text.dim, 0)).to(check.device)
    loss, optimizer = TextbookLoss(spec.loss), torch.optim.SGD(model.parameters(), spec.train.learning_rate, 0.7435)
    dtype = {"bf16": torch.bfloat16, "float16": torch.float16}.get(spec.train.precision, torch.bfloat16)
    count = sizes.textbook_batch
    while count:
        try:
            clips = range(count)
            labels = torch.from_numpy(np.stack([data.omq, data.ta], axis=1)).float()[:count]
            parts = pad([data.audio.frames(clip) for clip in clips],
                        [data.text.frames(int(data.prompt_of[clip])) for clip in clips], labels)  # fmt: skip
            batch = PaddedBatch(*(part.to(check.device) for part in vars(parts).values()))

            def one(batch: PaddedBatch = batch) -> None:
                with torch.autocast(check.device, dtype, enabled=spec.train.precision != "float32"):
                    omq, ta, audio, text = model(batch)
                value = sum(torch.nn.functional.huber_loss(each.float(), batch.labels[:, head]) / 2
                            for head, each in enumerate((omq, ta)))  # fmt: skip
                value = value + spec.loss.ot_weight * loss.alignment(batch, audio.float(), text.float()).mean()
                value.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), spec.train.clip_norm)
                optimizer.step()
                optimizer.zero_grad()

            _reset_peak(check)
            seconds = seconds_of(check, one, 3)
            break
        except torch.OutOfMemoryError:
            optimizer.zero_grad()
            torch.cuda.empty_cache()
            count //= 2
    scaled = 1e3 * seconds * sizes.batch / count
    check.put("step", textbook_ms=scaled, textbook_batch=count, textbook_peak_gb=_peak(check),
              times_faster=scaled / check.found["step"]["ours_ms"])  # fmt: skip
    print(f"   textbook: {scaled:.1f} ms a step (batches of {count})", flush=True)


def _side_by_side(check: "Check", data: Dataset, sizes: Sizes, steps: int) -> None:
    """Trainings that differ in their seed, each on a stream of its own in one process: milliseconds for each's step."""
    trainers: list[tuple[Trainer, Any]] = []
    for count in (1, 2, 5, 10):
        spec = run_spec(check, sizes, "auto")
        with computing(spec.train):
            while len(trainers) < count:
                stream = torch.cuda.Stream() if check.device == "cuda" else None
                own = spec.model_copy(update={"seed": len(trainers)})
                trainers.append((Trainer(own, data), stream))

            def one() -> None:
                for trainer, stream in trainers:
                    with torch.cuda.stream(stream):
                        trainer.steps()

            seconds = seconds_of(check, one, 3) / steps / count
        check.put("step", **{f"side_by_side_{count}_ms": 1e3 * seconds})
        if check.left() < 240 and not check.small:
            break


def _kernels(check: "Check", data: Dataset, sizes: Sizes, steps: int) -> None:
    """Where the time of an eager step goes: the operations that take longest, in milliseconds of a step."""
    spec = run_spec(check, sizes, "auto")
    with graphs("off"), computing(spec.train):
        trainer = Trainer(spec, data)
        for _ in range(2):
            trainer.steps()
        settle(check.device)
        with torch.profiler.profile() as profile:
            trainer.steps()
            settle(check.device)
    on_device = check.device == "cuda"
    found = [
        (each.key, (each.self_device_time_total if on_device else each.self_cpu_time_total) / 1e3 / steps,
         each.count / steps)
        for each in profile.key_averages()
        if not on_device or each.device_type == torch.autograd.DeviceType.CUDA
    ]  # fmt: skip
    longest = sorted(found, key=lambda each: -each[1])[:20]
    check.put("step", longest_operations=[[name[:90], round(ms, 4), round(count, 1)] for name, ms, count in longest],
              operations_a_step=sum(each[2] for each in found))  # fmt: skip


def _reset_peak(check: "Check") -> None:
    if check.device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _peak(check: "Check") -> float | None:
    """Gigabytes that PyTorch has held at most, what it caches included: what a card must have."""
    return torch.cuda.max_memory_reserved() / 1e9 if check.device == "cuda" else None


class _Late(Exception):
    """The time of a row is up."""


def rows(check: "Check") -> None:
    """A run of each row of Table II: 1,923 clips trained, 412 predicted, synthetic features of the true shapes."""
    epochs, clips = (3, (18, 6)) if check.small else (EPOCHS, (1923, 412))
    for name, settings in ROWS.items():
        share = (check.left() - 60) / (len(ROWS) - list(ROWS).index(name))
        seeds = SEEDS if check.full else 1
        try:
            facts = [_row(check, dict(settings), epochs, clips, seed, share / seeds) for seed in range(seeds)]
            check.put("rows", **{name: {**facts[0], "run_seconds": [each["seconds"] for each in facts]}})
            print(f"   {name}: {facts[0]['seconds']:.2f} s a run", flush=True)
        except Exception as error:
            check.put("rows", **{name: {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}})
    found = [check.found["rows"][name] for name in ROWS if "seconds" in check.found["rows"].get(name, {})]
    if len(found) == len(ROWS):
        measured = sum(sum(each["run_seconds"]) for each in found) if check.full else None
        check.put("rows", all_70_runs_minutes_measured=None if measured is None else measured / 60,
                  all_70_runs_minutes_extrapolated=SEEDS * sum(each["seconds"] for each in found) / 60,
                  tuned_table_minutes_extrapolated=110 * sum(each["seconds"] for each in found) / 60)  # fmt: skip


def _row(check: "Check", settings: dict[str, Any], epochs: int, clips: tuple[int, int], seed: int, share: float) -> Any:
    sizes = TINY if check.small else PAPER
    if dims := settings.pop("data", None):
        sizes = Sizes(**{**vars(sizes), **dict(zip(("audio_dim", "text_dim"), dims, strict=True))} if not check.small
                      else {**vars(sizes), "audio_dim": 2 * sizes.audio_dim})  # fmt: skip
        settings["model.feature_dim"] = sizes.audio_dim * 2 // 3 if not check.small else sizes.audio_dim // 2
    pool = dataset(Sizes(**{**vars(sizes), "steps": -(-sum(clips) // sizes.batch)}))
    train, dev = (pool.select(np.arange(first, first + count)) for first, count in ((0, clips[0]), clips))
    spec = run_spec(check, sizes, "auto", **{"train.epochs": epochs, **settings})
    spec = spec.model_copy(update={"seed": seed})
    _reset_peak(check)
    started, curve = time.perf_counter(), list[EpochRecord]()

    def follow(record: EpochRecord, _predicted: Any) -> None:
        curve.append(record)
        if time.perf_counter() - started > share:
            raise _Late

    try:
        predicted = predict(fit(spec, train, on_epoch=follow).model, dev)
        assert np.isfinite(predicted).all()
        seconds = time.perf_counter() - started
    except _Late:
        seconds = (time.perf_counter() - started) * epochs / len(curve)
    typical = statistics.median(record.seconds for record in curve[len(curve) // 2 :])
    return {"seconds": seconds, "epochs_run": len(curve), "extrapolated": len(curve) < epochs,
            "seconds_an_epoch": typical, "last_loss": curve[-1].loss, "precision": spec.train.precision,
            "peak_gb": _peak(check)}  # fmt: skip


def encoding(check: "Check") -> None:
    """Clips a second of Whisper-base at its true size with random weights, from sound files to the feature store."""
    import gpu_encoding

    gpu_encoding.measure(check)


PARTS: dict[str, Callable[["Check"], None]] = {
    "equality": equality,
    "ceilings": ceilings,
    "step": step,
    "rows": rows,
    "encoding": encoding,
}


def has_failed(found: dict[str, Any]) -> bool:
    """Whether a check has failed or a part ended with an error."""
    broken = any(key.endswith("error") for part in found.values() for key in part)
    rows_broken = any("error" in row for row in found.get("rows", {}).values() if isinstance(row, dict))
    return broken or rows_broken or bool(found.get("equality", {}).get("failed"))


def table(found: dict[str, Any]) -> str:
    """What was found, short."""
    machine, top = found["machine"], found.get("ceilings", {})
    small = ", small: measures nothing" if machine["small"] else ""
    lines = [f"| {machine['card']}, torch {machine['torch']}{small} | |",
             "| --- | ---: |"]  # fmt: skip

    def line(name: str, value: Any, unit: str = "", digits: int = 2) -> None:
        shown = f"{value:,.{digits}f} {unit}" if isinstance(value, float) else value
        if value is not None:
            lines.append(f"| {name} | {shown} |")

    equal = found.get("equality", {})
    if equal:
        line("equality: failed checks", "; ".join(equal.get("failed", [])) or "none")
    line("ceiling, bf16 product", top.get("bf16_tflops"), "TFLOP/s")
    line("ceiling, copy", top.get("copy_gb_per_s"), "GB/s", 0)
    step_found = found.get("step", {})
    for name, value in step_found.items():
        if name.endswith(("_ms", "_peak_gb")):
            line(f"step, {name.removesuffix('_ms').removesuffix('_peak_gb').replace('_', ' ')}", value,
                 "ms" if name.endswith("_ms") else "GB held")  # fmt: skip
    line("textbook / ours", step_found.get("times_faster"), "times", 1)
    if "gflops" in step_found and "bf16_tflops" in top and not machine["small"]:
        line("step / floor of arithmetic", top["bf16_tflops"] * 1e3 / step_found["gflops"], "times", 1)
        line("step / floor of memory", top["copy_gb_per_s"] / step_found["gb_per_s"], "times", 1)
    for name, row in found.get("rows", {}).items():
        if isinstance(row, dict) and "seconds" in row:
            more = ", extrapolated" if row["extrapolated"] else ""
            line(f"run, {name}{more}", row["seconds"], f"s, {row['peak_gb'] or 0:.1f} GB held")
        elif name.startswith(("all", "tuned")):
            line(name.replace("_", " "), row, "minutes", 1)
    for name, value in found.get("encoding", {}).items():
        if name.endswith("clips_per_s"):
            line(f"encoding, {name.removesuffix('_clips_per_s').replace('_', ' ')}", value, "clips/s", 1)
    for name, part in found.items():
        for key in part:
            if key.endswith("error"):
                line(f"{name}: {key.replace('_', ' ').strip()}", part[key])
    return "\n".join(lines)
