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
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Literal

import msgspec

from holdfast.errors import HoldfastError, ToolSignatureError

MAX_ARGUMENT_BYTES = 1_048_576
"""Arguments longer than this are refused before they are parsed."""
MAX_ARGUMENT_DEPTH = 64
"""Arguments nested deeper than this are refused."""
MAX_PROBLEMS = 20
MAX_PROBLEM = 400
"""Characters of one problem."""


class InvalidArguments(HoldfastError):
    """The arguments do not fit the schema; `problems` lists every reason, for the model to read."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class Parameters:
    """The parameters of one tool: their schema, and how to read them.

    Made from a signature by `parameters_of`, or from a raw JSON Schema (`ToolSignatureError` when it is not valid, or
    refers to anything outside itself). Besides fitting the schema, arguments must be
    one clean JSON object: not too large or deep, no NaN, duplicate keys or lone surrogates, on which parsers disagree.
    """

    __slots__ = ("_are", "_decode", "_validator", "schema")

    def __init__(
        self,
        schema: dict[str, Any],
        decode: Callable[[str], Any] | None = None,
        *,
        what: Literal["arguments", "answer"] = "arguments",
    ) -> None:
        self.schema = schema
        self._are = f"the {what} {'are' if what == 'arguments' else 'is'}"
        self._validator = _validator(schema) if decode is None else None
        self._decode = decode or _read_object

    def read(self, text: str) -> Any:
        """The checked arguments: a struct for a signature, a dict for a raw schema. Raises `InvalidArguments`."""
        if len(text) > MAX_ARGUMENT_BYTES:
            raise InvalidArguments(
                [f"{self._are} {len(text):,} characters long; the limit is {MAX_ARGUMENT_BYTES:,}"]
            )
        try:
            value = self._decode(text)
            _check_depth(text)
            if text.count(":") > _keys(value):
                _strict.decode(text)
        except Exception as error:  # the checks of a parameter's own type may raise anything
            raise InvalidArguments(self._explain(text, error)) from error
        if self._validator is not None and (found := _problems(self._validator, value)):
            raise InvalidArguments(found)
        return value

    def _explain(self, text: str, error: Exception) -> list[str]:
        """Everything that is wrong with arguments that could not be read."""
        try:
            value = msgspec.json.decode(text)
            _check_depth(text)
            _strict.decode(text)
        except RecursionError:
            return [f"{self._are} nested deeper than {MAX_ARGUMENT_DEPTH} levels"]
        except ValueError as malformed:
            reason = "a lone surrogate" if re.search(_LONE_SURROGATE, text) else _short(str(malformed))
            return [f"{self._are} not valid JSON: {reason}"]
        if not isinstance(value, dict):
            return [f"{self._are.rpartition(' ')[0]} must be a JSON object, not {type(value).__name__}"]
        return _problems(self._validator or _validator(self.schema), value) or _said_by(error)


def _read_object(text: str) -> dict[str, Any]:
    return msgspec.json.decode(text, type=dict[str, Any])


_LONE_SURROGATE = (
    r"[\ud800-\udfff]|\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])"
    r"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F]"
)


def _keys(value: Any) -> int:
    """How many different keys the object has. Text with no more colons than these repeats none of them."""
    if isinstance(value, dict):
        return len(value)
    names = getattr(value, "__struct_fields__", ())
    return sum([getattr(value, name) is not msgspec.UNSET for name in names])


def _check_depth(text: str) -> None:
    """Raise `RecursionError` when this valid JSON is nested too deep. (Invalid JSON could take quadratic time here.)"""
    if text.count("{") + text.count("[") <= MAX_ARGUMENT_DEPTH:
        return
    depth = 0
    for mark in re.sub(r'"(?:[^"\\]|\\.)*"', "", text):
        if mark in "{[":
            depth += 1
            if depth > MAX_ARGUMENT_DEPTH:
                raise RecursionError
        elif mark in "}]":
            depth -= 1


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        twice = sorted(name for name, times in Counter([name for name, _ in pairs]).items() if times > 1)
        raise ValueError(f"duplicate key {', '.join(map(repr, twice))}")
    return value


_strict = json.JSONDecoder(object_pairs_hook=_unique)


def _validator(schema: dict[str, Any]) -> Any:
    # Loaded here because it costs 8 ms that only raw schemas and wrong arguments should pay.
    jsonschema_rs = importlib.import_module("jsonschema_rs")
    try:
        return jsonschema_rs.validator_for(schema, offline=True)
    except ValueError as error:
        reason = str(error).partition("\n")[0]
        raise ToolSignatureError(
            f"this JSON Schema cannot be used: {reason}. Correct it; a $ref must point inside the schema"
        ) from error


def _problems(validator: Any, value: Any) -> list[str]:
    """Every way in which `value` breaks the schema, each with its path, at most 20."""
    found = []
    for error in [leaf for broken in validator.iter_errors(value) for leaf in _leaves(broken)]:
        path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.instance_path)
        found.append(_short(f"{path.removeprefix('.')}: {error.message}" if path else error.message))
    if len(found) > MAX_PROBLEMS:
        found[MAX_PROBLEMS:] = [f"and {len(found) - MAX_PROBLEMS} more"]
    return found


def problems_with(schema: dict[str, Any], value: Any) -> list[str]:
    """Every way in which a plain value breaks this JSON Schema, at most 20. Raises `ToolSignatureError` when the schema
    cannot be used."""
    return _problems(_validator(schema), value)


def schema_of_result(function: Callable[..., Any]) -> dict[str, Any] | None:
    """The schema of what the function is annotated to return; None when that says nothing.

    Raises `ToolSignatureError` for a type that has no JSON Schema.
    """
    name = getattr(function, "__name__", "tool")
    try:
        kind = typing.get_type_hints(function, include_extras=True).get("return", Any)
        if kind is Any:
            return None
        whole = _schema_of_struct(msgspec.defstruct(f"{name}_result", [("result", kind)]))
    except (NameError, AttributeError, SyntaxError, TypeError, ValueError) as error:
        raise ToolSignatureError(
            f"tool {name!r}: what it returns has no JSON Schema ({str(error).splitlines()[-1]})"
        ) from error
    schema: dict[str, Any] = whole["properties"]["result"]
    return {**schema, "$defs": whole["$defs"]} if "$defs" in whole else schema


def _said_by(error: Exception) -> list[str]:
    """What a type's own checks say, which no schema shows; pydantic tells all of it at once."""
    for it in (error, error.__cause__):
        if callable(listed := getattr(it, "errors", None)):
            return [
                _short(f"{'.'.join(map(str, one['loc']))}: {one['msg']}") for one in listed()[:MAX_PROBLEMS]
            ]
    return [_short(str(error))]


