"""Hooks and decisions: what a hook is told, what it may answer, and what of it the manifest names."""

from datetime import UTC, datetime
from typing import get_args

import msgspec
import pytest

from holdfast.hook import Allow, AskFor, Decision, Defer, Deny, Hook, HookEvent, Interrupt, Modify, Point

AT = datetime(2026, 1, 1, tzinfo=UTC)


async def decide(event: HookEvent) -> Decision | None:
    return Deny(f"not {event.tool}") if event.tool == "rm" else None


def test_a_hook_is_told_only_what_belongs_to_its_point() -> None:
    event = HookEvent(point="after_turn", session_id="s", turn_id="t")
    nothing = (event.message, event.tool, event.call_id, event.arguments, event.result)
    assert nothing == (None, "", "", "", None)


async def test_a_hook_answers_with_a_decision_or_keeps_silent() -> None:
    hook = Hook(id="test:before_tool", point="before_tool", run=decide)
    event = HookEvent(point="before_tool", session_id="s", turn_id="t", tool="rm")
    assert await hook.run(event) == Deny("not rm")
    assert await hook.run(msgspec.structs.replace(event, tool="ls")) is None


def test_every_decision_is_a_value_of_its_own_kind() -> None:
    values: list[Decision] = [
        Allow(),
        Deny("r"),
        Modify(reason="r"),
        AskFor(reason="r"),
        Interrupt("r"),
        Defer(until=AT, reason="r"),
    ]
    assert [type(value) for value in values] == list(get_args(Decision))
    assert all(one != other for i, one in enumerate(values) for other in values[:i])
    with pytest.raises(AttributeError):
        values[1].reason = "another"  # type: ignore[union-attr, misc]


def test_a_refusal_needs_a_reason_that_somebody_reads() -> None:
    for kind in (Deny, Interrupt, AskFor):
        with pytest.raises(TypeError, match="reason"):
            kind()  # type: ignore[call-arg]


def test_the_points_come_in_the_order_of_a_turn() -> None:
    assert get_args(Point) == ("before_turn", "before_reason", "before_tool", "after_tool", "after_turn")


def test_the_manifest_names_a_hook_by_all_that_changes_behaviour() -> None:
    hook = Hook(id="test:before_tool", point="before_tool", run=decide)
    assert hook.describe() == {
        "id": "test:before_tool",
        "point": "before_tool",
        "guard": False,
        "timeout": 5.0,
    }
    others = [
        Hook(id="test:other", point="before_tool", run=decide),
        Hook(id="test:before_tool", point="after_tool", run=decide),
        Hook(id="test:before_tool", point="before_tool", run=decide, guard=True),
        Hook(id="test:before_tool", point="before_tool", run=decide, timeout=1.0),
    ]
    assert all(other.describe() != hook.describe() for other in others)
