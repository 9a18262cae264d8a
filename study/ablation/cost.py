"""What a cell will cost: on a CPU from the arithmetic of one epoch and from the runs that are stored, else measured."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from timeit import repeat
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from study.engine import Workspace
from study.store import Database
from whisq_core.corpus import splits, used_clips
from whisq_core.device import resolve_device
from whisq_core.encoders import missing, operations
from whisq_core.errors import InputError
from whisq_core.spec import RunSpec, digest, nested

_SINKHORN_STEPS = 14  # epsilon schedule from diameter 128 to blur 0.05 at scaling 0.5, p = 2
_EXPONENTIAL = 20  # multiply-adds that one exponential and its memory traffic cost
_EFFICIENCY = 0.75  # of a run's arithmetic, beside one large product
_BF16_SPEEDUP = 1.5  # of a run where the processor has units for it, whose products are twice as fast
_STEP_SECONDS = 0.004  # per batch: optimiser, clipping, Python
_FRAMES_STEP_SECONDS = 0.009  # and where frames are met: the head's visits, the text's own transport
_CLIP_SECONDS = 0.0008  # per clip whose frames are met: small operations and Python
_ENCODING_EFFICIENCY = 0.5  # of an encoder's arithmetic, decoding and storing included, beside one large product
_UNENCODED_TOKENS = 24  # a MusicEval prompt, where nothing is encoded yet


@dataclass(frozen=True)
class Shape:
    """The sizes that decide the cost of an epoch."""

    clips: int
    frames: int
    tokens: int


@dataclass(frozen=True)
class CostModel:
    """Seconds of a run = arithmetic / speed + steps, scaled by how past runs of the same kind compared to it.

    On a GPU arithmetic says little: there a few steps are run, on the clips themselves, once for each kind of run.
    """

    workspace: Workspace
    flops_per_second: float
    ratios: dict[str, float]
    steps: dict[str, float] = field(default_factory=dict)  # seconds, as they have been measured

    @classmethod
    def measured(cls, database: Database, workspace: Workspace) -> "CostModel":
        """A model for this machine, corrected by the newest runs in the database."""
        speed = _matmul_speed()
        ratios: dict[str, list[float]] = {}
        for identity, details, seconds in database.recent_costs():
            spec = _spec(identity)
            if spec is not None and "num_train_clips" in details:
                shape = Shape(details["num_train_clips"], details["frames"], details["tokens"])
                for kind in _kinds(spec):
                    ratios.setdefault(kind, []).append(seconds / _seconds(spec, shape, speed))
        return cls(workspace, speed, {kind: median(values) for kind, values in ratios.items()})

    def minutes(self, spec: RunSpec) -> float:
        """Estimated minutes of one run on one worker; encoding is not part of it."""
        if not spec.uses_features:
            return 0.0
        if spec.train.device != "cpu" and (step := self._step_seconds(spec)) is not None:
            clips = len(splits(self.workspace.corpus, spec.data, spec.seed)[0].fit)
            return (spec.data.folds or 1) * spec.train.epochs * -(-clips // spec.train.batch_size) * step / 60
        return ratio_of(spec, self.ratios) * _seconds(spec, self._shape(spec), self.flops_per_second) / 60

    def encoding_minutes(self, specs: Iterable[RunSpec], workers: int) -> float | None:
        """Estimated minutes of encoding what these runs lack; None where an encoder does not tell its operations."""
        total = 0.0
        device = resolve_device("auto", "encoding")
        for spec in dict.fromkeys(spec.backbone for spec in specs if spec.uses_features):
            backbone = self.workspace.backbone(spec)
            arguments = (self.workspace.corpus, self.workspace.audio_digests, backbone, self.workspace.features)
            clips, prompts = missing(*arguments)
            for checkpoint, kind, count in ((backbone.audio, "audio", clips), (backbone.text, "text", prompts)):
                macs = operations(checkpoint, kind) if count else 0  # type: ignore[arg-type]
                if macs is None:
                    return None
                speed = self.flops_per_second * workers if device == "cpu" else _device_speed(device, spec.precision)
                total += 2.0 * macs * count / (speed * _ENCODING_EFFICIENCY)
        return total / 60

    def _step_seconds(self, spec: RunSpec) -> float | None:
        """Seconds of a step of such a run; None where its features are not there yet."""
        same = {**spec.deciding_settings(), "seed": 0, "train.epochs": 1, "train.learning_rate": 0}
        key = digest(same)
        if key not in self.steps:
            fit = splits(self.workspace.corpus, spec.data, spec.seed)[0].fit
            try:
                data = self.workspace.dataset(self.workspace.backbone(spec.backbone), fit[: 4 * spec.train.batch_size])
            except InputError:
                return None
            from whisq_core.training import seconds_per_step

            self.steps[key] = seconds_per_step(spec, data)
        return self.steps[key]

    def _shape(self, spec: RunSpec) -> Shape:
        """Sizes from the encoded features, or from the audio files where nothing is encoded yet."""
        corpus = self.workspace.corpus
        fit = splits(corpus, spec.data, spec.seed)[0].fit
        drawn = spec.data.folds is not None or spec.data.fraction < 1
        try:
            data = self.workspace.dataset(
                self.workspace.backbone(spec.backbone), used_clips(corpus, spec.data) if drawn else fit
            )
        except InputError:
            return Shape(len(fit), _unencoded_frames(spec, self.workspace, fit), _UNENCODED_TOKENS)
        frames = data.audio.num_valid if spec.model.audio_frames == "valid" else data.audio.num_frames
        return Shape(len(fit), int(np.mean(frames)), int(np.mean(data.text.num_frames)))


def _seconds(spec: RunSpec, shape: Shape, flops_per_second: float) -> float:
    speed = flops_per_second * _EFFICIENCY * (_BF16_SPEEDUP if spec.train.precision == "bf16" else 1.0)
    per_clip, per_step = _flops_per_clip(spec, shape) / speed, _STEP_SECONDS
    if spec.needs_frames:
        per_clip, per_step = per_clip + _CLIP_SECONDS, per_step + _FRAMES_STEP_SECONDS
    steps = -(-shape.clips // spec.train.batch_size)
    return (spec.data.folds or 1) * spec.train.epochs * (shape.clips * per_clip + steps * per_step)


def _flops_per_clip(spec: RunSpec, shape: Shape) -> float:
    """One training step per clip: two products of the frames with the absorbed rows, Sinkhorn, the heads."""
    model, dim = spec.model, spec.model.feature_dim
    directions = {"sequence": 2, "cross": 1, "pooled_query": 1}.get(model.attention, 0)
    rows = directions * model.heads * shape.tokens
    flops = 18.0 * 2 * dim * (dim + 256)  # heads and projections of pooled vectors, forward and backward
    flops += 12.0 * directions * shape.tokens * dim * dim  # tokens become rows: two products, each with two gradients
    if spec.loss.ot_weight > 0:
        rows += shape.tokens
        flops += _SINKHORN_STEPS * shape.frames * shape.tokens * _EXPONENTIAL
    if rows:
        flops += 4.0 * shape.tokens * dim * dim  # the projection of tokens, of about as large an encoder
        flops += 4.0 * shape.frames * dim * rows + 8.0 * shape.frames * dim
    return flops


def ratio_of(spec: RunSpec, ratios: Mapping[str, float]) -> float:
    """How past runs compared to the arithmetic: those of the same kind, else of the nearest; 1 without any."""
    return next((ratios[kind] for kind in _kinds(spec) if kind in ratios), 1.0)


def _kinds(spec: RunSpec) -> tuple[str, ...]:
    """What a run is counted as, narrowest first: float32 and bf16 have speeds of their own."""
    kind = f"{spec.model.attention} {spec.loss.ot_weight > 0} {spec.model.layer_norm} {spec.train.device}"
    return f"{kind} {spec.train.precision}", kind, "any"


def _spec(identity: dict[str, Any]) -> RunSpec | None:
    """The spec inside a stored identity; None for a control or a run of another program version."""
    settings = {name: value for name, value in identity.items() if name.partition(".")[0] in RunSpec.model_fields}
    if not any(name.startswith("train.") for name in settings):
        return None
    try:
        return RunSpec.model_validate(nested(settings))
    except ValueError:
        return None


def _unencoded_frames(spec: RunSpec, workspace: Workspace, clips: Sequence[int] | np.ndarray) -> int:
    if spec.model.audio_frames == "all":
        return 1500
    paths = workspace.corpus.clips["audio"].iloc[list(clips[:50])]
    seconds = [Path(path).stat().st_size / 32_000 for path in paths]  # 16 kHz, 16 bit
    return max(1, min(1500, int(50 * float(np.mean(seconds)))))


def _device_speed(device: str, precision: str) -> float:
    """Floating-point operations per second of one large product on a GPU."""
    import torch

    size, dtype = 4096, torch.bfloat16 if precision == "bf16" else torch.float32
    left = torch.ones(size, size, dtype=dtype, device=device)

    def multiply() -> None:
        left @ left
        getattr(torch, device).synchronize()

    return 2.0 * size**3 / min(repeat(multiply, number=1, repeat=6))


def _matmul_speed() -> float:
    """Floating-point operations per second of one product of the size that training makes, on one thread.

    The fastest of several: whatever else the machine does at the moment is not its speed.
    """
    a, b = np.ones((512, 512), np.float32), np.ones((512, 256), np.float32)
    with threadpool_limits(1):
        return 2 * 512 * 512 * 256 / min(repeat(lambda: a @ b, number=1, repeat=20))
