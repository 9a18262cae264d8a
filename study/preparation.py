"""Checks that every command makes before it starts anything."""

from collections.abc import Sequence
from pathlib import Path

from study.runs import Workspace
from study.table_design import AblationFile, Row
from whisq_core.errors import InputError, raise_all
from whisq_core.spec import RunSpec


def check_splits(file: AblationFile, rows: Sequence[Row], workspace: Workspace) -> None:
    """Every split that a row fits or scores must have labelled clips."""
    clips = workspace.corpus.clips
    labelled = set(clips.loc[clips["omq"].notna(), "split"])
    mistakes = []
    for row in rows:
        needed = [row.spec.data.fit, *(name for name in row.spec.data.score if name != "inner")]
        mistakes += [
            f"{file.path}:{row.line}, row '{row.id}': split '{name}' has no labelled clips in {workspace.data}. "
            f"Found: {', '.join(sorted(labelled)) or 'none'}."
            for name in needed
            if name not in labelled
        ]
    raise_all(mistakes)


def output_folder(given: Path | None, file: AblationFile) -> Path:
    """Where the tables of a file go: `--out`, else results/<its name>."""
    return given or Path("results") / file.name


def make_folder(folder: Path) -> None:
    """Make the output folder and see that it can be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"--out {folder}: cannot be written ({error.strerror}). Give a folder that you own.") from None


def resolved(spec: RunSpec) -> RunSpec:
    """`spec` with device and precision made concrete for this machine, so that they are part of its identity."""
    if not spec.uses_features:
        return spec
    if "auto" in (spec.train.device, spec.train.precision):
        from whisq_core.optimisation import resolve_auto  # imports torch: only where something is automatic

        return spec.model_copy(update={"train": resolve_auto(spec.train)})
    return spec
