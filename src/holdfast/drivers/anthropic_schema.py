"""A JSON Schema as Anthropic can hold a model to it.

Its structured output knows types, enums, references, unions and closed objects. What else a schema says is told to
the model in the description; checking it is left to who reads the answer. What would turn into something else is
refused.
"""

from __future__ import annotations

from typing import Any

import msgspec

from holdfast.errors import DriverError

_KEPT = frozenset({"type", "enum", "const", "$ref", "title", "default", "required"})
_SAID_ELSEWHERE = frozenset({"description", "additionalProperties", "$schema", "$id"})
_FORMATS = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"}
)
_MAPS = frozenset({"properties", "$defs", "definitions"})
_LISTS = {"anyOf": "anyOf", "oneOf": "anyOf", "allOf": "allOf"}
_DECIDING = frozenset({"type", "enum", "const", "$ref", "anyOf", "allOf", "properties"})
"""One of these must say what a value is."""


def held(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema in the part of the language that Anthropic takes. Raises `DriverError` (`unsupported`)."""
    _refuse_circles(schema, schema, ())
    return _held(schema, "the schema")


def _held(schema: Any, where: str) -> dict[str, Any]:
    if not isinstance(schema, dict):
        raise _unsupported(where, "a schema that is true or false")
    out: dict[str, Any] = {}
    rest: dict[str, Any] = {}
    for name, value in schema.items():
        kept = _keyword(name, value, where)
        if kept is None:
            rest[name] = value
        else:
            out |= kept
    if not _DECIDING & out.keys():
        raise _unsupported(where, "a value without a type")
    if "$ref" in out:
        return {name: value for name, value in out.items() if name == "$ref" or name in _MAPS}
    if "properties" in out or "object" in _types(schema):
        _close(schema, out, where)
    words = schema.get("description", "")
    if rest:
        words = f"{words}\n\n{msgspec.json.encode(rest).decode()}".strip()
    if words:
        out["description"] = words
    return out


def _keyword(name: str, value: Any, where: str) -> dict[str, Any] | None:
    """What stays of a keyword; None when it can only be told in words."""
    if name in _KEPT or (name == "format" and value in _FORMATS) or (name == "minItems" and value in (0, 1)):
        return {name: value}
    if name in _MAPS and isinstance(value, dict):
        return {name: {key: _held(inner, f"{where}.{key}") for key, inner in value.items()}}
    if name in _LISTS and isinstance(value, list):
        return {_LISTS[name]: [_held(inner, where) for inner in value]}
    if name == "items":
        return {name: _held(value, f"{where}[]")}
    return {} if name in _SAID_ELSEWHERE else None


def _close(schema: dict[str, Any], out: dict[str, Any], where: str) -> None:
    """Objects must be closed. One with any keys at all cannot be; one that only tolerates more keys can."""
    more = schema.get("additionalProperties")
    if isinstance(more, dict) or (more is True and not schema.get("properties")):
        raise _unsupported(where, "additionalProperties")
    out.setdefault("properties", {})
    out["additionalProperties"] = False


def _types(schema: dict[str, Any]) -> list[Any]:
    named = schema.get("type")
    return named if isinstance(named, list) else [named]


def _refuse_circles(schema: Any, root: dict[str, Any], path: tuple[str, ...]) -> None:
    """References must lead inside the schema, and never back to where they are."""
    if isinstance(schema, list):
        for inner in schema:
            _refuse_circles(inner, root, path)
    if not isinstance(schema, dict):
        return
    ref = schema.get("$ref")
    if isinstance(ref, str):
        if ref in path:
            raise _unsupported(ref, "a $ref that leads back to itself")
        _refuse_circles(_target(ref, root), root, (*path, ref))
    for name, inner in schema.items():
        if name not in {"$defs", "definitions", "enum", "const", "default", "examples"}:
            _refuse_circles(inner, root, path)


def _target(ref: str, root: dict[str, Any]) -> Any:
    found: Any = root
    for step in ref.removeprefix("#").split("/")[1:] if ref.startswith("#/") else [None]:
        name = step.replace("~1", "/").replace("~0", "~") if step is not None else None
        if not isinstance(found, dict) or name not in found:
            raise _unsupported(ref, "a $ref that leads outside the schema")
        found = found[name]
    return found


def _unsupported(where: str, what: str) -> DriverError:
    return DriverError(
        "unsupported",
        f"Anthropic's structured output cannot take {what} (at {where}); change the output type",
    )
