"""The local validator: a subset of JSON Schema, with its verdicts in its order. It never repeats what it read.

check_schema(contract)            why the schema itself is refused
validate(contract, candidate)     why this answer does not fit
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

from holdfast.compat.agent_sdk.canonical import Wire, canonical, parse
from holdfast.compat.agent_sdk.contract import OutputContract, check_shape
from holdfast.errors import UsageError

Code = Literal[
    "candidate_too_large", "invalid_json", "unsupported_dialect", "unsupported_schema_ref",
    "schema_contract_violation", "hostile_schema", "missing_required_field", "type_mismatch",
    "additional_property_denied", "enum_mismatch", "min_length_violation", "max_length_violation",
    "semantic_validator_unavailable",
]  # fmt: skip

WORDS: dict[str, str] = {
    "candidate_too_large": "candidate exceeds the byte limit",
    "invalid_json": "candidate is not valid JSON",
    "unsupported_dialect": "schema dialect is not supported by the local validator",
    "unsupported_schema_ref": "schema reference is not supported by the local validator",
    "schema_contract_violation": "schema violates the output contract",
    "hostile_schema": "schema exceeds the limits of the local validator",
    "missing_required_field": "required schema field is missing",
    "type_mismatch": "candidate value does not match the schema type",
    "additional_property_denied": "candidate contains an additional property denied by schema",
    "enum_mismatch": "candidate value is not one of the allowed schema values",
    "min_length_violation": "candidate string is shorter than the schema allows",
    "max_length_violation": "candidate string is longer than the schema allows",
    "semantic_validator_unavailable": "semantic validator is not available",
}
"""What each verdict says. The words for `missing_required_field`, `additional_property_denied` and `enum_mismatch` are
the other system's; the rest are ours, since no recording of them is at hand."""

SCHEMA_BYTES, SCHEMA_DEPTH, PROPERTIES, ENUM_VALUES, PATTERN_BYTES = 65_536, 24, 256, 512, 2_048
"""Beyond these a schema is hostile."""


class Problem(Wire, frozen=True, kw_only=True):
    """One verdict: a code, where in the answer, and words that show nothing of it."""

    code: Code
    path: str
    redacted_summary: str


def problem(code: Code, path: str = "/") -> Problem:
    """The verdict with its words."""
    return Problem(code=code, path=path, redacted_summary=WORDS[code])


def check_schema(contract: OutputContract) -> list[Problem]:
    """Why the schema is refused; empty when the validator can use it."""
    if contract.dialect != "json_schema2020_12_subset":
        return [problem("unsupported_dialect")]
    try:
        check_shape(contract)
    except UsageError:
        return [problem("schema_contract_violation")]
    if contract.mode != "final_only" or contract.schema.type != "inline_json":
        return [problem("schema_contract_violation")]
    schema = contract.schema.redacted_schema
    if len(canonical(schema)) > SCHEMA_BYTES:
        return [problem("hostile_schema")]
    return list(_hostile(schema, "", 0))


def _hostile(schema: Any, path: str, depth: int) -> Iterator[Problem]:
    if depth > SCHEMA_DEPTH:
        yield problem("hostile_schema", path or "/")
        return
    if isinstance(schema, list):
        for place, item in enumerate(schema):
            yield from _hostile(item, f"{path}/{place}", depth + 1)
    elif isinstance(schema, dict):
        yield from _limits(schema, path or "/")
        for key in sorted(schema):
            yield from _hostile(schema[key], f"{path}/{key}", depth + 1)


def _limits(schema: dict[str, Any], path: str) -> Iterator[Problem]:
    reference, properties = schema.get("$ref"), schema.get("properties")
    values, pattern = schema.get("enum"), schema.get("pattern")
    if "$ref" in schema:
        local = isinstance(reference, str) and reference.startswith("#")
        yield problem("unsupported_schema_ref" if local else "hostile_schema", path)
    beyond = (
        "format" in schema,
        isinstance(properties, dict) and len(properties) > PROPERTIES,
        isinstance(values, list) and len(values) > ENUM_VALUES,
        isinstance(pattern, str) and len(pattern.encode()) > PATTERN_BYTES,
    )
    if any(beyond):
        yield problem("hostile_schema", path)


def validate(contract: OutputContract, candidate: str | bytes) -> list[Problem]:
    """Why this answer does not fit, at most as many reasons as the contract wants; empty when it fits."""
    policy = contract.validation
    size = len(candidate if isinstance(candidate, bytes) else candidate.encode(errors="surrogatepass"))
    if size > policy.max_candidate_bytes:
        return [problem("candidate_too_large")]
    try:
        value = parse(candidate)
    except UsageError:
        return [problem("invalid_json")]
    found = list(_problems(contract.schema.redacted_schema, value, "", policy.allow_additional_properties))
    return found[: max(1, policy.max_errors_returned)]


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "integer": _is_integer,
    "number": lambda value: _is_integer(value) or isinstance(value, float),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
}


def _problems(schema: Any, value: Any, path: str, lenient: bool) -> Iterator[Problem]:
    here = path or "/"
    if not isinstance(schema, dict):
        if not isinstance(schema, bool) or not schema:
            yield problem("schema_contract_violation", here)
        return
    kind = schema.get("type", "object" if {"properties", "required"} & schema.keys() else None)
    if kind is not None:
        if not isinstance(kind, str) or kind not in _TYPES:
            yield problem("schema_contract_violation", here)
            return
        if not _TYPES[kind](value):
            yield problem("type_mismatch", here)
            return
    allowed = schema.get("enum")
    if isinstance(allowed, list) and not any(_same(value, one) for one in allowed):
        yield problem("enum_mismatch", here)
        return
    yield from _inside(schema, value, path, lenient)


def _inside(schema: dict[str, Any], value: Any, path: str, lenient: bool) -> Iterator[Problem]:
    if isinstance(value, str):
        yield from _lengths(schema, value, path or "/")
    elif isinstance(value, list) and isinstance(schema.get("items"), dict):
        for place, item in enumerate(value):
            yield from _problems(schema["items"], item, f"{path}/{place}", lenient)
    elif isinstance(value, dict):
        yield from _members(schema, value, path, lenient)


def _lengths(schema: dict[str, Any], value: str, path: str) -> Iterator[Problem]:
    shortest, longest = (
        limit if _is_integer(limit) else None for limit in (schema.get("minLength"), schema.get("maxLength"))
    )
    if isinstance(shortest, int) and len(value) < shortest:
        yield problem("min_length_violation", path)
    if isinstance(longest, int) and 0 <= longest < len(value):
        yield problem("max_length_violation", path)


def _members(schema: dict[str, Any], value: dict[str, Any], path: str, lenient: bool) -> Iterator[Problem]:
    required, properties = schema.get("required", ()), schema.get("properties", {})
    for name in required if isinstance(required, list) else ():
        if isinstance(name, str) and name not in value:
            yield problem("missing_required_field", f"{path}/{name}")
    known = properties if isinstance(properties, dict) else {}
    for name in sorted(known):
        if name in value:
            yield from _problems(known[name], value[name], f"{path}/{name}", lenient)
    if "type" not in schema and not {"properties", "required"} & schema.keys():
        return
    if schema.get("additionalProperties") is False or not lenient:
        for _ in sorted(value.keys() - known.keys()):
            yield problem("additional_property_denied", path or "/")


def _same(one: Any, other: Any) -> bool:
    """Equality of JSON values: 1 is not 1.0, and neither is true."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)
