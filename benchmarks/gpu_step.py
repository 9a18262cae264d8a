"""The parts of `gpu_check.py` that time a step: the card's two ceilings, the step beside textbook, its memory."""

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from gpu_tools import PAPER, TINY, dataset, graphs, no_room, peak, reset_peak, run_spec, seconds_of, settle
from step import Sizes

from whisq_core.features import Dataset
from whisq_core.model import WhisQ
from whisq_core.training.fit import computing
from whisq_core.training.step import Trainer

if TYPE_CHECKING:
    from gpu_check import Check

OPERATIONS, BYTES = 865e6, 1e9 / 128  # of a clip at paper size: floating-point operations, memory traffic


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
            reset_peak(check)
            seconds = seconds_of(check, trainer.steps, 3 if check.small else 7) / steps.steps
        check.put("step", **{f"{name}_ms": 1e3 * seconds, f"{name}_peak_gb": peak(check)})
        print(f"   {name}: {1e3 * seconds:.2f} ms a step", flush=True)

    measure("ours")
    ours = check.found["step"]["ours_ms"] / 1e3
    check.put("step", gflops=OPERATIONS * 128 / ours / 1e9, gb_per_s=BYTES * 128 / ours / 1e9)
    measure("eager", switch="off")
    measure("not_deterministic", **{"train.deterministic": False})
    measure("float32", precision="float32")
    measure("without_ot", **{"loss.ot_weight": 0.0})
    measure("streamed", room=no_room())
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

            reset_peak(check)
            seconds = seconds_of(check, one, 3)
            break
        except torch.OutOfMemoryError:
            optimizer.zero_grad()
            torch.cuda.empty_cache()
            count //= 2
    scaled = 1e3 * seconds * sizes.batch / count
    check.put("step", textbook_ms=scaled, textbook_batch=count, textbook_peak_gb=peak(check),
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
