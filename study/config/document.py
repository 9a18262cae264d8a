"""YAML read together with the line of every value, so that a mistake can be shown where it stands.

ruamel.yaml parses and resolves scalars by YAML 1.2: ``1e-5`` is a number and ``no`` is a word. Its own loader stops at
the first duplicate key, merges silently and builds what a tag asks for, so the tree of nodes is turned into plain data
here: every such mistake is collected with its line, and what expands to absurd sizes is refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from whisq_core.errors import InputError, raise_all, shown
from whisq_core.files import read_regular

Position = tuple[str | int, ...]

_TAG = "tag:yaml.org,2002:"
_TEXT = (f"{_TAG}str", f"{_TAG}timestamp", f"{_TAG}value")  # dates and "=" are words here
_MANY = 100_000  # values: more come from aliases of aliases
_LARGEST = 256 * 1024  # bytes; Table II takes 6 kB


@dataclass
class Document:
    """Plain data (dict, list, str, int, float, bool, None), the line of each value, and the mistakes found so far.

    `lines` maps the path of keys and indices to the line of the key (or list item).
    """

    path: Path
    data: Any = None
    lines: dict[Position, int] = field(default_factory=dict)
    mistakes: list[tuple[int, str]] = field(default_factory=list)  # line, whole text

    kind: ClassVar[str] = "file"

    def at(self, line: int) -> str:
        """How a mistake in that line begins."""
        return f"{self.path}:{line}"

    def line_of(self, position: Position) -> int:
        """The line, from 1, of the value there, or of the nearest value around it: a missing key has no line."""
        while position not in self.lines:
            position = position[:-1]
        return self.lines[position]

    def setting(self, position: Position, name: str) -> Position:
        """Where a dotted setting of the mapping at `position` stands, nested or flat."""
        found = ((*position, *parts) for parts in ((name,), tuple(name.split("."))))
        return next((place for place in found if place in self.lines), position)

    def report(self, position: Position, text: str) -> None:
        """Note a mistake of the value at `position`, with its file, line and row."""
        line = self.line_of(position)
        self.mistakes.append((line, f"{self.at(line)}{self._who(position)}: {text}"))

    def in_order(self) -> list[str]:
        """The mistakes, in the order of the file."""
        return [text for _, text in sorted(self.mistakes, key=lambda mistake: mistake[0])]

    def _who(self, position: Position) -> str:
        match position:
            case ("sections", int() as section, "rows", int() as index, *_):
                row = self.data["sections"][section]["rows"][index]
                row_id = row.get("id") if isinstance(row, dict) else None
                return f", row '{row_id}'" if isinstance(row_id, str) else f", row {index + 1} of section {section + 1}"
            case ("sections", int() as section, *_):
                return f", section {section + 1}"
            case ("base" | "compare" | "search" as key, _, *_):
                return f", {key}"
        return ""


class CommandLine(Document):
    """Settings given by `--set`, in place of a file; `path` of a single one is the option with its name."""

    kind = "value"

    def at(self, line: int) -> str:
        """How a mistake begins: an option has no lines."""
        return f"{self.path}"

    def report(self, position: Position, text: str) -> None:
        """Note a mistake with the option that made it."""
        self.mistakes.append((0, f"--set {position[0] if position else ''}: {text}"))


def parse_settings(items: Sequence[str]) -> dict[str, Any]:
    """The settings of `--set NAME=VALUE`, values as YAML reads them; the last of several with one name counts.

    Raises
    ------
    InputError
        With each that is no such pair.
    """
    found, mistakes = dict[str, Any](), list[str]()
    for item in items:
        name, equals, text = item.partition("=")
        document = CommandLine(Path(f"--set {name.strip()}"))
        try:
            _read(document, text)
        except YAMLError:
            equals = ""
        except InputError as error:
            mistakes += error.mistakes
        if not equals:
            mistakes.append(f"--set {item}: write NAME=VALUE, such as --set train.epochs=50.")
        mistakes += document.in_order()
        found[name.strip()] = document.data
    raise_all(mistakes)
    return found


def read_yaml(path: Path) -> Document:
    """Read one YAML document; what is wrong inside it is found in `Document.mistakes`.

    An `InputError` says that nothing can be read: no such file, not UTF-8, not YAML, empty, of absurd size.
    """
    document = Document(path)
    try:
        if not _read(document, _text(path)):
            raise InputError(f"{path}: the file is empty. It needs at least one key; see the README.")
    except YAMLError as error:
        raise InputError(_syntax_mistake(path, error)) from None
    return document


def _read(document: Document, text: str) -> bool:
    """Fill a document from YAML; False where there is nothing to read."""
    yaml = YAML(typ="safe", pure=True)
    yaml.composer.warn_double_anchors = False  # YAML allows them
    try:
        node = yaml.compose(text)
        if node is not None:
            document.data = _Builder(document, yaml).build(node, (), ())
    except RecursionError:
        raise InputError(f"{document.path}: the {document.kind} is nested too deeply. Write it flatter.") from None
    return node is not None


def _text(path: Path) -> str:
    try:
        return read_regular(path, _LARGEST).decode("utf-8")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise InputError(
            f"{path}:{line}: byte 0x{error.object[error.start]:02x} is not UTF-8. Save the file as UTF-8."
        ) from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}. Check the path.") from None


def _syntax_mistake(path: Path, error: YAMLError) -> str:
    if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"{path}:{mark.line + 1}: not YAML: {error.problem} (column {mark.column + 1})."
    return f"{path}: not YAML: {' '.join(str(error).split())}."


class _Builder:
    """Turns a tree of nodes into plain data, noting lines and mistakes on the way."""

    def __init__(self, document: Document, yaml: YAML) -> None:
        self.document = document
        self.scalars = yaml.constructor
        self.count = 0

    def build(self, node: Node, position: Position, parents: tuple[Node, ...]) -> Any:
        self.document.lines.setdefault(position, node.start_mark.line + 1)
        self.count += 1
        if self.count > _MANY:
            text = f"more than {_MANY:,} values, with every alias written out. Shorten the {self.document.kind}."
            raise InputError(f"{self.document.path}: {text}")
        if node in parents:
            return self._mistake(node, "this alias contains itself. Write the value out")
        if isinstance(node, MappingNode):
            return self._mapping(node, position, (*parents, node))
        if isinstance(node, SequenceNode):
            children = (*parents, node)
            return [self.build(child, (*position, index), children) for index, child in enumerate(node.value)]
        return self._scalar(node)

    def _mapping(self, node: MappingNode, position: Position, parents: tuple[Node, ...]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value
            if key_node.tag == f"{_TAG}merge":
                self._mistake(key_node, "merges ('<<') are not read. Let a row `extends` another one")
            elif key_node.tag not in _TEXT:
                found = shown(key) if isinstance(key_node, ScalarNode) else "a list or mapping"
                self._mistake(key_node, f"a key must be a word, found {found}. Quote it")
            elif key in result:
                first = self.document.lines[(*position, key)]
                self._mistake(key_node, f"key '{key}' is duplicated, first in line {first}. Remove one")
            else:
                self.document.lines[(*position, key)] = key_node.start_mark.line + 1
                result[key] = self.build(value_node, (*position, key), parents)
        return result

    def _scalar(self, node: Node) -> Any:
        if node.tag in _TEXT:
            return node.value
        kind = str(node.tag).removeprefix(_TAG)
        if kind in ("null", "bool", "int", "float"):
            try:
                return self.scalars.construct_object(node)
            except (ValueError, KeyError):
                return self._mistake(node, f"{shown(node.value)} cannot be read as {kind}. Correct the value")
        return self._mistake(node, f"tag {node.tag!r} is not read here. Write the value without a tag")

    def _mistake(self, node: Node, text: str) -> None:
        line = node.start_mark.line + 1
        self.document.mistakes.append((line, f"{self.document.at(line)}: {text}."))
