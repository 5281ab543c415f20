"""JSON and digests as the other system makes them."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast import UsageError
from holdfast.compat.agent_sdk.canonical import MAX_DEPTH, canonical, declared, hash_of, parse
from holdfast.compat.agent_sdk.delivery import (
    FINAL_MESSAGE,
    Delivery,
    child_package_id,
    chunk,
    dedupe_key,
    delivery_id,
)
from holdfast.compat.agent_sdk.ids import RunIds, check_id, cursor_number, safe_name
from holdfast.compat.agent_sdk.refs import PolicyRef, entity, source

FLOATS = {
    1e-7: "1e-7",
    1e-6: "1e-6",
    1e-5: "0.00001",
    -1.5e-5: "-0.000015",
    0.0001: "0.0001",
    1e15: "1000000000000000.0",
    1e16: "1e+16",
    1.5e300: "1.5e+300",
    -0.0: "-0.0",
    2.0: "2.0",
}


@pytest.mark.parametrize("number", FLOATS)
def test_a_float_is_written_with_the_fewest_digits(number: float) -> None:
    assert canonical([number]).decode() == f"[{FLOATS[number]}]"
    assert parse(canonical([number])) == [number]


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(),
)
VALUES = st.recursive(
    SCALARS.filter(
        lambda value: not isinstance(value, str) or not any("\ud800" <= c <= "\udfff" for c in value)
    ),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
)


@settings(max_examples=50)
@given(VALUES)
def test_what_is_written_is_read_again_and_written_alike(value: object) -> None:
    written = canonical(value)
    assert json.loads(written) == value
    assert canonical(parse(written)) == written
    assert parse(declared(value)) == value


def test_keys_are_sorted_by_code_point_and_nothing_is_escaped_that_need_not_be() -> None:
    assert canonical({"é": 1, "z": "\x7f💧\n", "a": {"b": 1, "B": 2}}).decode() == (
        '{"a":{"B":2,"b":1},"z":"\x7f💧\\n","é":1}'
    )
    assert declared({"b": 1, "a": 2}) == b'{"b":1,"a":2}'


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2**64, -(2**63) - 1, "\ud800", object()])
def test_what_json_cannot_say_is_refused(value: object) -> None:
    with pytest.raises(UsageError):
        canonical([value])


READ = {
    "18446744073709551615": 18446744073709551615,
    "18446744073709551616": 1.8446744073709552e19,
    "-9223372036854775809": -9.223372036854776e18,
    '{"a":1,"a":2}': {"a": 2},
    "-0": -0.0,
}


@pytest.mark.parametrize("text", READ)
def test_numbers_and_keys_are_read_as_there(text: str) -> None:
    found = parse(text)
    assert found == READ[text]
    assert type(found) is type(READ[text])


@pytest.mark.parametrize(
    "text",
    [
        "NaN",
        "-Infinity",
        '"\\ud800"',
        "1e999",
        "01",
        "",
        b"\xff",
        "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1),
    ],
)
def test_what_there_is_no_json_is_none_here(text: str | bytes) -> None:
    with pytest.raises(UsageError):
        parse(text)


def test_the_order_of_keys_is_no_part_of_a_schemas_digest() -> None:
    assert hash_of({"a": 1, "b": [1, 2]}) == hash_of({"b": [1, 2], "a": 1}) != hash_of({"b": [2, 1], "a": 1})


@pytest.mark.parametrize("text", ["", "a\nb", "\x7f", "\x85", "é" * 257, "\ud800"])
def test_what_is_no_identifier_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        check_id(text)
    assert not text or text not in str(refused.value)


@pytest.mark.parametrize("text", ["é" * 256, "with space", "\u00a0", "x" * 512])
def test_every_other_text_is_an_identifier(text: str) -> None:
    assert check_id(text) == text


def test_a_name_that_may_hold_anything_becomes_one_that_can_be_part_of_an_identifier() -> None:
    assert safe_name("workspace_read") == "workspace_read"
    assert check_id(safe_name("a\nb" * 1_000)) == safe_name("a\nb" * 1_000) != safe_name("a\nc")


def test_references_do_not_show_what_they_refer_to() -> None:
    shown = [
        repr(entity("tool_call", "call.1")),
        f"{source('source.1')}",
        repr([PolicyRef(kind="host", id="p")]),
    ]
    assert shown == ["ToolCall:redacted", "Host:redacted", "[Host:redacted]"]


def test_the_names_of_a_run_follow_from_its_id() -> None:
    ids = RunIds("run.p0.text")
    assert ids.name("event", 3) == f"event.p0.{ids.fragment}.3"
    assert RunIds("run.p0.text").fragment == ids.fragment != RunIds("run.p0.other").fragment
    assert [cursor_number(text) for text in ("journal.42", "journal.x", "7", "journal.")] == [42, 0, 7, 0]


def test_the_same_output_to_the_same_place_has_the_same_key() -> None:
    def key(kind: str = FINAL_MESSAGE, message: str | None = "message.1", version: str | None = None) -> str:
        return dedupe_key(
            Delivery(
                run_id="run.1",
                destination_kind="output_sink",
                destination_id="destination.1",
                sink_id="sink.1",
                kind=kind,
                message_id=message,
                policies=(PolicyRef(kind="privacy", id="policy.1", version=version),),
                fingerprint="sha256:p",
            )
        )

    keys = [key(), key(chunk("cursor.1", 2)), key(message=None), key(version="v1")]
    assert len(set(keys)) == 4
    assert keys[0] == key()
    assert delivery_id("run.1", FINAL_MESSAGE) == f"output.delivery.{RunIds('run.1').fragment}.final.message"
    assert child_package_id("agent.1", "sha256:p").startswith("package.subagent.agent.1.")
