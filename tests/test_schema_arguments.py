"""From a model's text to checked arguments, and from a tool's value to text."""

import datetime
import decimal
import json
import socket
from collections import OrderedDict
from typing import Annotated, Any

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import ToolSignatureError
from holdfast.schema import (
    MAX_ARGUMENT_BYTES,
    MAX_ARGUMENT_DEPTH,
    MAX_PROBLEM,
    MAX_PROBLEMS,
    InvalidArguments,
    Parameters,
    encode_value,
    parameters_of,
)
from tests.some_types import Color, Egg, Forest, Node, Order, Person, Place


class Even(msgspec.Struct):
    """A number that must be even; says so in its own way."""

    number: int

    def __post_init__(self) -> None:
        if self.number % 2:
            raise LookupError(f"{self.number} is odd")


class Adult(pydantic.BaseModel):
    age: int

    @pydantic.field_validator("age")
    @classmethod
    def grown_up(cls, age: int) -> int:
        if age < 18:
            raise ValueError("must be 18 or older")
        return age


def parameters(annotation: Any) -> Parameters:
    """Of a function with one parameter `x` of this type."""

    def function(x: Any) -> None: ...

    function.__annotations__["x"] = annotation
    return parameters_of(function)


def order(item: str, count: Annotated[int, msgspec.Meta(ge=1)] = 1, place: Place | None = None) -> None: ...


ORDER = parameters_of(order)
RAW = Parameters(
    {
        "type": "object",
        "properties": {"item": {"type": "string"}, "count": {"type": "integer", "minimum": 1}},
        "required": ["item"],
    }
)
ANYTHING = Parameters({"type": "object"})


def problems_of(reader: Parameters, text: str) -> list[str]:
    with pytest.raises(InvalidArguments) as caught:
        reader.read(text)
    assert str(caught.value) == "; ".join(caught.value.problems)
    return caught.value.problems


def test_arguments_become_what_the_signature_says() -> None:
    read = ORDER.read('{"item": "tea", "place": {"city": "Rome"}}')
    assert (read.item, read.place) == ("tea", Place(city="Rome"))
    assert read.count is msgspec.UNSET  # the function's own default applies
    assert parameters(Color).read('{"x": "red"}').x is Color.RED
    assert parameters(Person).read('{"x": {"name": "Mia"}}').x == Person(name="Mia")
    assert parameters(Order).read('{"x": {"item": "tea"}}').x == Order(item="tea")
    tree = parameters(Node).read('{"x": {"value": 1, "color": "red", "next": {"value": 2, "color": "red"}}}')
    assert tree.x.next.value == 2


def test_arguments_of_a_raw_schema_become_a_dict() -> None:
    assert RAW.read('{"item": "tea", "more": [1]}') == {"item": "tea", "more": [1]}


def test_all_problems_are_told_at_once_each_with_its_path() -> None:
    found = problems_of(ORDER, '{"count": 0, "place": {"city": 5, "zip": []}, "colour": 1}')
    assert sorted(found) == [
        '"item" is a required property',
        "Additional properties are not allowed ('colour' was unexpected)",
        "count: 0 is less than the minimum of 1",
        'place.city: 5 is not of type "string"',
        'place.zip: [] is not of type "string"',
    ]
    assert sorted(problems_of(RAW, '{"count": 0}')) == [
        '"item" is a required property',
        "count: 0 is less than the minimum of 1",
    ]


def test_problems_deep_inside_are_told_with_their_path() -> None:
    forest = (
        '{"x": {"first": {"label": "a", "leaves": [{"label": "b"}, {"label": 1}]}, "order": {"count": 0}}}'
    )
    assert sorted(problems_of(parameters(Forest), forest)) == [
        'x.first.leaves[1].label: 1 is not of type "string"',
        'x.order.count: 0 is less than the minimum of 1',
        'x.order: "item" is a required property',
    ]  # fmt: skip
    egg = '{"x": {"hen": {"egg": {"place": {"city": 1}}}}}'
    assert problems_of(parameters(Egg), egg) == ['x.hen.egg.place.city: 1 is not of type "string"']


def test_of_many_problems_the_first_are_told_and_the_rest_counted() -> None:
    found = problems_of(parameters(list[int]), json.dumps({"x": ["a"] * 1_000}))
    assert len(found) == MAX_PROBLEMS + 1
    assert found[-1] == f"and {1_000 - MAX_PROBLEMS} more"


def test_a_problem_does_not_repeat_a_megabyte_that_the_model_wrote() -> None:
    found = problems_of(parameters(int), json.dumps({"x": "a" * 1_000_000}))
    assert len(found[0]) < MAX_PROBLEM + 10
    assert found[0].startswith('x: "aaa')
    assert found[0].endswith('aaa" is not of type "integer"')


