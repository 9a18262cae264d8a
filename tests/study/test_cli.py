"""What the command line says of itself, and what it does not import to say it."""

import subprocess
import sys
from pathlib import Path

import pytest
from helpers.command import ENVIRONMENT, SCRIPT, run, run_script
from helpers.studies import Place, changed, copied_to

COMMANDS = (
    *("init", "demo", "encode", "ablate", "optimize", "report", "runs", "evaluate", "predict", "audit"),
    *("dashboard", "doctor", "rm"),
)
UNNEEDED = {
    "torch",
    "transformers",
    "optuna",
    "scipy.stats",
    "plotly",
    "sklearn",
    "geomloss",
    "dask",
}  # where nothing is to do
HEAVY = UNNEEDED | {"pandas", "numpy", "scipy", "sqlalchemy", "yaml", "rich", "pydantic"}


def imported_by(folder: Path, *arguments: object) -> set[str]:
    """The modules that a command has imported when it ends with status 0."""
    program = (
        "import sys; from study.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "print(*sys.modules, sep='\\n', file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stderr.splitlines())


def options_of(command: str) -> list[str]:
    """The long options that a command has."""
    from typer.main import get_command

    from study.cli import results, studies, upkeep  # noqa: F401  (they declare the commands)
    from study.cli.app import app

    (found,) = [each for name, each in get_command(app).commands.items() if name == command]  # type: ignore[attr-defined]
    return [name for parameter in found.params for name in parameter.opts if name.startswith("--")]


def test_help_names_every_command_with_a_whole_sentence(tmp_path: Path) -> None:
    finished = run_script(tmp_path, "--help")

    assert finished.status == 0
    lines = {line.split()[0]: line for line in finished.out.splitlines() if line.startswith("  ") and line.strip()}
    for command in COMMANDS:
        assert lines[command].endswith("."), lines[command]
        assert not lines[command].endswith("..."), lines[command]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_explains_every_option(tmp_path: Path, command: str) -> None:
    finished = run(tmp_path, command, "--help")

    assert (finished.status, finished.err) == (0, "")
    summary = finished.out.split("\n\n")[1].strip()
    assert summary.endswith("."), "a command begins with a sentence that says what it is for"
    for option in (option for option in options_of(command) if option != "--help"):
        _, _, described = finished.out.partition(f"  {option} ")
        words = [word for word in described.split("--")[0].split() if not word.startswith(("<", "["))]
        assert len(words) >= 3, f"{option} is not explained"


def test_ablate_help_teaches_what_a_second_run_and_an_exit_status_mean(tmp_path: Path) -> None:
    text = " ".join(run(tmp_path, "ablate", "--help").out.split())

    assert "Run it again and nothing retrains; change a row and only its cells run." in text
    assert "Exit status: 0 all cells are there, 1 some failed (the table says which), 2 the input is wrong" in text
    assert "ablations.yaml here, else the Table II file shipped inside" in text


def test_without_a_command_the_help_is_shown(tmp_path: Path) -> None:
    shown = run(tmp_path).out + run(tmp_path).err

    assert all(f"\n{group}:\n" in shown for group in ("Studies", "Results", "Storage"))


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    modules = imported_by(tmp_path, "--help")

    assert HEAVY & modules == set()


def test_a_table_that_is_complete_is_shown_without_torch_optuna_or_scipy(finished_study: Place, tmp_path: Path) -> None:
    place = copied_to(tmp_path, finished_study)

    modules = imported_by(place.folder, *place.ablate)

    assert UNNEEDED & modules == set()


def test_a_plan_is_made_without_torch_optuna_or_scipy(finished_study: Place, tmp_path: Path) -> None:
    place = copied_to(tmp_path, finished_study)

    modules = imported_by(place.folder, *place.ablate, "--plan")

    assert UNNEEDED & modules == set()


def test_the_plan_of_a_named_row_shows_its_settings_and_how_it_differs(finished_study: Place) -> None:
    finished = run(finished_study.folder, *finished_study.ablate, "--plan", "--rows", "no_ot,constant")

    assert finished.status == 0
    assert "\nrow 'no_ot', WhisQ w/o OT: differs from base in\n  loss.ot_weight: 4.057e-05 -> 0.0\n" in finished.out
    assert "\n  train.learning_rate: 0.01\n" in finished.out
    constant = finished.out.split("row 'constant'")[1]
    assert "model.predictor: whisq -> constant" in constant
    assert "train.learning_rate" not in constant, "a control is not trained"


def test_the_plan_says_what_the_number_of_seeds_cannot_decide(finished_study: Place) -> None:
    finished = run(finished_study.folder, *finished_study.ablate, "--plan")

    assert "24 done; about 0.0 minutes with 1 worker(s), nothing to encode\n" in finished.out
    assert "note: table.yaml:" in finished.out.replace(f"{finished_study.folder}/", "")
    assert "6 comparisons need at least 8 seeds." in finished.out


def test_the_plan_shows_what_its_design_can_find(finished_study: Place, tmp_path: Path) -> None:
    place = copied_to(tmp_path, finished_study)
    changed(place, lambda content: content.update(seeds="0-9"))
    finished = run(place.folder, *place.ablate, "--plan")

    assert "\nAt 80 % power 10 seeds and 6 test systems resolve a difference of utterance-level" in finished.out
    header, first, *_ = finished.out.split("power to find a difference of")[1].splitlines()
    assert header.split() == ["0.02", "0.05", "0.10", "0.15", "0.20"]
    assert first.startswith("  10 seeds, 6 systems, unrelated errors")


def test_the_file_here_is_taken_and_else_the_shipped_one(finished_study: Place, tmp_path: Path) -> None:
    where = ("--data", finished_study.corpus, "--features", finished_study.features, "--plan", "--rows", "constant")

    shipped = run(tmp_path, "ablate", *where)
    (tmp_path / "ablations.yaml").write_bytes(finished_study.file.read_bytes())
    here = run(tmp_path, "ablate", *where)

    assert "10 new" in shipped.out
    assert "2 new" in here.out


def test_a_plan_has_a_line_for_each_row_and_each_reason_once_and_leaves_nothing_on_the_disk(
    small_corpus: Path, tmp_path: Path
) -> None:
    finished = run(tmp_path, "ablate", "--data", small_corpus, "--plan", "--workers", 1)

    assert finished.status == 0
    lines = finished.out.splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["whisq", "no_ot", "official_baseline"]
    assert sum("checkpoint 'openai/whisper-base'" in line for line in lines) == 1
    assert list(tmp_path.iterdir()) == []


def test_init_writes_files_that_a_plan_reads_and_never_overwrites(tmp_path: Path, small_corpus: Path) -> None:
    assert run(tmp_path, "init", "study").status == 0
    file = tmp_path / "study/ablations.yaml"

    planned = run(tmp_path, "ablate", file, "--data", small_corpus, "--plan", "--rows", "constant")
    assert planned.status == 0, planned.err
    missing = run(tmp_path, "ablate", file, "--data", "study/manifest.csv", "--plan")
    assert "study/clips: no such folder" in missing.errors[0], "the example's clips are yours to bring"
    file.write_text("mine")
    refused = run(tmp_path, "init", "study")

    assert refused.status == 2
    assert refused.errors[0].startswith("init: study/ablations.yaml is there already and stays as it is.")
    assert file.read_text() == "mine"


def test_a_traceback_and_a_log_are_there_for_who_asks(tmp_path: Path) -> None:
    plain = run(tmp_path, "report", "none.yaml")
    told = run(tmp_path, "report", "none.yaml", "--verbose", "--log-file=logs/study.log")

    assert "Traceback" not in plain.err
    assert "Traceback" in told.err
    assert told.errors == plain.errors
    kept = (tmp_path / "logs/study.log").read_text()
    assert all(f" error: {mistake}\n" in kept for mistake in plain.errors)


def test_a_log_file_on_a_full_disk_is_told_once_and_the_command_goes_on(tmp_path: Path) -> None:
    told = run_script(tmp_path, "--log-file", "/dev/full", "report", "none.yaml")

    assert told.status == 2
    lines = told.err.splitlines()
    assert "note: --log-file /dev/full: No space left on device. It is written no further." in lines
    assert "Traceback" not in told.err


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "2>/dev/full"])
def test_streams_that_are_closed_or_full_change_no_status(tmp_path: Path, closed: str) -> None:
    for arguments, status in (("--version", 0), ("doctor --out new", 0), ("report none.yaml", 2)):
        line = f"exec {closed}; {SCRIPT} {arguments}"
        done = subprocess.run(["bash", "-c", line], env=ENVIRONMENT, capture_output=True, text=True, cwd=tmp_path)

        assert done.returncode == status, (line, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr


def test_who_reads_no_further_makes_no_mistake_of_it(finished_study: Place) -> None:
    line = f"{SCRIPT} runs --storage {finished_study.storage} | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", line], env=ENVIRONMENT, capture_output=True, text=True, cwd=finished_study.folder
    )

    assert (done.stdout, done.stderr) == ("0\n", "")


