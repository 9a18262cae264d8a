"""What all encoders share: loading frozen weights, precision, device, batches, counting parameters and operations."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float32, Shaped
from torch import Tensor, nn

from whisq_core import plugins
from whisq_core.checkpoints import (
    ARCHITECTURES,
    ENCODER_ONLY_WHISPER,
    UNTRAINED_SEED,
    Checkpoint,
    whisper_settings,
    whisper_weights,
)
from whisq_core.errors import InputError
from whisq_core.features import StoreMeta

Precision = Literal["float32", "bf16"]

# Parts that some checkpoints lack and that features do not depend on.
_UNUSED_PARTS = ("pooler.", "masked_spec_embed", "decoder.", "logit_scale")


@dataclass(frozen=True)
class Prepared:
    """A clip or prompt as a model takes it, and how many frames it makes: those kept, and the first, valid ones."""

    array: Shaped[np.ndarray, "..."]
    num_frames: int
    num_valid: int


@dataclass(frozen=True)
class Encoded:
    """One clip or prompt; `valid` frames hold signal, `pooled` is the encoder's own vector where it has one."""

    frames: Float32[np.ndarray, "frames dim"]
    valid: int
    pooled: Float32[np.ndarray, " dim"] | None = None


@dataclass(frozen=True)
class Family:
    """What one family of encoders does with one checkpoint.

    `forward(model, batch, mask)` gives [items, frames, dim]; the mask over the items' length is None in counting.
    """

    dim: int
    prepare: Callable[[Any], Prepared]
    forward: Callable[[Any, Tensor, Tensor | None], Tensor]
    parts: Callable[[Any], list[nn.Module]]  # of the model, those that make the features
    nominal: Tensor  # one item of usual length, on the meta device, for counting
    batch_size: int  # items at a time on a GPU
    sample_rate: int | None = None  # Hz; None for text
    frame_rate: float | None = None  # Hz; None for text and for encoders that pool
    pools: bool = False
    pads: bool = True  # whether items of different lengths may be padded to one
    padding: int = 0


class Encoder:
    """A frozen encoder: `prepare` may run in any thread, `run` takes up to `batch_size` items, from any thread too."""

    def __init__(self, checkpoint: Checkpoint, family: Family, precision: Precision, device: str) -> None:
        self.family = family
        num_parameters, macs = count(checkpoint, family)
        self.meta = StoreMeta(
            checkpoint.name, family.dim, num_parameters, macs, family.frame_rate, checkpoint.untrained
        )
        self._checkpoint = checkpoint
        # One item on a CPU: a batch is no faster there, and features then depend on nothing but the item.
        self.batch_size = 1 if device == "cpu" else family.batch_size
        self.device, self._in_bf16 = torch.device(device), precision == "bf16"
        self._model = load_model(checkpoint)
        if self._in_bf16:
            _round_products(self._model)
        self._model.to(self.device)

    def prepare(self, source: Any) -> Prepared:
        """A wave or a prompt as the model takes it."""
        return prepared(self._checkpoint, self.family, source)

    def run(self, items: Sequence[Prepared]) -> list[Encoded]:
        """Features of these items, computed as one batch without gradients.

        In bf16 the products only, while norms and the residual stay in float32.
        """
        lengths = np.array([len(item.array) for item in items])
        batch = np.full((len(items), lengths.max(), *items[0].array.shape[1:]), self.family.padding,
                        items[0].array.dtype)  # fmt: skip
        for row, item in zip(batch, items, strict=True):
            row[: len(item.array)] = item.array
        # Padded at the end whatever a tokenizer prefers: causal models then never see padding before real tokens.
        mask = (np.arange(lengths.max()) < lengths[:, None]).astype(np.int64)
        in_bf16 = torch.autocast(self.device.type, torch.bfloat16, enabled=self._in_bf16)
        with explained(self._checkpoint, "used"), torch.inference_mode(), in_bf16:
            features = self.family.forward(self._model, self._placed(batch), self._placed(mask)).float().cpu().numpy()
        return [
            Encoded(frames[: item.num_frames], item.num_valid, frames[0] if self.family.pools else None)
            for frames, item in zip(features, items, strict=True)
        ]

    def _placed(self, batch: Shaped[np.ndarray, "..."]) -> Tensor:
        """To CUDA through pinned memory, so that the copy overlaps with the encoder."""
        tensor = torch.from_numpy(batch)
        if self.device.type == "cuda":
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor.to(self.device)


class PluginEncoder(Encoder):
    """The encoder that an installed package brings (`whisq_core.plugins`): one item at a time, on a CPU, in float32."""

    def __init__(self, checkpoint: Checkpoint, kind: Literal["audio", "text"]) -> None:
        plugin = plugins.find("encoder", checkpoint.name.removeprefix(plugins.ENCODER_SCHEME))
        with plugin.blamed():
            made = plugin.load()(kind)
            dim, rate = int(made.dim), int(made.sample_rate) if kind == "audio" else None
            num_parameters, frame_rate = int(getattr(made, "num_parameters", 0)), getattr(made, "frame_rate", None)

        def prepare(source: Any) -> Prepared:
            with plugin.blamed(), torch.inference_mode():
                frames = np.asarray(made.encode(source), dtype=np.float32)
            if frames.ndim != 2 or frames.shape[1] != dim or not len(frames):
                raise plugin.error(f"returns an array of shape {frames.shape} instead of (frames, {dim})")
            if not np.isfinite(frames).all():
                raise plugin.error("returns values that are not finite")
            return Prepared(frames, len(frames), len(frames))

        self.family = Family(
            dim=dim,
            prepare=prepare,
            forward=lambda model, frames, mask: frames,
            parts=lambda model: [],
            nominal=torch.empty(0),
            batch_size=1,
            sample_rate=rate,
            frame_rate=frame_rate,
        )
        self.meta = StoreMeta(checkpoint.name, dim, num_parameters, None, frame_rate, False)
        self._checkpoint, self._model = checkpoint, nn.Identity()
        self.batch_size, self.device, self._in_bf16 = 1, torch.device("cpu"), False


