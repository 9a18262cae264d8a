"""Which table a command works on: the one that its file declares, or another where what all cells share is another.

A table is never overwritten by runs under other conditions: another base, corpus, precision or program, other features,
or fewer seeds make a table with a name and a folder of its own. More seeds, and other rows, extend a table.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from study.ablation.publish import owner_of
from study.config import NAME, AblationFile, read_ablation_file, seeds_text
from study.engine import (
    NUMERICS_VERSION,
    OWN_FOLDERS,
    Inputs,
    Pool,
    Sources,
    check_writable,
    collect_errors,
    identify,
    output_folder,
)
from study.results import RESOLVED, features_of
from study.store import Conditions, Database, conditions, done_cells, sqlite_path, stored_tables
from study.terminal import log
from whisq_core.errors import InputError, did_you_mean
from whisq_core.spec import RunSpec, differences, digest

_LONGEST = 60  # letters of what is added to a name
_STORAGE_FILES = ("", ".lock", "-wal", "-shm", "-journal")  # what their names end in


def conditions_now(inputs: Inputs, pool: Pool) -> Conditions:
    """What the cells that a command asks for would share."""
    file, workspace, features = inputs.file, inputs.workspace, dict[str, str]()
    base = file.base
    with collect_errors([]):  # the plan says for each row what its device lacks
        base = pool.resolved(base)
    for row in inputs.rows:
        with collect_errors([]):  # weights that are missing block their row, which says so
            features |= features_of(identify(pool.resolved(row.spec), workspace).parts)
    return Conditions(
        file=str(file.path),
        declared=file.name,
        override=dict(file.override),
        base=_shared_settings(base),
        seeds=list(file.seeds),
        corpus=workspace.digest,
        features=features,
        numerics_version=NUMERICS_VERSION,
        out="",
    )


def choose_table(inputs: Inputs, sources: Sources, pool: Pool) -> Conditions:
    """Give `inputs` the name and folder of the table that its cells belong to; returns what they share.

    An `InputError` where `--name` names a table under other conditions, or the folder cannot be that of this table.
    """
    if sources.name and not re.fullmatch(NAME, sources.name):
        allowed = "letters, digits, '_', '-' and '.', beginning with a letter or digit"
        raise InputError(f"--name {sources.name}: allowed: {allowed}.")
    file, database, now = inputs.file, inputs.database, conditions_now(inputs, pool)
    known = conditions(database)
    begun = {name: shared for name, shared in known.items() if done_cells(database, name)}
    name = sources.name or _fitting(now, begun) or _new_name(inputs, sources, pool, begun, now)
    if name in begun and (different := _different(begun[name], now)):
        raise InputError(
            f"--name {name}: that table has runs under other conditions ({_some(different)}), and both in one table "
            "would be a mixture. Give another --name, or none."
        )
    inputs.out = folder_of(name, sources.out, database, _why(file, begun, now))
    inputs.file = replace(file, name=name)
    features = {**(begun[name].features if name in begun else {}), **now.features}
    return replace(now, features=features, out=str(inputs.out))


def folder_of(name: str, given: Path | None, database: Database, why: str = "") -> Path:
    """The folder of a table; `InputError` where something else lies there, or will, or where it cannot be written."""
    out, storage = output_folder(given, name), sqlite_path(database.url)
    if given is None and name in OWN_FOLDERS:
        raise InputError(
            f"table '{name}': {out} is for {OWN_FOLDERS[name]}. Give another name, or a folder with --out."
        )
    check_writable(out, "--out")
    files = {Path(f"{storage.resolve()}{end}") for end in _STORAGE_FILES} if storage else set()
    if files & {out.resolve(), *out.resolve().parents}:
        raise InputError(f"--out {out}: cannot be written, it is a file of the storage. Give another --name or --out.")
    owner = owner_of(out)
    if owner not in (None, name):
        raise InputError(
            f"--out {out}: holds table '{owner}', and this is another, '{name}'{why}. "
            "Give another --out, or leave it out."
        )
    return out


def tell(inputs: Inputs, shared: Conditions, *, starts: bool) -> None:
    """Say before the start what a user may not expect: another name, rows that go, and what `auto` means here."""
    begun = {name: each for name, each in conditions(inputs.database).items() if name == shared.declared}
    if inputs.file.name != shared.declared:
        log(f"table '{inputs.file.name}' in {inputs.out}{_why(inputs.file, begun, shared)}")
    tell_rows_gone(inputs.file, inputs.database)
    base = inputs.file.base
    if starts and base.train.precision == "auto" and not inputs.database.url.startswith("sqlite"):
        computed = " on ".join(shared.base[name] for name in reversed(RESOLVED))
        log(
            f"train.precision: auto is {computed} here. A machine with other units makes another table of it: name "
            "device and precision in the file when several machines share it."
        )


def tell_rows_gone(file: AblationFile, database: Database) -> None:
    """Name the rows of the stored table that have results and that its file does not have."""
    done, cells = done_cells(database, file.name), database.cells(file.name)
    gone = {row for (row, _), entry in cells.items() if entry.run_id in done} - {row.id for row in file.rows}
    if gone:
        names = ", ".join(f"'{row}'" for row in sorted(gone))
        log(
            f"note: row(s) {names} of table '{file.name}' are not in {file.path} any more: "
            "the table shows them no longer; their runs stay stored"
        )


def stored_table(file: AblationFile, database: Database, name: str | None) -> tuple[AblationFile, Conditions | None]:
    """The stored table of a file, and what its cells share; None where an older version made it.

    Raises
    ------
    InputError
        When there is none, or the file's base or seeds are not those of the table any more.
    """
    known = conditions(database)
    family = {each: shared for each, shared in known.items() if shared.declared == file.name}
    if name is not None:
        names = {table.name for table in stored_tables(database) if table.num_cells}
        if name not in names:
            raise InputError(f"--name {name}: no such table in {database.masked_url}. {did_you_mean(name, names)}")
        family = {name: known[name]} if name in known else {}
        if family:
            file = read_ablation_file(file.path, settings=known[name].override)
    if not family:
        return replace(file, name=name or file.name), None
    fitting = {each: shared for each, shared in family.items() if not _file_differs(file, shared)}
    if not fitting:
        lines = [f"'{each}' ({_some(_file_differs(file, shared))})" for each, shared in family.items()]
        raise InputError(
            f"{file.path}: its base or seeds are not those of the stored {', '.join(lines)}. Change it back, or run it "
            f"as it is, as another table: whisq-study ablate {file.path} --data DIR."
        )
    chosen = file.name if file.name in fitting else next(iter(fitting))
    if others := [each for each in fitting if each != chosen]:
        log(f"table '{chosen}'; of this file there are also: {', '.join(others)} (--name)")
    return replace(file, name=chosen), fitting[chosen]


def _shared_settings(base: RunSpec) -> dict[str, Any]:
    return {name: value for name, value in base.deciding_settings().items() if name != "seed"}


def _fitting(now: Conditions, begun: Mapping[str, Conditions]) -> str | None:
    """The table of this file under these conditions, its own before others."""
    names = [name for name, shared in begun.items() if shared.declared == now.declared and not _different(shared, now)]
    return now.declared if now.declared in names else next(iter(names), None)


def _different(stored: Conditions, now: Conditions) -> list[str]:
    """The conditions that differ, as ``name: stored -> now``; more seeds and further encoders do not."""
    lines = differences(now.base, stored.base)
    parts = [("corpus", stored.corpus[:12], now.corpus[:12])]
    parts += [
        (name, stored.features[name][:12], now.features[name][:12]) for name in stored.features & now.features.keys()
    ]
    parts += [("numerics_version", str(stored.numerics_version), str(now.numerics_version))]
    if set(stored.seeds) - set(now.seeds):
        parts.append(("seeds", seeds_text(stored.seeds), seeds_text(now.seeds)))
    lines += [f"{name}: {was} -> {is_}" for name, was, is_ in parts if was != is_]
    return lines if stored.declared == now.declared else [f"declared in: {stored.file} -> {now.file}", *lines]


def _file_differs(file: AblationFile, stored: Conditions) -> list[str]:
    """How a file differs from a table's conditions, as far as a file tells: `auto` may have been anything."""
    wanted = {name: value for name, value in _shared_settings(file.base).items() if value != "auto"}
    lines = differences(wanted, {name: value for name, value in stored.base.items() if name in wanted})
    missing = sorted(set(stored.seeds) - set(file.seeds))
    return [*lines, *([f"seeds: {seeds_text(stored.seeds)} -> {seeds_text(file.seeds)}"] if missing else [])]


