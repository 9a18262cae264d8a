"""Rows and settings as a file writes them, before they are known to be right."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from study.config.yaml_lines import Position
from whisq_core.spec import RunSpec, setting_mistakes

_SECTIONS = tuple(name for name in RunSpec.model_fields if name != "seed")


@dataclass(frozen=True)
class WrittenSettings:
    """Dotted settings, the place of each in the file, and what is wrong with how they are written."""

    values: dict[str, Any]
    places: dict[str, Position]
    mistakes: tuple[tuple[Position, str], ...]

    def place(self, name: str, default: Position) -> Position:
        """Where a setting stands; `default` for what no single setting is to blame for."""
        return self.places.get(name, default)


@dataclass(frozen=True)
class RowAsWritten:
    """A row of which only the place is certain: `settings` are those it makes itself, and all of it may be wrong."""

    id: str
    parent: str | None
    quoted: str | None
    stand_in: bool
    seeds: tuple[int, ...]
    settings: WrittenSettings
    position: Position
    line: int


def written_settings(data: Any, position: Position) -> WrittenSettings:
    """Flatten the mapping at `position`; anything else has been reported by the check of the file's shape."""
    values: dict[str, Any] = {}
    places: dict[str, Position] = {}
    mistakes: list[tuple[Position, str]] = []
    for key, value in data.items() if isinstance(data, dict) else ():
        here = (*position, key)
        if key not in _SECTIONS:
            found = {key: (value, here)}
        elif isinstance(value, dict):
            found = {f"{key}.{name}": (item, (*here, name)) for name, item in value.items()}
        else:
            found = {}
            mistakes.append((here, f"'{key}' is a section, found {value!r}. Write '{key}: {{NAME: VALUE}}'."))
        for name, (item, place) in found.items():
            if name in values:
                mistakes.append((place, f"setting '{name}' stands twice. Remove one."))
            values[name], places[name] = item, place
    return WrittenSettings(values, places, tuple(mistakes))


def without_mistakes(base: RunSpec, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The part of `settings` that can be applied to `base`, so that later checks do not repeat what is reported."""
    wrong = {name for name, _ in setting_mistakes(base, settings)}
    good = {name: value for name, value in settings.items() if name not in wrong}
    return {} if setting_mistakes(base, good) else good
