"""A turn has one end, written together with an outcome for every call it still owes."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from holdfast import Event, HookEvent, Interrupt, Session, TurnResult, tool
from holdfast.drivers.sim import calls, say
from holdfast.events import Effect
from holdfast.hook import Hook
from holdfast.stores.memory import MemoryStore
from holdfast.testing.clock import START
from holdfast.turn.call import CUT_OFF
from tests.turn.scenes import agent_of, assert_sound, kinds, results, session_with


def hanging(effect: Effect) -> Any:
    async def stuck() -> None:
        """Hang."""
        await asyncio.Event().wait()

    options: dict[str, Any] = {"reconcile": stuck} if effect == "reconcile" else {}
    return tool(name=f"hang_{effect}", effect=effect, **options)(stuck)


EFFECTS: tuple[Effect, ...] = ("pure", "idempotent", "reconcile", "once")


async def cancelled_while_acting() -> tuple[TurnResult, list[Event], Session]:
    agent = agent_of(
        calls(*[(f"hang_{effect}", {}) for effect in EFFECTS]),
        say("next"),
        tools=[hanging(it) for it in EFFECTS],
    )
    async with session_with(agent) as session:
        turn = await session.send("go")
        async for item in turn:
            if isinstance(item, Event) and item.type == "tool.started":
                break
        await asyncio.sleep(1)
        result = await turn.cancel("changed my mind")
        return result, await session.events(), session


async def test_a_cancelled_call_is_in_doubt_unless_it_has_no_effect() -> None:
    result, events, _ = await cancelled_while_acting()
    assert_sound(events)
    assert (result.status, result.stop) == ("cancelled", "cancelled")
    outcomes = {it.name: (it.status, it.text) for it in results(events)}
    assert outcomes["hang_pure"] == (
        "cancelled",
        "Cancelled: this call, which has no effect, was stopped because the turn ended first (cancelled).",
    )
    for effect in ("idempotent", "reconcile", "once"):
        assert outcomes[f"hang_{effect}"] == ("in_doubt", CUT_OFF)
    assert [it.name for it in result.in_doubt] == ["hang_idempotent", "hang_reconcile", "hang_once"]


async def test_outcomes_and_the_end_are_one_append() -> None:
    sizes: list[list[str]] = []

    class Watched(MemoryStore):
        def append(self, session_id: str, events: Any, **options: Any) -> Any:
            sizes.append(kinds(events))
            return super().append(session_id, events, **options)

    agent = agent_of(calls(("hang_once", {}), ("hang_once", {})), tools=[hanging("once")])
    async with session_with(agent, Watched()) as session:
        turn = await session.send("go")
        await asyncio.sleep(1)
        await turn.cancel()
    assert sizes[-1] == ["tool.completed", "tool.completed", "turn.cancelled"]


async def test_why_a_turn_was_cancelled_is_recorded() -> None:
    _, events, session = await cancelled_while_acting()
    end = events[-1]
    assert end.type == "turn.cancelled"
    assert end.data.reason == "changed my mind"  # type: ignore[attr-defined]
    assert end.ts == START + timedelta(seconds=1)
    assert session.state.turn is None


async def test_an_interrupted_turn_fails_with_the_reason() -> None:
    async def enough(event: HookEvent) -> Interrupt:
        return Interrupt("over budget")

    agent = agent_of(say("never"), hooks=(Hook(id="budget", point="before_reason", run=enough),))
    async with session_with(agent) as session:
        result = await session.run("go")
        events = await session.events()
    assert (result.status, result.stop) == ("failed", "interrupted")
    assert result.error is not None
    assert (result.error.code, result.error.message) == ("interrupted", "over budget")
    assert kinds(events)[-2:] == ["hook.decided", "turn.failed"]


@pytest.mark.parametrize("seconds", [0.0, 3.0])
async def test_hooks_after_the_turn_run_to_their_end_once_per_turn(seconds: float) -> None:
    ended: list[str] = []

    async def tidy(event: HookEvent) -> None:
        await asyncio.sleep(seconds)
        ended.append(event.turn_id)

    agent = agent_of(say("done"), say("again"), hooks=(Hook(id="tidy", point="after_turn", run=tidy),))
    async with session_with(agent) as session:
        one = await session.run("one")
        two = await session.run("two")
    assert ended == [one.turn_id, two.turn_id]


async def test_a_failing_hook_after_the_turn_is_recorded_under_its_turn() -> None:
    async def fail(event: HookEvent) -> None:
        raise OSError("no printer")

    agent = agent_of(say("done"), hooks=(Hook(id="print", point="after_turn", run=fail),))
    async with session_with(agent) as session:
        result = await session.run("go")
        *_, last, ran = await session.events()
    assert result.status == "completed"
    assert (last.type, last.context.turn_id) == ("hook.decided", result.turn_id)
    assert (ran.type, ran.context.turn_id) == ("hooks.run", result.turn_id)
    assert last.data.reason == "it failed: OSError: no printer"  # type: ignore[attr-defined]


async def test_events_between_turns_belong_to_none() -> None:
    async with session_with(agent_of(say("done"))) as session:
        await session.run("go")
        await session.update(title="later")
        assert (await session.events())[-1].context.turn_id == ""
