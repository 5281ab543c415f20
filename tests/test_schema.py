"""From a signature to the schema that a model sees."""

import builtins
import datetime
import decimal
import inspect
import json
import pathlib
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

import jsonschema_rs
import pytest
from msgspec import Meta

from holdfast.errors import ToolSignatureError
from holdfast.schema import parameters_of, summary_of
from tests.some_types import (
    Circle,
    Color,
    Egg,
    Forest,
    Level,
    Node,
    Options,
    Order,
    Pair,
    Person,
    Place,
    Square,
    Tree,
    Trip,
    UserId,
)

PLACE = {
    "title": "Place",
    "description": "Somewhere.",
    "type": "object",
    "properties": {"city": {"type": "string"}, "zip": {"type": "string", "default": "-"}},
    "required": ["city"],
}
COLOR = {"title": "Color", "enum": ["blue", "red"]}


def schema_of(annotation: Any, *default: Any) -> dict[str, Any]:
    """The whole schema of a function with one parameter `x` of this type."""

    def function(x: Any) -> None: ...

    function.__annotations__["x"] = annotation
    function.__defaults__ = default
    return parameters_of(function).schema


TYPES: list[tuple[Any, dict[str, Any]]] = [
    (int, {"type": "integer"}),
    (str, {"type": "string"}),
    (float, {"type": "number"}),
    (bool, {"type": "boolean"}),
    (None, {"type": "null"}),
    (Any, {}),
    (bytes, {"type": "string", "contentEncoding": "base64"}),
    (list, {"type": "array"}),
    (list[int], {"type": "array", "items": {"type": "integer"}}),
    (Sequence[int], {"type": "array", "items": {"type": "integer"}}),
    (set[str], {"type": "array", "items": {"type": "string"}, "uniqueItems": True}),
    (tuple[int, ...], {"type": "array", "items": {"type": "integer"}}),
    (dict, {"type": "object"}),
    (dict[str, int], {"type": "object", "additionalProperties": {"type": "integer"}}),
    (Mapping[str, Any], {"type": "object"}),
    (Literal["a", "b"], {"enum": ["a", "b"]}),
    (int | None, {"anyOf": [{"type": "integer"}, {"type": "null"}]}),
    (int | str, {"anyOf": [{"type": "integer"}, {"type": "string"}]}),
    (UserId, {"type": "integer"}),
    (Annotated[int, Meta(ge=0, description="Many.")], {"type": "integer", "minimum": 0, "description": "Many."}),
    (Annotated[str, Meta(max_length=3)] | None, {"anyOf": [{"type": "string", "maxLength": 3}, {"type": "null"}]}),
    (datetime.date, {"type": "string", "format": "date"}),
    (decimal.Decimal, {"type": "string", "format": "decimal"}),
    (uuid.UUID, {"type": "string", "format": "uuid"}),
    (Color, COLOR),
    (Level, {"title": "Level", "enum": [1]}),
    (Place, PLACE),
    (list[Place], {"type": "array", "items": PLACE}),
    (
        Person,
        {
            "title": "Person",
            "type": "object",
            "properties": {"name": {"type": "string"}, "nicknames": {"type": "array", "items": {"type": "string"}}},
            "required": ["name"],
        },
    ),
    (
        Options,
        {
            "title": "Options",
            "type": "object",
            "properties": {"depth": {"type": "integer"}, "mode": {"type": "string"}},
            "required": ["mode"],
        },
    ),
    (
        Pair,
        {
            "title": "Pair",
            "type": "array",
            "prefixItems": [{"type": "integer"}, {"type": "string"}],
            "minItems": 2,
            "maxItems": 2,
        },
    ),
    (
        Trip,
        {
            "title": "Trip",
            "type": "object",
            "properties": {"stops": {"type": "array", "items": PLACE}, "color": COLOR},
            "required": ["stops", "color"],
        },
    ),
    (
        Order,
        {
            "title": "Order",
            "type": "object",
            "properties": {
                "item": {"title": "Item", "type": "string"},
                "count": {"title": "Count", "type": "integer", "minimum": 1, "default": 1},
            },
            "required": ["item"],
        },
    ),
]  # fmt: skip


