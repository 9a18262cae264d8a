"""What an ablation file describes, as values: base, sections, rows with their resolved run, comparisons, search."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from study.config.schema import Compare, Contrast, RowKeys, SectionKeys
from study.config.search_space import PRIMARY_METRIC, Search
from whisq_core.errors import InputError, did_you_mean
from whisq_core.metrics import EXTRA, METRICS, brought
from whisq_core.spec import RunSpec, differences, digest, nested, with_settings


class Row(RowKeys):
    """One row of the table: its keys, a point of a sweep as a row of its own, and what they mean.

    `settings` are the dotted settings over base, those of the rows it extends included; `spec` is the whole run at the
    row's first seed. `compared` says that a verdict on it was declared. `line` is where it stands in the file.
    """

    seeds: tuple[int, ...]
    section: str
    settings: Mapping[str, Any]
    spec: RunSpec
    compared: bool
    line: int

    def at_seed(self, seed: int) -> RunSpec:
        """The run of this row at one of its seeds, its `auto` settings still unresolved."""
        return self.spec.model_copy(update={"seed": seed})


class Section(SectionKeys):
    """A titled part of the table; rows of a `stand_in` section are outside every comparison."""

    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Sweep:
    """One setting at several values: `rows` are the ids of its rows, in the order of `values`."""

    id: str
    label: str
    setting: str
    values: tuple[Any, ...]
    rows: tuple[str, ...]


@dataclass(frozen=True)
class AblationFile:
    """A valid ablation file. `warnings` say what its design cannot decide; they do not stop anything.

    `override` are the dotted settings that `--base` and `--set` put over the base that the file itself has.
    """

    path: Path
    name: str
    base: RunSpec
    override: Mapping[str, Any]
    seeds: tuple[int, ...]
    hyperparameters: Literal["shared", "tuned"]
    compare: Compare | None
    sections: tuple[Section, ...]
    sweeps: tuple[Sweep, ...]
    contrasts: tuple[Contrast, ...]
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

    @property
    def metrics(self) -> tuple[str, ...]:
        """What the table shows: our metrics, and the primary one where another package brought it."""
        return tuple(dict.fromkeys((*METRICS, *EXTRA, self.metric)))

    @property
    def declaration(self) -> tuple[str, str]:
        """The digest of what `compare` declares, and the same in words; of a plug-in's metric with its version.

        Rows count by their settings and not by their names; what their own searches choose is left out.
        """
        compare = self.compare
        if compare is None:
            return digest(None), "no comparison"
        searched = set(self.search.space) if self.hyperparameters == "tuned" and self.search else set()

        def identity(row_id: str) -> str:
            settings = self.row(row_id).spec.deciding_settings().items()
            return digest({name: value for name, value in settings if name not in {"seed", *searched}})

        rows = sorted(map(identity, compare.rows))
        metric = " of ".join((compare.metric, *brought([compare.metric]).values()))
        what = [identity(compare.to), rows, metric, compare.equivalence_margin]
        count = f"{len(rows)} row{'s' if len(rows) > 1 else ''}"
        text = f"{count} against '{compare.to}' on {metric} with margin {compare.equivalence_margin:g}"
        return digest(what), text

    def row(self, row_id: str) -> Row:
        """The row with this id; `InputError` where there is none."""
        found = {row.id: row for row in self.rows}
        if row_id not in found:
            raise InputError(f"{self.path}: unknown row '{row_id}'. {did_you_mean(row_id, found)}")
        return found[row_id]

    def with_row_settings(self, settings: Mapping[str, Mapping[str, Any]]) -> "AblationFile":
        """This table with more dotted settings over some of its rows (by id): what a search chose for each of them."""

        def over(row: Row) -> Row:
            return row.model_copy(update={"spec": with_settings(row.spec, settings.get(row.id, {}))})

        sections = [each.model_copy(update={"rows": tuple(map(over, each.rows))}) for each in self.sections]
        return replace(self, sections=tuple(sections))

    def cells(self, seeds: Collection[int] | None = None) -> Iterator[tuple[Row, int]]:
        """Every (row, seed), seed-major: a whole table exists after the first seed of each row.

        With `seeds` those alone, and of a row with seeds of its own also those at the same positions.
        """
        rows = self.rows
        for position in range(max(len(row.seeds) for row in rows)):
            same = seeds is None or (position < len(self.seeds) and self.seeds[position] in seeds)
            for row in rows:
                if position < len(row.seeds) and (same or row.seeds[position] in (seeds or ())):
                    yield row, row.seeds[position]

    def difference_from_base(self, row: Row) -> list[str]:
        """The settings in which `row` differs from base, as ``name: base -> row``; seeds are left out."""
        return differences(row.at_seed(self.base.seed).settings(), self.base.settings())


def settings_yaml(settings: Mapping[str, Any]) -> str:
    """Dotted settings as the nested YAML of a file's `base`, which `--base` accepts; the seed is left out."""
    kept = nested({name: value for name, value in settings.items() if name != "seed"})
    return yaml.safe_dump(kept, sort_keys=False, default_flow_style=False, allow_unicode=True)
