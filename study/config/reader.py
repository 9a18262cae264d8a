"""Reads `ablations.yaml` into an `AblationFile`; every mistake is reported at once, with its line and row."""

from pathlib import Path
from typing import Any

from study.config.design import AblationFile, Compare, Row, Section, SeededRow, settings_yaml
from study.config.name_checks import compare_mistakes, row_name_mistakes
from study.config.row_checks import design_warning, encoder_mistakes, row_mistakes, twin_warnings
from study.config.schema import WrittenFile, WrittenRow, WrittenSection, shape_mistakes
from study.config.search_space import Search, search_mistakes
from study.config.seeds import expand_seeds, parse_seeds
from study.config.written_settings import RowAsWritten, WrittenSettings, without_mistakes, written_settings
from study.config.yaml_lines import Document, Position, read_yaml
from whisq_core.errors import raise_all
from whisq_core.spec import RunSpec, setting_mistakes, with_settings

__all__ = [
    "AblationFile",
    "Compare",
    "Row",
    "Section",
    "SeededRow",
    "default_file",
    "parse_seeds",
    "read_ablation_file",
    "settings_yaml",
]

SHIPPED_FILE = Path(__file__).with_name("ablations.yaml")  # Table II: the file in the root of the project


def default_file(given: Path | None) -> Path:
    """The file to read: the one given, else `ablations.yaml` here, else the Table II file shipped in the package."""
    if given is not None:
        return given
    here = Path("ablations.yaml")
    return here if here.is_file() else SHIPPED_FILE


def read_ablation_file(
    path: Path, base_override: Path | None = None, seeds: tuple[int, ...] | None = None
) -> AblationFile:
    """Read an ablation file.

    `base_override` is a YAML file of settings (nested or dotted) that goes over the file's base: `best.yaml` of a
    search. `seeds` replaces the file's seeds; a row with seeds of its own keeps as many of them, from the first.

    Raises:
        InputError: with every mistake in both files.
    """
    override = read_yaml(base_override) if base_override else None
    reader = _Reader(read_yaml(path), override, seeds)
    raise_all([text for _, text in sorted(reader.mistakes, key=lambda mistake: mistake[0])])
    return reader.build()


