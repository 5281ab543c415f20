"""What is told to stop and goes on: nobody waits for it, nothing of it is recorded, and it is known until it ends."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

import pytest

from holdfast import Agent, Event, HookEvent, Runtime, Session, Tool, ToolResult, Turn, TurnResult, tool
from holdfast.driver import Emit, Reply, Request
from holdfast.drivers.sim import Sim, call, calls, say
from holdfast.errors import RuntimeClosed
from holdfast.hook import Hook
from holdfast.stores.memory import MemoryStore
from holdfast.stragglers import GRACE, OutOfTime, Stragglers
from tests.timing import VIRTUAL, Stopwatch
from tests.turn.scenes import agent_of, assert_sound, results

BOUND = 0.5
"""Seconds within which a turn is cancelled while a model streams or a tool sleeps."""
SOON = 30.0
"""Seconds that are plenty for anything here, and little beside what the stubborn would take."""


class Gate:
    """What a stubborn one waits for, in a task or in a thread; and whether it came through."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.unlocked = threading.Event()
        self.entered = threading.Event()
        self.passed = threading.Event()

    def open(self) -> None:
        self.opened.set()
        self.unlocked.set()

    async def swallow(self) -> str:
        """Go on, however often somebody cancels."""
        self.entered.set()
        while not self.opened.is_set():
            try:
                await self.opened.wait()
            except asyncio.CancelledError:
                continue
        self.passed.set()
        return "late"

    async def shield(self) -> str:
        inner = asyncio.ensure_future(self.swallow())
        try:
            return await asyncio.shield(inner)
        except asyncio.CancelledError:
            return await inner

    def sleep(self) -> str:
        self.entered.set()
        self.unlocked.wait(60)
        self.passed.set()
        return "late"


@pytest.fixture
async def gate() -> AsyncIterator[Gate]:
    gate = Gate()
    yield gate
    gate.open()
    await asyncio.sleep(0.02)


STUBBORN = ["swallow", "shield", "sleep"]


def stubborn(gate: Gate, how: str, **options: Any) -> Tool:
    return tool(getattr(gate, how), name="work", **options)


@asynccontextmanager
async def working(
    agent: Agent, store: MemoryStore | None = None
) -> AsyncIterator[tuple[Runtime, Session, Turn]]:
    """A turn of this agent that has got as far as its tool, or its model's first word."""
    async with Runtime(store, drain=0) as runtime:
        session = await runtime.session(agent)
        turn = await session.send("go")
        async for item in turn:
            if not isinstance(item, Event) or item.type == "tool.started":
                break
        await asyncio.sleep(0.02)
        yield runtime, session, turn


async def timed(turn: Turn) -> tuple[TurnResult, float]:
    with Stopwatch() as watch:
        result = await turn.cancel()
    return result, watch.seconds


async def until(come_true: Callable[[], bool]) -> None:
    async with asyncio.timeout(SOON):
        while True:
            if come_true():
                return
            await asyncio.sleep(0.01)


def outcome(events: list[Event]) -> ToolResult:
    (result,) = results(events)
    return result


# --- cancel --------------------------------------------------------------------------------------------------------


async def test_a_turn_is_cancelled_within_half_a_second_while_its_model_streams() -> None:
    words = " ".join(["word"] * 10_000)
    async with working(Agent(model=Sim.always(say(words, pace=0.005)))) as (runtime, session, turn):
        result, took = await timed(turn)
        assert result.status == "cancelled"
        assert took < BOUND
        assert runtime.stragglers == ()
        assert_sound(await session.events())


async def test_a_turn_is_cancelled_within_half_a_second_while_a_tool_sleeps() -> None:
    @tool
    async def work() -> None:
        """Work."""
        await asyncio.sleep(60)

    async with working(agent_of(call("work"), say("next"), tools=[work])) as (runtime, session, turn):
        result, took = await timed(turn)
        assert result.status == "cancelled"
        assert took < BOUND
        assert runtime.stragglers == ()
        assert (await session.run("again")).text == "next"