def _leaves(error: Any) -> Iterable[Any]:
    """The error itself; or, of a value that fits no alternative, the errors of the only one of its JSON type."""
    path = list(error.instance_path)
    alternatives = [
        errors
        for errors in getattr(error.kind, "context", ())
        if not any(it.kind.name == "type" and list(it.instance_path) == path for it in errors)
    ]
    return [leaf for it in alternatives[0] for leaf in _leaves(it)] if len(alternatives) == 1 else [error]


def _short(problem: str) -> str:
    """Without its middle when it is long: it quotes what the model wrote, which may be a megabyte."""
    half = MAX_PROBLEM // 2
    return problem if len(problem) <= MAX_PROBLEM else f"{problem[:half]} ... {problem[-half:]}"


def parameters_of(function: Callable[..., Any], *, skip: str | None = None) -> Parameters:
    """The parameters of a function. `skip` names the one that is not the model's to fill (the context).

    Raises `ToolSignatureError` naming the parameter that has no schema.
    """
    name = getattr(function, "__name__", "tool")
    try:
        hints = typing.get_type_hints(function, include_extras=True)
        parameters = inspect.signature(function).parameters.values()
    except (NameError, AttributeError, SyntaxError, TypeError, ValueError) as error:
        raise ToolSignatureError(
            f"tool {name!r}: {error}; annotations must be types that are importable at module level"
        ) from error
    described = _parameter_docs(inspect.getdoc(function) or "")
    fields = [_field(name, given, hints, described) for given in parameters if given.name != skip]
    struct = msgspec.defstruct(f"{name}_arguments", fields, kw_only=True, forbid_unknown_fields=True)
    try:
        decoder = msgspec.json.Decoder(struct, dec_hook=foreign)
        schema = _schema_of_struct(struct)
    except (TypeError, NameError) as error:
        raise ToolSignatureError(
            f"tool {name!r}: a parameter's type has no JSON Schema ({str(error).splitlines()[-1]}); "
            "use msgspec structs, dataclasses, TypedDicts, pydantic models or plain types"
        ) from error
    for given in parameters:
        if given.name in schema["properties"] and given.default is not given.empty:
            _show_default(schema["properties"][given.name], given.default)
    return Parameters(schema, decoder.decode)


