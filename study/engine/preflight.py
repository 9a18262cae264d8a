"""The checks that every command makes before it starts anything: all that is wrong is told together."""

import os
import shlex
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np

from study.config import AblationFile, Row, read_ablation_file
from study.engine.workspace import Workspace
from study.store import Database, masked, sqlite_path
from whisq_core import kernels
from whisq_core.errors import InputError, did_you_mean, raise_all
from whisq_core.metrics import brought, statistic
from whisq_core.plugins import used


@contextmanager
def collect_errors(mistakes: list[str]) -> Iterator[None]:
    """Keep what the block finds wrong for later, so that checks which do not need each other report together."""
    try:
        yield
    except InputError as error:
        mistakes.extend(error.mistakes)


@dataclass(frozen=True)
class Sources:
    """What a command reads, as its options say it; parts that it does not have are None."""

    file: Path
    data: Path | None = None
    features: Path | None = None
    storage: str | None = None
    out: Path | None = None
    base: Path | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    name: str | None = None
    seeds: tuple[int, ...] | None = None
    rows: tuple[str, ...] = ()
    keeps: bool = True  # whether anything may be left on the disk: not by a plan

    def shell_words(self) -> str:
        """The file, and the options that say where the rest lies, as a shell takes them; a password is masked."""
        storage = self.storage and masked(self.storage)
        options = {"--data": self.data, "--features": self.features, "--storage": storage}
        given = [(option, str(value)) for option, value in options.items() if value is not None]
        return shlex.join([str(self.file), *chain.from_iterable(given)])


class Inputs:
    """What a command works on, read and checked; `workspace` and `database` where its sources name them.

    `rows` and `seeds` are what it was asked to compute: the whole table unless they are named.
    """

    def __init__(self, file: AblationFile, out: Path) -> None:
        self.file, self.out = file, out
        self.rows: tuple[Row, ...] = file.rows
        self.seeds: tuple[int, ...] | None = None
        self.workspace: Workspace
        self.database: Database


def preflight(sources: Sources, *, writes: bool = True) -> Inputs:
    """Read file, corpus and database and see that the command can do its work; nothing is made yet.

    Parameters
    ----------
    writes
        Whether the command stores runs. One that does not needs a storage that is there.

    Raises
    ------
    InputError
        With every mistake.
    """
    mistakes: list[str] = []
    inputs: Inputs | None = None
    with collect_errors(mistakes):
        file = read_ablation_file(sources.file, sources.base, sources.settings)
        inputs = Inputs(file, output_folder(sources.out, sources.name or file.name))
        with collect_errors(mistakes):
            inputs.rows = chosen_rows(file, sources.rows)
        with collect_errors(mistakes):
            inputs.seeds = chosen_seeds(file, sources.seeds)
    with collect_errors(mistakes):
        check_writable(sources.out or (inputs.out if inputs else Path("results")), "--out")
    if sources.storage is not None:
        with collect_errors(mistakes):
            database = open_database(sources.storage, writes, f"whisq-study ablate {sources.file} --data DIR")
    if sources.data is not None:
        assert sources.features is not None, "features go with a corpus"
        with collect_errors(mistakes):
            workspace = Workspace(sources.data, sources.features, keeps=sources.keeps)
        with collect_errors(mistakes):
            if not os.path.isdir(sources.features):  # a complete store may be read-only
                check_writable(sources.features, "--features")
        with collect_errors(mistakes):
            kernels.chosen()  # kernels that are asked for by name must be there, else every cell would fail
    raise_all(mistakes)
    assert inputs is not None
    if sources.storage is not None:
        inputs.database = database
    if sources.data is not None:
        inputs.workspace = workspace
        _check_on_corpus(inputs)
    return inputs


def _check_on_corpus(inputs: Inputs) -> None:
    """What needs both the file and the corpus; `InputError` with every mistake."""
    mistakes: list[str] = []
    with collect_errors(mistakes):
        check_splits(inputs.file, inputs.rows, inputs.workspace)
    with collect_errors(mistakes):
        _load_plugins(inputs.rows)
    with collect_errors(mistakes):
        _try_metrics(inputs.file, inputs.workspace)
    with collect_errors(mistakes):
        _ = inputs.workspace.audio_digests  # looks at every sound file that is new or has changed
    raise_all(mistakes)


def chosen_rows(file: AblationFile, wanted: Sequence[str]) -> tuple[Row, ...]:
    """The rows named by `--rows`, or all."""
    known = {row.id: row for row in file.rows}
    swept = {sweep.id: sweep.rows for sweep in file.sweeps}
    wanted = [row for name in wanted for row in swept.get(name, (name,))]
    raise_all(
        [
            f"--rows: unknown row '{name}'. {did_you_mean(name, [*known, *swept])}"
            for name in wanted
            if name not in known
        ]
    )
    return tuple(known[name] for name in wanted) if wanted else tuple(file.rows)


