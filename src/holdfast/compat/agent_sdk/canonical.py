"""Canonical JSON, read and written as the other system does, and the digests over it.

    canonical(value)     sorted keys, compact, UTF-8: what fingerprints are made of
    declared(value)      compact, keys in the order they stand: what some older hashes are made of
    parse(text)          JSON under the rules of its parser: no NaN, no lone surrogates, integers of 64 bits

Integers beyond 64 bits and floats are where languages differ: an integer that is too large reads as a float, and a
float is written with the fewest digits, as `1e-7`, `0.00001` and `1e+16`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

import msgspec
from msgspec import Struct

from holdfast.errors import UsageError
from holdfast.store import digest_of

MAX_DEPTH = 127
"""Arrays and objects inside each other that its parser reads."""

_INTEGERS = range(-(2**63), 2**64)

JsonObject = dict[str, Any]
"""A JSON object."""


class Wire(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A record of the other system: absent optionals are left out, fields it does not have are refused."""


def plain(value: Any) -> Any:
    """A record as plain data: objects, with keys in the order of the fields, and lists."""
    return _with_lists(msgspec.to_builtins(value))


def _with_lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_lists(item) for key, item in value.items()}
    return [_with_lists(item) for item in value] if isinstance(value, list | tuple) else value


def canonical(value: Any) -> bytes:
    """Canonical JSON of plain data or of a record. Raises `UsageError` for what JSON cannot say."""
    return _written(value, sort=True)


def declared(value: Any) -> bytes:
    """Compact JSON with keys as they stand. Raises `UsageError` for what JSON cannot say."""
    return _written(value, sort=False)


def pretty(value: Any) -> str:
    """The value on lines of their own, two spaces deep, with keys as they stand."""
    return json.dumps(plain(value), indent=2, ensure_ascii=False)


def hash_of(value: Any) -> str:
    """`sha256:` and the hex digest of the canonical JSON of this value."""
    return digest_of(canonical(value))


def _written(value: Any, *, sort: bool) -> bytes:
    try:
        return "".join(_pieces(plain(value), sort)).encode()
    except (UnicodeEncodeError, RecursionError, TypeError) as error:
        raise UsageError(f"this cannot be written as JSON: {error}") from error


def _pieces(value: Any, sort: bool) -> Iterable[str]:
    if isinstance(value, dict):
        yield "{"
        for place, key in enumerate(sorted(value) if sort else value):
            yield f"{',' if place else ''}{_text(key)}:"
            yield from _pieces(value[key], sort)
        yield "}"
    elif isinstance(value, list):
        yield "["
        for place, item in enumerate(value):
            yield "," if place else ""
            yield from _pieces(item, sort)
        yield "]"
    else:
        yield _scalar(value)


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, float):
        return _float(value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int) and value in _INTEGERS:
        return str(value)
    raise UsageError(f"{value!r} cannot be written as JSON here; integers have 64 bits")


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _float(value: float) -> str:
    if not math.isfinite(value):
        raise UsageError(f"{value!r} is no JSON number")
    mantissa, _, exponent = repr(value).partition("e")
    if not exponent:
        return mantissa
    if exponent == "-05":  # the one power that Python writes with an exponent, and the other side without
        sign, digits = ("-", mantissa[1:]) if mantissa[0] == "-" else ("", mantissa)
        return f"{sign}0.0000{digits.replace('.', '')}"
    return f"{mantissa}e{int(exponent):+d}"


def parse(text: str | bytes) -> Any:
    """The value of this JSON text. Raises `UsageError` when it is none under the rules above."""
    try:
        words = text.decode() if isinstance(text, bytes) else text
        words.encode()
        value = json.loads(words, parse_int=_read_integer, parse_float=_read_float, parse_constant=_refuse)
        _check(value, 0)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"this is not JSON: {error}") from error
    return value


def _read_integer(digits: str) -> int | float:
    if digits == "-0":
        return -0.0
    if len(digits) <= 20 and (number := int(digits)) in _INTEGERS:
        return number
    return _read_float(digits)


def _read_float(digits: str) -> float:
    if math.isinf(number := float(digits)):
        raise ValueError(f"{digits[:20]} is out of range")
    return number


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON number")


def _check(value: Any, depth: int) -> None:
    """Raise `ValueError` for what Python's parser lets through."""
    if isinstance(value, str):
        value.encode()  # a lone surrogate
    elif isinstance(value, dict | list):
        if depth == MAX_DEPTH:
            raise ValueError("it is nested too deeply")
        for item in [*value, *value.values()] if isinstance(value, dict) else value:
            _check(item, depth + 1)


Sort = Callable[[Any], str]
"""What a list is sorted by."""


def by(key: Sort, items: Iterable[Any]) -> list[Any]:
    """The items in the order of this key, by code points; equal ones as they stood."""
    return sorted(items, key=key)