def schema_of(kind: Any, name: str) -> tuple[dict[str, Any], bool, Callable[[str], Any]]:
    """The JSON Schema of a type, as an object; whether its only property `value` holds what the type is for, because
    that is no object itself; and how to read it. Raises `ToolSignatureError`."""
    try:
        struct = msgspec.defstruct(name, [("value", kind)], kw_only=True)
        schema = _schema_of_struct(struct)
        inner = schema["properties"]["value"]
        wrapped = inner.get("type") != "object" or "properties" not in inner
        decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(
            struct if wrapped else kind, dec_hook=foreign
        )
    except (TypeError, NameError, ValueError) as error:
        raise ToolSignatureError(
            f"it has no JSON Schema ({str(error).splitlines()[-1]}); use msgspec structs, dataclasses, TypedDicts, "
            "pydantic models or plain types"
        ) from error
    if not wrapped:
        schema = inner | {key: schema[key] for key in ("$defs",) if key in schema}
    return schema, wrapped, decoder.decode


def _field(tool: str, parameter: inspect.Parameter, hints: dict[str, Any], described: dict[str, str]) -> Any:
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
        raise ToolSignatureError(f"tool {tool!r}: parameter {parameter} must be an ordinary, named parameter")
    if parameter.name not in hints:
        raise ToolSignatureError(f"tool {tool!r}: parameter {parameter.name!r} has no type; annotate it")
    kind = hints[parameter.name]
    annotated = getattr(kind, "__metadata__", ())
    if (text := described.get(parameter.name)) and not any(
        getattr(it, "description", "") for it in annotated
    ):
        kind = typing.Annotated[kind, msgspec.Meta(description=text)]
    if parameter.default is parameter.empty:
        return (parameter.name, kind)
    return (parameter.name, kind | msgspec.UnsetType, msgspec.UNSET)


def _schema_of_struct(struct: type) -> dict[str, Any]:
    (root,), parts = msgspec.json.schema_components(
        [struct], schema_hook=_foreign_schema, ref_template="#/$defs/{name}"
    )
    _collect(parts, parts)
    schema = parts.pop(root["$ref"].removeprefix("#/$defs/"))
    schema.pop("title", None)
    inlined: dict[str, Any] = _inline(schema, parts, ())
    recursive = [ref for ref in parts if _mentions(parts, ref, ref)]
    if recursive:
        inlined["$defs"] = {ref: _inline(parts[ref], parts, (ref,)) for ref in recursive}
    return inlined


def _collect(node: Any, parts: dict[str, Any]) -> None:
    """Move the definitions that foreign schemas bring along to where all of them stand."""
    for child in list(node.values()) if isinstance(node, dict) else node if isinstance(node, list) else ():
        if isinstance(child, dict) and isinstance(brought := child.pop("$defs", None), dict):
            parts.update(brought)
            _collect(brought, parts)
        _collect(child, parts)


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
    return {key: _inline(value, parts, inside) for key, value in node.items() if key != "discriminator"}


def _mentions(parts: dict[str, Any], name: str, target: str, seen: frozenset[str] = frozenset()) -> bool:
    refs = set(re.findall(r'"#/\$defs/([^"]+)"', json.dumps(parts.get(name, {}))))
    return target in refs or any(_mentions(parts, ref, target, seen | {name}) for ref in refs - seen - {name})


_DOC_SECTION = r"(?m)^(Args|Arguments|Parameters):\s*\n((?:[ \t]+.*\n?|\n)+)"
_DOC_ENTRY = r"(?m)^[ \t]+(\w+)(?:\s*\([^)]*\))?:\s*(.+(?:\n[ \t]{8,}.+)*)"


def _parameter_docs(doc: str) -> dict[str, str]:
    section = re.search(_DOC_SECTION, doc + "\n")
    if section is None:
        return {}
    return {name: " ".join(text.split()) for name, text in re.findall(_DOC_ENTRY, section.group(2))}


def summary_of(doc: str) -> str:
    """A docstring without its parameter section: what the model reads as the tool's description."""
    return re.sub(_DOC_SECTION, "", doc + "\n").strip()


def _is_pydantic(kind: Any) -> bool:
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and isinstance(kind, type) and issubclass(kind, pydantic.BaseModel)


def _foreign_schema(kind: Any) -> dict[str, Any]:
    if not _is_pydantic(kind):
        raise NotImplementedError
    schema: dict[str, Any] = kind.model_json_schema()
    return schema


def foreign(kind: Any, value: Any) -> Any:
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