def prepared(checkpoint: Checkpoint, family: Family, source: Any) -> Prepared:
    """A wave or a prompt as the model takes it."""
    with explained(checkpoint, "used"):
        found = family.prepare(source)
        if not found.num_frames:
            raise ValueError("it makes nothing of its input")
        return found


@contextlib.contextmanager
def explained(checkpoint: Checkpoint, what: str) -> Iterator[None]:
    """Whatever transformers raises over a folder, as one line that names it."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # OSError, ValueError, KeyError, SafetensorError, IndexError and others
        reason = (str(error).strip() or "no reason given").splitlines()[0].rstrip(".")
        raise InputError(
            f"checkpoint '{checkpoint.name}': {checkpoint.folder} cannot be {what} ({type(error).__name__}: "
            f"{reason[:200]}). Fetch the folder again, or give another one."
        ) from error


def model_config(checkpoint: Checkpoint) -> Any:
    """The configuration of transformers that describes this checkpoint."""
    from transformers import AutoConfig

    if checkpoint.untrained:
        return AutoConfig.for_model(checkpoint.family, **ARCHITECTURES[checkpoint.family])
    assert checkpoint.folder is not None
    if checkpoint.format == "ctranslate2":
        sizes = whisper_settings(checkpoint.folder / "model.bin")
        return AutoConfig.for_model("whisper", **ENCODER_ONLY_WHISPER, **sizes)
    return AutoConfig.from_pretrained(checkpoint.folder, local_files_only=True, trust_remote_code=False)


def load_model(checkpoint: Checkpoint) -> nn.Module:
    """The frozen model in evaluation mode, weights in float32 whatever the folder has."""
    from transformers import AutoModel

    config = model_config(checkpoint)
    with quiet():
        if checkpoint.untrained:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(UNTRAINED_SEED)
                model = AutoModel.from_config(config, trust_remote_code=False)
        elif checkpoint.format == "ctranslate2":
            assert checkpoint.folder is not None
            model = AutoModel.from_config(config, trust_remote_code=False)
            model.encoder.load_state_dict(whisper_weights(checkpoint.folder / "model.bin"))
        else:
            model, report = AutoModel.from_pretrained(
                checkpoint.folder,
                dtype=torch.float32,
                local_files_only=True,
                trust_remote_code=False,
                weights_only=True,  # of pickled weights, tensors and nothing else
                output_loading_info=True,
            )
            _check_weights(checkpoint, report["missing_keys"])
    return model.eval().requires_grad_(False)


def count(checkpoint: Checkpoint, family: Family) -> tuple[int, int | None]:
    """Parameters of the parts that make the features, and multiply-accumulates of a nominal item.

    Counted on the meta device, so neither weights nor time are needed. The operations are those of every matrix
    product and convolution, attention included and taken as dense. None where an architecture reads its own numbers.
    """
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import AutoModel

    config = model_config(checkpoint)
    with torch.device("meta"), torch.random.fork_rng(devices=[]), quiet():
        model = AutoModel.from_config(config, attn_implementation="eager", trust_remote_code=False).eval()
        _check_size(checkpoint, sum(parameter.numel() for parameter in model.parameters()))
        num_parameters = sum(parameter.numel() for part in family.parts(model) for parameter in part.parameters())
        try:
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                family.forward(model, family.nominal, None)
        except (RuntimeError, NotImplementedError):
            return num_parameters, None
    return num_parameters, counter.get_total_flops() // 2


def _check_size(checkpoint: Checkpoint, num_parameters: int) -> None:
    """Before memory is taken: parts that features do not depend on may be missing, but not most of a model."""
    if checkpoint.folder is None:
        return
    held = sum(path.stat().st_size for path in checkpoint.folder.iterdir() if path.suffix in (".safetensors", ".bin"))
    if num_parameters > 8 * held:
        raise InputError(
            f"checkpoint '{checkpoint.name}': {checkpoint.folder}/config.json describes {num_parameters:,} parameters, "
            f"but its weights have {held:,} bytes. Fetch the folder again."
        )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """transformers reports every load on stderr, between the lines of our own progress; its errors still raise."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _round_products(model: nn.Module) -> None:
    """Weights of products in bf16: autocast would convert the float32 ones anew in every pass."""
    for module in model.modules():
        plain = not nn.utils.parametrize.is_parametrized(module)
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d) and plain:
            module.to(torch.bfloat16)


def _check_weights(checkpoint: Checkpoint, missing: Iterable[str]) -> None:
    needed = sorted(key for key in missing if not key.startswith(_UNUSED_PARTS))
    if needed:
        raise InputError(
            f"checkpoint '{checkpoint.name}': the weights in {checkpoint.folder} lack {len(needed)} tensors that "
            f"config.json asks for, such as '{needed[0]}'. Fetch the folder again."
        )
