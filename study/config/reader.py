"""Reads `ablations.yaml` into an `AblationFile` in two rounds: keys and types, then what they mean."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from study.config.checks import (
    base_mistakes,
    compare_mistakes,
    contrast_mistakes,
    design_warning,
    name_mistakes,
    row_mistakes,
    twin_warnings,
)
from study.config.document import CommandLine, Document, Position, read_yaml
from study.config.file import AblationFile, Row, Section
from study.config.schema import Compare, FileKeys, checked_keys
from study.config.search_space import search_mistakes
from study.config.sweeps import rows_by_place
from whisq_core.errors import raise_all, shown
from whisq_core.spec import RunSpec, try_settings

SHIPPED_FILE = Path(__file__).with_name("ablations.yaml")  # Table II: the file in the root of the project
_SECTIONS = tuple(name for name in RunSpec.model_fields if name != "seed")


def default_file(given: Path | None) -> Path:
    """The file to read: the one given, else `ablations.yaml` here, else the Table II file shipped in the package."""
    if given is not None:
        return given
    here = Path("ablations.yaml")
    return here if here.is_file() else SHIPPED_FILE


def read_ablation_file(
    path: Path, base_override: Path | None = None, settings: Mapping[str, Any] | None = None
) -> AblationFile:
    """Read an ablation file.

    Parameters
    ----------
    path
        The file, as the README describes it.
    base_override
        A YAML file of settings (nested or dotted) that goes over the file's base: `best.yaml` of a search.
    settings
        Dotted settings that go over both: those of `--set`.

    Raises
    ------
    InputError
        With every mistake in the keys and types of both files; where there is none, with every mistake in meaning.
    """
    document = read_yaml(path)
    overrides = [read_yaml(base_override)] if base_override else []
    keys = checked_keys(FileKeys, document)
    for override in overrides:
        if not isinstance(override.data, dict):
            override.report((), "settings are needed, such as 'loss.ot_weight: 0.001'.")
    if settings:
        overrides.append(CommandLine(path, dict(settings), {(name,): 0 for name in settings} | {(): 0}))
    documents = [*overrides, document]
    _raise_mistakes(documents)
    assert keys is not None, "no mistake was found"
    reader = _Reader(document, overrides, keys)
    _raise_mistakes(documents)
    return reader.file()


def _raise_mistakes(documents: Iterable[Document]) -> None:
    raise_all([text for document in documents for text in document.in_order()])


@dataclass(frozen=True)
class _Layer:
    """Settings, and the whole run with them: None where they, or those that they go over, are wrong.

    `own` are those written at this place, `settings` those below as well.
    """

    settings: Mapping[str, Any]
    spec: RunSpec | None
    own: Mapping[str, Any] = field(default_factory=dict)


class _Reader:
    """Applies each layer of settings once and reports to the documents; what is wrong below is not repeated above."""

    def __init__(self, document: Document, overrides: Iterable[Document], keys: FileKeys) -> None:
        self.document, self.keys, self.override = document, keys, dict[str, Any]()
        base = _over(_Layer({}, RunSpec()), RunSpec(), document, ("base",), keys.base, base_mistakes)
        for override in overrides:
            base = _over(base, RunSpec(), override, (), override.data, base_mistakes)
            self.override |= base.own
        self.base = base.spec
        self.places, self.sweeps = rows_by_place(keys)
        self.place_of = {row.id: place for place, row in reversed(self.places.items())}
        self.layers: dict[Position, _Layer] = {}
        for place in self.places:
            for member in reversed(self._lineage(place)):
                self.layers[member] = self._layer(member)
        self.rows = {place: self._row(place) for place in self.places}
        self._check_names()

    def _parent(self, place: Position) -> Position | None:
        return self.place_of.get(self.places[place].extends or "")

    def _lineage(self, place: Position) -> list[Position]:
        """The row and those that it extends, as far as their settings are not applied yet."""
        found: dict[Position, None] = {}
        here: Position | None = place
        while here is not None and here not in found and here not in self.layers:
            found[here] = None
            here = self._parent(here)
        return list(found)

    def _layer(self, place: Position) -> _Layer:
        parent = self._parent(place)
        below = self.layers.get(parent) if parent is not None else None
        own = self.places[place].set
        start = self.base or RunSpec()
        position = place if "sweep" in place else (*place, "set")
        return _over(below or _Layer({}, self.base), start, self.document, position, own, row_mistakes)

    @cached_property
    def compare(self) -> Compare | None:
        """What is declared, row by row; the member of a sweep that is the run it would be compared with is left out."""
        declared, rows = self.keys.compare, list[str]()
        if declared is None:
            return None
        specs = {self.places[place].id: layer.spec for place, layer in self.layers.items()}
        for name in declared.rows:
            members = self.sweeps[name].rows if name in self.sweeps else (name,)
            rows += [row for row in members if row == name or specs[row] != specs.get(declared.to)]
        return declared.model_copy(update={"rows": tuple(rows)})

    def _row(self, place: Position) -> Row:
        row, compare, layer = self.places[place], self.compare, self.layers[place]
        seeds = row.seeds or self.keys.seeds
        spec = layer.spec or RunSpec()  # of a wrong row, which is reported and never returned
        meaning = {
            "seeds": seeds,
            "section": self.keys.sections[int(place[1])].title,
            "settings": layer.settings,
            "spec": spec.model_copy(update={"seed": seeds[0]}),
            "compared": compare is not None and row.id in compare.rows,
            "line": self.document.line_of(place),
        }
        return Row.model_construct(**{**dict(row), **meaning})

    def _check_names(self) -> None:
        keys, by_id = self.keys, {row.id: row for row in reversed(self.rows.values())}
        found = list(name_mistakes(self.rows, by_id))
        if keys.compare is not None:
            stand_ins = {row.id for section in keys.sections if section.stand_in for row in section.rows}
            found += compare_mistakes(keys.compare, by_id, self.sweeps, stand_ins)
        found += contrast_mistakes(keys.contrasts, by_id)
        if keys.search is not None:
            mistakes = search_mistakes(keys.search, self.base or RunSpec())
            found += [(("search", *place), text) for place, text in mistakes]
        elif keys.hyperparameters == "tuned":
            text = "tuned rows need a search. Add 'search: {objective: ta.utterance.srcc}'."
            found.append((("hyperparameters",), text))
        for position, text in found:
            self.document.report(position, text)

    def file(self) -> AblationFile:
        """The file as values; only after no mistake was found."""
        keys = self.keys
        assert self.base is not None, "base is right"
        sections = tuple(
            Section.model_construct(
                **{**dict(section), "rows": tuple(row for place, row in self.rows.items() if place[1] == number)}
            )
            for number, section in enumerate(keys.sections)
        )
        return AblationFile(
            path=self.document.path,
            name=self._name(),
            base=self.base,
            override=self.override,
            seeds=keys.seeds,
            hyperparameters=keys.hyperparameters,
            compare=self.compare,
            sections=sections,
            sweeps=tuple(self.sweeps.values()),
            contrasts=keys.contrasts,
            search=keys.search,
            warnings=tuple(self._warnings()),
        )

    def _name(self) -> str:
        """The table's name; tuned rows make another table than shared settings do, and both may be kept."""
        name = self.keys.name or re.sub(r"[^A-Za-z0-9_.-]+", "_", self.document.path.stem).strip("_.-")[:100] or "table"
        return f"{name}_tuned" if self.keys.hyperparameters == "tuned" and not name.endswith("_tuned") else name

    def _warnings(self) -> Iterator[str]:
        rows, compare, path = list(self.rows.values()), self.compare, self.document.path
        swept = {row for sweep in self.sweeps.values() for row in sweep.rows}
        for text in twin_warnings(row for row in rows if row.id not in swept):
            yield f"{path}: {text}"
        if compare is not None:
            to = next(row for row in rows if row.id == compare.to)
            if design := design_warning(len(to.seeds), len(compare.rows)):
                yield f"{path}:{self.document.line_of(('compare',))}: {design}"


