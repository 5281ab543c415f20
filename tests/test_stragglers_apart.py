"""Work runs in the task of whoever asks for it, and each is kept from what the other does to that task."""

import asyncio
from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Any

import pytest

from holdfast import Runtime, Turn, tool
from holdfast.drivers.sim import call, calls, say
from holdfast.stragglers import Stragglers
from tests.test_stragglers import BOUND, SOON, Gate, outcome, stubborn, timed, until, working
from tests.timing import VIRTUAL
from tests.turn.scenes import agent_of, assert_sound, results


@pytest.fixture
async def gate() -> AsyncIterator[Gate]:
    gate = Gate()
    yield gate
    gate.open()
    await asyncio.sleep(0.02)


def here() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


# --- the same task -------------------------------------------------------------------------------------------------


async def test_calls_of_one_turn_run_in_one_task() -> None:
    seen: list[asyncio.Task[Any]] = []

    @tool
    async def look() -> None:
        """Look around."""
        seen.append(here())
        await asyncio.sleep(0)

    async with Runtime() as runtime:
        session = await runtime.session(agent_of(call("look"), call("look"), say("done"), tools=[look]))
        await session.run("go")
    assert len(seen) == 2
    assert len(set(seen)) == 1


async def test_work_that_asks_for_work_is_carried_out() -> None:
    stragglers = Stragglers()

    async def inner() -> str:
        await asyncio.sleep(0)
        return "inner"

    async def outer() -> str:
        return await stragglers.run("inner", "us", inner, 1)

    assert await stragglers.unit(stragglers.run("outer", "us", outer, 1)) == "inner"
    assert stragglers.units == {}


async def test_what_is_cancelled_before_its_first_step_is_cancelled() -> None:
    stragglers = Stragglers()
    unit = stragglers.unit(stragglers.run("it", "us", lambda: asyncio.sleep(60)))
    assert unit.cancel()
    async with asyncio.timeout(SOON):
        with pytest.raises(asyncio.CancelledError):
            await unit
    assert stragglers.units == {}


# --- parted --------------------------------------------------------------------------------------------------------


async def test_a_lane_goes_on_after_a_call_that_did_not_stop_in_time_and_its_siblings_do(gate: Gate) -> None:
    @tool(lane="one")
    async def follows() -> str:
        """Come after it."""
        await asyncio.sleep(0.01)
        return "followed"

    @tool
    async def sibling() -> str:
        """Be next to it."""
        await asyncio.sleep(0.5)
        return "slept"

    work = stubborn(gate, "swallow", timeout=0.05, lane="one")
    asked = calls(("work", {}), ("follows", {}), ("sibling", {}))
    async with Runtime(drain=0) as runtime:
        session = await runtime.session(agent_of(asked, say("next"), tools=[work, follows, sibling]))
        async with asyncio.timeout(SOON):
            assert (await session.run("go")).text == "next"
        events = await session.events()
        statuses = {it.name: it.status for it in results(events)}
        assert statuses == {"work": "in_doubt", "follows": "ok", "sibling": "ok"}
        assert len(runtime.stragglers) == 1
        gate.open()
        await until(lambda: runtime.stragglers == ())
        assert await session.events() == events
        assert_sound(events)


async def test_what_a_straggler_does_to_its_task_hits_nobody_else(gate: Gate) -> None:
    @tool(timeout=0.05)
    async def work() -> str:
        """Have limits of its own, and do not stop."""
        while not gate.opened.is_set():
            try:
                async with asyncio.timeout(0.1):
                    await gate.opened.wait()
            except (asyncio.CancelledError, TimeoutError):
                here().cancel()
        return "late"

    agent = agent_of(call("work"), say("next", delay=0.5), tools=[work])
    async with Runtime(drain=0) as runtime:
        session = await runtime.session(agent)
        async with asyncio.timeout(SOON):
            result = await session.run("go")
        assert (result.status, result.text) == ("completed", "next")
        assert len(runtime.stragglers) == 1
        gate.open()
        await until(lambda: runtime.stragglers == ())


async def test_a_tool_whose_own_task_does_not_stop_is_not_waited_for(gate: Gate) -> None:
    @tool
    async def work() -> None:
        """Wait for a task, which is told to stop instead of the tool."""
        await asyncio.gather(asyncio.ensure_future(gate.swallow()))

    async with working(agent_of(call("work"), say("next"), tools=[work])) as (runtime, session, turn):
        result, took = await timed(turn)
        assert result.status == "cancelled"
        assert took < BOUND
        assert len(runtime.stragglers) == 1
        assert (await session.run("again")).text == "next"


