"""Texts that people and programs write: the ablation file, lists and manifests, predictions, published tables."""

import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from helpers.forked import Commands
from helpers.malformed import (
    ABLATE,
    AUDIT,
    EVALUATE,
    FIRST,
    OPTIMIZE,
    TRAIN,
    WAV,
    copy_of,
    nothing,
    put,
    replaced,
    sampled,
)

Attempt = Callable[..., object]

JUNK = random.Random(0).randbytes(4000)
_LEVELS = "".join(f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 10)}]\n" for i in range(9))
YAML: dict[str, bytes | str] = {
    "aliases of aliases": f"a: &a [x,x,x,x,x,x,x,x,x,x]\n{_LEVELS}",
    "deep lists": "a: " + "[" * 20_000,
    "deep mappings": "{a: " * 5000,
    "many keys": "\n".join(f"k{i}: 1" for i in range(30_000)),
    "NUL": "a: \0",
    "tabs": "a:\n\t- b",
    "UTF-16": "a: 1".encode("utf-16"),
    "escapes": "a: \x1b[2J",
    "digits": "seeds: " + "9" * 5000,
    "hexadecimal digits": "seeds: 0x" + "f" * 5000,
    "a large exponent": "seeds: 1e999999999",
    "a tag that calls": "!!python/object/apply:os.system [touch marker]",
    "a tag that names": "seeds: !!python/name:os.system x",
    "no base64": "a: !!binary zzz",
    "a set": "!!set {a,b}",
    "a list": "[1,2]",
    "a number": "42",
    "two documents": "a: 1\n---\nb: 2",
    "an alias of itself": "a: &a [*a]",
    "merge": "<<: {a: 1}",
    "a long key": "? " + "k" * 2000 + "\n: 1",
    "a key twice": "seeds: 1\nseeds: 2",
    "no date": "seeds: 2020-13-45",
    "an ordered map": "a: !!omap [b: 1, b: 2]",
    "a long line": "a: '" + "x" * 200_000 + "'",
    "more than a file may have": "# " + "x" * 2**20 + "\nseeds: 1",
    "sixty-fold numbers": "seeds: 190:20:30",
    "a half of a pair": 'name: "\\ud800"',
    "a deep indent": " " * 100_000 + "a: 1",
    "another version": "%YAML 9.9\n---\na: 1",
    "junk": JUNK,
    "nothing": "",
    "comments": "# nothing\n",
}


@pytest.mark.parametrize("case", sampled(YAML, 4))
def test_a_file_that_is_no_ablation_file_is_refused(attempt: Attempt, case: str) -> None:
    attempt(put("table.yaml", YAML[case]), ABLATE, "table.yaml")


_SEEDS, _EPOCHS = "seeds:\n- 0\n- 1", "epochs: 1"
SETTINGS = {
    "feature_dim: 1000000000000": "feature_dim: 32",
    "feature_dim: 1000000000\n    heads: 1000000000": "feature_dim: 32",
    "feature_dim: 0": "feature_dim: 32",
    "batch_size: 10000000000000000000000000000000000": "batch_size: 8",
    **{
        f"epochs: {text}": _EPOCHS
        for text in ("100000000000000000000", "0", "-1", "1.5", "1\n    learning_rate: .inf",
                     "1\n    learning_rate: .nan", "1\n    learning_rate: 1e400",
                     "1\n    threads: 1000000000", "1\n    patience: 10000000000",
                     "1\n    momentum: 1", "1\n    weight_decay: -1", "1\n    clip_norm: 0", "1\n    device: tpu")
    },
    **{f"seeds: {text}": _SEEDS for text in ("0-1000000000", "[-1]", f"[{2**70}]", f"[{2**31}]", "[0, 0]", "[]")},
    **{
        f"{text}\nbase:": "base:"
        for text in ("name: ../x", f"name: {'x' * 300}", 'name: "a\\e[2J"', "name: ''", "name: 'a b'", "name: '%_&'",
                     "search: {trials: 1000000000000000000000000}",
                     "search: {space: {train.learning_rate: {low: 1e-5, high: .inf}}}",
                     "search: {space: {train.batch_size: {low: 1, high: 10000000000000000000000, power_of_two: true}}}")
    },
    "base:\n  data: {inner_seed: 100000000000000000000000000000000000000000}": "base:",
    "base:\n  loss: {diameter: 1.0e+308, scaling: 0.999999999999}": "base:",
    "base:\n  loss: {scaling: 0.9999}": "base:",
    "id: 'a/b'": "id: whisq",
    f"id: {'x' * 300}": "id: whisq",
    'label: "\\e[2JWhisQ"': "label: WhisQ",
    'label: "a\\0b"': "label: WhisQ",
    "audio: 12": "audio: weights/whisper",
}  # fmt: skip


@pytest.mark.parametrize("new", sampled(SETTINGS, 4))
def test_a_setting_that_no_study_has_is_refused_before_anything_runs(attempt: Attempt, new: str) -> None:
    attempt(replaced(SETTINGS[new], new), OPTIMIZE if "search" in new else ABLATE, "table.yaml:")