NOT_JSON: list[tuple[str, str]] = [
    ("", "not valid JSON"),
    ("  ", "not valid JSON"),
    ("{", "not valid JSON"),
    ("{'item': 'tea'}", "not valid JSON"),
    ('{"item": "tea",}', "not valid JSON"),
    ('{"item": "tea"} and more', "trailing characters"),
    ('{"item": "tea"}{"item": "tea"}', "trailing characters"),
    ('\ufeff{"item": "tea"}', "not valid JSON"),
    ("[]", "must be a JSON object, not list"),
    ("null", "must be a JSON object"),
    ('"tea"', "must be a JSON object, not str"),
    ('{"item": NaN}', "not valid JSON"),
    ('{"item": Infinity}', "not valid JSON"),
    ('{"item": -Infinity}', "not valid JSON"),
    ('{"item": 1e400}', "out of range"),
    ('{"item": "\\ud800"}', "a lone surrogate"),
    ('{"item": "\\udfff tea"}', "a lone surrogate"),
    ('{"\\udbff": "tea"}', "a lone surrogate"),
    ('{"item": "\ud800"}', "a lone surrogate"),
    ('{"item": "a", "item": "b"}', "duplicate key 'item'"),
    ('{"item": "a", "place": {"city": "a", "zip": "b", "city": "c"}}', "duplicate key 'city'"),
    ('{"item": "a", "more": [{"b": 1}, {"b": 1, "b": 2, "c": 3, "c": 4}]}', "duplicate key 'b', 'c'"),
    ('{"count": %s}' % ("9" * 4_301), "out of range"),
    ('{"item": "a", "count": %s}' % ("9" * 4_301), "out of range"),
    ('{"item": [%s]}' % ("1" * 100_000), "out of range"),
]


@pytest.mark.parametrize(("text", "reason"), NOT_JSON, ids=range(len(NOT_JSON)))
@pytest.mark.parametrize("reader", [ORDER, RAW, ANYTHING], ids=["signature", "raw", "anything"])
def test_what_is_not_one_clean_json_object_is_refused(reader: Parameters, text: str, reason: str) -> None:
    [problem] = problems_of(reader, text)
    assert reason in problem
    assert problem.startswith("the arguments ")
    assert len(problem) < 1_000


def test_a_whole_pair_of_surrogates_is_a_character() -> None:
    assert ANYTHING.read('{"fish": "\\ud83d\\udc20"}') == {"fish": "🐠"}


def test_a_large_integer_is_read_exactly() -> None:
    assert ANYTHING.read('{"a": 123456789012345678901234567890}') == {"a": 123456789012345678901234567890}
    assert parameters(int).read('{"x": 123456789012345678901234567890}').x == 123456789012345678901234567890


@pytest.mark.parametrize("annotation", [int, bool, str, list[int], Color, Place])
def test_nothing_is_guessed_into_another_type(annotation: Any) -> None:
    for value in (None, "1", 1.5, [1.5], {"city": 1}, "Red"):
        if annotation is str and isinstance(value, str):
            continue
        assert problems_of(parameters(annotation), json.dumps({"x": value}))


def nested(levels: int) -> str:
    return '{"a":' + "[" * (levels - 1) + "]" * (levels - 1) + "}"


def test_arguments_may_be_nested_so_deep_and_no_deeper() -> None:
    assert ANYTHING.read(nested(MAX_ARGUMENT_DEPTH))
    for levels in (MAX_ARGUMENT_DEPTH + 1, 2_000, 400_000):
        assert problems_of(ANYTHING, nested(levels)) == ["the arguments are nested deeper than 64 levels"]
        assert problems_of(ORDER, nested(levels)) == ["the arguments are nested deeper than 64 levels"]
    wide = json.dumps({"a": [[]] * 1_000, "b": "[" * 1_000 + '\\"{'})
    assert ANYTHING.read(wide)["b"].startswith("[[[")


def test_arguments_may_be_so_long_and_no_longer() -> None:
    room = MAX_ARGUMENT_BYTES - len('{"a":""}')
    assert len(ANYTHING.read('{"a":"%s"}' % ("x" * room))["a"]) == room
    [problem] = problems_of(ANYTHING, '{"a":"%s"}' % ("x" * (room + 1)))
    assert problem == "the arguments are 1,048,577 characters long; the limit is 1,048,576"


