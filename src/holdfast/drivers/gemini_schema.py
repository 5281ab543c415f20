"""JSON Schemas as Gemini takes them: it knows a part of the language, and refuses or overlooks the rest.

What only limits a value (a pattern, a length) is told in the description, and answers and arguments are checked here
anyway. What makes the shape itself (`not`, `if`, `patternProperties`, ...) cannot be said to Gemini at all.
"""

from __future__ import annotations

import json
from typing import Any

from holdfast.errors import DriverError

_KNOWN = frozenset(
    {
        "$id", "$anchor", "$ref", "type", "title", "description", "default", "enum", "minItems", "maxItems", "minimum",
        "maximum", "required", "nullable", "propertyOrdering",
    }
)  # fmt: skip
"""Keywords that Gemini takes as they are."""
_FORMATS = frozenset({"date-time", "date", "time", "int32", "int64", "float", "double"})
_ONE = frozenset({"items", "additionalProperties"})
_MANY = frozenset({"anyOf", "oneOf", "prefixItems"})
_NAMED = {"properties": "properties", "$defs": "$defs", "definitions": "$defs"}
"""Keywords that Gemini takes, with schemas in them: one, a list, or by name."""
_LIMITS = frozenset(
    {
        "pattern", "minLength", "maxLength", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "uniqueItems",
        "minProperties", "maxProperties", "contentEncoding", "contentMediaType",
    }
)  # fmt: skip
"""Limits of a value that Gemini does not know: said in words."""
_REMARKS = frozenset(
    {"$schema", "$comment", "examples", "deprecated", "readOnly", "writeOnly", "discriminator"}
)
"""What changes nothing and may be left out."""
_MAX_DEPTH = 100


def translated(schema: dict[str, Any], *, strict: bool) -> dict[str, Any]:
    """The schema in Gemini's part of the language.

    With `strict` a keyword that cannot be left out without changing the shape raises `DriverError` (`unsupported`)
    that names it; otherwise it is left out, and the schema then allows more.
    """
    return _Translation(strict).schema(schema, "")


class _Translation:
    def __init__(self, strict: bool) -> None:
        self._strict = strict

    def schema(self, schema: dict[str, Any], place: str) -> dict[str, Any]:
        if place.count("/") > _MAX_DEPTH:
            self._refuse("schemas nested this deeply", place[:60])
            return {}
        told: dict[str, Any] = {}
        limits: list[str] = []
        for name, value in _flat(schema).items():
            if name in _LIMITS or (name == "format" and str(value) not in _FORMATS):
                limits.append(f"{name}: {_written(value)}")
            elif name == "const" or (name == "enum" and isinstance(value, list) and not _plain(value)):
                limits += _one_of([value] if name == "const" else value, told)
            else:
                self._keyword(name, value, told, place)
        if limits:
            words = f"({'; '.join(limits)})"
            told["description"] = f"{told.get('description', '')} {words}".strip()
        if "$ref" in told and place:  # beside a reference nothing else is allowed
            told = {name: value for name, value in told.items() if name.startswith("$")}
        return told

    def _keyword(self, name: str, value: Any, told: dict[str, Any], place: str) -> None:
        if name == "$ref":
            told[name] = self._reference(value, place)
        elif name in _KNOWN or name == "format":
            told[name] = value
        elif name in _ONE:
            told[name] = self._one(value, f"{place}/{name}", bare=name == "additionalProperties")
        elif name in _MANY and isinstance(value, list):
            told[name] = [self._one(inner, f"{place}/{name}/{at}") for at, inner in enumerate(value)]
        elif name in _NAMED and isinstance(value, dict):
            target = _NAMED[name]
            named = {key: self._one(inner, f"{place}/{name}/{key}") for key, inner in value.items()}
            told[target] = {**told.get(target, {}), **named}
        elif name not in _REMARKS and not name.startswith("x-"):
            self._refuse(name, place)

    def _one(self, value: Any, place: str, *, bare: bool = False) -> Any:
        if isinstance(value, dict):
            return self.schema(value, place)
        if bare and isinstance(value, bool):
            return value
        if value is not True:
            self._refuse(_written(value), place)
        return {}

    def _reference(self, value: Any, place: str) -> str:
        if not (isinstance(value, str) and value.startswith("#")):
            self._refuse(f"$ref to {value}", place)
            return "#"
        return value.replace("#/definitions/", "#/$defs/", 1)

    def _refuse(self, what: str, place: str) -> None:
        if self._strict:
            raise DriverError(
                "unsupported",
                f"Gemini cannot be held to {what!r} in the output schema (at {place or '/'}); "
                "write the schema without it",
            )


def _flat(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with an `allOf` of one taken for what it is."""
    while isinstance(inner := schema.get("allOf"), list) and len(inner) == 1 and isinstance(inner[0], dict):
        rest = {name: value for name, value in schema.items() if name != "allOf"}
        schema = {**inner[0], **rest}
    return schema


def _plain(values: Any) -> bool:
    """Whether these can stand in an `enum`: texts and numbers."""
    return all(isinstance(value, str | int | float) and not isinstance(value, bool) for value in values)


def _one_of(values: list[Any], told: dict[str, Any]) -> list[str]:
    """Values as an `enum`, as far as Gemini takes them there; else in words."""
    if _plain(values):
        told["enum"] = values
        return []
    kinds = {type(value) for value in values}
    if kinds <= {bool, type(None)}:
        told["type"] = sorted({"boolean" if value is not None else "null" for value in values})
        if len(told["type"]) == 1:
            told["type"] = told["type"][0]
    return [f"one of: {', '.join([_written(value) for value in values])}"]


def _written(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
