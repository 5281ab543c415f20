"""JSON Schemas as OpenAI's strict structured output wants them.

Strict output knows a part of JSON Schema: every object lists its properties and requires them all. A schema is closed
in that way here, which only ever narrows it, so an answer that fits the closed schema fits the original. Keywords that
limit values and are not known there are left out, as the answer is checked by the caller anyway; what cannot be said at
all is an error that names the keyword.
"""

from __future__ import annotations

import re
from typing import Any

from holdfast.driver import OutputSpec
from holdfast.errors import DriverError

_UNKNOWN = frozenset(
    {
        "allOf", "not", "if", "then", "else", "dependentRequired", "dependentSchemas", "patternProperties",
        "propertyNames", "prefixItems", "unevaluatedProperties", "unevaluatedItems", "contains",
    }
)  # fmt: skip
"""Keywords that shape a value and have no counterpart."""
_LEFT_OUT = frozenset(
    {
        "$schema", "$id", "$comment", "default", "examples", "deprecated", "readOnly", "writeOnly", "discriminator",
        "minLength", "maxLength", "uniqueItems", "minProperties", "maxProperties", "minContains", "maxContains",
    }
)  # fmt: skip
_BY_NAME = frozenset({"properties", "$defs", "definitions"})
_MAX_DEPTH = 100
_NO_NAME = re.compile(r"[^a-zA-Z0-9_-]")
_MAX_NAME = 64


def strict_format(output: OutputSpec) -> dict[str, Any]:
    """The name, schema and strictness of the answer's shape, as both of OpenAI's protocols take them."""
    return {
        "name": _NO_NAME.sub("_", output.name)[:_MAX_NAME] or "output",
        "schema": strict_schema(output.schema) if output.strict else output.schema,
        "strict": output.strict,
    }


def strict_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema as strict output takes it. Raises `DriverError` (`unsupported`) naming what it cannot take."""
    closed: dict[str, Any] = _closed(_unfolded(schema), "")
    if closed.get("type") != "object":
        raise _refusal("type", "", "the answer must be an object")
    return closed


def _unfolded(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with an object at its root, where it begins with a reference to one of its definitions."""
    for group in ("$defs", "definitions"):
        name = str(schema.get("$ref", "")).removeprefix(f"#/{group}/")
        found = schema.get(group, {}).get(name)
        if isinstance(found, dict):
            return {**found, group: schema[group]}
    return schema


def _closed(schema: Any, path: str) -> Any:
    if not isinstance(schema, dict):
        return schema
    if path.count("/") > _MAX_DEPTH:
        raise _refusal("properties", path[:60], "it is nested too deeply")
    if "$ref" in schema and path:
        return {"$ref": schema["$ref"]}
    for keyword in schema:
        if keyword in _UNKNOWN:
            raise _refusal(keyword, path, "it has no counterpart there")
    closed = {name: _inner(name, value, path) for name, value in schema.items() if name not in _LEFT_OUT}
    if "oneOf" in closed:
        closed["anyOf"] = closed.pop("oneOf")
    if schema.get("type") == "object" or "properties" in schema:
        if schema.get("additionalProperties") not in (None, False):
            raise _refusal("additionalProperties", path, "objects there have named properties only")
        closed["additionalProperties"] = False
        required = dict.fromkeys(closed.get("required", ())) | dict.fromkeys(
            closed.setdefault("properties", {})
        )
        closed["required"] = list(required)
    return closed


def _inner(keyword: str, value: Any, path: str) -> Any:
    here = f"{path}/{keyword}"
    if keyword in _BY_NAME and isinstance(value, dict):
        return {name: _closed(inner, f"{here}/{name}") for name, inner in value.items()}
    if keyword in {"anyOf", "oneOf"} and isinstance(value, list):
        return [_closed(inner, f"{here}/{place}") for place, inner in enumerate(value)]
    return _closed(value, here) if keyword == "items" else value


def _refusal(keyword: str, path: str, why: str) -> DriverError:
    return DriverError(
        "unsupported",
        f"OpenAI's strict output cannot take the keyword {keyword!r} at {path or 'the root'} of the output's schema: "
        f"{why}; change the type, or ask for output that is not strict",
    )
