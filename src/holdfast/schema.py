"""From a function's signature to a JSON Schema, and from a model's text to checked arguments.

The schema is what the model sees; msgspec is the authority on whether arguments fit. Only when they do not is
the schema asked for *all* the problems, so that the model can mend them in one go.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
import sys
import typing
from collections.abc import Callable
from functools import cache
from typing import Any

import msgspec

from holdfast.errors import HoldfastError, ToolSignatureError

MAX_ARGUMENT_BYTES = 1_048_576
"""Arguments longer than this are refused before they are parsed."""
MAX_ARGUMENT_DEPTH = 64
"""Arguments nested deeper than this are refused."""
MAX_PROBLEMS = 20


class InvalidArguments(HoldfastError):
    """The arguments do not fit the schema; `problems` lists every reason, for the model to read."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class Parameters:
    """The parameters of one tool: their schema, and how to read them.

    Made from a signature by `parameters_of`, or from a raw JSON Schema. Besides fitting the schema, arguments must be
    one clean JSON object: not too large or deep, no NaN, duplicate keys or lone surrogates, on which parsers disagree.
    """

    __slots__ = ("_decode", "_raw", "schema")

    def __init__(self, schema: dict[str, Any], decode: Callable[[str], Any] | None = None) -> None:
        self.schema = schema
        self._raw = decode is None
        self._decode = decode or _read_object

    def read(self, text: str) -> Any:
        """The checked arguments: a struct for a signature, a dict for a raw schema. Raises `InvalidArguments`."""
        _check_size(text)
        try:
            value = self._decode(text)
            if text.count(":") > 1:
                _strict.decode(text)
        except (ValueError, TypeError, RecursionError) as error:
            raise InvalidArguments(self._explain(text, error)) from error
        if self._raw and (found := problems(self.schema, value)):
            raise InvalidArguments(found)
        return value

    def _explain(self, text: str, error: Exception) -> list[str]:
        """Everything that is wrong with arguments that could not be read."""
        try:
            value = msgspec.json.decode(text)
            _strict.decode(text)
        except (ValueError, RecursionError) as malformed:
            reason = "a lone surrogate" if _LONE_SURROGATE.search(text) else str(malformed)
            return [f"the arguments are not valid JSON: {reason}"]
        if not isinstance(value, dict):
            return [f"the arguments must be a JSON object, not {type(value).__name__}"]
        return problems(self.schema, value) or [str(error)]


def _check_size(text: str) -> None:
    """Refuse arguments that are too large or too deep before anything reads them."""
    if len(text) > MAX_ARGUMENT_BYTES:
        raise InvalidArguments(
            [f"the arguments are {len(text):,} characters long; the limit is {MAX_ARGUMENT_BYTES:,}"]
        )
    if text.count("{") + text.count("[") > MAX_ARGUMENT_DEPTH and _depth(text) > MAX_ARGUMENT_DEPTH:
        raise InvalidArguments([f"the arguments are nested deeper than {MAX_ARGUMENT_DEPTH} levels"])


def _read_object(text: str) -> dict[str, Any]:
    return msgspec.json.decode(text, type=dict[str, Any])


_LONE_SURROGATE = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F]"
)


def _depth(text: str) -> int:
    deepest = depth = 0
    for mark in re.sub(r'"(?:[^"\\]|\\.)*"', "", text):
        if mark in "{[":
            depth += 1
            deepest = max(deepest, depth)
        elif mark in "}]":
            depth -= 1
    return deepest


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"duplicate key {', '.join(map(repr, twice))}")
    return value


_strict = json.JSONDecoder(object_pairs_hook=_unique)


def problems(schema: dict[str, Any], value: Any) -> list[str]:
    """Every way in which `value` breaks `schema`, each with its path, at most 20."""
    # Loaded here because it costs 8 ms that only a call with wrong arguments should pay.
    jsonschema_rs = importlib.import_module("jsonschema_rs")
    found = []
    for error in jsonschema_rs.validator_for(schema).iter_errors(value):
        path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.instance_path)
        found.append(f"{path.removeprefix('.')}: {error.message}" if path else error.message)
    if len(found) > MAX_PROBLEMS:
        found[MAX_PROBLEMS:] = [f"and {len(found) - MAX_PROBLEMS} more"]
    return found


def parameters_of(function: Callable[..., Any], *, skip: str | None = None) -> Parameters:
    """The parameters of a function. `skip` names the one that is not the model's to fill (the context).

    Raises `ToolSignatureError` naming the parameter that has no schema.
    """
    name = getattr(function, "__name__", "tool")
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except NameError as error:
        raise ToolSignatureError(
            f"tool {name!r}: {error}; annotations must be importable at module level"
        ) from error
    described = _parameter_docs(inspect.getdoc(function) or "")
    fields = [
        _field(name, parameter, hints, described)
        for parameter in inspect.signature(function).parameters.values()
        if parameter.name != skip
    ]
    struct = msgspec.defstruct(f"{name}_arguments", fields, kw_only=True, forbid_unknown_fields=True)
    decoder = msgspec.json.Decoder(struct, dec_hook=_decode_foreign)
    return Parameters(_schema_of_struct(name, struct, function), decoder.decode)


