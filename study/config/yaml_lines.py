"""YAML read together with the line of every value, so that a mistake can be shown where it stands.

Scalars follow YAML 1.2 (the core schema): ``1e-5`` is a number and ``no`` is a word, where PyYAML's YAML 1.1 reads
a string and False.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from whisq_core.errors import InputError

Position = tuple[str | int, ...]

_SCALARS = {
    "tag:yaml.org,2002:null": r"~|null|Null|NULL|",
    "tag:yaml.org,2002:bool": r"true|True|TRUE|false|False|FALSE",
    "tag:yaml.org,2002:int": r"[-+]?[0-9]+",
    "tag:yaml.org,2002:float": r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
}
_STRING = "tag:yaml.org,2002:str"


@dataclass(frozen=True)
class Document:
    """Plain data (dict, list, str, int, float, bool, None) with the line of each value, and what was wrong in the YAML.

    `lines` maps the path of keys and indices to the line of the key (or list item); `line_of` falls back to the
    nearest enclosing value, because a missing key has no line of its own.
    """

    path: Path
    data: Any
    lines: dict[Position, int]
    mistakes: tuple[tuple[int, str], ...]  # line, whole text

    def line_of(self, *position: str | int) -> int:
        """The line, from 1, of the value at `position`."""
        while position not in self.lines:
            position = position[:-1]
        return self.lines[position]

    def at(self, *position: str | int) -> str:
        """The beginning of an error line: file and line of the value at `position`."""
        return f"{self.path}:{self.line_of(*position)}"


class _CoreLoader(yaml.SafeLoader):
    """Resolves plain scalars by the YAML 1.2 core schema; it never builds Python objects."""

    yaml_implicit_resolvers: dict[str | None, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own


for _tag, _pattern in _SCALARS.items():
    _CoreLoader.add_implicit_resolver(_tag, re.compile(f"^(?:{_pattern})$"), None)


def read_yaml(path: Path) -> Document:
    """Read one YAML document.

    Duplicate keys, keys that are not words, tags and merges are collected in `Document.mistakes`, so that a caller
    can report them together with its own findings.

    Raises:
        InputError: when nothing can be read: no such file, not UTF-8, not YAML, empty.
    """
    text = _text(path)
    try:
        node = yaml.compose(text, Loader=_CoreLoader)
    except yaml.YAMLError as error:
        raise InputError(_syntax_mistake(path, error)) from None
    if node is None:
        raise InputError(f"{path}: the file is empty. It needs at least one key; see the README.")
    builder = _Builder(path)
    data = builder.build(node, (), ())
    return Document(path, data, builder.lines, tuple(builder.mistakes))


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise InputError(
            f"{path}:{line}: byte 0x{error.object[error.start]:02x} is not UTF-8. Save the file as UTF-8."
        ) from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}. Check the path.") from None


def _syntax_mistake(path: Path, error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"{path}:{mark.line + 1}: not YAML: {error.problem} (column {mark.column + 1})."
    return f"{path}: not YAML: {' '.join(str(error).split())}."


class _Builder:
    """Turns a node tree into plain data, noting lines and mistakes on the way."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: dict[Position, int] = {}
        self.mistakes: list[tuple[int, str]] = []

    def build(self, node: yaml.Node, position: Position, parents: tuple[yaml.Node, ...]) -> Any:
        self.lines.setdefault(position, node.start_mark.line + 1)
        if node in parents:
            self._mistake(node, "this alias contains itself. Write the value out")
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, position, (*parents, node))
        if isinstance(node, yaml.SequenceNode):
            children = (*parents, node)
            return [self.build(child, (*position, index), children) for index, child in enumerate(node.value)]
        return self._scalar(node)

    def _mapping(self, node: yaml.MappingNode, position: Position, parents: tuple[yaml.Node, ...]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value
            if key_node.tag != _STRING:
                self._mistake(key_node, f"a key must be a word, found {_shown(key_node)}. Quote it")
            elif key == "<<":
                self._mistake(key_node, "merges ('<<') are not read. Let a row `extends` another one")
            elif key in result:
                first = self.lines[(*position, key)]
                self._mistake(key_node, f"key '{key}' stands twice, first in line {first}. Remove one")
            else:
                self.lines[(*position, key)] = key_node.start_mark.line + 1
                result[key] = self.build(value_node, (*position, key), parents)
        return result

    def _scalar(self, node: yaml.Node) -> Any:
        text = node.value
        if node.tag == _STRING:
            return text
        if node.tag not in _SCALARS or re.fullmatch(_SCALARS[node.tag], text) is None:
            self._mistake(node, f"tag {node.tag!r} is not read here. Write the value without a tag")
            return None
        kind = node.tag.rpartition(":")[2]
        if kind == "null":
            return None
        if kind == "bool":
            return text.lower() == "true"
        return int(text) if kind == "int" else float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))

    def _mistake(self, node: yaml.Node, text: str) -> None:
        line = node.start_mark.line + 1
        self.mistakes.append((line, f"{self.path}:{line}: {text}."))


def _shown(node: yaml.Node) -> str:
    return repr(node.value) if isinstance(node, yaml.ScalarNode) else "a list or mapping"