def _new_name(inputs: Inputs, sources: Sources, pool: Pool, begun: Mapping[str, Conditions], now: Conditions) -> str:
    """The file's name where it is free, else that with what is different added."""
    name, old = now.declared, done_cells(inputs.database, now.declared)
    is_free = name not in begun and (not old or _adopts(inputs, pool, old))
    if is_free and not now.override:
        return name
    parts = _labels(sources, inputs, begun.get(name), now)
    suffix = re.sub(r"[^A-Za-z0-9_.]+", "-", "-".join(parts)).strip("-.")[:_LONGEST]
    taken = {table.name for table in stored_tables(inputs.database)} | {f"{name}-{row.id}" for row in inputs.file.rows}
    found = f"{name}-{suffix}"
    return found if suffix and found not in taken else f"{found}-{digest(asdict(now))[:6]}".replace("--", "-")


def _adopts(inputs: Inputs, pool: Pool, old: set[str]) -> bool:
    """Whether the runs of a table of an older version, which tells no conditions, are some of this file's."""
    rows = inputs.file.rows
    for row in [row for row in rows if row.spec.uses_features] or rows:  # controls have the same runs on any base
        with collect_errors([]):
            if identify(pool.resolved(row.spec), inputs.workspace).run_id in old:
                return True
    return False