def _field(tool: str, parameter: inspect.Parameter, hints: dict[str, Any], described: dict[str, str]) -> Any:
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
        raise ToolSignatureError(f"tool {tool!r}: parameter {parameter} must be an ordinary, named parameter")
    if parameter.name not in hints:
        raise ToolSignatureError(f"tool {tool!r}: parameter {parameter.name!r} has no type; annotate it")
    kind = hints[parameter.name]
    if (text := described.get(parameter.name)) and typing.get_origin(kind) is not typing.Annotated:
        kind = typing.Annotated[kind, msgspec.Meta(description=text)]
    if parameter.default is parameter.empty:
        return (parameter.name, kind)
    return (parameter.name, kind | msgspec.UnsetType, msgspec.UNSET)


def _schema_of_struct(name: str, struct: type, function: Callable[..., Any]) -> dict[str, Any]:
    try:
        _, parts = msgspec.json.schema_components(
            [struct], schema_hook=_foreign_schema, ref_template="#/$defs/{name}"
        )
    except TypeError as error:
        raise ToolSignatureError(
            f"tool {name!r}: a parameter's type has no JSON Schema ({error.args[0].splitlines()[-1]}); "
            "use msgspec structs, dataclasses, TypedDicts, pydantic models or plain types"
        ) from error
    schema = parts.pop(struct.__name__)
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name in schema["properties"] and parameter.default is not parameter.empty:
            _show_default(schema["properties"][parameter.name], parameter.default)
    schema.pop("title", None)
    inlined: dict[str, Any] = _inline(schema, parts, ())
    if recursive := {ref: parts[ref] for ref in parts if f"#/$defs/{ref}" in json.dumps(inlined)}:
        inlined["$defs"] = recursive
    return inlined


def _show_default(schema: dict[str, Any], default: Any) -> None:
    try:
        schema["default"] = msgspec.to_builtins(default)
    except TypeError:
        return  # a default that JSON cannot show still applies


def _inline(node: Any, parts: dict[str, Any], inside: tuple[str, ...]) -> Any:
    """Put each definition where it is used (models read that better); a recursive one stays a reference."""
    if isinstance(node, list):
        return [_inline(item, parts, inside) for item in node]
    if not isinstance(node, dict):
        return node
    ref = str(node.get("$ref", "")).removeprefix("#/$defs/")
    if ref in parts and ref not in inside and not _mentions(parts, ref, ref):
        rest = {key: value for key, value in node.items() if key != "$ref"}
        return {**_inline(parts[ref], parts, (*inside, ref)), **rest}
    return {key: _inline(value, parts, inside) for key, value in node.items()}


def _mentions(parts: dict[str, Any], name: str, target: str, seen: frozenset[str] = frozenset()) -> bool:
    refs = set(re.findall(r'"#/\$defs/([^"]+)"', json.dumps(parts.get(name, {}))))
    return target in refs or any(_mentions(parts, ref, target, seen | {name}) for ref in refs - seen - {name})


_DOC_SECTION = re.compile(r"^(Args|Arguments|Parameters):\s*\n((?:[ \t]+.*\n?|\n)+)", re.MULTILINE)
_DOC_ENTRY = re.compile(r"^[ \t]+(\w+)(?:\s*\([^)]*\))?:\s*(.+(?:\n[ \t]{8,}.+)*)", re.MULTILINE)


def _parameter_docs(doc: str) -> dict[str, str]:
    section = _DOC_SECTION.search(doc + "\n")
    if section is None:
        return {}
    return {name: " ".join(text.split()) for name, text in _DOC_ENTRY.findall(section.group(2))}


def summary_of(doc: str) -> str:
    """A docstring without its parameter section: what the model reads as the tool's description."""
    return _DOC_SECTION.sub("", doc + "\n").strip()


def _is_pydantic(kind: Any) -> bool:
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and isinstance(kind, type) and issubclass(kind, pydantic.BaseModel)


@cache
def _foreign_schema(kind: Any) -> dict[str, Any]:
    if not _is_pydantic(kind):
        raise NotImplementedError
    schema: dict[str, Any] = kind.model_json_schema()
    parts = schema.pop("$defs", {})
    inlined: dict[str, Any] = _inline(schema, parts, ())
    return inlined


def _decode_foreign(kind: Any, value: Any) -> Any:
    if _is_pydantic(kind):
        return kind.model_validate(value)
    raise NotImplementedError(f"{kind} cannot be read from JSON")


def encode_value(value: Any) -> str:
    """A tool's return value as the text a model reads: strings as they are, the rest as JSON.

    Raises `TypeError`, `ValueError` or `RecursionError` for a value that JSON cannot hold.
    """
    if isinstance(value, str):
        value.encode()
        return value
    return msgspec.json.encode(value, enc_hook=_encode_foreign).decode()


def _encode_foreign(value: Any) -> Any:
    if _is_pydantic(type(value)):
        return value.model_dump(mode="json")
    raise TypeError(f"a {type(value).__name__} cannot be written as JSON")