def _over(
    below: _Layer,
    start: RunSpec,
    document: Document,
    position: Position,
    data: Mapping[str, Any],
    check: Callable[[Mapping[str, Any], RunSpec | None], Iterable[tuple[str, str]]],
) -> _Layer:
    """The settings written at `position` over those of `below`, whose settings in turn go over `start`."""
    own = _flat(document, position, data)
    settings = {**below.settings, **own}
    spec, found = try_settings(start, settings)
    if below.spec is None:
        spec, found = None, [(name, text) for name, text in found if name in own]
    for name, text in (*found, *check(own, spec)):
        document.report(document.setting(position, name), text)
    return _Layer(settings, spec, own)


def _flat(document: Document, position: Position, data: Mapping[str, Any]) -> dict[str, Any]:
    """The dotted settings of a mapping that may hold sections, reporting what is neither."""
    flat: dict[str, Any] = {}
    for key, value in data.items():
        here = (*position, key)
        if key in _SECTIONS and not isinstance(value, dict):
            document.report(here, f"'{key}' is a section, found {shown(value)}. Write '{key}: {{NAME: VALUE}}'.")
            continue
        found = {f"{key}.{name}": item for name, item in value.items()} if key in _SECTIONS else {key: value}
        for name in found.keys() & flat.keys():
            document.report(here, f"setting '{name}' is duplicated. Remove one.")
        flat |= found
    return flat
