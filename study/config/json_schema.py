"""A JSON Schema of the ablation file: editors complete and check settings, metrics and keys with it.

Run ``python -m study.config.json_schema`` to write it anew after a setting was added.
"""

import json
from pathlib import Path
from typing import Any

from study.config.schema import FileKeys
from study.config.search_space import PRIMARY_METRIC
from whisq_core.metrics import LEVELS, TARGETS, known_metrics
from whisq_core.plugins import PATTERN
from whisq_core.spec import RunSpec

SCHEMA_FILE = Path(__file__).with_name("ablations.schema.json")


def json_schema() -> dict[str, Any]:
    """The schema; settings are known under their dotted names and nested by section."""
    schema = FileKeys.model_json_schema()
    run = RunSpec.model_json_schema(ref_template="#/$defs/{model}")
    definitions = schema["$defs"] | run["$defs"]
    flat: dict[str, Any] = {}
    nested: dict[str, Any] = {}
    for section, where in run["properties"].items():
        reference = where.get("$ref") or next(iter(where.get("allOf", [{}]))).get("$ref")
        if reference:  # `seed` is not a section: the file's `seeds` give it
            model = definitions[reference.rpartition("/")[2]]
            nested[section] = {"$ref": reference, "description": model["description"]}
            flat |= {f"{section}.{key}": _without_title(value) for key, value in model["properties"].items()}
    definitions["Settings"] = {"type": "object", "properties": nested | flat, "additionalProperties": False}
    levels = f"^({'|'.join(TARGETS)})\\.({'|'.join(LEVELS)})\\."
    own = {"enum": list(known_metrics())}
    definitions["Metric"] = {"type": "string", "anyOf": [own, {"pattern": levels + PATTERN.removeprefix("^")}]}
    metrics = {"$ref": "#/$defs/Metric"}
    keys, compare, search = (definitions[name]["properties"] for name in ("RowKeys", "Compare", "Search"))
    keys["set"] = {"$ref": "#/$defs/Settings", "description": keys["set"]["description"]}
    compare["metric"] = {**metrics, "default": PRIMARY_METRIC, "description": compare["metric"]["description"]}
    several = {"type": "array", "items": metrics}
    search["objective"] = {"anyOf": [metrics, several], "description": search["objective"]["description"]}
    search["space"]["propertyNames"] = {"enum": list(flat)}
    base = schema["properties"]["base"]
    schema["properties"]["base"] = {"$ref": "#/$defs/Settings", "description": base["description"]}
    schema["$defs"] = dict(sorted(definitions.items()))
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "whisq-study ablation file"}
    return head | _without_title(schema)


def _without_title(field: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in field.items() if key != "title"}


def schema_text() -> str:
    """The schema as it is committed in `SCHEMA_FILE`."""
    return json.dumps(json_schema(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    SCHEMA_FILE.write_text(schema_text(), encoding="utf-8")