def _labels(sources: Sources, inputs: Inputs, stored: Conditions | None, now: Conditions) -> list[str]:
    """Short words for what is different, for a name."""
    labels = [_base_label(sources.base, now.declared)] if sources.base else []
    labels += [f"{name.rpartition('.')[2]}{value}" for name, value in sources.settings.items()]
    if stored is None:
        return labels
    changed = {name for name, value in now.base.items() if stored.base.get(name) != value}
    if changed and not now.override:
        computed = [str(now.base[name]) for name in RESOLVED if name in changed]
        labels.append("-".join(computed) if changed <= set(RESOLVED) else "base")
    if stored.corpus != now.corpus:
        labels.append(inputs.workspace.corpus.name)
    if any(stored.features.get(name, value) != value for name, value in now.features.items()):
        labels.append("features")
    if stored.numerics_version != now.numerics_version:
        labels.append(f"numerics{now.numerics_version}")
    if set(stored.seeds) - set(now.seeds):
        labels.append(f"seeds{seeds_text(now.seeds)}")
    return labels


def _base_label(base: Path, declared: str) -> str:
    """The stem of a file of settings; of a search's best.yaml also the search, which its folder is named after."""
    folder = base.resolve().parent.name.removeprefix(f"{declared}-")
    return f"best-{folder}" if base.stem == "best" else base.stem


def _why(file: AblationFile, begun: Mapping[str, Conditions], now: Conditions) -> str:
    """Why a table is not the one that its file declares, in brackets; with the way back where `auto` is the reason."""
    stored = begun.get(now.declared)
    if stored is None:
        return f" ({_some([f'{name}: {value}' for name, value in now.override.items()])})" if now.override else ""
    lines = _different(stored, now)
    train = file.base.train
    here = {f"train.{name}" for name in ("device", "precision") if getattr(train, name) == "auto"}
    if any(line.partition(":")[0] in here for line in lines):
        lines.append(f"'auto' is that here: name the old value in {file.path} to go on with '{now.declared}'")
    return f" ('{now.declared}' has other conditions: {'; '.join(lines)})" if lines else ""


def _some(lines: list[str]) -> str:
    return "; ".join(lines[:3]) + (f"; and {len(lines) - 3} more" if len(lines) > 3 else "")
