"""`whisq-study doctor`: what is missing, stuck or broken, and the command that mends it."""

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial
from sqlalchemy.exc import DBAPIError

from study.config import AblationFile, difference, read_ablation_file
from study.dashboard import open_storage
from study.engine import Sources, Workspace, encode_backbones
from study.search import close_interrupted, search_of, trials_by_state
from study.store import Database, masked, open_error, sqlite_path
from whisq_core import plugins
from whisq_core.encoders import missing
from whisq_core.errors import InputError
from whisq_core.features import FeatureStore
from whisq_core.kernels import SWITCH, chosen
from whisq_core.metrics import statistic
from whisq_core.spec import BackboneSpec

_STORAGE_ADVICE = "start its server, restore its file from a copy, or give another --storage"
_SPACE_WANTED = 2 * 2**30  # bytes free beside the results; the features of MusicEval take 4.5 GB


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: `mend` says what to do, or is None when all is well; `fix` does it in place."""

    what: str
    mend: str | None = None
    fix: Callable[[], str] | None = None


@dataclass(frozen=True)
class DoctorRequest:
    """What to look at; features are left out where there is no `data`."""

    storage: str
    features: Path
    out: Path
    file: Path
    data: Path | None


def diagnose(request: DoctorRequest, *, fix: bool = False) -> tuple[list[str], bool]:
    """Look at everything; with `fix` mend what can be mended and look again. Lines to show, and whether all is well."""
    findings = examine(request)
    lines = [line for finding in findings for line in _shown(finding)]
    if fix and any(finding.fix for finding in findings):
        lines += [f"fix {finding.fix()}" for finding in findings if finding.fix]
        findings = examine(request)
        left = [line for finding in findings if finding.mend for line in _shown(finding)]
        lines += ["after it:", *(left or ["ok  nothing is missing, stuck or broken"])]
    return lines, not any(finding.mend for finding in findings)


def _shown(finding: Finding) -> list[str]:
    return [f"!!  {finding.what}", f"    -> {finding.mend}"] if finding.mend else [f"ok  {finding.what}"]


def examine(request: DoctorRequest) -> list[Finding]:
    """Everything found, trouble or not, in the order: disk, kernels, plug-ins, file, storage, studies, features."""
    file, findings = _read_file(request.file)
    before = [*_disk(request), _kernels(), *_plugins(), *findings]
    return [*before, *_readable_storage(request, file), *_features(request, file)]


def _disk(request: DoctorRequest) -> Iterator[Finding]:
    for folder in dict.fromkeys((request.out, request.features)):
        existing = next(parent for parent in (folder, *folder.resolve().parents) if parent.exists())
        free = shutil.disk_usage(existing).free
        text = f"disk: {free / 2**30:.1f} GiB free at {folder}"
        yield Finding(text, "free some space, or give another folder" if free < _SPACE_WANTED else None)


def _kernels() -> Finding:
    """Which kernels training uses on a CPU. PyTorch's own are no trouble, only slower."""
    try:
        name, kernels = chosen()
    except InputError as error:
        return Finding(error.mistakes[0], f"unset {SWITCH}")
    if kernels is not None:
        return Finding(f"kernels: {name}")
    if os.environ.get(SWITCH):
        return Finding(f"kernels: PyTorch, as {SWITCH} asks")
    return Finding(
        "kernels: PyTorch, since whisq-study was installed without compiled ones; training on a CPU is two to three "
        "times as fast with gcc or clang and then pip install --force-reinstall --no-deps --no-binary whisq-study "
        "whisq-study (in a checkout: pip install --editable .)"
    )


def _plugins() -> Iterator[Finding]:
    """Which plug-ins are installed, and whether each can be imported."""
    for kind in plugins.KINDS:
        for plugin in plugins.installed(kind).values():
            try:
                statistic(plugin.name) if kind == "metric" else plugin.load()
                yield Finding(f"plug-in: {kind} {plugin.name} of {plugin.distribution}")
            except InputError as error:
                package = plugin.distribution.partition("==")[0]
                yield Finding(error.mistakes[0], f"install a working version of {package}")


def _read_file(path: Path) -> tuple[AblationFile | None, list[Finding]]:
    try:
        file = read_ablation_file(path)
    except InputError as error:
        return None, [Finding(mistake, f"edit {path}") for mistake in error.mistakes]
    return file, [Finding(f"{path}: {len(file.rows)} rows"), *map(Finding, file.warnings)]


def _storage(request: DoctorRequest, file: AblationFile | None) -> Iterator[Finding]:
    """The storage as a whole, then each of its studies; a file that is not there is not made."""
    name, path = f"storage {masked(request.storage)}", sqlite_path(request.storage)
    if path is not None and not path.exists():
        yield Finding(f"{name}: not there yet; the first `whisq-study ablate` or `optimize` makes it")
        return
    database = Database(request.storage)
    writer, num_runs, storage = database.writer(), database.count_runs(), open_storage(database)
    yield Finding(f"{name}: opens, {num_runs} runs" + (f"; {writer} is writing to it" if writer else ""))
    for study_name in optuna.get_all_study_names(storage):
        study = optuna.load_study(study_name=study_name, storage=storage)
        found = trials_by_state(study)
        named = Counter(_named(state, trial) for state, trials in found.items() for trial in trials)
        counts = ", ".join(f"{count} {state}" for state, count in named.items())
        yield Finding(f"study {study_name}: {counts or 'empty'}")
        if study.user_attrs.get("kind") == "search":
            yield from _left_running(study, database) if "running" in found and not writer else ()
            yield from _drift(study, file) if file is not None else ()