@pytest.mark.parametrize(
    "text",
    [
        '{"a": "' + '\\"' * 400_000 + "[" * 100,  # quotes without their pair
        "{" + ",".join(f'"k{number}":1' for number in range(60_000)) + ',"k7":1}',  # a late duplicate
        '{"a":' * 150_000,
        '{"a":"' + "{[" * 400_000,
    ],
    ids=["quotes", "keys", "objects", "brackets"],
)
@pytest.mark.timeout(20)
def test_hostile_arguments_are_refused_in_linear_time(text: str) -> None:
    assert len(text) < MAX_ARGUMENT_BYTES  # quadratic time would take minutes here
    assert problems_of(ORDER, text)
    assert problems_of(ANYTHING, text)


def test_the_checks_of_a_type_of_ones_own_are_read_by_the_model() -> None:
    assert problems_of(parameters(Even), '{"x": {"number": 3}}') == ["3 is odd"]
    assert "must be 18 or older" in problems_of(parameters(Adult), '{"x": {"age": 7}}')[0]


JSON_OBJECTS = st.dictionaries(
    st.text(max_size=5),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    ),
    max_size=5,
)


@given(JSON_OBJECTS)
def test_every_clean_object_is_read_as_it_was_written(value: dict[str, Any]) -> None:
    assert ANYTHING.read(json.dumps(value)) == value
    assert ANYTHING.read(json.dumps(value, ensure_ascii=False)) == value


@given(st.text(max_size=50) | st.from_regex(r'[\[\]{}":,0-9ntf\\u ]{0,30}', fullmatch=True))
def test_any_text_is_either_read_or_refused_with_words(text: str) -> None:
    try:
        assert isinstance(ANYTHING.read(text), dict)
    except InvalidArguments as error:
        assert error.problems  # noqa: PT017


BAD_SCHEMAS: list[tuple[dict[str, Any], str]] = [
    ({"type": "nonsense"}, "nonsense"),
    ({"$ref": "#/$defs/missing"}, "/\\$defs/missing"),
    ({"properties": {"a": {"$ref": "file:///etc/hostname"}}}, "file:///etc/hostname"),
    ({"properties": {"a": {"type": "string", "pattern": "("}}}, "\\("),
]


@pytest.mark.parametrize(("schema", "named"), BAD_SCHEMAS, ids=range(len(BAD_SCHEMAS)))
def test_a_raw_schema_that_cannot_be_used_is_refused_when_the_tool_is_made(
    schema: dict[str, Any], named: str
) -> None:
    with pytest.raises(ToolSignatureError, match=f"this JSON Schema cannot be used: .*{named}"):
        Parameters(schema)


def test_a_raw_schema_is_never_fetched_from_anywhere() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/schema.json"
        with pytest.raises(ToolSignatureError, match="must point inside the schema"):
            Parameters({"$ref": url})
        server.settimeout(0.1)
        with pytest.raises(TimeoutError):
            server.accept()


VALUES: list[tuple[Any, str]] = [
    ("as it is", "as it is"),
    ("", ""),
    (None, "null"),
    (True, "true"),
    (1.5, "1.5"),
    (float("nan"), "null"),
    (float("inf"), "null"),
    (2**70, "1180591620717411303424"),
    ([1, "a"], '[1,"a"]'),
    ((1, 2), "[1,2]"),
    (frozenset({3}), "[3]"),
    ({"a": {1: "b"}}, '{"a":{"1":"b"}}'),
    (OrderedDict(b=1, a=2), '{"b":1,"a":2}'),
    (b"abc", '"YWJj"'),
    (Color.RED, '"red"'),
    (Place(city="Rome"), '{"city":"Rome","zip":"-"}'),
    (Person(name="Mia"), '{"name":"Mia","nicknames":[]}'),
    (Order(item="tea"), '{"item":"tea","count":1}'),
    ([Order(item="tea")], '[{"item":"tea","count":1}]'),
    (datetime.date(2026, 1, 2), '"2026-01-02"'),
    (decimal.Decimal("1.50"), '"1.50"'),
]


@pytest.mark.parametrize(("value", "text"), VALUES, ids=range(len(VALUES)))
def test_a_returned_value_becomes_text(value: Any, text: str) -> None:
    assert encode_value(value) == text


def a_loop() -> list[Any]:
    loop: list[Any] = []
    loop.append(loop)
    return loop


UNWRITABLE: list[Any] = [
    *(object(), int, (number for number in (1, 2)), ValueError("x"), lambda: 1),
    *({(1, 2): 3}, {"a": object()}, a_loop(), "\ud800", {"a": "\udfff"}, {"\ud800": 1}),
]


@pytest.mark.parametrize("value", UNWRITABLE, ids=range(len(UNWRITABLE)))
def test_a_value_that_json_cannot_hold_is_an_error_and_not_a_guess(value: Any) -> None:
    with pytest.raises((TypeError, ValueError, RecursionError)):
        encode_value(value)
