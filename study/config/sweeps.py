"""`sweep:` of a row: one setting at several values, each of which is a row of its own."""

import re
from typing import Any

from study.config.document import Position
from study.config.file import Sweep
from study.config.schema import FileKeys, RowKeys


def rows_by_place(keys: FileKeys) -> tuple[dict[Position, RowKeys], dict[str, Sweep]]:
    """Every row where it stands in the file, those of a sweep where their values stand; and the sweeps by id."""
    places: dict[Position, RowKeys] = {}
    sweeps: dict[str, Sweep] = {}
    for number, section in enumerate(keys.sections):
        for index, row in enumerate(section.rows):
            place: Position = ("sections", number, "rows", index)
            if row.sweep is None:
                places[place] = row
                continue
            ((setting, values),) = row.sweep.items()
            members = [_member(row, setting, value) for value in values]
            places |= {(*place, "sweep", setting, at): member for at, member in enumerate(members)}
            rows = tuple(member.id for member in members)
            sweeps.setdefault(row.id, Sweep(row.id, row.label, setting, tuple(values), rows))
    return places, sweeps


def _member(row: RowKeys, setting: str, value: Any) -> RowKeys:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    name = setting.rpartition(".")[2].replace("_", " ")
    update = {
        "id": f"{row.id}_{re.sub(r'[^A-Za-z0-9_.-]+', '-', text)}",
        "label": f"{row.label}, {name} {text}",
        "set": {**row.set, setting: value},
        "sweep": None,
    }
    return row.model_copy(update=update)