_NESTED = [
    f"&{name} [{','.join(['*' + below if below else 'x'] * 10)}]" for below, name in pairwise(["", *"abcdefghi"])
]
VALUES = {
    "aliases of aliases": f"[{', '.join(_NESTED)}]",
    "deep lists": "[" * 5000,
    "digits": "9" * 5000,
    "no date": "2020-13-45",
    "no number": "!!int x",
    "a tag that calls": "!!python/object/apply:os.system [touch marker]",
    "an alias of itself": "&a [*a]",
    "half of a pair": "\udcff",
}


@pytest.mark.parametrize("case", sampled(VALUES, 4))
def test_a_value_of_set_that_is_none_is_refused_within_the_limits_of_a_file(attempt: Attempt, case: str) -> None:
    attempt(nothing, [*ABLATE.split(), "--plan", "--set", f"train.epochs={VALUES[case]}"], "--set train.epochs")


NAMES = ['"weights\\0x"', f'"{"x" * 5000}"', '""', "/dev", "http://127.0.0.1:1/x", "a/../../b", '"\\e[2J"', "pypi:evil",
         "untrained:evil", "~nobody/x", "weights", "/proc/self/mem"]  # fmt: skip


@pytest.mark.parametrize("name", sampled(NAMES, 4))
def test_an_encoder_that_is_none_is_refused(attempt: Attempt, name: str) -> None:
    change = replaced("audio: weights/whisper", f"audio: {name}")

    attempt(change, "encode table.yaml --data corpus --features new --workers 1")


HEADER, ROW = "utterance,system,prompt,audio,omq,ta,split\n", f"u,s,p,{WAV},3,3,train\n"
AUDIO = ["", "  ", "corpus", ".", "x" * 5000, "/dev/zero", "/proc/kmsg", "a\0b", "~", "table.yaml"]
RATINGS = ["3" + "0" * 500, "3e9999999", "nan", "inf", "x", ""]
MANIFESTS: dict[str, bytes | str] = {
    "a long field": HEADER + ROW.replace(",p,", "," + "p" * 200_000 + ","),
    "NUL": HEADER + ROW.replace("u", "u\0", 1),
    "an open quote": HEADER + '"u,s,p\n',
    "no line ends": (HEADER + ROW).replace("\n", "\r"),
    **{f"a rating {text[:9]}": HEADER + ROW.replace("3,3", f"{text},3") for text in RATINGS},
    **{f"audio {text[:9]!r}": HEADER + ROW.replace(WAV, text) for text in AUDIO},
    "many columns": ",".join(f"c{i}" for i in range(100_000)) + "\n" + ROW,
    "junk": JUNK,
    "nothing": "",
    "a header alone": HEADER,
    "a clip twice": HEADER + ROW + ROW,
    "UTF-16": (HEADER + ROW).encode("utf-16"),
    "escapes": HEADER + ROW.replace("u,s", "\x1b[31mu,s"),
    "zeros": bytes(100_000),
    "many bad lines": HEADER + "x\n" * 3000,
    "half of a pair": HEADER.encode() + b"\xed\xa0\x80,s,p,a,3,3,train\n",
}  # fmt: skip


@pytest.mark.parametrize("case", sampled(MANIFESTS, 4))
def test_a_manifest_that_is_none_is_refused(attempt: Attempt, case: str) -> None:
    attempt(put("manifest.csv", MANIFESTS[case]), ABLATE.replace("corpus", "manifest.csv"))


LISTS: dict[str, bytes | str] = {
    "escapes": f"{FIRST}\x1b[2J.wav,3,3\n",
    "digits": f"{FIRST}.wav,{'9' * 500},3\n",
    "a way out": f"../../{FIRST}.wav,3,3\n",
    "from the root": f"/etc/{FIRST}.wav,3,3\n",
    "junk": JUNK,
    "a long line": "x" * 200_000,
    "many bad lines": "x\n" * 5000,
    "a system of digits": f"audiomos2025-track1-S{'9' * 5000}_P1.wav,3,3\n",
}


@pytest.mark.parametrize("case", sampled(LISTS, 4))
def test_a_list_that_is_none_is_refused(attempt: Attempt, case: str) -> None:
    attempt(put(TRAIN, LISTS[case]), ABLATE, TRAIN)


ANSWERS: dict[str, bytes | str] = {
    "digits": "x," + "9" * 500 + ",1\n",
    "a long field": "x" * 200_000 + ",1,1",
    "junk": JUNK,
    "NUL": "a\0b,1,1\n",
    "zeros": bytes(1000),
    "escapes": "\x1b[2J,1,1\n",
    "other digits": f"{FIRST},\uff11x,1\n",
    "many columns": "x" + ",1" * 100_000,
    "hexadecimal": "x,0x10,1\n",
    "undefined": f"{FIRST},nan,inf\n",
    "nothing": "",
}


@pytest.mark.parametrize("case", sampled(ANSWERS, 4))
def test_predictions_that_are_none_are_refused(attempt: Attempt, case: str) -> None:
    attempt(put("answer.txt", ANSWERS[case]), EVALUATE, "answer.txt")


