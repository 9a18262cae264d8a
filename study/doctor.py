"""`whisq-study doctor`: what is missing, stuck or broken, and the command that mends it."""

import fcntl
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.trial import TrialState

from study.ablation_file import read_ablation_file
from study.database import Database
from study.queue import lost, open_storage, reap
from study.runs import Workspace
from study.search_space import difference
from study.storage_url import sqlite_path
from study.table_design import AblationFile
from whisq_core.encoding import missing
from whisq_core.errors import InputError
from whisq_core.features import FeatureStore

_SPACE_WANTED = 2 * 2**30  # bytes free beside the results; the features of MusicEval take 4.5 GB


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: `mend` is the command or None when all is well; `fix` does it in place."""

    what: str
    mend: str | None = None
    fix: Callable[[], str] | None = None

    @property
    def is_trouble(self) -> bool:
        """Whether something has to be done."""
        return self.mend is not None


@dataclass(frozen=True)
class DoctorRequest:
    """What to look at; parts that are None are left out."""

    storage: str
    features: Path
    out: Path
    file: Path | None = None
    data: Path | None = None


def examine(request: DoctorRequest) -> list[Finding]:
    """Everything found, trouble or not, in the order: disk, storage, studies, file, features."""
    findings = list(_disk(request))
    try:
        _check_lock(request.storage)
        database = Database(request.storage)
        storage = open_storage(database)
    except InputError as error:
        return [*findings, Finding(str(error), "start the database server, or give another --storage")]
    findings.append(Finding(f"storage {database.masked_url}: opens, {database.count_runs()} runs"))
    file, mistakes = _read_file(request)
    findings += mistakes
    for name in optuna.get_all_study_names(storage):
        findings += _study(optuna.load_study(study_name=name, storage=storage), database, file)
    return [*findings, *_features(request, file)]


def mend(findings: list[Finding]) -> list[str]:
    """Carry out what can be mended in place; one line each."""
    return [finding.fix() for finding in findings if finding.fix is not None]


def _disk(request: DoctorRequest) -> Iterator[Finding]:
    for folder in dict.fromkeys((request.out, request.features)):
        existing = next(parent for parent in (folder, *folder.resolve().parents) if parent.exists())
        free = shutil.disk_usage(existing).free
        text = f"disk: {free / 2**30:.1f} GiB free at {folder}"
        yield Finding(text, "free some space, or give another folder" if free < _SPACE_WANTED else None)


def _check_lock(url: str) -> None:
    """Say so when another process holds the queue lock, instead of waiting for it."""
    path = sqlite_path(url)
    lock = Path(f"{path}.lock")
    if path is None or not lock.exists():
        return
    with lock.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"{lock}: held by another process. It is released when that process goes on or ends."
            ) from None


def _read_file(request: DoctorRequest) -> tuple[AblationFile | None, list[Finding]]:
    if request.file is None:
        return None, []
    try:
        file = read_ablation_file(request.file)
    except InputError as error:
        return None, [Finding(mistake, f"edit {request.file}") for mistake in error.mistakes]
    return file, [Finding(f"{request.file}: {len(file.rows)} rows"), *(Finding(text) for text in file.warnings)]


def _study(study: optuna.Study, database: Database, file: AblationFile | None) -> Iterator[Finding]:
    counts = {state.name.lower(): 0 for state in TrialState}
    for trial in study.get_trials(deepcopy=False):
        counts[trial.state.name.lower()] += 1
    shown = ", ".join(f"{count} {state}" for state, count in counts.items() if count) or "empty"
    yield Finding(f"study {study.study_name}: {shown}")
    zombies = lost(study)
    if zombies:
        numbers = ", ".join(str(trial.number) for trial in zombies)
        yield Finding(
            f"study {study.study_name}: trials {numbers} run in workers that are gone",
            "whisq-study doctor --fix (or start the study again: it takes them back itself)",
            lambda: f"study {study.study_name}: {reap(study, database)} trials are back in the queue",
        )
    yield from _leftovers(study, database, file)
    fingerprint = study.user_attrs.get("fingerprint")
    if fingerprint and file is not None and file.search is not None:
        for line in difference(fingerprint, file.search):
            yield Finding(
                f"study {study.study_name}: the search space has changed: {line}",
                "restore the space in the file, or search under a new name: whisq-study optimize --study NEW",
            )


def _leftovers(study: optuna.Study, database: Database, file: AblationFile | None) -> Iterator[Finding]:
    """Waiting cells of a table that its file does not have any more."""
    if file is None or study.study_name != file.name or study.user_attrs.get("kind") != "ablation":
        return
    current = {entry.run_id for entry in database.cells(file.name).values()}
    waiting = study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
    stale = [trial for trial in waiting if trial.user_attrs.get("run_id") not in current]
    if not stale:
        return

    def withdraw() -> str:
        with database.exclusive():
            for trial in stale:
                study._storage.set_trial_user_attr(trial._trial_id, "reason", "withdrawn: not in the file any more")
                study._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
        return f"study {study.study_name}: {len(stale)} cells withdrawn"

    yield Finding(
        f"study {study.study_name}: {len(stale)} waiting cells are not in {file.path} any more",
        "whisq-study doctor --fix",
        withdraw,
    )


def _features(request: DoctorRequest, file: AblationFile | None) -> Iterator[Finding]:
    if file is None or request.data is None:
        return
    try:
        workspace = Workspace(request.data, request.features)
        digests = workspace.audio_digests
    except InputError as error:
        yield from (Finding(mistake, f"mend the corpus at {request.data}") for mistake in error.mistakes)
        return
    command = f"whisq-study encode {request.file} --data {request.data}"
    for spec in dict.fromkeys(row.spec.backbone for row in file.rows if row.spec.uses_features):
        names = f"features of {spec.audio} + {spec.text}"
        try:
            backbone = workspace.backbone(spec)
            clips, prompts = missing(workspace.corpus, digests, backbone, request.features)
        except InputError as error:
            yield Finding(f"{names}: {' '.join(error.mistakes)}", "fetch the weights, or name a local folder")
            continue
        lacking = f"{names}: {clips} clips and {prompts} prompts are missing"
        yield Finding(lacking, command) if clips + prompts else Finding(f"{names}: complete")
        for key in (backbone.audio_key, backbone.text_key):
            store = FeatureStore(request.features, key)
            for item, problem in store.verify().items():
                yield Finding(problem, f"delete it, then: {command}", _remover(store.path(item)))


def _remover(path: Path) -> Callable[[], str]:
    def remove() -> str:
        path.unlink(missing_ok=True)
        return f"{path}: removed; the next encode makes it anew"

    return remove