def _named(state: str, trial: FrozenTrial) -> str:
    """The state of a trial; `show_table` of `study.dashboard` says which failed trials of a table are no failures."""
    if state != "fail":
        return state
    shown = trial.user_attrs
    return "superseded" if "superseded" in shown else "without a value" if shown.get("state") == "done" else state


def _readable_storage(request: DoctorRequest, file: AblationFile | None) -> Iterator[Finding]:
    """What `_storage` finds, and what keeps it from reading on."""
    try:
        yield from _storage(request, file)
    except InputError as error:
        yield Finding(str(error), _STORAGE_ADVICE)
    except (DBAPIError, StorageInternalError) as error:  # a damaged file is found while it is read
        cause = error.__cause__ if isinstance(error.__cause__, DBAPIError) else error
        yield Finding(str(open_error(request.storage, cause)), _STORAGE_ADVICE)


def _left_running(study: optuna.Study, database: Database) -> Iterator[Finding]:
    """Trials of a coordinator that has ended: nobody is writing."""

    def close() -> str:
        with database.writing("whisq-study doctor --fix"):
            closed = close_interrupted(study)
        return f"study {study.study_name}: {len(closed)} trials closed, the search goes on with them"

    numbers = ", ".join(str(trial.number) for trial in trials_by_state(study)["running"])
    yield Finding(
        f"study {study.study_name}: trials {numbers} were left running by a command that has ended",
        "whisq-study doctor --fix (or run the search again: it goes on with them)",
        close,
    )


def _drift(study: optuna.Study, file: AblationFile) -> Iterator[Finding]:
    """Searches that cannot go on, because the file searches something else now."""
    fingerprint, rows = study.user_attrs.get("fingerprint"), {row.id: row for row in file.rows}
    row = rows.get(study.user_attrs.get("row", ""))
    if fingerprint is None or row is None or study.user_attrs.get("table") != file.name:
        return
    try:
        lines = difference(fingerprint, search_of(file).without(row.settings))
    except InputError as error:
        lines = list(error.mistakes)
    for line in lines:
        yield Finding(
            f"study {study.study_name}: the search has changed: {line}",
            f"restore it in {file.path}, or begin a new study that takes over what still fits: "
            f"whisq-study optimize --study NEW --from {study.study_name}",
        )


def _features(request: DoctorRequest, file: AblationFile | None) -> Iterator[Finding]:
    if file is None or request.data is None:
        return
    try:
        workspace = Workspace(request.data, request.features)
        _ = workspace.digest  # reads what has changed
    except InputError as error:
        yield from (Finding(mistake, f"mend the corpus at {request.data}") for mistake in error.mistakes)
        return
    yield Finding(f"corpus {request.data}: {len(workspace.corpus.clips)} clips can be read")
    sources = Sources(request.file, request.data, request.features)
    for spec in dict.fromkeys(row.spec.backbone for row in file.rows if row.spec.uses_features):
        yield from _features_of(spec, workspace, f"whisq-study encode {sources.shell_words()}")


def _description(store: FeatureStore) -> str | None:
    """What is wrong with what a store says of itself."""
    try:
        _ = store.meta
    except InputError as error:
        return str(error)
    return None


def _features_of(spec: BackboneSpec, workspace: Workspace, command: str) -> Iterator[Finding]:
    """Each damaged file, then what there is to encode: one mending for both."""
    names = f"features of {spec.audio} + {spec.text}"
    try:
        backbone = workspace.backbone(spec)
        clips, prompts = missing(workspace.corpus, workspace.audio_digests, backbone, workspace.features)
        stores = [FeatureStore(workspace.features, key) for key in (backbone.audio_key, backbone.text_key)]
        damaged = {store.path(item): problem for store in stores for item, problem in store.verify().items()}
        damaged |= {store.folder / "store.json": problem for store in stores if (problem := _description(store))}
    except InputError as error:
        yield Finding(f"{names}: {' '.join(error.mistakes)}", "fetch the weights, or name a local folder")
        return
    yield from (Finding(problem, f"rm {path} && {command}") for path, problem in damaged.items())
    if not clips + prompts + len(damaged):
        yield Finding(f"{names}: complete")
        return

    def mend() -> str:
        for path in damaged:
            path.unlink(missing_ok=True)
        problem = encode_backbones(workspace, [spec]).get(spec)
        return f"{names}: {problem or 'encoded'}"

    yield Finding(f"{names}: {clips} clips and {prompts} prompts cannot be read", command, mend)