@pytest.mark.parametrize(("annotation", "expected"), TYPES, ids=lambda it: str(it)[:30])
def test_a_type_becomes_its_schema_with_every_definition_in_place(
    annotation: Any, expected: dict[str, Any]
) -> None:
    assert schema_of(annotation) == {
        "type": "object",
        "properties": {"x": expected},
        "required": ["x"],
        "additionalProperties": False,
    }


DEFAULTS: list[tuple[Any, Any, Any]] = [
    (int, 3, 3),
    (int | None, None, None),
    (list[int], (), []),
    (Color, Color.RED, "red"),
    (Place, Place(city="Rome"), {"city": "Rome", "zip": "-"}),
    (Annotated[int, Meta(ge=0)], 5, 5),
    (datetime.date, datetime.date(2026, 1, 2), "2026-01-02"),
]


@pytest.mark.parametrize(("annotation", "default", "shown"), DEFAULTS, ids=lambda it: str(it)[:30])
def test_a_default_is_shown_and_makes_the_parameter_optional(
    annotation: Any, default: Any, shown: Any
) -> None:
    schema = schema_of(annotation, default)
    assert schema["required"] == []
    assert json.loads(json.dumps(schema["properties"]["x"]["default"])) == shown


@pytest.mark.parametrize(
    ("annotation", "default"), [(int, object()), (Order, Order(item="a")), (Order | None, Order(item="a"))]
)
def test_a_default_that_json_cannot_show_still_makes_the_parameter_optional(
    annotation: Any, default: Any
) -> None:
    schema = schema_of(annotation, default)
    assert schema["required"] == []
    assert "default" not in schema["properties"]["x"]


def valid(schema: dict[str, Any], value: Any) -> bool:
    return bool(jsonschema_rs.validator_for(schema, offline=True).is_valid({"x": value}))


LEAF = {"label": "b"}
STAND_ALONE: list[tuple[Any, Any, Any]] = [
    (
        Node,
        {"value": 1, "color": "red", "next": {"value": 2, "color": "blue"}},
        {"value": 1, "color": "green"},
    ),
    (
        Node,
        {"value": 1, "color": "red"},
        {"value": 1, "color": "red", "next": {"value": "2", "color": "red"}},
    ),
    (Egg, {"hen": {"egg": {"place": {"city": "Rome"}}}}, {"hen": {"egg": {"place": {"city": 1}}}}),
    (list[Egg], [{"hen": {"egg": {}}}], [{"hen": {"egg": 1}}]),
    (Tree, {"label": "a", "leaves": [LEAF]}, {"label": "a", "leaves": [{"label": 1}]}),
    (Forest, {"first": {"label": "a", "leaves": [LEAF]}}, {"first": {"label": "a", "leaves": [{}]}}),
    (Forest, {"first": LEAF, "order": {"item": "i"}}, {"first": LEAF, "order": {}}),
    (Circle | Square, {"type": "square", "side": 1.5}, {"type": "square", "radius": 1.5}),
]


@pytest.mark.parametrize(("annotation", "good", "bad"), STAND_ALONE, ids=range(len(STAND_ALONE)))
def test_a_recursive_or_tagged_type_has_a_schema_that_stands_alone(
    annotation: Any, good: Any, bad: Any
) -> None:
    schema = schema_of(annotation)
    assert valid(schema, good)
    assert not valid(schema, bad)


def test_only_a_recursive_definition_stays_a_reference() -> None:
    schema = schema_of(Node)
    assert list(schema["$defs"]) == ["Node"]
    assert schema["$defs"]["Node"]["properties"]["color"] == COLOR
    assert "$defs" not in schema_of(Circle | Square)


def test_two_parameters_of_one_type_both_have_it() -> None:
    def travel(start: Place, end: Place) -> None: ...

    properties = parameters_of(travel).schema["properties"]
    assert properties["start"] == properties["end"] == PLACE