@pytest.mark.parametrize("how", STUBBORN)
@pytest.mark.parametrize(("effect", "status"), [("pure", "cancelled"), ("once", "in_doubt")])
async def test_a_turn_is_cancelled_within_half_a_second_while_a_tool_does_not_stop(
    how: str, effect: Any, status: str, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    agent = agent_of(call("work"), say("next"), tools=[stubborn(gate, how, effect=effect)])
    async with working(agent) as (runtime, session, turn):
        await until(gate.entered.is_set)
        result, took = await timed(turn)
        assert took < BOUND
        events = await session.events()
        assert (result.status, outcome(events).status) == ("cancelled", status)
        call_id = outcome(events).call_id
        assert runtime.stragglers == (f"tool work of {call_id}",)
        assert f"tool work of {call_id} was told to stop and goes on" in caplog.text
        assert (await session.run("again")).text == "next"
        before = await session.events()
        gate.open()
        await until(lambda: runtime.stragglers == ())
        await asyncio.sleep(0.05)
        assert gate.passed.is_set()
        assert await session.events() == before, "something was recorded of what came late"
        assert_sound(before)


async def test_a_model_that_does_not_stop_is_not_waited_for_and_not_heard_any_more(gate: Gate) -> None:
    class Talker:
        wire = "talker"

        async def reply(self, request: Request, emit: Emit) -> Reply:
            emit("text", "first ", 0)
            await gate.swallow()
            emit("text", "late", 0)
            raise AssertionError("late")

        def encode(self, request: Request) -> bytes:
            return b""

        async def close(self) -> None:
            """Nothing to let go of."""

    async with working(Agent(model=Talker())) as (runtime, session, turn):
        await until(gate.entered.is_set)
        result, took = await timed(turn)
        assert (result.status, result.text) == ("cancelled", "first ")
        assert took < BOUND
        (name,) = runtime.stragglers
        assert name.startswith("model ")
        before = await session.events()
        gate.open()
        await until(lambda: runtime.stragglers == ())
        await asyncio.sleep(0.05)
        assert await session.events() == before
        assert_sound(before)


async def test_a_hook_that_does_not_stop_is_not_waited_for(gate: Gate) -> None:
    thinking = asyncio.Event()

    async def think(event: HookEvent) -> None:
        thinking.set()
        await gate.swallow()

    agent = agent_of(say("hello"), hooks=(Hook(id="slow", point="before_turn", run=think, timeout=30),))
    async with Runtime(drain=0) as runtime:
        session = await runtime.session(agent)
        turn = await session.send("go")
        await thinking.wait()
        result, took = await timed(turn)
        assert result.status == "cancelled"
        assert took < BOUND
        assert runtime.stragglers == (f"hook slow of {session.id}",)


async def test_siblings_of_a_call_that_does_not_stop_are_stopped_and_the_next_in_its_lane_is_not_run(
    gate: Gate,
) -> None:
    stopped, ran = [], []

    @tool
    async def sibling() -> None:
        """Be next to it."""
        try:
            await asyncio.sleep(60)
        finally:
            stopped.append("sibling")

    @tool(lane="one")
    async def swallows() -> str:
        """Keep a cancellation to itself."""
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return "never mind"
        return "slept"

    @tool(lane="one")
    async def follows() -> None:
        """Come after it."""
        ran.append("follows")

    asked = calls(("work", {}), ("sibling", {}), ("swallows", {}), ("follows", {}))
    agent = agent_of(asked, say("next"), tools=[stubborn(gate, "swallow"), sibling, swallows, follows])
    async with working(agent) as (runtime, session, turn):
        await until(gate.entered.is_set)
        result, took = await timed(turn)
        assert took < BOUND
        statuses = {it.name: it.status for it in results(await session.events())}
        assert statuses == {
            "work": "in_doubt",
            "sibling": "in_doubt",
            "swallows": "ok",
            "follows": "cancelled",
        }
        assert (stopped, ran) == (["sibling"], [])
        assert [it.name for it in result.in_doubt] == ["work", "sibling"]
        assert len(runtime.stragglers) == 1


# --- its own limit -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", STUBBORN)
@pytest.mark.parametrize(("effect", "status"), [("pure", "error"), ("once", "in_doubt")])
async def test_a_call_whose_time_is_over_is_settled_although_it_goes_on(
    how: str, effect: Any, status: str, gate: Gate
) -> None:
    agent = agent_of(call("work"), say("next"), tools=[stubborn(gate, how, effect=effect, timeout=0.05)])
    async with Runtime(drain=0) as runtime:
        session = await runtime.session(agent)
        async with asyncio.timeout(SOON):
            result = await session.run("go")
        assert (result.status, result.text) == ("completed", "next")
        settled = outcome(await session.events())
        assert settled.status == status
        assert "took longer than 0.05 s" in settled.text
        assert runtime.stragglers == (f"tool work of {settled.call_id}",)
        gate.open()
        await until(lambda: runtime.stragglers == ())


# --- close ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", STUBBORN)
async def test_a_runtime_closes_although_a_tool_goes_on_and_says_so(
    how: str, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    store = MemoryStore()
    agent = agent_of(call("work"), say("next"), tools=[stubborn(gate, how)])
    async with asyncio.timeout(SOON):
        async with working(agent, store) as (runtime, session, turn):
            await until(gate.entered.is_set)
    assert [record for record in caplog.records if "while its runtime closes" in record.getMessage()]
    assert len(runtime.stragglers) == 1
    with pytest.raises(RuntimeClosed):
        await turn
    gate.open()
    await until(lambda: runtime.stragglers == ())
    await store.open()
    assert results(await store.read(session.id)) == [], "it is owed, and whoever opens the session settles it"


async def test_a_runtime_closes_at_once_when_a_tool_returns_as_it_is_stopped() -> None:
    @tool
    async def work() -> str:
        """Keep a cancellation to itself."""
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return "never mind"
        return "slept"

    agent = agent_of(call("work"), say("a very long answer", delay=60), tools=[work])
    store = MemoryStore()
    async with asyncio.timeout(SOON):
        async with working(agent, store) as (_, session, _turn):
            pass
    await store.open()
    assert outcome(await store.read(session.id)).text == "never mind"


# --- by itself -----------------------------------------------------------------------------------------------------


@VIRTUAL
async def test_what_ends_within_its_grace_is_no_straggler() -> None:
    stragglers = Stragglers()

    async def tidy_up(seconds: float) -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(seconds)
        return "tidy"

    assert await stragglers.run("it", "us", lambda: tidy_up(0.01), 0.01) == "tidy"
    with pytest.raises(OutOfTime) as late:
        await stragglers.run("it", "us", lambda: asyncio.sleep(60), 0.01)
    assert late.value.stopped
    assert stragglers.names == ()
    with pytest.raises(OutOfTime) as late:
        await stragglers.run("it", "us", lambda: tidy_up(GRACE + 0.2), 0.01)
    assert not late.value.stopped
    assert stragglers.names == ("it of us",)
    await stragglers.end()
    assert stragglers.names == ()


async def test_work_is_seen_by_what_comes_after_it_as_if_it_had_been_called(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    stragglers, place = Stragglers(), ContextVar("place", default="here")

    async def move() -> str:
        place.set("there")
        return place.get()

    async def leave(error: BaseException) -> None:
        raise error

    assert await stragglers.run("it", "us", move) == place.get() == "there"
    for error in (ValueError("no"), asyncio.CancelledError(), SystemExit(3), TimeoutError()):
        with pytest.raises(type(error)):
            await stragglers.run("it", "us", lambda error=error: leave(error), 60)
    assert caplog.records == []


async def test_who_is_cancelled_again_during_the_grace_is_let_go_at_once(gate: Gate) -> None:
    stragglers = Stragglers()
    running = asyncio.ensure_future(stragglers.run("it", "us", gate.swallow))
    for _ in range(2):
        await asyncio.sleep(0.01)
        running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert stragglers.names == ("it of us",)
    gate.open()
    await until(lambda: stragglers.names == ())
