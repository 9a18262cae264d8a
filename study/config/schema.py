"""The ablation file as it is written: its keys, their types, and the wording of what is wrong with them."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, ValidationError, WithJsonSchema
from pydantic_core import ErrorDetails

from study.config.document import Document, Position
from study.config.search_space import PRIMARY_METRIC, Search
from study.config.seeds import expand_seeds
from whisq_core.errors import did_you_mean, shown
from whisq_core.spec import Positive

_SEED_ITEM = [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": "^\\d+(-\\d+)?$"}]
Seeds = Annotated[
    tuple[int, ...],
    BeforeValidator(expand_seeds),
    WithJsonSchema({"anyOf": [*_SEED_ITEM, {"type": "array", "items": {"anyOf": _SEED_ITEM}, "minItems": 1}]}),
]
NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]*"  # of tables and searches: it names a folder too
Name = Annotated[str, Field(pattern=f"^{NAME}$", max_length=100)]
RowId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=100)]
Text = Annotated[str, Field(min_length=1, max_length=2000, pattern=r"^[^\x00-\x08\x0b-\x1f\x7f-\x9f]*$")]


_Model = TypeVar("_Model", bound=BaseModel)


class _Keys(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RowKeys(_Keys):
    """A row: base plus `set`, or another row plus `set`. `quoted` names the published row that stands beside it.

    `sweep` gives one setting several values: a row for each.
    """

    id: RowId = Field(description="the name of the row, on the command line and in every file")
    label: Text = Field(description="what the table shows")
    extends: str | None = Field(default=None, description="the row that this one begins with, in place of base")
    set: dict[str, Any] = Field(default={}, description="the settings in which this row differs")
    seeds: Seeds | None = Field(default=None, description="seeds of its own, as of an A/A row")
    note: Text | None = Field(default=None, description="a sentence below the table")
    quoted: str | None = Field(default=None, description="the published row that stands beside it")
    sweep: dict[str, Annotated[list[Any], Field(min_length=2)]] | None = Field(
        default=None, min_length=1, max_length=1, description="one setting and its values: a row for each"
    )


class SectionKeys(_Keys):
    """A titled part of the table. Rows of a `stand_in` section show a path and take part in no comparison."""

    title: Text = Field(description="the heading above its rows")
    note: Text | None = Field(default=None, description="a sentence beside the heading")
    stand_in: StrictBool = Field(default=False, description="rows that show a path and take part in no comparison")
    rows: tuple[RowKeys, ...] = Field(min_length=1, description="its rows, in the order of the table")


class Compare(_Keys):
    """The comparisons declared before the first run: each of `rows` against the row `to`, on one metric."""

    to: str = Field(description="the row that the others are compared to")
    rows: tuple[str, ...] = Field(min_length=1, description="the rows that get a verdict")
    metric: str = Field(default=PRIMARY_METRIC, description="the one metric that verdicts are about")
    equivalence_margin: Positive = Field(default=0.01, description="rows closer than this are as good as equal")


class Contrast(_Keys):
    """A weighted sum of rows whose weights cancel, such as an interaction; exploratory, on the primary metric."""

    id: RowId = Field(description="the contrast's name")
    label: Text = Field(description="what the table shows")
    rows: dict[str, Annotated[float, Field(allow_inf_nan=False)]] = Field(
        min_length=2, description="the weight of each row; they sum to 0"
    )


class FileKeys(_Keys):
    """The whole file; `base` may be nested by section, or flat with dotted names."""

    name: Name | None = Field(default=None, description="the table's name; by default that of the file")
    base: dict[str, Any] = Field(default={}, description="the settings of every row, over Table I of the paper")
    seeds: Seeds = Field(description="the seeds of every row, such as 0-9: rows are compared seed by seed")
    hyperparameters: Literal["shared", "tuned"] = Field(
        default="shared", description="base's settings for every row, or a search of its own for each"
    )
    compare: Compare | None = Field(default=None, description="the verdicts that are asked for, declared beforehand")
    contrasts: tuple[Contrast, ...] = Field(default=(), description="weighted sums of rows, such as interactions")
    sections: tuple[SectionKeys, ...] = Field(min_length=1, description="the table's rows under their headings")
    search: Search | None = Field(default=None, description="what `optimize` and tuned rows vary")


def checked_keys(model: type[_Model], document: Document) -> _Model | None:
    """The document as a `model`; None where keys or types are wrong, each of which is reported to the document."""
    try:
        return model.model_validate(document.data)
    except ValidationError as error:
        # A list whose items are wrong counts as too short too, and each branch of a union complains: one line will do.
        wrong = {problem["loc"][:depth] for problem in error.errors() for depth in range(len(problem["loc"]))}
        problems = [problem for problem in error.errors() if problem["loc"] not in wrong]
        unknown = [problem for problem in problems if problem["type"] in ("extra_forbidden", "missing")]
        by_place = {_place(problem): _words(model, problem) for problem in problems if problem not in unknown}
        for position, text in (*by_place.items(), *((_place(problem), _words(model, problem)) for problem in unknown)):
            document.report(position, text)
        return None


def _place(problem: ErrorDetails) -> Position:
    """Where it stands; a missing key has no place of its own, and a union's branches are not in the file."""
    loc = [part for part in problem["loc"] if not (isinstance(part, str) and part in _UNION_BRANCHES)]
    return tuple(loc[:-1] if problem["type"] == "missing" else loc)


_UNION_BRANCHES = ("bool", "int", "float", "str")


def _words(model: type[BaseModel], problem: ErrorDetails) -> str:
    names = [part for part in problem["loc"] if isinstance(part, str) and part not in _UNION_BRANCHES]
    key = names[-1] if names else "the file"
    found = f", found {shown(problem['input'])}"
    match problem["type"]:
        case "extra_forbidden":
            return f"unknown key '{key}'. {did_you_mean(key, _keys_beside(model, problem['loc']))}"
        case "missing":
            return f"key '{key}' is missing. Add it."
        case "string_pattern_mismatch" if key in ("label", "title", "note"):
            return f"{key}: control characters are not allowed{found}."
        case "string_pattern_mismatch":
            return f"{key}: only letters, digits, '_' and '-' are allowed, starting with a letter or digit{found}."
        case "string_type":
            return f"{key}: a text is needed{found}. Quote it."
        case "dict_type" | "model_type" | "model_attributes_type":
            return f"{key}: a mapping (key: value) is needed{found}."
        case "tuple_type":
            return f"{key}: a list is needed{found}."
        case "too_short" | "string_too_short":
            fewest = problem["ctx"]["min_length"]
            return (
                f"{key}: must not be empty{found}." if fewest == 1 else f"{key}: at least {fewest} are needed{found}."
            )
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
