"""Where saved models lie, and how a name leads to them: OUT/models/ROW-seedN."""

import json
import re
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

from study.results import TableResults
from whisq_core.errors import InputError, did_you_mean
from whisq_core.files import read_regular

RESULTS = Path("results")
_NAME = re.compile(r"(?P<row>.+)-seed(?P<seed>\d+)")
_CONFIG, _WEIGHTS = "config.json", "model.safetensors"


def model_folder(out: Path, row: str, seed: int) -> Path:
    """The folder of the model of one cell of the table in `out`."""
    return out / "models" / f"{row}-seed{seed}"


def is_saved(out: Path, row: str, seed: int, run_id: str | None) -> bool:
    """Whether the model of this very run is there and whole."""
    folder = model_folder(out, row, seed)
    try:
        config = json.loads(read_regular(folder / _CONFIG))
    except (OSError, ValueError, RecursionError):
        return False
    whole = isinstance(config, dict) and (folder / _WEIGHTS).is_file()
    return whole and run_id is not None and config.get("run_id") == run_id


def saved_cells(results: TableResults, out: Path) -> Iterator[tuple[str, int, Path]]:
    """Row, seed and folder of each finished cell whose model is there; twins of a saved run get a copy of it."""
    cells = _done(results)
    saved = {run_id: model_folder(out, row, seed) for row, seed, run_id in cells if is_saved(out, row, seed, run_id)}
    for row, seed, run_id in cells:
        folder = model_folder(out, row, seed)
        if run_id in saved and not is_saved(out, row, seed, run_id):
            shutil.copytree(saved[run_id], folder, dirs_exist_ok=True)
        if run_id in saved:
            yield row, seed, folder


def _done(results: TableResults) -> list[tuple[str, int, str]]:
    done = results.cells[results.cells["state"] == "done"]
    return list(zip(done["row"], done["seed"], done["run_id"], strict=True))


def unsaved(results: TableResults, out: Path, wanted: Collection[tuple[str, int]]) -> list[str]:
    """One line for each trained cell of `wanted` whose model is not there."""
    return [
        f"{row} seed {seed}: no model in {model_folder(out, row, seed)}; a worker of another machine may have written "
        "it there, or the lines above say why"
        for row, seed, run_id in _done(results)
        if (row, seed) in wanted and results.file.row(row).spec.uses_features and not is_saved(out, row, seed, run_id)
    ]


def find_models(name: str) -> list[Path]:
    """The folders that a name stands for: one model, or all seeds of a row in ascending order.

    Parameters
    ----------
    name
        A model's folder; OUT/models/ROW for all seeds of a row; or `table/row` or `table/row/seed` of the tables in
        ./results.

    Raises
    ------
    InputError
        When there is no such model.
    """
    path = Path(name)
    if path.is_dir() and not _children(path):
        return [path]
    if found := _seeds_of(path):
        return found
    parts = path.parts
    if len(parts) in (2, 3):
        row = RESULTS / parts[0] / "models" / parts[1]
        found = _seeds_of(row)
        if len(parts) == 3:
            found = [folder for folder in found if folder.name == f"{row.name}-seed{parts[2].removeprefix('seed')}"]
        if found:
            return found
    raise InputError(f"model '{name}': {_known(path, name)}")


def _seeds_of(row: Path) -> list[Path]:
    """The models of a row in the folder that holds it, by seed."""
    matches = [(_NAME.fullmatch(folder.name), folder) for folder in row.parent.glob("*-seed*")]
    found = [(int(match["seed"]), folder) for match, folder in matches if match and match["row"] == row.name]
    return [folder for _, folder in sorted(found)]


def _children(folder: Path) -> list[str]:
    return sorted(path.parent.name for path in folder.glob(f"*/{_CONFIG}"))


def _known(path: Path, name: str) -> str:
    if path.is_dir():
        return f"a folder of {len(_children(path))} models, allowed: one of them: {', '.join(_children(path)[:10])}."
    known = {
        f"{folder.parent.parent.name}/{match['row']}/{match['seed']}"
        for folder in RESULTS.glob("*/models/*")
        if (match := _NAME.fullmatch(folder.name)) and (folder / _CONFIG).is_file()
    }
    if not known:
        advice = "Run `whisq-study ablate --save-models`."
        return f"no such folder, and ./results holds no saved model (controls have none). {advice}"
    rows = {cell.rpartition("/")[0] for cell in known}
    near = did_you_mean(name, known if name.count("/") == 2 else rows)
    return f"no such folder, and no such saved model of ./results (controls have none). {near}"
