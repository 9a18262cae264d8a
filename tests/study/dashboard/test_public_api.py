"""Optuna is used through its public API, and in three rooms only: its private names change without a word."""

import re
from pathlib import Path

STUDY = Path(__file__).parents[3] / "study"
PRIVATE = re.compile(
    r"(from|import) optuna(_dashboard)?[\w.]*\._|optuna(_dashboard)?(\.\w+)*\._\w|\b_?(trial|study)\._[a-z]"
    r"|\b_(trial_id|study_id|storage\.|CachedStorage|cached_storage|thread_local|get_stale\w*|pop_waiting\w*)"
    r"|[\"'](fixed_params|artifacts:|dashboard:)"
)


def sources() -> dict[str, str]:
    return {str(path.relative_to(STUDY)): path.read_text(encoding="utf-8") for path in STUDY.rglob("*.py")}


def test_no_private_name_of_optuna_is_used() -> None:
    found = {name: [hit[0] for hit in PRIVATE.finditer(text)] for name, text in sources().items() if "optuna" in text}

    assert {name: hits for name, hits in found.items() if hits} == {}


def test_optuna_is_imported_in_search_dashboard_and_doctor_alone() -> None:
    imports = re.compile(r"^\s*(?:from|import) optuna", re.MULTILINE)

    types_only = re.compile(r"^if TYPE_CHECKING:\n(    .*\n)+", re.MULTILINE)

    users = {name.split("/")[0] for name, text in sources().items() if imports.search(types_only.sub("", text))}

    assert users == {"search", "dashboard", "doctor.py"}


def test_the_search_finds_what_it_looks_for() -> None:
    for line in (
        "from optuna.storages._rdb.models import TrialModel",
        "study._storage.get_trial(trial._trial_id)",
        "from optuna_dashboard._note import get_note",
        "optuna.storages._CachedStorage(backend)",
        "system_attrs={'fixed_params': {}}",
    ):
        assert PRIVATE.search(line), line