def test_the_docstring_describes_the_parameters_in_the_schema() -> None:
    def book(
        place: str,
        nights: int = 1,
        beds: Annotated[int, Meta(ge=1)] = 1,
        *,
        note: Annotated[str, Meta(description="Its own.")],
    ) -> None:
        """Book a room.

        It is held for a day.

        Args:
            place: Where to,
                as a city: or a town.
            nights (int): How long.
            beds: How many.
            note: Not this.
            stranger: Nobody asked.

        Returns:
            The number of the room.
        """

    properties = parameters_of(book).schema["properties"]
    assert {name: it["description"] for name, it in properties.items()} == {
        "place": "Where to, as a city: or a town.",
        "nights": "How long.",
        "beds": "How many.",
        "note": "Its own.",
    }
    assert properties["beds"]["minimum"] == 1
    assert summary_of(inspect.getdoc(book) or "") == (
        "Book a room.\n\nIt is held for a day.\n\nReturns:\n    The number of the room."
    )


def test_a_function_without_parameters_takes_an_empty_object() -> None:
    def now() -> str: ...

    assert parameters_of(now).schema == {
        "type": "object",
        "properties": {},
        "required": [],
        "additionalProperties": False,
    }


def test_a_function_with_a_name_beyond_ascii_has_a_schema_too() -> None:
    def größe(länge: int) -> int: ...

    assert list(parameters_of(größe).schema["properties"]) == ["länge"]


WITHOUT_SCHEMA: list[tuple[Any, str]] = [
    (object, "<class 'object'>"),
    (pathlib.Path, "pathlib.Path"),
    (complex, "complex"),
    (type, "<class 'type'>"),
    (Callable[[int], int], "Callable"),
    (Iterable[int], "Iterable"),
    (Place | Order, "custom type may not contain any additional types"),
    (Place | Trip, "must be tagged"),
    (Place | Person, "more than one dict-like type"),
    (5, "Type '5' is not supported"),
]


@pytest.mark.parametrize(("annotation", "reason"), WITHOUT_SCHEMA, ids=str)
def test_a_type_without_a_schema_is_an_error_that_says_what_has_one(annotation: Any, reason: str) -> None:
    with pytest.raises(
        ToolSignatureError, match=r"^tool 'function': .*use msgspec structs, dataclasses"
    ) as it:
        schema_of(annotation)
    assert reason in str(it.value)


@pytest.mark.parametrize("annotation", ["Missing", "json.Missing", "not a type(", "list[Missing]"])
def test_an_annotation_that_cannot_be_found_is_an_error_that_names_it(annotation: str) -> None:
    with pytest.raises(ToolSignatureError, match=r"^tool 'function': .*importable at module level") as it:
        schema_of(annotation)
    assert "Missing" in str(it.value) or annotation in str(it.value)


def no_type(a: int, b) -> None: ...  # type: ignore[no-untyped-def]
def any_number(*numbers: int) -> None: ...
def any_name(**names: int) -> None: ...
def by_place(a: int, /) -> None: ...


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (no_type, "tool 'no_type': parameter 'b' has no type; annotate it"),
        (any_number, "parameter *numbers: int must be an ordinary, named parameter"),
        (any_name, "parameter **names: int must be an ordinary, named parameter"),
        (by_place, "parameter a: int must be an ordinary, named parameter"),
        (builtins.max, "no signature found for builtin"),
    ],
)
def test_a_signature_that_a_model_cannot_fill_is_an_error(function: Callable[..., Any], reason: str) -> None:
    with pytest.raises(ToolSignatureError) as caught:
        parameters_of(function)
    assert reason in str(caught.value)


def test_the_parameter_for_the_context_is_not_the_models_to_fill() -> None:
    def ask(ctx: object, question: str) -> None: ...

    assert list(parameters_of(ask, skip="ctx").schema["properties"]) == ["question"]


def test_pydantic_and_the_validator_are_not_loaded_for_tools_that_need_neither() -> None:
    code = (
        "import json, sys; from holdfast.schema import parameters_of\n"
        "def add(a: int, b: int = 2) -> int: ...\n"
        "parameters_of(add).read('{\"a\": 1}')\n"
        "print(json.dumps(sorted({'pydantic', 'jsonschema_rs'} & sys.modules.keys())))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