def chosen_seeds(file: AblationFile, wanted: tuple[int, ...] | None) -> tuple[int, ...] | None:
    """The seeds named by `--seeds`, each of which the file has; None for all."""
    known = {seed for row in file.rows for seed in row.seeds}
    if wanted is not None and (unknown := [seed for seed in wanted if seed not in known]):
        raise InputError(
            f"--seeds: {', '.join(map(str, unknown))} not among the seeds of {file.path}. --seeds chooses some of "
            "those; to have more, widen the file's 'seeds': what is done does not run again."
        )
    return wanted


def check_splits(file: AblationFile, rows: Sequence[Row], workspace: Workspace) -> None:
    """Every split that a row fits or scores must have labelled clips."""
    clips = workspace.corpus.clips
    labelled = set(clips.loc[clips["omq"].notna(), "split"])
    raise_all(
        [
            f"{file.path}:{row.line}, row '{row.id}': split '{name}' has no labelled clips in {workspace.data}. "
            f"Found: {', '.join(sorted(labelled)) or 'none'}."
            for row in rows
            for name in (row.spec.data.fit, *row.spec.data.score)
            if name != "inner" and name not in labelled
        ]
    )


OWN_FOLDERS = {"features": "encoded clips", "artifacts": "files of the dashboard"}  # in results/


def output_folder(given: Path | None, name: str) -> Path:
    """Where a table goes: `--out`, else results/<its name>."""
    return given or Path("results") / name


def open_database(url: str, writes: bool, made_by: str) -> Database:
    """The database behind a storage URL; `made_by` is the command that makes one.

    Raises
    ------
    InputError
        When it cannot be opened, cannot be written and should be, or is not there and should be.
    """
    path = sqlite_path(url)
    if path is None:
        return Database(url)
    if not writes and not path.exists():
        raise InputError(f"storage '{url}': there is no {path}. Give the --storage of your runs, or run: {made_by}.")
    problem = f"{path} is a folder" if path.is_dir() else _unwritable(path.parent) if writes else None
    if writes and problem is None and path.exists() and not os.access(path, os.W_OK):
        problem = f"{path} is read-only"
    database = None
    try:
        database = None if problem else Database(url)
    except InputError as error:
        if "not a database" not in str(error):
            raise
        problem = f"{path} is not a SQLite database"
    if database is None or problem:
        remedy = "Give another file: --storage sqlite:///FILE.db."
        raise InputError(f"storage '{url}': cannot be opened, {problem}. {remedy}") from None
    return database


def check_writable(folder: Path, option: str) -> None:
    """See that `folder` can be written, or made; nothing is made yet.

    Raises
    ------
    InputError
        Naming the `option` that gave it.
    """
    problem = _unwritable(folder)
    if problem:
        raise InputError(f"{option} {folder}: cannot be written, {problem}. Give another folder.")


def make_folder(folder: Path) -> None:
    """Make a folder for results.

    Raises
    ------
    InputError
        When it cannot be written.
    """
    check_writable(folder, "--out")
    folder.mkdir(parents=True, exist_ok=True)


def _unwritable(folder: Path) -> str | None:
    for path in (folder, *folder.absolute().parents):
        try:
            is_folder = stat.S_ISDIR(path.stat().st_mode)
        except (FileNotFoundError, NotADirectoryError):
            if path.is_symlink():
                return f"{path} is a link to nothing"
            continue
        except ValueError:
            return "it is no path"
        except OSError as error:
            return f"{error.strerror}"
        if not is_folder:
            return f"{path} is a file"
        try:
            with TemporaryFile(dir=path):  # what may be written is not always what the permissions say
                return None
        except OSError:
            return f"{path} is read-only or not yours"
    return "it is no path"


def _load_plugins(rows: Sequence[Row]) -> None:
    """See that the plug-ins of these rows can be imported."""
    for plugin in {plugin for row in rows for plugin in used(row.spec.settings()).values()}:
        plugin.load()


def _try_metrics(file: AblationFile, workspace: Workspace) -> None:
    """See that the metrics of other packages measure these labels, also for constant predictions, before any runs."""
    labels = workspace.corpus.clips["ta"].dropna().to_numpy(np.float64)
    for name in brought((file.metric, *(file.search.objective if file.search else ()))):
        for predicted in (labels[::-1], np.full_like(labels, labels.mean())):
            statistic(name).compute(predicted, labels)
