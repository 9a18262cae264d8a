"""What a checkpoint's files may ask for, checked before transformers sees them: anybody may have written them.

Sizes beyond these limits are no model but an attempt, or an accident, to fill memory; what names code is refused.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from whisq_core.errors import InputError, shown
from whisq_core.files import check_regular, open_regular, read_regular

_CONFIG_BYTES, _SMALL_BYTES, _WEIGHT_BYTES = 16 * 2**20, 256 * 2**20, 2**40
_READ = {  # bytes of the files that may be read, by their endings
    **dict.fromkeys((".json", ".txt", ".model"), _SMALL_BYTES),
    **dict.fromkeys((".safetensors", ".bin"), _WEIGHT_BYTES),
}
_BOUNDS = (  # of numbers under these names: smallest, largest
    (re.compile(r"(encoder_|decoder_|num_|num_hidden_|n_)layers?|depths?"), 0, 1000),
    (re.compile(r"(.*_)?layers?|num_blocks"), -1000, 1000),
    (re.compile(r"d_model|hidden_size|vocab_size|intermediate_size|projection_dim|head_dim|.*ffn_dim"), 1, 10**7),
    (re.compile(r"(.*_)?(attention|key_value)_heads|num_mel_bins|feature_size|conv_.*|n_mels"), 1, 10**5),
    (re.compile(r"max_source_positions|patch_size|.*_pos_embeddings|num_conv_pos.*"), 1, 10**6),
    (re.compile(r"n_fft|fft_window_size|hop_length|chunk_length|max_length_s|nb_max_frames"), 1, 16_384),
    (re.compile(r"sampling_rate"), 1_000, 768_000),
    (re.compile(r"n_samples|nb_max_samples|nb_frequency_bins"), 1, 2**24),
    (re.compile(r"(.*_)?(size|dim|dims|heads|features|channels|positions|kernel|stride|embeddings|length)"), -1, 10**9),
)
_SIZED = ("config.json", "preprocessor_config.json", "processor_config.json")  # a tokenizer's lengths may be "no limit"
_LONGEST = 1000  # numbers in a list of sizes


def _check_files(name: str, folder: Path) -> None:
    """See that what lies in a checkpoint's folder are files of possible size.

    Raises InputError: a named pipe, a device, a folder in place of a file, an absurd size; an adapter in place of a
    model.
    """
    for path in sorted(folder.iterdir()):
        if path.suffix not in _READ:
            continue
        limit = _CONFIG_BYTES if path.name.endswith("config.json") else _READ[path.suffix]
        try:
            check_regular(path, limit)
        except OSError as error:
            raise InputError(f"checkpoint '{name}': {path}: {error.strerror}. Fetch the folder again.") from None
    if (folder / "adapter_config.json").exists():
        raise InputError(
            f"checkpoint '{name}': {folder} has an adapter_config.json, which lays an adapter over another model. "
            "Merge both and give that folder."
        )


def read_config(name: str, folder: Path) -> dict[str, Any]:
    """`config.json`, when nothing in the folder asks for code or absurd sizes or is of another kind than its name.

    Raises InputError with the first thing that cannot be read, names code, or has a size that no model has.
    """
    _check_files(name, folder)
    if not (folder / "config.json").is_file():
        raise InputError(
            f"checkpoint '{name}': {folder} has no config.json. Give the folder of one model, as `hf download` or "
            "`save_pretrained` writes it."
        )
    for path in sorted(folder.glob("*config.json")):
        try:
            config = json.loads(read_regular(path, _CONFIG_BYTES))
            for key, value in _walk(config):
                _check_code(f"checkpoint '{name}'", path, key, value)
                if path.name in _SIZED:
                    _check_sizes(f"checkpoint '{name}'", path, key, value)
        except (OSError, ValueError, RecursionError) as error:
            reason = "nested too deeply" if isinstance(error, RecursionError) else error
            raise InputError(f"checkpoint '{name}': {path} is not a readable JSON file ({reason}).") from None
        if path.name == "config.json":
            found = config
    if not isinstance(found, dict):
        raise InputError(f"checkpoint '{name}': {folder / 'config.json'} holds no JSON object.")
    return found


def _walk(value: Any) -> Iterator[tuple[str, Any]]:
    """Every key of nested JSON objects with its value."""
    if isinstance(value, dict):
        yield from value.items()
        value = list(value.values())
    for inner in value if isinstance(value, list) else ():
        yield from _walk(inner)


def _check_code(who: str, path: Path, key: str, value: Any) -> None:
    # transformers imports what the one names, and fetches compiled code where the other names a repository.
    if key == "auto_map" or (key.endswith("attn_implementation") and "/" in str(value)):
        raise InputError(
            f"{who}: '{key}' in {path} names code to be run, which is never done: checkpoints are data. "
            f"If transformers knows the family itself, remove '{key}' from a copy of the folder."
        )
    if key == "quantization_config" and value:
        raise InputError(f"{who}: {path} is of quantised weights, which are not read. Give the folder of whole ones.")
    if key == "architectures" and not (value is None or (isinstance(value, list) and {*map(type, value)} <= {str})):
        raise InputError(f"{who}: 'architectures' in {path} is {shown(value)}, allowed: a list of names.")


def _check_sizes(who: str, path: Path, key: str, value: Any) -> None:
    numbers = value if isinstance(value, list) else [value]
    for pattern, low, high in _BOUNDS:
        if pattern.fullmatch(key):
            if len(numbers) > _LONGEST:
                raise InputError(f"{who}: '{key}' in {path} has {len(numbers):,} items, allowed: {_LONGEST:,}.")
            for number in numbers:
                if isinstance(number, int | float) and not isinstance(number, bool) and not low <= number <= high:
                    found = f"'{key}' in {path} is {shown(number)}"
                    raise InputError(f"{who}: {found}, allowed: {low} to {high}. Fetch the folder again.")
            return


def check_weights(name: str, path: Path) -> None:
    """See that a file of weights begins as one does, before gigabytes of it are read.

    Raises InputError: for anything else.
    """
    try:
        with open_regular(path, _WEIGHT_BYTES) as file:
            start = file.read(2)
        if path.suffix == ".safetensors":
            with safe_open(path, framework="np"):  # reads the header and holds it against the size
                return
        if start not in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04"):
            raise ValueError("it does not begin as one")
    except (OSError, ValueError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(
            f"checkpoint '{name}': {path} is not a whole file of weights ({reason}). Fetch the folder again."
        ) from None
