"""What differs between two manifests."""

from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from holdfast import (
    Agent,
    Change,
    Config,
    Limits,
    Manifest,
    NetworkAccess,
    Registry,
    Tool,
    UsageError,
    diff,
    tool,
)
from holdfast.drivers.sim import Sim, say
from holdfast.proof.difference import in_short
from holdfast.resolve import resolve

MODEL = Sim.always(say("Hi."))


def made(text: str = "Be kind.", **fields: Any) -> Manifest:
    """A manifest of one layer."""
    agent = Agent(text, model=MODEL, tools=fields.pop("tools", ()), config=Config(**fields))
    return resolve(agent.layers, names=Registry())


@tool
async def look(place: str) -> str:
    """Look there."""
    return place


@tool
async def wait(seconds: int) -> None:
    """Wait."""


def changed(**options: Any) -> Tool:
    """`look`, with something else about it."""

    @tool(name="look", **options)
    async def look(place: str, far: bool = False) -> str:
        """Look there."""
        return place

    return look


def shown(before: Manifest, after: Manifest) -> list[str]:
    return [str(change) for change in diff(before, after)]


def test_equal_digests_have_no_difference_and_different_ones_have_one() -> None:
    assert diff(made(), made()) == []
    assert shown(made(), made(limits=Limits(max_iterations=3)))[0].endswith("-> 3")
    assert diff(made().document, made()) == []


def test_a_tool_is_added_removed_and_changed_field_by_field() -> None:
    assert [(it.field, it.kind) for it in diff(made(), made(tools=[look]))] == [("tools.look", "added")]
    assert [(it.field, it.kind) for it in diff(made(tools=[look]), made())] == [("tools.look", "removed")]
    found = {it.field: it.kind for it in diff(made(tools=[look]), made(tools=[changed(effect="pure")]))}
    assert found == {"tools.look.effect": "changed", "tools.look.parameters.properties.far": "added"}


def test_another_order_of_tools_is_a_difference_too() -> None:
    (change,) = diff(made(tools=[look, wait]), made(tools=[wait, look]))
    assert (change.field, change.kind, change.after) == ("tools", "moved", ["wait", "look"])


def test_instructions_are_compared_by_words() -> None:
    before = made(
        "You are kind, brief and honest with everybody who comes to this desk, whatever they ask of you."
    )
    after = made(
        "You are kind, exact and honest with everybody who comes to this desk, whatever they ask of you."
    )
    (change,) = diff(before, after)
    assert change.words == "You are kind, [-brief-] {+exact+} and honest with … ask of you."
    assert str(change) == f"instructions: {change.words}"


def test_what_appears_with_the_first_entry_is_named_by_that_entry() -> None:
    (change,) = diff(made(), made(network=NetworkAccess(blocked=("example.com",))))
    assert (change.field, change.kind) == ("network.blocked", "added")


@pytest.mark.parametrize("wrong", [b"", b"[]", b"{}", b'{"model": "x"}', b"\xff", b"not json"])
def test_what_is_no_document_is_refused(wrong: bytes) -> None:
    with pytest.raises(UsageError, match="document"):
        diff(made(), wrong)


def test_the_short_form_names_fields_and_holds_none_of_their_values() -> None:
    changes = [Change(field=f"f{number}", kind="changed", before="secret", after=2) for number in range(30)]
    short = in_short(changes)
    assert short[0] == "f0 changed"
    assert short[-1] == "and 11 more"
    assert len(short) == 20
    assert "secret" not in str(short)


values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=60),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from("abn") | st.just("name"), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(values, values)
@example(1, True)
@example({"a": [0]}, {"a": [False]})
@example(1, 1.0)
def test_there_is_a_difference_exactly_where_documents_differ(one: Any, other: Any) -> None:
    def document(value: Any) -> bytes:
        whole = {"model": "m", "instructions": "", "tools": [], "limits": {}, "x": value}
        return msgspec.json.encode(whole, order="sorted")

    found = diff(document(one), document(other))
    assert bool(found) is (document(one) != document(other))
    assert all(it.field.split(".")[0] == "x" and str(it) for it in found)
    assert msgspec.json.decode(msgspec.json.encode(found), type=list[Change]) == found
