"""A setting whose value is one of our own names or that of an installed plug-in."""

from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from whisq_core import plugins


@dataclass(frozen=True)
class Choice:
    """One of our `own` names, or of the installed plug-ins of this kind."""

    kind: str
    own: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """All that can be chosen here."""
        return (*self.own, *plugins.installed(self.kind))

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self._check)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "string", "anyOf": [{"enum": list(self.names)}, {"pattern": plugins.PATTERN}]}

    def _check(self, name: Any) -> str:
        if isinstance(name, str) and name in self.names:
            return name
        *others, last = (f"'{own}'" for own in self.own)
        allowed = f"{', '.join(others)} or {last}" if others else last
        more = f" or a plug-in. {plugins.listed(self.kind)}" if plugins.installed(self.kind) else ""
        if isinstance(name, str) and plugins.is_plugin(name) and not more:
            more = f"; {self.kind} plug-ins installed here: none"
        raise PydanticCustomError("choice", "{text}", {"text": f"Input should be {allowed}{more.rstrip('.')}"})