class _Reader:
    """Goes from the whole to its parts and notes mistakes; what is wrong is left out of the later checks."""

    def __init__(self, document: Document, override: Document | None, seeds: tuple[int, ...] | None) -> None:
        self.document = document
        self.data: dict[str, Any] = document.data if isinstance(document.data, dict) else {}
        self.mistakes = list(document.mistakes)  # (line, text)
        for position, text in shape_mistakes(WrittenFile, document.data):
            self._add(position, text)
        self.seeds = seeds or _seeds(self.data.get("seeds"))
        self.num_own_seeds = len(seeds) if seeds else None  # of a row with seeds of its own; None: all of them
        self.base = self._base(override)
        self.rows = self._rows()
        self.by_id = {row.id: row for row in reversed(self.rows)}
        for position, text in row_name_mistakes(self.rows, self.by_id):
            self._add(position, text)
        self.merged = {row.id: self._merged(row) for row in self.rows}
        self.specs = {row.id: self._checked_spec(row) for row in self.rows}
        compare = self.data.get("compare")
        for position, text in compare_mistakes(compare if isinstance(compare, dict) else {}, self.by_id):
            self._add(position, text)
        self.search = self._checked_search()

    def _add(self, position: Position, text: str) -> None:
        line = self.document.line_of(*position)
        self.mistakes.append((line, f"{self.document.at(*position)}{self._who(position)}: {text}"))

    def _who(self, position: Position) -> str:
        match position:
            case ("sections", int() as section, "rows", int() as index, *_):
                row = self.data["sections"][section]["rows"][index]
                row_id = row.get("id") if isinstance(row, dict) else None
                return f", row '{row_id}'" if isinstance(row_id, str) else f", row {index + 1} of section {section + 1}"
            case ("sections", int() as section, *_):
                return f", section {section + 1}"
            case (str() as key, _, *_):
                return f", {key}"
        return ""

    def _base(self, override: Document | None) -> RunSpec:
        written = written_settings(self.data.get("base"), ("base",))
        for position, text in _layer_mistakes(RunSpec(), written, ("base",)):
            self._add(position, text)
        base = with_settings(RunSpec(), without_mistakes(RunSpec(), written.values))
        if override is None:
            return base
        over = written_settings(override.data, ())
        self.mistakes += [(0, text) for _, text in override.mistakes]
        if not isinstance(override.data, dict):
            self.mistakes.append((0, f"{override.at()}: settings are needed, such as 'loss.ot_weight: 0.001'."))
        found = _layer_mistakes(base, over, ())
        self.mistakes += [(0, f"{override.at(*position)}: {text}") for position, text in found]
        return with_settings(base, without_mistakes(base, over.values))

    def _rows(self) -> list[RowAsWritten]:
        rows = []
        for number, section in enumerate(_list(self.data.get("sections"))):
            for index, data in enumerate(_list(section.get("rows")) if isinstance(section, dict) else []):
                if not isinstance(data, dict):
                    continue
                position: Position = ("sections", number, "rows", index)
                rows.append(self._row_as_written(data, position, section.get("stand_in") is True))
        return rows

    def _row_as_written(self, data: dict[str, Any], position: Position, stand_in: bool) -> RowAsWritten:
        return RowAsWritten(
            id=_text(data.get("id")) or f"row {int(position[3]) + 1} of section {int(position[1]) + 1}",
            parent=_text(data.get("extends")),
            quoted=_text(data.get("quoted")),
            stand_in=stand_in,
            seeds=_seeds(data["seeds"])[: self.num_own_seeds] if data.get("seeds") is not None else self.seeds,
            settings=written_settings(data.get("set"), (*position, "set")),
            position=position,
            line=self.document.line_of(*position),
        )

    def _merged(self, row: RowAsWritten, seen: tuple[str, ...] = ()) -> dict[str, Any]:
        """The settings of `row` over base, without those that are wrong."""
        return without_mistakes(self.base, {**self._inherited(row, seen), **row.settings.values})

    def _inherited(self, row: RowAsWritten, seen: tuple[str, ...] = ()) -> dict[str, Any]:
        seen = (*seen, row.id)
        if row.parent not in self.by_id or row.parent in seen:
            return {}
        return self._merged(self.by_id[row.parent], seen)

    def _checked_spec(self, row: RowAsWritten) -> RunSpec:
        spec = with_settings(self.base, self.merged[row.id])
        own = row.settings
        found = setting_mistakes(self.base, {**self._inherited(row), **own.values})
        applied = {name: value for name, value in own.values.items() if name not in dict(found)}
        for position, text in own.mistakes:
            self._add(position, text)
        for name, text in (*found, *row_mistakes(applied, spec)):
            self._add(own.place(name, (*row.position, "set")), text)
        return spec

    def _checked_search(self) -> Search | None:
        data = self.data.get("search")
        if data is None and self.data.get("hyperparameters") == "tuned":
            self._add(("hyperparameters",), "tuned rows need a search. Add 'search: {objective: ta.utterance.srcc}'.")
        if not isinstance(data, dict) or shape_mistakes(Search, data):
            return None
        search = Search.model_validate(data)
        for place, text in search_mistakes(search, self.base):
            self._add(("search", *place), text)
        return search

    def build(self) -> AblationFile:
        """The file as values; only after no mistake was found."""
        written = WrittenFile.model_validate(self.data)
        declared = written.compare
        compare = (
            Compare(declared.to, declared.rows, declared.metric, declared.equivalence_margin) if declared else None
        )
        sections = tuple(self._section(section, compare) for section in written.sections)
        return AblationFile(
            path=self.document.path,
            name=self._name(written),
            base=self.base,
            seeds=self.seeds,
            hyperparameters=written.hyperparameters,
            compare=compare,
            sections=sections,
            search=self.search,
            warnings=tuple(self._warnings(compare)),
        )

    def _name(self, written: WrittenFile) -> str:
        """The table's name; tuned rows make another table than shared settings do, and both may be kept."""
        name = written.name or self.document.path.stem
        return f"{name}_tuned" if written.hyperparameters == "tuned" and not name.endswith("_tuned") else name

    def _section(self, section: WrittenSection, compare: Compare | None) -> Section:
        rows = tuple(self._row(row, section.title, compare) for row in section.rows)
        return Section(section.title, section.note, section.stand_in, rows)

    def _row(self, row: WrittenRow, section: str, compare: Compare | None) -> Row:
        read = self.by_id[row.id]
        return Row(
            id=row.id,
            label=row.label,
            section=section,
            settings=self.merged[row.id],
            extends=row.extends,
            seeds=read.seeds,
            spec=self.specs[row.id].model_copy(update={"seed": read.seeds[0]}),
            note=row.note,
            quoted=row.quoted,
            compared=compare is not None and row.id in compare.rows,
            line=read.line,
        )

    def _warnings(self, compare: Compare | None) -> list[str]:
        twins = twin_warnings([(row.id, self.specs[row.id], row.seeds) for row in self.rows])
        warnings = [f"{self.document.path}: {text}" for text in twins]
        design = design_warning(len(self.by_id[compare.to].seeds), len(compare.rows)) if compare else None
        if design:
            warnings.append(f"{self.document.at('compare')}: {design}")
        return warnings


def _layer_mistakes(base: RunSpec, written: WrittenSettings, top: Position) -> list[tuple[Position, str]]:
    """What is wrong with settings that go over `base` for the whole file; `top` is where they stand."""
    found = [*setting_mistakes(base, written.values), *encoder_mistakes(written.values)]
    if "seed" in written.values:
        found.append(("seed", "seeds are not a setting of base. List them under 'seeds'."))
    return [*written.mistakes, *((written.place(name, top), text) for name, text in found)]


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _seeds(value: Any) -> tuple[int, ...]:
    """The seeds as written; none where they are wrong, which the check of the file's shape reports."""
    try:
        return expand_seeds(value)
    except ValueError:
        return ()