def test_ctrl_c_while_the_program_is_imported_and_after_its_end_are_heeded_and_ignored(tmp_path: Path) -> None:
    during = (
        "import sys, signal, study.cli\n"
        "class Finder:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'typer': signal.raise_signal(signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
        "study.cli.main()"
    )
    after = "import atexit, signal, study.cli\natexit.register(signal.raise_signal, signal.SIGINT)\nstudy.cli.main()"
    ended = [
        subprocess.run([sys.executable, "-c", program, "--version"], capture_output=True, text=True, cwd=tmp_path)
        for program in (during, after)
    ]

    assert [one.returncode for one in ended] == [130, 0]
    assert ended[0].stderr == "stopped; what was finished is saved, run the same command to go on\n"
    assert ended[1].stderr == ""


def test_completion_is_offered_for_the_shells(tmp_path: Path) -> None:
    environment = {
        **ENVIRONMENT,
        "_WHISQ_STUDY_COMPLETE": "complete_bash",
        "COMP_WORDS": "whisq-study ru",
        "COMP_CWORD": "1",
    }
    done = subprocess.run([SCRIPT], env=environment, capture_output=True, text=True, check=False, cwd=tmp_path)

    assert done.stdout.split() == ["runs"]


def test_the_version_is_told(tmp_path: Path) -> None:
    assert run(tmp_path, "--version").out.startswith("whisq-study ")
