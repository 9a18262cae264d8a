"""Folders of weights that anybody may have written: garbage, absurd sizes, truncated tensors, and code to be run."""

import json
import os
import pickle
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.malformed import ENCODE, Change, both, edited, put, sampled, without_features

Attempt = Callable[..., object]
WHISPER, BERT = "weights/whisper", "weights/bert"
EVIL = put(f"{WHISPER}/evil.py", "open('marker', 'w')\nclass Evil: pass\n")


def keys(name: str, **values: Any) -> Change:
    """Set keys of a JSON file."""
    return edited(name, lambda content: json.dumps(json.loads(content) | values).encode())


def in_json(name: str, change: Callable[[Any], object]) -> Change:
    """Change the content of a JSON file in place."""

    def edit(content: bytes) -> bytes:
        data = json.loads(content)
        change(data)
        return json.dumps(data).encode()

    return edited(name, edit)


def without(*names: str) -> Change:
    return lambda folder: [(folder / name).unlink() for name in names]


SIZES: dict[str, list[tuple[str, Any]]] = {
    f"{WHISPER}/config.json": [
        ("encoder_layers", 10**6), ("encoder_layers", -1), ("encoder_layers", 2.5), ("encoder_layers", None),
        ("encoder_layers", [1, 2]), ("decoder_layers", 10**9), ("d_model", 10**9), ("d_model", 10**6), ("d_model", 0),
        ("d_model", 31), ("d_model", 64), ("d_model", "x"), ("encoder_attention_heads", 0), ("vocab_size", 10**12),
        ("encoder_attention_heads", 10**9), ("num_mel_bins", 10**9), ("num_mel_bins", 0), ("max_source_positions", 0),
        ("max_source_positions", 10**9), ("encoder_ffn_dim", 10**12), ("model_type", "evil"), ("model_type", 12),
        ("model_type", ["whisper"]), ("model_type", "../x"), ("activation_function", "evil"), ("dtype", "evil"),
        ("quantization_config", {"quant_method": "evil"}), ("attn_implementation", "evil/kernel"),
        ("architectures", [1]), ("is_encoder_decoder", {}), ("vocab_size", 10**9),
    ],
    f"{BERT}/config.json": [
        ("num_hidden_layers", 10**6), ("num_hidden_layers", 1000), ("hidden_size", 10**9), ("hidden_size", 0),
        ("num_attention_heads", 0), ("vocab_size", 10**12), ("vocab_size", 8), ("max_position_embeddings", 10**9),
        ("max_position_embeddings", 1), ("max_position_embeddings", 0), ("intermediate_size", 10**9),
        ("type_vocab_size", 10**9), ("hidden_act", "evil"), ("layer_norm_eps", "x"),
    ],
    f"{WHISPER}/preprocessor_config.json": [
        ("feature_size", 10**9), ("feature_size", 0), ("feature_size", "x"), ("n_fft", 10**9), ("n_fft", 0),
        ("n_fft", 401.5), ("hop_length", 0), ("hop_length", 10**9), ("chunk_length", 10**9), ("chunk_length", 0),
        ("sampling_rate", 8000), ("sampling_rate", 0), ("sampling_rate", 10**12), ("n_samples", 10**12),
        ("padding_value", "x"), ("pad", 1), ("_np_extract_fbank_features", 3), ("dither", 1e308),
    ],
    f"{BERT}/tokenizer_config.json": [
        ("tokenizer_class", 12), ("model_max_length", -5), ("model_max_length", "x"),
        ("pad_token", 12),
    ],
}  # fmt: skip
CASES: dict[str, Change] = {
    f"{name.split('/', 1)[1]}: {key} {value!r:.20}": keys(name, **{key: value})
    for name, pairs in SIZES.items()
    for key, value in pairs
}
GARBAGE: dict[str, bytes] = {
    "an open brace": b"{",
    "junk": random.Random(0).randbytes(999),
    "a list": b"[]",
    "null": b"null",
    "deep lists": b"[" * 100_000,
    "deep objects": b'{"a":' * 5000 + b"1" + b"}" * 5000,
    "UTF-16": "{}".encode("utf-16"),
    "an empty object": b"{}",
    "digits": b'{"d_model": ' + b"9" * 5000 + b"}",
}
NEEDED = [f"{WHISPER}/config.json", f"{WHISPER}/preprocessor_config.json", f"{WHISPER}/model.safetensors",
          f"{BERT}/config.json", f"{BERT}/tokenizer.json", f"{BERT}/model.safetensors"]  # fmt: skip
