"""Trained models as folders: `model.safetensors` and, written last, `config.json`, as the Hugging Face hub has them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field, TypeAdapter
from safetensors import SafetensorError
from safetensors.torch import load as read_tensors
from safetensors.torch import save as tensors_as_bytes

from whisq_core.device import resolve_device
from whisq_core.errors import InputError
from whisq_core.files import read_regular, write_atomically
from whisq_core.model import WhisQ
from whisq_core.plugins import is_plugin, used
from whisq_core.spec import RunSpec

WEIGHTS, CONFIG = "model.safetensors", "config.json"
_KIND, _FORMAT = "whisq", 1
_LARGEST = 2**34  # bytes of weights
_Size = TypeAdapter(Annotated[int, Field(ge=1, le=65_536)])


@dataclass(frozen=True)
class TrainedModel:
    """A network and the resolved run that made it."""

    network: WhisQ
    spec: RunSpec


def save(folder: Path, model: TrainedModel, facts: Mapping[str, Any] | None = None) -> None:
    """Write a model; a folder without `config.json` is not whole.

    Parameters
    ----------
    folder
        Made where it is not there.
    model
        What `fit` returned.
    facts
        What else `config.json` shall say, JSON-ready.
    """
    weights = {name: tensor.contiguous().cpu() for name, tensor in model.network.state_dict().items()}
    sizes = {"audio_dim": model.network.audio_dim, "text_dim": model.network.text_dim}
    config = {"model_type": _KIND, "format": _FORMAT, **sizes, "spec": model.spec.model_dump(mode="json")}
    (folder / CONFIG).unlink(missing_ok=True)
    write_atomically(folder / WEIGHTS, [tensors_as_bytes(weights)])
    write_atomically(folder / CONFIG, [json.dumps({**config, **(facts or {})}, indent=1).encode() + b"\n"])


def read_config(folder: Path) -> dict[str, Any]:
    """What the `config.json` of a saved model says.

    Raises
    ------
    InputError
        When there is none, or it is not that of a model of ours.
    """
    path = folder / CONFIG
    try:
        config = json.loads(read_regular(path))
    except FileNotFoundError:
        found = "no such folder" if not folder.is_dir() else f"found no {CONFIG}"
        raise InputError(f"{folder}: {found}, allowed: the folder of a model that --save-models wrote.") from None
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
        raise InputError(f"{path}: cannot be read ({reason}). Save or fetch the model again.") from None
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind != _KIND:
        raise InputError(
            f"{path}: found model_type '{kind}', allowed: '{_KIND}'. Give a model that --save-models wrote."
        )
    if config.get("format") != _FORMAT:
        raise InputError(
            f"{path}: found format {config.get('format')}, allowed: {_FORMAT}. Use the whisq-study that made it."
        )
    return config


def load(folder: Path) -> TrainedModel:
    """The model that `save` wrote: on the device of its run, or on the CPU where that device is not there.

    Raises
    ------
    InputError
        When a file is missing, truncated or of another program version, or the weights do not fit the configuration.
    """
    config, path = read_config(folder), folder / WEIGHTS
    try:
        spec = RunSpec.model_validate(config["spec"])
        if not spec.uses_features or not {"model", "backbone"} <= config["spec"].keys():
            raise ValueError("its spec is not that of a trained network")
        sizes = {name: _Size.validate_python(config[name]) for name in ("audio_dim", "text_dim")}
    except (KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{folder / CONFIG}: not a configuration that this version knows ({reason}).") from None
    here = {setting: plugin.distribution for setting, plugin in used(spec.settings()).items()}
    if here != (made := config.get("plugins", {})):
        raise InputError(f"{folder / CONFIG}: made with plug-ins {made}, found {here}. Install the same versions.")
    try:
        weights = read_tensors(read_regular(path, _LARGEST))
        if not is_plugin(spec.model.attention):  # sizes that do not fit are found before memory is filled with them
            with torch.device("meta"):
                WhisQ(spec.model, **sizes, seed=spec.seed).load_state_dict(weights, assign=True)
        if not all(bool(tensor.isfinite().all()) for tensor in weights.values()):
            raise RuntimeError("some are not finite numbers")
        network = WhisQ(spec.model, **sizes, seed=spec.seed)
        network.load_state_dict(weights)
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        raise InputError(
            f"{path}: {'no such file' if missing else error.strerror}. Save or fetch the model again."
        ) from None
    except SafetensorError as error:
        raise InputError(f"{path}: truncated or corrupt ({error}). Save or fetch the model again.") from None
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: weights that do not fit {CONFIG} ({reason}). Fetch both files again.") from None
    try:
        resolve_device(spec.train.device, CONFIG)
    except InputError:
        elsewhere = spec.train.model_copy(update={"device": "cpu", "precision": "float32"})
        spec = spec.model_copy(update={"train": elsewhere})
    return TrainedModel(network.to(spec.train.device), spec)
