"""`whisq-study init`: files to begin a study of one's own with."""

from pathlib import Path

from whisq_core.errors import InputError, raise_all

_START = Path(__file__).with_name("start")
_FILES = ("ablations.yaml", "ablations.schema.json", "manifest.csv")


def write_start(folder: Path) -> list[str]:
    """Write a commented ablation file with its schema, and the example of a manifest; what to do next, in lines.

    Raises
    ------
    InputError
        When one of the files is there already, or the folder cannot be written; nothing is written then.
    """
    from study.config.json_schema import SCHEMA_FILE, schema_text

    there = [folder / name for name in _FILES if (folder / name).exists()]
    raise_all(
        [f"init: {path} is there already and stays as it is. Move it away, or give another folder." for path in there]
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in _FILES:
            source = _START if (_START / name).exists() else _START.parent
            schema = name == SCHEMA_FILE.name  # with the plug-ins that are installed here
            (folder / name).write_bytes(schema_text().encode() if schema else (source / name).read_bytes())
    except OSError as error:
        raise InputError(f"init {folder}: cannot be written: {error.strerror}. Give another folder.") from None
    where = "" if folder == Path() else f"{folder}/"
    return [
        f"wrote   {where}ablations.yaml: the table; add a row with a line",
        f"wrote   {where}ablations.schema.json: with it an editor checks and completes that file",
        f"wrote   {where}manifest.csv: the columns of a corpus; put your clips in place of its lines",
        f"next    whisq-study ablate {where}ablations.yaml --data {where}manifest.csv --plan",
    ]