CASES |= {
    f"{name.split('/', 1)[1]}: {kind}": put(name, content)
    for name in NEEDED
    for kind, content in GARBAGE.items()
    if not ("preprocessor" in name and kind == "an empty object")
}


def tensors(header: Any, body: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def one(**values: Any) -> dict[str, Any]:
    return {"t": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **values}}


SAFETENSORS = {
    "a huge header": tensors(b"{}", length=2**63),
    "a header of 99 MB": tensors(b"{}", length=99 * 2**20),
    "a header of 2^64 bytes": tensors(b"{}", length=2**64 - 1),
    "offsets that run backwards": tensors(one(data_offsets=[8, 0]), bytes(8)),
    "overlapping tensors": tensors({"a": one()["t"], "b": one()["t"]}, bytes(8)),
    "a gap": tensors(one(data_offsets=[4, 12]), bytes(12)),
    "an unknown type": tensors(one(dtype="EVIL"), bytes(8)),
    "an absurd shape": tensors(one(shape=[10**18]), bytes(8)),
    "a negative shape": tensors(one(shape=[-2]), bytes(8)),
    "too few bytes": tensors(one(), bytes(4)),
    "too many bytes": tensors(one(), bytes(99)),
    "no offsets": tensors({"t": {}}),
    "metadata of no form": tensors({"__metadata__": 12, **one()}, bytes(8)),
    "other tensors": tensors(one(), bytes(8)),
    "offsets as text": tensors(one(data_offsets="ab"), bytes(8)),
    "offsets as fractions": tensors(one(data_offsets=[0.5, 8]), bytes(8)),
    "seven bytes": b"\1" * 7,
}
CASES |= {f"safetensors: {kind}": put(f"{WHISPER}/model.safetensors", content) for kind, content in SAFETENSORS.items()}
CASES["safetensors: half"] = edited(f"{WHISPER}/model.safetensors", lambda content: content[: len(content) // 2])
CASES |= {
    f"index: {value!r:.30}": put(f"{WHISPER}/model.safetensors.index.json", json.dumps(value))
    for value in ({"weight_map": {"a": "../bert/model.safetensors"}}, {"weight_map": {"a": 3}}, {"weight_map": 3}, [],
                  {"weight_map": {"a": "/etc/passwd"}}, {"weight_map": {"a": "absent.safetensors"}}, {})
}  # fmt: skip
CASES["no weights"] = without(f"{WHISPER}/model.safetensors")
CASES["an adapter"] = put(f"{WHISPER}/adapter_config.json", "{}")


class Evil:
    """Unpickled, it writes a file."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch marker",)


def pickled(content: Callable[[], bytes]) -> Change:
    def change(folder: Path) -> None:
        (folder / WHISPER / "model.safetensors").unlink()
        (folder / WHISPER / "pytorch_model.bin").write_bytes(content())

    return change


def _saved() -> bytes:
    import io

    import torch

    target = io.BytesIO()
    torch.save({"encoder.conv1.weight": Evil()}, target)
    return target.getvalue()


CASES |= {
    "pickle: code": pickled(lambda: pickle.dumps(Evil())),
    "pickle: code in an archive": pickled(_saved),
    "pickle: zeros": pickled(lambda: bytes(99)),
    "pickle: nothing": pickled(lambda: b""),
    "pickle: an archive's beginning": pickled(lambda: b"PK\3\4xxxx"),
    "pickle: junk": pickled(lambda: b"\x80\2" + GARBAGE["junk"]),
}
CODE = {"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil", "AutoTokenizer": ["evil.Evil", None]}
CASES |= {
    f"code: {name.split('/', 1)[1]}": both(
        EVIL, put(f"{BERT}/evil.py", "open('marker', 'w')"), keys(name, auto_map=CODE)
    )
    for name in SIZES
}
CASES |= {
    "code: of an unknown family": both(EVIL, keys(f"{WHISPER}/config.json", auto_map=CODE, model_type="evil")),
    "code: deep inside": both(EVIL, keys(f"{WHISPER}/config.json", text_config={"deep": [{"auto_map": CODE}]})),
    "code: a file of another name": both(
        EVIL, put(f"{WHISPER}/generation_config.json", json.dumps({"auto_map": CODE}))
    ),
    "code: a kernel": keys(f"{WHISPER}/config.json", _attn_implementation="evil/kernel"),
    "code: a kernel inside": keys(f"{WHISPER}/config.json", text_config={"attn_implementation": "a/b"}),
}
TOKENIZER = f"{BERT}/tokenizer.json"
CASES |= {
    "tokenizer: a number beyond the weights": in_json(
        TOKENIZER, lambda data: data["model"]["vocab"].update(tone=10**6)
    ),
    "tokenizer: a negative number": in_json(TOKENIZER, lambda data: data["model"]["vocab"].update(tone=-1)),
    "tokenizer: no model": in_json(TOKENIZER, lambda data: data.pop("model")),
    "tokenizer: an unknown model": in_json(TOKENIZER, lambda data: data["model"].update(type="Evil")),
    "tokenizer: no words": in_json(
        TOKENIZER, lambda data: (data["model"].update(vocab={}), data.update(post_processor=None))
    ),
    "tokenizer: nothing of any text": in_json(
        TOKENIZER,
        lambda data: data.update(
            normalizer={"type": "Replace", "pattern": {"Regex": "."}, "content": ""}, post_processor=None
        ),
    ),
    "tokenizer: a broken pattern": in_json(
        TOKENIZER,
        lambda data: data.update(
            pre_tokenizer={"type": "Split", "pattern": {"Regex": "(("}, "behavior": "Removed", "invert": False}
        ),
    ),
    "tokenizer: absent": without(TOKENIZER),
}


def ct2(*variables: tuple[str, tuple[int, ...], int, bytes], count: int | None = None) -> bytes:
    """A file of CTranslate2."""

    def text(value: str) -> bytes:
        return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"

    found = (
        struct.pack("<I", 6) + text("WhisperSpec") + struct.pack("<II", 3, len(variables) if count is None else count)
    )
    for name, shape, kind, content in variables:
        sizes = b"".join(struct.pack("<I", size) for size in shape)
        found += text(name) + struct.pack("<B", len(shape)) + sizes + struct.pack("<BI", kind, len(content)) + content
    return found + struct.pack("<I", 0)


HEADS = ("encoder/num_heads", (), 1, b"\4")
REST = (
    ("encoder/conv1/weight", (32, 80, 3), 0, bytes(4 * 32 * 80 * 3)),
    ("encoder/position_encodings/encodings", (100, 32), 0, bytes(12_800)),
    ("encoder/layer_0/ffn/linear_0/weight", (64, 32), 0, bytes(4 * 64 * 32)),
)
GOOD = ct2(HEADS)
CTRANSLATE2 = {
    "no variables but one": GOOD,
    "nothing": b"",
    "one byte": b"\6",
    "another version": b"\7" + GOOD[1:],
    "a huge version": b"\xff" * 8 + GOOD[8:],
    "cut": GOOD[:-6],
    "a long name": GOOD[:4] + b"\xff\xff" + GOOD[6:],
    "another kind": GOOD.replace(b"WhisperSpec", b"EvilSpecXXX"),
    "a huge count": ct2(HEADS, count=2**32 - 1),
    "255 dimensions": ct2(("encoder/num_heads", (2**32 - 1,) * 255, 0, b"")),
    "an unknown type": ct2(("encoder/num_heads", (), 99, b"\4")),
    "no heads": ct2(("encoder/num_heads", (), 1, b"\0"), *REST),
    "negative heads": ct2(("encoder/num_heads", (), 1, b"\xff"), *REST),
    "most weights missing": ct2(HEADS, *REST),
    "a vector as convolution": ct2(HEADS, ("encoder/conv1/weight", (32,), 0, bytes(128)), *REST[1:]),
    "names that are no text": GOOD.replace(b"encoder", b"\xff\xfe\xffoder"),
    "junk": struct.pack("<I", 6) + GARBAGE["junk"],
    "sizes of 0": ct2(HEADS, ("encoder/conv1/weight", (0, 80, 3), 0, b""), *REST[1:]),
    "absurd sizes": ct2(HEADS, ("encoder/conv1/weight", (2**31, 2**31, 0), 0, b""), *REST[1:]),
    "3000 layers": ct2(HEADS, *REST, *((f"encoder/layer_{index}/x/y", (), 1, b"\1") for index in range(3000))),
}


def converted(content: bytes) -> Change:
    """The audio encoder as a folder of CTranslate2."""
    return both(
        without(f"{WHISPER}/model.safetensors", f"{WHISPER}/preprocessor_config.json"),
        put(f"{WHISPER}/config.json", "{}"),
        put(f"{WHISPER}/model.bin", content),
    )


CASES |= {f"CTranslate2: {kind}": converted(content) for kind, content in CTRANSLATE2.items()}


@pytest.mark.parametrize("case", sampled(CASES, 8))
def test_a_checkpoint_that_is_none_is_refused_and_nothing_in_it_runs(attempt: Attempt, case: str) -> None:
    attempt(both(without_features, CASES[case]), ENCODE, "checkpoint")
