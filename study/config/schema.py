"""The ablation file as it is written: its keys and their types, the wording of mistakes, and a JSON Schema for editors.

Run ``python -m study.config.schema`` to write the schema anew after a setting was added.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, ValidationError, WithJsonSchema
from pydantic_core import ErrorDetails

from study.config.search_space import PRIMARY_METRIC, Search
from study.config.seeds import expand_seeds
from study.config.yaml_lines import Position
from whisq_core.errors import did_you_mean
from whisq_core.metrics import EXTRA, METRICS
from whisq_core.spec import Positive, RunSpec

SCHEMA_FILE = Path(__file__).with_name("ablations.schema.json")

_SEED_ITEM = [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": "^\\d+(-\\d+)?$"}]
Seeds = Annotated[
    tuple[int, ...],
    BeforeValidator(expand_seeds),
    WithJsonSchema({"anyOf": [*_SEED_ITEM, {"type": "array", "items": {"anyOf": _SEED_ITEM}, "minItems": 1}]}),
]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
RowId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
Text = Annotated[str, Field(min_length=1)]


class _Written(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class WrittenRow(_Written):
    """A row: base plus `set`, or another row plus `set`. `quoted` names the published row that stands beside it."""

    id: RowId
    label: Text
    extends: str | None = None
    set: dict[str, Any] = Field(default={})
    seeds: Seeds | None = None
    note: Text | None = None
    quoted: str | None = None


class WrittenSection(_Written):
    """A titled part of the table. Rows of a `stand_in` section show a path and take part in no comparison."""

    title: Text
    note: Text | None = None
    stand_in: StrictBool = False
    rows: tuple[WrittenRow, ...] = Field(min_length=1)


class WrittenCompare(_Written):
    """The comparisons declared before the first run: each of `rows` against the row `to`, on one metric."""

    to: str
    rows: tuple[str, ...] = Field(min_length=1)
    metric: str = PRIMARY_METRIC
    equivalence_margin: Positive = 0.01


class WrittenFile(_Written):
    """The whole file; `base` may be nested by section, or flat with dotted names."""

    name: Name | None = None
    base: dict[str, Any] = Field(default={})
    seeds: Seeds
    hyperparameters: Literal["shared", "tuned"] = "shared"
    compare: WrittenCompare | None = None
    sections: tuple[WrittenSection, ...] = Field(min_length=1)
    search: Search | None = None


def shape_mistakes(model: type[BaseModel], data: Any) -> list[tuple[Position, str]]:
    """What is wrong with keys and types of `data` as a `model`: (place, what and what to do)."""
    try:
        model.model_validate(data)
    except ValidationError as error:
        # A list whose items are wrong counts as too short too, and each branch of a union complains: one line will do.
        problems = [problem for problem in error.errors() if "too_short" not in problem["type"] or not problem["input"]]
        unknown = [problem for problem in problems if problem["type"] in ("extra_forbidden", "missing")]
        by_place = {_place(problem): _words(model, problem) for problem in problems if problem not in unknown}
        return [*by_place.items(), *((_place(problem), _words(model, problem)) for problem in unknown)]
    return []


def _place(problem: ErrorDetails) -> Position:
    """Where it stands; a missing key has no place of its own, and a union's branches are not in the file."""
    loc = [part for part in problem["loc"] if not (isinstance(part, str) and part in _UNION_BRANCHES)]
    return tuple(loc[:-1] if problem["type"] == "missing" else loc)


_UNION_BRANCHES = ("bool", "int", "float", "str")


def _words(model: type[BaseModel], problem: ErrorDetails) -> str:
    names = [part for part in problem["loc"] if isinstance(part, str) and part not in _UNION_BRANCHES]
    key = names[-1] if names else "the file"
    found = f", found {problem['input']!r}"
    match problem["type"]:
        case "extra_forbidden":
            return f"unknown key '{key}'. {did_you_mean(key, _keys_beside(model, problem['loc']))}"
        case "missing":
            return f"key '{key}' is missing. Add it."
        case "string_pattern_mismatch":
            return f"{key}: only letters, digits, '_' and '-' are allowed, starting with a letter or digit{found}."
        case "string_type":
            return f"{key}: a text is needed{found}. Quote it."
        case "dict_type" | "model_type" | "model_attributes_type":
            return f"{key}: a mapping (key: value) is needed{found}."
        case "tuple_type":
            return f"{key}: a list is needed{found}."
        case "too_short" | "string_too_short":
            return f"{key}: must not be empty{found}."
    text = problem["msg"].removeprefix("Value error, ")
    return f"{key}: {text}{'' if problem['type'] == 'value_error' else found}."


def _keys_beside(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """The keys that are allowed where the unknown key at `loc` stands."""
    for part in loc[:-1]:
        if isinstance(part, str):
            field = model.model_fields.get(part)
            nested = next(_models_in(field.annotation), None) if field is not None else None
            model = nested or model
    return [field.alias or name for name, field in model.model_fields.items()]


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and get_origin(annotation) is None and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)


def json_schema() -> dict[str, Any]:
    """A JSON Schema of the ablation file: editors complete and check settings, metrics and keys with it."""
    schema = WrittenFile.model_json_schema()
    run = RunSpec.model_json_schema(ref_template="#/$defs/{model}")
    definitions = schema["$defs"] | run["$defs"]
    flat: dict[str, Any] = {}
    nested: dict[str, Any] = {}
    for section, where in run["properties"].items():
        reference = where.get("$ref") or next(iter(where.get("allOf", [{}]))).get("$ref")
        if reference:  # `seed` is not a section: the file's `seeds` give it
            nested[section] = {"$ref": reference}
            fields = definitions[reference.rpartition("/")[2]]["properties"]
            flat |= {f"{section}.{key}": _without_title(value) for key, value in fields.items()}
    definitions["Settings"] = {"type": "object", "properties": nested | flat, "additionalProperties": False}
    metrics = {"enum": [*METRICS, *EXTRA]}
    definitions["WrittenRow"]["properties"]["set"] = {"$ref": "#/$defs/Settings"}
    definitions["WrittenCompare"]["properties"]["metric"] = {**metrics, "default": PRIMARY_METRIC}
    definitions["Search"]["properties"]["objective"] = {"anyOf": [metrics, {"type": "array", "items": metrics}]}
    definitions["Search"]["properties"]["space"]["propertyNames"] = {"enum": list(flat)}
    schema["properties"]["base"] = {"$ref": "#/$defs/Settings"}
    schema["$defs"] = dict(sorted(definitions.items()))
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "whisq-study ablation file"} | {
        key: value for key, value in schema.items() if key != "title"
    }


def _without_title(field: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in field.items() if key != "title"}


def schema_text() -> str:
    """The schema as it is committed in `SCHEMA_FILE`."""
    return json.dumps(json_schema(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    SCHEMA_FILE.write_text(schema_text(), encoding="utf-8")
