"""Events: what was written stays readable for ever, and what is new is kept."""

import json
import re
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast import facts
from holdfast.errors import NotEncodable, StoreCorrupt
from holdfast.events import (
    KINDS,
    TURN_ENDS,
    Event,
    EventContext,
    Fact,
    SessionUpdated,
    UnknownFact,
    decode_event,
    encode_event,
)
from holdfast.follow import Signal, TextDelta
from tests.golden.facts import AT, FACTS, FOLDER, event_of, golden


@pytest.mark.parametrize("name", FACTS)
def test_a_golden_event_is_read_as_what_it_was(name: str) -> None:
    assert decode_event(golden(name)) == event_of(name)


@pytest.mark.parametrize("name", FACTS)
def test_a_golden_event_is_written_as_the_same_bytes_again(name: str) -> None:
    assert encode_event(decode_event(golden(name))) == golden(name)


def test_every_fact_of_every_subject_is_among_the_kinds() -> None:
    for module in iter_modules(facts.__path__, "holdfast.facts."):
        import_module(module.name)
    made = {it for it in Fact.__subclasses__() if it.__module__.startswith("holdfast.")}
    assert made - {UnknownFact} == set(KINDS.values())


def test_every_kind_has_a_golden_event_and_every_golden_event_a_kind() -> None:
    assert {re.sub(r"\.\d+$", "", name) for name in FACTS} == set(KINDS)
    assert {path.stem for path in FOLDER.glob("*.json")} == set(FACTS)


@pytest.mark.parametrize("kind", KINDS)
def test_the_golden_events_of_a_kind_show_all_of_its_fields(kind: str) -> None:
    shown = {
        field for name in FACTS if FACTS[name].kind == kind for field in json.loads(golden(name))["data"]
    }
    assert shown == set(KINDS[kind].__struct_fields__)


def test_a_kind_is_the_event_type_dotted_and_lower_case() -> None:
    assert all(KINDS[kind].kind == kind for kind in KINDS)
    assert all(re.fullmatch(r"[a-z]+(\.[a-z]+)+", kind) for kind in KINDS)


def test_a_turn_ends_in_one_of_three_ways() -> None:
    ends = {"turn.completed", "turn.failed", "turn.cancelled"}
    assert ends == TURN_ENDS


def test_signals_are_told_apart_and_are_no_facts() -> None:
    tags = [signal.__struct_config__.tag for signal in get_args(Signal)]
    assert len(set(tags)) == len(tags)
    assert not set(tags) & set(KINDS)
    delta = TextDelta(turn_id="t", message_id="m", text="x")
    assert msgspec.json.decode(msgspec.json.encode(delta), type=Signal) == delta  # type: ignore[arg-type]


OPEN = ("metadata", "schema", "arguments")
"""Fields whose names are the user's own."""


def with_strange_fields(value: Any) -> Any:
    """The same JSON with a field that nobody knows in every object that has a known shape."""
    if isinstance(value, list):
        return [with_strange_fields(item) for item in value]
    if not isinstance(value, dict):
        return value
    known = {name: item if name in OPEN else with_strange_fields(item) for name, item in value.items()}
    return {"from_the_future": {"a": [1, None]}, **known, "zz": "new"}


@pytest.mark.parametrize("name", FACTS)
def test_fields_from_a_later_release_are_ignored(name: str) -> None:
    strange = json.dumps(with_strange_fields(json.loads(golden(name)))).encode()
    assert decode_event(strange) == event_of(name)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(JSON)
def test_a_kind_from_a_later_release_survives_reading_and_writing(data: Any) -> None:
    body = msgspec.json.encode({**json.loads(golden("ask.expired")), "type": "moon.landed", "data": data})
    event = decode_event(body)
    assert (event.type, event.data) == ("moon.landed", UnknownFact(data=data))
    assert encode_event(event) == body
    assert event.context == event_of("ask.expired").context


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"null", b"[]", b"{}", b"\xff", b'"event"', b"[" * 100_000),
        golden("ask.expired").replace(b'"sequence":42', b'"sequence":"42"'),
        golden("ask.expired").replace(b'"ts":"2026', b'"ts":"yesterday'),
        golden("ask.expired").replace(b'"ask_id"', b'"id"'),
        golden("turn.completed").replace(b"max_tokens", b"boredom"),
        golden("ask.expired").replace(b'"data":{', b'"data":[{'),
        golden("ask.expired")[:-1],
        golden("ask.expired") + b"x",
        golden("ask.expired").replace(b"ask_019c", b"\\ud800"),
    ],
)
def test_what_is_not_an_event_is_a_damaged_log_and_says_where(body: bytes) -> None:
    with pytest.raises(StoreCorrupt, match="a stored event cannot be read") as caught:
        decode_event(body)
    assert len(str(caught.value)) < 1_000


@pytest.mark.parametrize("value", ["\ud800", "half \udfff of a pair"])
def test_text_that_is_not_unicode_is_refused_before_it_is_written(value: str) -> None:
    event = Event(
        id="event_a",
        type="session.updated",
        ts=AT,
        session_id="session_a",
        sequence=3,
        context=EventContext(),
        data=SessionUpdated(title=value),
    )
    with pytest.raises(NotEncodable, match=r"event 3 \(session.updated\) of session_a .* lone surrogates"):
        encode_event(event)
