"""What all encoders share: loading frozen weights, precision, device, and counting parameters and operations."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from whisq_core.encoders.checkpoints import Checkpoint
from whisq_core.encoders.ctranslate2_file import whisper_settings, whisper_weights
from whisq_core.encoders.untrained import ARCHITECTURES, UNTRAINED_SEED
from whisq_core.errors import InputError

Raw = TypeVar("Raw")
Prepared = TypeVar("Prepared")
Precision = Literal["float32", "bf16"]

# Parts that some checkpoints lack and that features do not depend on.
_UNUSED_PARTS = ("pooler.", "masked_spec_embed", "decoder.", "logit_scale")


@dataclass(frozen=True)
class Encoded:
    """One clip or prompt; `valid` frames hold signal, `pooled` is the encoder's own vector where it has one."""

    frames: Float32[np.ndarray, "frames dim"]
    valid: int
    pooled: Float32[np.ndarray, " dim"] | None = None


@dataclass(frozen=True)
class Options:
    """How to run an encoder. On a CPU every item is computed by one thread, `workers` items at a time."""

    precision: Precision = "float32"
    device: str = "cpu"
    workers: int = 1


@dataclass(frozen=True)
class Counts:
    """Size and cost of an encoder: parameters, and multiply-accumulates of one item of nominal length."""

    num_parameters: int
    macs: int | None


@dataclass(frozen=True)
class Encoder(Generic[Raw, Prepared]):
    """A frozen encoder: `prepare` may run in any thread, `run` takes up to `batch_size` items, from any thread too."""

    dim: int
    sample_rate: int | None  # Hz; None for text
    frame_rate: float | None  # Hz; None for text and for encoders that pool
    preprocessing: str
    counts: Counts
    batch_size: int
    prepare: Callable[[Raw], Prepared]
    run: Callable[[Sequence[Prepared]], list[Encoded]]

    @property
    def num_parameters(self) -> int:
        """Parameters of the parts that make the features."""
        return self.counts.num_parameters

    @property
    def macs(self) -> int | None:
        """Multiply-accumulates per item: a clip that fills the encoder's window, a prompt of 24 tokens."""
        return self.counts.macs

    def encode(self, items: Sequence[Raw]) -> list[Encoded]:
        """Features of these items, computed as one batch."""
        return self.run([self.prepare(item) for item in items])


def model_config(checkpoint: Checkpoint) -> Any:
    """The configuration of transformers that describes this checkpoint."""
    from transformers import AutoConfig

    if checkpoint.untrained:
        return AutoConfig.for_model(checkpoint.family, **ARCHITECTURES[checkpoint.family])
    assert checkpoint.folder is not None
    if checkpoint.format == "ctranslate2":
        return AutoConfig.for_model("whisper", **whisper_settings(checkpoint.folder / "model.bin"))
    with _explained(checkpoint):
        return AutoConfig.from_pretrained(checkpoint.folder, local_files_only=True)


def load_model(checkpoint: Checkpoint, options: Options) -> nn.Module:
    """The frozen model in evaluation mode, weights in float32 whatever the folder has, placed as `options` say.

    Raises:
        InputError: when the folder cannot be loaded or lacks weights that the features depend on.
    """
    from transformers import AutoModel

    config = model_config(checkpoint)
    if checkpoint.untrained:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(UNTRAINED_SEED)
            model = AutoModel.from_config(config)
    elif checkpoint.format == "ctranslate2":
        assert checkpoint.folder is not None
        model = AutoModel.from_config(config)
        model.encoder.load_state_dict(whisper_weights(checkpoint.folder / "model.bin"))
    else:
        with _explained(checkpoint), quiet():
            model, report = AutoModel.from_pretrained(
                checkpoint.folder, dtype=torch.float32, local_files_only=True, output_loading_info=True
            )
        _check_weights(checkpoint, report["missing_keys"])
    return _placed(model.eval().requires_grad_(False), options)


def count(
    checkpoint: Checkpoint,
    parts: Callable[[Any], Iterable[nn.Module]],
    forward: Callable[[Any], Tensor],
) -> Counts:
    """Parameters of `parts(model)`, and the multiply-accumulates of `forward(model)`.

    Counted on the meta device, so neither weights nor time are needed. The operations are those of every matrix
    product and convolution, attention included and taken as dense. None where an architecture reads its own numbers.
    """
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import AutoModel

    with torch.device("meta"), torch.random.fork_rng(devices=[]), quiet():  # Wav2Vec2 draws even in evaluation
        model = AutoModel.from_config(model_config(checkpoint), attn_implementation="eager").eval()
        num_parameters = sum(parameter.numel() for part in parts(model) for parameter in part.parameters())
        try:
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                forward(model)
        except (RuntimeError, NotImplementedError):
            return Counts(num_parameters, None)
    return Counts(num_parameters, counter.get_total_flops() // 2)


@contextlib.contextmanager
def computing(options: Options) -> Iterator[None]:
    """Forward passes without gradients; in bf16 the products only, while norms and the residual stay in float32."""
    kind = torch.device(options.device).type
    with torch.inference_mode(), torch.autocast(kind, torch.bfloat16, enabled=options.precision == "bf16"):
        yield


def to_device(arrays: Sequence[np.ndarray], options: Options) -> Tensor:
    """A batch of equal shapes; to CUDA through pinned memory, so that the copy overlaps with the encoder."""
    batch = torch.from_numpy(np.stack(arrays))
    if torch.device(options.device).type == "cpu":
        return batch
    return batch.pin_memory().to(options.device, non_blocking=True)


def to_numpy(features: Float[Tensor, "*shape"]) -> Float32[np.ndarray, "*shape"]:
    """The features in main memory, in float32."""
    return features.float().cpu().numpy()


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


def _placed(model: nn.Module, options: Options) -> nn.Module:
    if options.precision == "bf16":
        # Autocast would convert the float32 weights anew in every pass.
        for module in model.modules():
            plain = not nn.utils.parametrize.is_parametrized(module)
            if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d) and plain:
                module.to(torch.bfloat16)
    return model.to(options.device)


def _check_weights(checkpoint: Checkpoint, missing: Iterable[str]) -> None:
    needed = sorted(key for key in missing if not key.startswith(_UNUSED_PARTS))
    if needed:
        raise InputError(
            f"checkpoint '{checkpoint.name}': the weights in {checkpoint.folder} lack {len(needed)} tensors that "
            f"config.json asks for, such as '{needed[0]}'. Fetch the folder again."
        )


@contextlib.contextmanager
def _explained(checkpoint: Checkpoint) -> Iterator[None]:
    """What transformers raises over a folder, as one line for the user."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # its loaders raise OSError, ValueError, KeyError, SafetensorError and others
        reason = (str(error).strip() or "no reason given").splitlines()[0].rstrip(".")
        raise InputError(
            f"checkpoint '{checkpoint.name}': {checkpoint.folder} cannot be loaded ({type(error).__name__}: {reason}). "
            "Fetch the folder again, or give another one."
        ) from error