_COLUMNS = "m,TA S-SRCC,systems\n"
PUBLISHED: dict[str, bytes | str] = {
    "500 digits": f"{_COLUMNS}a,{'5' * 500},29\n",
    "500 digits behind the point": f"{_COLUMNS}a,0.{'5' * 500},29\n",
    "a long field": _COLUMNS + "a" * 200_000 + ",0.5,29\n",
    "NUL": f"{_COLUMNS}a\0,0.5,29\n",
    "an open quote": f'{_COLUMNS}"a,0.5,29\n',
    "junk": JUNK,
    "many systems": f"{_COLUMNS}a,0.5,9999999\n",
    "no systems": f"{_COLUMNS}a,0.5,0\n",
    "many columns": "m" + ",TA S-SRCC" * 50_000,
    "escapes": f"{_COLUMNS}\x1b[2J,x,29\n",
    "ties": "m,TA S-SRCC,systems,ties\na,0.5,29,99999999999\n",
    "60 digits of tau": f"m,TA S-KTAU,systems\na,0.{'1' * 60},200\n",
}


@pytest.mark.parametrize("case", sampled(PUBLISHED, 4))
def test_a_published_table_that_is_none_is_refused(attempt: Attempt, case: str) -> None:
    attempt(put("published.csv", PUBLISHED[case]), AUDIT, "published.csv")


LONG = ("x" * 300, "x/" * 3000)
_ABLATE_ELSE = "ablate table.yaml --data corpus --features features"
_VALUES: dict[str, tuple[str, ...]] = {
    "audit --systems": ("1" + "0" * 300, "-1", "0", "1e5", "1000000", "2147483648", "nan"),
    f"{EVALUATE} --split": ("tset", "../x", "x" * 3000),
    f"{ABLATE} --seeds": ("0-1000000000", "-1", str(2**70), str(2**31), "9" * 5000, "0-", "a", "0,,1"),
    f"{ABLATE} --rows": ("x" * 5000, "whisq,,", "../x"),
    f"{ABLATE} --base": (*LONG, "/dev/zero", "corpus"),
    "ablate table.yaml --features features --data": (*LONG, "/dev/zero", "/", "table.yaml"),
    "ablate --data corpus": (*LONG, "/dev/zero", "/", "corpus"),
    "ablate table.yaml --data corpus --features": (*LONG, "/dev/zero", "table.yaml", "/proc/x"),
    f"{_ABLATE_ELSE} --out": (*LONG, "/dev/zero", "table.yaml", "/proc/x"),
    f"{_ABLATE_ELSE} --workers": ("0", "-1", "9" * 30, "1e3"),
    f"{_ABLATE_ELSE} --scheduler": (*LONG, "table.yaml", "/dev/zero", "tcp://127.0.0.1:1", "evil://h:1", "tcp://",
                                    "tcp://127.0.0.1:99999999"),
    "report table.yaml --storage sqlite:///whisq.db --out": (*LONG, "/proc/x"),
    "evaluate --data corpus": (*LONG, "/", "corpus"),
    "audit": (*LONG, "/", "corpus"),
    f"{OPTIMIZE} --study": ("../x", "x" * 600, "a/b", ".", "..", "features", "artifacts"),
    f"{OPTIMIZE} --trials": ("0", "-1", "9" * 30),
    f"{OPTIMIZE} --timeout": ("nan", "-1"),
    f"{OPTIMIZE} --seed": ("-1", str(2**70), "x"),
    f"{OPTIMIZE} --row": ("x" * 3000, "../x", "constant"),
    f"{OPTIMIZE} --from": ("nothing",),
    "dashboard --storage sqlite:///whisq.db --port": ("-1", "70000", "9" * 30, "x"),
    "demo --out": (*LONG, "/dev/zero", "table.yaml"),
}  # fmt: skip
OPTIONS = [f"{command} {value}" for command, values in _VALUES.items() for value in values]


@pytest.mark.parametrize("command", sampled(OPTIONS, 5))
def test_an_option_that_cannot_be_right_is_refused_before_anything_is_made(
    attempt: Attempt, tmp_path: Path, command: str
) -> None:
    attempt(nothing, command)

    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("option", ["--split", "--rows", "--seeds", "--base", "--out", "--storage", "--data"])
@pytest.mark.parametrize("text", sampled(["\x1b[2J", "", " ", "\udc80", "a\nb"], 5))
def test_an_option_of_odd_characters_is_refused_in_printable_words(
    commands: Commands, good: Path, tmp_path: Path, option: str, text: str
) -> None:
    copy_of(good, tmp_path)
    words = (EVALUATE if option == "--split" else ABLATE).split()
    if option in words:
        del words[words.index(option) : words.index(option) + 2]

    answer = commands.run(tmp_path, *words, option, text)

    assert "Traceback" not in answer.err, answer
    assert "\x1b" not in answer.err + answer.out
    assert answer.status in (0, 2)
