"""What an ablation file describes, as values: base, sections, rows with their resolved run, comparisons, search."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from study.config.search_space import PRIMARY_METRIC, Search
from whisq_core.errors import InputError, did_you_mean
from whisq_core.spec import RunSpec, differences, with_settings


@dataclass(frozen=True)
class Row:
    """One row of the table.

    `settings` are the dotted settings over base, those of the rows it extends included; `spec` is the whole run at the
    row's first seed. `compared` says that a verdict on it was declared. `line` is where it stands in the file.
    """

    id: str
    label: str
    section: str
    settings: Mapping[str, Any]
    extends: str | None
    seeds: tuple[int, ...]
    spec: RunSpec
    note: str | None
    quoted: str | None
    compared: bool
    line: int

    def at_seed(self, seed: int) -> RunSpec:
        """The run of this row at one of its seeds."""
        return self.spec.model_copy(update={"seed": seed})


@dataclass(frozen=True)
class Section:
    """A titled part of the table; rows of a `stand_in` section are outside every comparison."""

    title: str
    note: str | None
    stand_in: bool
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Compare:
    """The comparisons declared beforehand: each of `rows` against `to`, on `metric`."""

    to: str
    rows: tuple[str, ...]
    metric: str
    equivalence_margin: float


@dataclass(frozen=True)
class SeededRow:
    """A cell of the table: a row at its seed number `position`."""

    row: Row
    seed: int
    position: int

    @property
    def spec(self) -> RunSpec:
        """The run of this cell, its `auto` settings still unresolved."""
        return self.row.at_seed(self.seed)


@dataclass(frozen=True)
class AblationFile:
    """A valid ablation file. `warnings` say what its design cannot decide; they do not stop anything."""

    path: Path
    name: str
    base: RunSpec
    seeds: tuple[int, ...]
    hyperparameters: Literal["shared", "tuned"]
    compare: Compare | None
    sections: tuple[Section, ...]
    search: Search | None
    warnings: tuple[str, ...]

    @property
    def rows(self) -> tuple[Row, ...]:
        """All rows, in the order of the file."""
        return tuple(row for section in self.sections for row in section.rows)

    @property
    def metric(self) -> str:
        """The primary metric: that of the declared comparisons."""
        return self.compare.metric if self.compare else PRIMARY_METRIC

    def row(self, row_id: str) -> Row:
        """The row with this id.

        Raises:
            InputError: when there is none.
        """
        found = {row.id: row for row in self.rows}
        if row_id not in found:
            raise InputError(f"{self.path}: unknown row '{row_id}'. {did_you_mean(row_id, found)}")
        return found[row_id]

    def with_row_settings(self, settings: Mapping[str, Mapping[str, Any]]) -> "AblationFile":
        """This table with more dotted settings over some of its rows (by id): what a search chose for each of them."""
        sections = tuple(
            replace(section, rows=tuple(_over(row, settings.get(row.id, {})) for row in section.rows))
            for section in self.sections
        )
        return replace(self, sections=sections)

    def cells(self) -> Iterator[SeededRow]:
        """Every cell, seed-major: a whole table exists after the first seed of each row."""
        for position in range(max(len(row.seeds) for row in self.rows)):
            for row in self.rows:
                if position < len(row.seeds):
                    yield SeededRow(row, row.seeds[position], position)

    def difference_from_base(self, row: Row) -> list[str]:
        """The settings in which `row` differs from base, as ``name: base -> row``; seeds are left out."""
        ours = row.spec.model_copy(update={"seed": self.base.seed}).settings()
        return differences(ours, self.base.settings())


def settings_yaml(settings: Mapping[str, Any]) -> str:
    """Dotted settings as the nested YAML of a file's `base`, which `--base` accepts; the seed is left out."""
    nested: dict[str, Any] = {}
    for name, value in settings.items():
        section, _, key = name.partition(".")
        if key:
            nested.setdefault(section, {})[key] = value
    return yaml.safe_dump(nested, sort_keys=False, default_flow_style=False, allow_unicode=True)


def _over(row: Row, settings: Mapping[str, Any]) -> Row:
    return replace(row, spec=with_settings(row.spec, settings)) if settings else row
