"""Each thing that can be missing, stuck or broken is made so for real, found, and mended."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
from helpers.command import Finished, run
from helpers.studies import Place, changed, copied_to, row
from optuna.trial import TrialState

from study import doctor
from study.engine import Pool, Sources, preflight
from study.search.optimize import plan_search
from study.search.study import open_search
from study.store import Database

STORAGE_ADVICE = "start its server, restore its file from a copy, or give another --storage"


@pytest.fixture
def place(finished_study: Place, tmp_path: Path) -> Place:
    """A finished study that a test may break; its features are shared."""
    return copied_to(tmp_path / "study", finished_study)


def ask(place: Place, *options: object, storage: str | None = None) -> Finished:
    where = ("--storage", storage or place.storage, "--features", place.features, "--out", place.out)
    return run(place.folder, "doctor", place.file, *where, *options)


def troubles(finished: Finished) -> list[str]:
    """What is wrong, without what to do about it; it must agree with the exit status."""
    found = [line.removeprefix("!!  ") for line in finished.out.splitlines() if line.startswith("!!")]
    assert finished.status == (1 if found else 0), finished
    return found


def advice(finished: Finished) -> list[str]:
    return [line.strip().removeprefix("-> ") for line in finished.out.splitlines() if line.startswith("    ->")]


def mended(finished: Finished) -> bool:
    """Whether --fix found nothing when it looked again."""
    return finished.status == 0 and finished.out.endswith("after it:\nok  nothing is missing, stuck or broken\n")


def test_a_finished_study_is_healthy(place: Place) -> None:
    finished = ask(place, "--data", place.corpus)

    assert troubles(finished) == []
    assert f"ok  storage {place.storage}: opens, {Database(place.storage).count_runs()} runs" in finished.out
    assert re.search(r"^ok  study table2: \d+ complete, 2 without a value$", finished.out, re.MULTILINE)
    assert finished.out.count(": complete\n") == 3


def test_only_what_failed_is_counted_as_failed(place: Place) -> None:
    study = optuna.load_study(study_name="table2", storage=place.storage)
    distributions = study.get_trials()[0].distributions
    params = study.get_trials()[0].params
    for attributes in ({"state": "failed", "reason": "a"}, {"state": "done", "superseded": "the row has changed"}):
        study.add_trial(
            optuna.create_trial(
                state=TrialState.FAIL, params=params, distributions=distributions, user_attrs=attributes
            )
        )

    assert re.search(r"^ok  study table2: \d+ complete, 2 without a value, 1 fail, 1 superseded$", ask(place).out, re.M)


def test_the_doctor_does_not_load_torch() -> None:
    script = "import sys, study.doctor; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_a_storage_that_is_not_there_yet_is_said_and_not_made(place: Place, tmp_path: Path) -> None:
    new = tmp_path / "new" / "whisq.db"

    finished = ask(place, storage=f"sqlite:///{new}")

    assert troubles(finished) == []
    assert f"storage sqlite:///{new}: not there yet; the first `whisq-study ablate`" in finished.out
    assert not new.parent.exists()


# --- stuck -----------------------------------------------------------------------------------------------------------


SEARCH = {"space": {"train.learning_rate": {"low": 1e-4, "high": 0.1, "log": True}}}


def begun_search(place: Place) -> optuna.Study:
    """A search of the row whisq that has been begun and has no trial."""
    changed(place, lambda content: content.update({"search": SEARCH}))
    inputs = preflight(Sources(place.file, place.corpus, place.features, place.storage, place.out))
    with Pool(1) as pool:
        plan = plan_search(inputs.file, inputs.file.row("whisq"), inputs.workspace, pool)
    return open_search(inputs.database, plan)[0]


def test_trials_of_a_command_that_has_ended_are_found_and_closed(place: Place) -> None:
    study = begun_search(place)
    study.ask()
    study.ask()

    found = ask(place)
    assert troubles(found) == ["study table2-whisq: trials 0, 1 were left running by a command that has ended"]
    assert advice(found) == ["whisq-study doctor --fix (or run the search again: it goes on with them)"]

    assert mended(ask(place, "--fix"))
    assert [trial.state for trial in study.get_trials()] == [TrialState.FAIL] * 2
    assert "ok  study table2-whisq: 2 interrupted\n" in ask(place).out
    assert troubles(ask(place)) == []


def test_who_is_writing_is_said_and_its_running_trials_are_no_trouble(place: Place) -> None:
    begun_search(place).ask()

    with Database(place.storage).writing("whisq-study optimize"):
        found = ask(place)

    assert troubles(found) == []
    assert re.search(r"runs; whisq-study optimize, process \d+ on .* is writing to it\n", found.out)


def test_the_writer_on_postgresql_is_said(place: Place, postgresql_url: str) -> None:
    with Database(postgresql_url).writing("whisq-study ablate"):
        found = ask(place, storage=postgresql_url)

    assert troubles(found) == []
    assert "whisq-study ablate, process " in found.out
    assert " is writing to it" not in ask(place, storage=postgresql_url).out


# --- broken ----------------------------------------------------------------------------------------------------------


def test_a_server_that_does_not_answer_is_named_without_its_password(place: Place) -> None:
    finished = ask(place, storage="postgresql://whisq:open-sesame@127.0.0.1:9/study")

    (found,) = troubles(finished)
    assert found.startswith("storage 'postgresql://whisq:***@127.0.0.1:9/study': cannot be opened: connection failed")
    assert "Connection refused" in found
    assert "sesame" not in finished.out + finished.err
    assert advice(finished) == [STORAGE_ADVICE]


def test_a_file_that_is_no_database_is_said(place: Place) -> None:
    for path in place.folder.glob("whisq.db*"):
        path.unlink()
    (place.folder / "whisq.db").write_bytes(b"not a database, and long enough to see that" * 100)

    found = ask(place)

    assert troubles(found) == [f"storage '{place.storage}': cannot be opened: file is not a database."]
    assert advice(found) == [STORAGE_ADVICE]


def test_a_truncated_database_is_said(place: Place) -> None:
    for path in place.folder.glob("whisq.db-*"):
        path.unlink()
    (place.folder / "whisq.db").write_bytes((place.folder / "whisq.db").read_bytes()[:20_000])

    found = ask(place)

    assert troubles(found) == [f"storage '{place.storage}': cannot be opened: database disk image is malformed."]
    assert advice(found) == [STORAGE_ADVICE]


def test_a_storage_of_another_kind_is_refused(place: Place) -> None:
    (found,) = troubles(ask(place, storage="mysql://root:open-sesame@host/study"))

    assert "found 'mysql'." in found
    assert "sesame" not in found


def test_every_mistake_of_the_file_is_shown(place: Place) -> None:
    changed(place, lambda content: row(content, "no_ot")["set"].update({"loss.ot_wieght": 0}))

    found = ask(place)

    assert [text for text in troubles(found) if "unknown setting 'loss.ot_wieght'" in text]
    assert advice(found) == [f"edit {place.file}"]


def test_truncated_damaged_and_missing_features_are_found_and_encoded_again(place: Place, tmp_path: Path) -> None:
    shutil.copytree(place.features, tmp_path / "features")
    place = Place(place.corpus, place.weights, tmp_path / "features", place.folder)
    (store,) = {path.parent for path in place.features.glob("audio-*/*.safetensors") if "whisper" in _meta(path)}
    truncated, damaged, missing, *_ = sorted(store.glob("*.safetensors"))
    before = {path: path.read_bytes() for path in (truncated, damaged, missing)}
    truncated.write_bytes(before[truncated][:-100])
    damaged.write_bytes(before[damaged][:-1] + bytes([before[damaged][-1] ^ 1]))
    missing.unlink()
    description = (store / "store.json").read_bytes()
    (store / "store.json").write_text("{")

    found = ask(place, "--data", place.corpus)
    named = [text for text in troubles(found) if text.startswith(str(store))]
    assert [text.split(": ")[0] for text in named] == [str(truncated), str(damaged), str(store / "store.json")]
    assert [text for text in troubles(found) if text.endswith("2 clips and 0 prompts cannot be read")]
    assert f"whisq-study encode {place.file} --data {place.corpus} --features {place.features}" in advice(found)

    assert mended(ask(place, "--data", place.corpus, "--fix"))
    assert {path: path.read_bytes() for path in before} == before
    assert (store / "store.json").read_bytes() == description
    assert troubles(ask(place, "--data", place.corpus)) == []


def _meta(features: Path) -> str:
    return (features.parent / "store.json").read_text(encoding="utf-8")


def test_weights_that_are_gone_cannot_be_mended_here(place: Place) -> None:
    def rename(content: dict[str, Any]) -> None:
        row(content, "w2v2_modernbert")["set"]["backbone.audio"] = str(place.weights / "gone")

    changed(place, rename)

    finished = ask(place, "--data", place.corpus, "--fix")

    (found,) = troubles(finished)
    assert f"features of {place.weights / 'gone'} + " in found
    assert advice(finished) == ["fetch the weights, or name a local folder"]


def test_a_mistake_of_the_corpus_is_shown(place: Place, tmp_path: Path) -> None:
    shutil.copytree(place.corpus, tmp_path / "corpus")
    victim = sorted((tmp_path / "corpus" / "wav").iterdir())[0]
    victim.unlink()

    found = ask(place, "--data", tmp_path / "corpus")

    assert [text for text in troubles(found) if victim.name in text]
    assert advice(found) == [f"mend the corpus at {tmp_path / 'corpus'}"]


def test_a_full_disk_is_said(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_SPACE_WANTED", 2**60)

    finished = ask(place, "--fix")

    assert [text.split(" GiB ")[1] for text in troubles(finished)] == [
        f"free at {place.out}",
        f"free at {place.features}",
    ]


# --- left behind -----------------------------------------------------------------------------------------------------


def test_a_search_whose_space_has_changed_in_the_file_is_found(place: Place) -> None:
    begun_search(place)
    assert troubles(ask(place)) == []
    changed(place, lambda content: content["search"]["space"]["train.learning_rate"].update({"high": 1.0}))

    found = ask(place)

    assert troubles(found) == [
        "study table2-whisq: the search has changed: train.learning_rate: was 0.0001 to 0.1, log, is 0.0001 to 1.0, log"
    ]
    assert advice(found) == [
        f"restore it in {place.file}, or begin a new study that takes over what still fits: "
        "whisq-study optimize --study NEW --from table2-whisq"
    ]


def test_a_search_of_another_table_is_not_compared(place: Place) -> None:
    begun_search(place)
    changed(place, lambda content: content.update({"name": "other", "search": {**SEARCH, "score": "dev"}}))

    assert troubles(ask(place)) == []