@VIRTUAL
async def test_a_turn_is_cancelled_while_its_call_is_told_that_its_time_is_over(gate: Gate) -> None:
    loop = asyncio.get_running_loop()
    work = stubborn(gate, "swallow", timeout=0.1, effect="pure")
    async with working(agent_of(call("work"), say("next"), tools=[work])) as (_, session, turn):
        await asyncio.sleep(0.15)
        began = loop.time()
        assert (await turn.cancel()).status == "cancelled"
        assert loop.time() - began < BOUND
        assert outcome(await session.events()).status == "cancelled"
        assert (await session.run("again")).text == "next"


@pytest.fixture
async def other() -> AsyncIterator[Gate]:
    gate = Gate()
    yield gate
    gate.open()
    await asyncio.sleep(0.02)


async def test_a_straggler_that_ends_while_its_turn_goes_on_changes_nothing(gate: Gate, other: Gate) -> None:
    ended, place = asyncio.Event(), ContextVar("place", default="here")
    seen: list[str] = []

    @tool(timeout=0.05)
    async def work() -> str:
        """Do not stop."""
        await gate.swallow()
        place.set("there")
        return "late"

    @tool
    async def follows() -> None:
        """Come after it, and do not stop either."""
        await ended.wait()
        seen.append(place.get())
        await other.swallow()

    async with Runtime(drain=0) as runtime:
        agent = agent_of(call("work"), call("follows"), say("next"), tools=[work, follows])
        session = await runtime.session(agent)
        turn = await session.send("go")
        await until(lambda: len(runtime.stragglers) == 1)
        gate.open()
        await until(lambda: runtime.stragglers == ())
        ended.set()
        await until(lambda: bool(seen))
        result, took = await timed(turn)
        assert result.status == "cancelled"
        assert took < BOUND
        assert seen == ["here"]
        assert [name.partition(" of ")[0] for name in runtime.stragglers] == ["tool follows"]
        assert {it.name: it.status for it in results(await session.events())} == {
            "work": "in_doubt",
            "follows": "in_doubt",
        }
        assert (await session.run("again")).text == "next"
        other.open()
        await until(lambda: runtime.stragglers == ())


async def test_who_tells_it_once_more_does_not_wait_for_its_grace(gate: Gate) -> None:
    stragglers = Stragglers()
    unit = stragglers.unit(stragglers.run("it", "us", gate.swallow))
    await asyncio.sleep(0)
    unit.cancel()
    await asyncio.sleep(0)
    assert list(stragglers.names) == []
    unit.cancel()
    assert list(stragglers.names) == ["it of us"]
    with pytest.raises(asyncio.CancelledError):
        await unit


# --- what work does to its task ------------------------------------------------------------------------------------


async def test_a_tool_that_cancels_its_own_task_fails_at_most() -> None:
    @tool
    async def leaves() -> str:
        """Cancel, and wait for nothing."""
        here().cancel()
        return "left"

    @tool
    async def keeps() -> str:
        """Cancel, and keep it to itself."""
        here().cancel()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return "kept"
        return "slept"

    agent = agent_of(call("leaves"), call("keeps"), say("next"), tools=[leaves, keeps])
    async with Runtime(drain=0) as runtime:
        session = await runtime.session(agent)
        async with asyncio.timeout(SOON):
            assert (await session.run("go")).text == "next"
        assert [it.status for it in results(await session.events())] == ["error", "ok"]


async def test_a_tool_that_takes_a_cancellation_back_is_still_followed_by_nothing() -> None:
    @tool
    async def work() -> str:
        """Undo what was asked."""
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            here().uncancel()
        return "never mind"

    async with working(agent_of(call("work"), say("next"), tools=[work])) as (_, session, turn):
        result, _ = await timed(turn)
        assert result.status == "cancelled"
        assert outcome(await session.events()).text == "never mind"
        assert (await session.run("again")).text == "next"


async def test_a_tool_may_cancel_its_own_turn() -> None:
    turns: list[Turn] = []

    @tool
    async def work() -> None:
        """Cancel the turn."""
        await turns[0].cancel()

    async with Runtime(drain=0) as runtime:
        session = await runtime.session(agent_of(call("work"), say("next"), tools=[work]))
        turns.append(await session.send("go"))
        async with asyncio.timeout(SOON):
            assert (await turns[0]).status == "cancelled"
            assert (await session.run("again")).text == "next"
        assert runtime.stragglers == ()
