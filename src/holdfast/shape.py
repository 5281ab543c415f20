"""The shape of an answer: from a type to an output contract, and from a model's text to a value of that type.

    shape = shape_of(Invoice)        # or a union, a list, an int, a JSON Schema
    shape.contract                   # what stands on the log and goes to the model
    shape.read(text)                 # an Invoice; raises `InvalidAnswer` with all the problems

The model sees the schema; what counts is whether `read` takes the answer.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Callable
from typing import Any

import msgspec

from holdfast.errors import HoldfastError, OutputTypeError, ToolSignatureError
from holdfast.facts.answers import OutputContract
from holdfast.schema import InvalidArguments, Parameters, schema_of

MAX_REPAIRS = 20

_FENCED = r"(?s)```(?:json)?[ \t]*\n(.*?)\n[ \t]*```"


class InvalidAnswer(HoldfastError):
    """The answer does not fit the output contract; `problems` lists every reason."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class Shape:
    """An output contract and how to read what is held against it."""

    __slots__ = ("_kind", "_parameters", "contract")

    def __init__(
        self, contract: OutputContract, decode: Callable[[str], Any] | None = None, kind: Any = None
    ) -> None:
        self.contract = contract
        self._kind = kind
        self._parameters = Parameters(contract.schema, decode, what="answer")

    def read(self, text: str) -> Any:
        """The value in this JSON text. Raises `InvalidAnswer`."""
        try:
            value = self._parameters.read(text)
        except InvalidArguments as error:
            raise InvalidAnswer(error.problems) from None
        if not self.contract.wrapped:
            return value
        return value["value"] if isinstance(value, dict) else value.value

    @property
    def types(self) -> dict[str, Any]:
        """The types of the answer's properties, as far as they are known."""
        if self._kind is None:
            return {}
        if self.contract.wrapped:
            return {"value": self._kind}
        try:
            return typing.get_type_hints(self._kind, include_extras=True)
        except (NameError, TypeError):
            return {}


def shape_of(kind: Any, *, repairs: int = 3) -> Shape:
    """The shape of a type (msgspec struct, dataclass, TypedDict, pydantic model, union, list, plain type) or schema.

    A schema is a dict, and what is read is then plain data. Raises `OutputTypeError` for a type without a schema, and
    when `repairs`, how often the model may be told what is wrong, is not from 0 to 20.
    """
    if not 0 <= repairs <= MAX_REPAIRS:
        raise OutputTypeError(f"repairs is {repairs!r}; it is from 0 to {MAX_REPAIRS}")
    try:
        return _of_schema(kind, repairs) if isinstance(kind, dict) else _of_type(kind, repairs)
    except ToolSignatureError as error:
        raise OutputTypeError(f"the output type {_name(kind)} cannot be used: {error}") from None


def shape_from(contract: OutputContract) -> Shape:
    """The shape of a contract whose type is not at hand: what is read is plain data."""
    return Shape(contract)


def _of_type(kind: Any, repairs: int) -> Shape:
    schema, wrapped, decode = schema_of(kind, _name(kind))
    contract = OutputContract(name=_name(kind), schema=schema, wrapped=wrapped, repairs=repairs)
    return Shape(contract, decode, kind)


def _of_schema(schema: dict[str, Any], repairs: int) -> Shape:
    name = re.sub(r"[^A-Za-z0-9_-]", "_", str(schema.get("title", "")))[:60] or "answer"
    try:
        msgspec.json.encode(schema)
    except (TypeError, ValueError, RecursionError) as error:
        raise OutputTypeError(f"the output schema is not JSON: {error}") from None
    if wrapped := schema.get("type") != "object":
        inner = {key: value for key, value in schema.items() if key not in ("$defs", "definitions")}
        shared: dict[str, Any] = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
        schema = {"type": "object", "properties": {"value": inner}, "required": ["value"], **shared}
    return Shape(OutputContract(name=name, schema=schema, wrapped=wrapped, repairs=repairs))


def _name(kind: Any) -> str:
    """A name that every provider takes for a schema."""
    name = getattr(kind, "__name__", None) or re.sub(r"[\w.]+\.(?=\w)", "", str(kind))
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_")[:60] or "answer"


def json_in(text: str) -> str:
    """The JSON in a model's words: all of them, or what stands between their code fences, or between their braces."""
    words = text.strip()
    if words.startswith("{"):
        return words
    if found := re.search(_FENCED, words):
        return found.group(1).strip()
    start, end = words.find("{"), words.rfind("}")
    return words[start : end + 1] if 0 <= start < end else words
