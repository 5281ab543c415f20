"""A turn in the hand: await it, iterate it, cancel it, as often and from wherever one likes."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from holdfast import Agent, Event, HookEvent, Lagged, Runtime, Session, TextDelta, Turn, TurnResult, tool
from holdfast.config import Limits
from holdfast.drivers.sim import Sim, Step, call, calls, fail, say
from holdfast.errors import RuntimeClosed, UnknownTurn
from holdfast.events import TURN_ENDS
from holdfast.fold import fold
from holdfast.hook import Hook
from holdfast.store import Store
from holdfast.stores.memory import MemoryStore
from holdfast.stores.sqlite import SQLiteStore
from holdfast.testing import VirtualClock, VirtualLoop
from tests.turn.scenes import agent_of, assert_sound, kinds, results


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Virtual time: a tool that sleeps for an hour is as good as one that hangs."""
    return "asyncio", {"loop_factory": VirtualLoop}


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A store of each kind."""
    return MemoryStore() if request.param == "memory" else SQLiteStore(tmp_path / "log.db")


@asynccontextmanager
async def opened(store: Store | None, agent: Agent, session_id: str = "") -> AsyncIterator[Session]:
    async with Runtime(store, clock=VirtualClock(), drain=0) as runtime:
        yield await (runtime.open(session_id, agent) if session_id else runtime.session(agent))


@tool(effect="pure")
async def look(place: str) -> str:
    """Look."""
    return f"nothing at {place}"


@tool
async def sleep() -> str:
    """Sleep."""
    await asyncio.sleep(3_600)
    return "slept"


TURN = ["input.message", "turn.started", "output.message.completed", "turn.completed"]
TOOL_TURN = [*TURN[:3], "tool.started", "tool.completed", *TURN[2:]]


async def events_of(turn: Turn) -> list[Event]:
    return [item async for item in turn if isinstance(item, Event)]


# --- await ---------------------------------------------------------------------------------------------------------


async def test_a_turn_can_be_awaited_any_number_of_times(store: Store) -> None:
    async with opened(store, agent_of(say("done"))) as session:
        turn = await session.send("go")
        assert await turn == await turn
        assert (await turn).text == "done"


async def test_a_turn_can_be_awaited_from_many_tasks(store: Store) -> None:
    async with opened(store, agent_of(say("done", delay=5))) as session:
        turn = await session.send("go")

        async def wait() -> TurnResult:
            return await turn

        assert {result.text for result in await asyncio.gather(*[wait() for _ in range(5)])} == {"done"}


async def test_one_who_gives_up_waiting_takes_nothing_from_the_others() -> None:
    async with opened(None, agent_of(say("done", delay=5))) as session:
        turn = await session.send("go")

        async def wait() -> TurnResult:
            return await turn

        patient = asyncio.create_task(wait())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await turn
        assert (await patient).text == "done"


async def test_a_turn_goes_on_when_nobody_holds_it(store: Store) -> None:
    async with opened(store, agent_of(call("look", place="home"), say("done"), tools=[look])) as session:
        turn_id = (await session.send("go")).id
        handle = session.turn
        assert handle is not None
        assert handle.id == turn_id
        assert (await handle).text == "done"


async def test_a_turn_before_the_last_one_is_remembered(store: Store) -> None:
    async with opened(store, agent_of(say("one"), say("two"), say("three"))) as session:
        turns = [await session.send(text) for text in ("a", "b", "c")]
        await turns[-1]
        assert [(await turn).text for turn in turns] == ["one", "two", "three"]


async def test_a_turn_that_ended_before_a_restart_is_remembered(store: Store) -> None:
    agent = agent_of(say("one"), fail("quota"), say("three"))
    async with opened(store, agent) as session:
        one, two = await session.send("a", key="a"), await session.send("b", key="b")
        before = [await one, await two]
    async with opened(store, agent, session.id) as again:
        after = [await (await again.send("a", key="a")), await (await again.send("b", key="b"))]
    assert after == before
    assert [result.status for result in after] == ["completed", "failed"]


async def test_a_stranger_is_no_turn_of_this_session(store: Store) -> None:
    async with (
        opened(store, agent_of(say("one"), say("two"))) as session,
        opened(None, agent_of(say("x"))) as other,
    ):
        await session.run("go")
        foreign = await other.send("go")
        stranger = Turn(foreign.id, (await session.send("again"))._driving)
        with pytest.raises(UnknownTurn, match=f"has no turn {foreign.id}"):
            await stranger


async def test_the_status_follows_the_turn() -> None:
    async with opened(None, agent_of(call("sleep"), say("done"), say("more"), tools=[sleep])) as session:
        turn, behind = await session.send("go"), await session.send("more")
        assert (turn.status, behind.status) == ("running", "queued")
        await turn
        await behind
        assert (turn.status, behind.status) == ("completed", "completed")
        assert repr(turn) == f"Turn('{turn.id}', completed)"


# --- iterate -------------------------------------------------------------------------------------------------------


async def test_iterating_gives_the_turn_from_its_first_event_to_its_end(store: Store) -> None:
    async with opened(store, agent_of(call("look", place="home"), say("done"), tools=[look])) as session:
        turn = await session.send("go")
        seen = await events_of(turn)
        assert [event.type for event in seen] == TOOL_TURN
        assert seen == [it for it in await session.events() if it.context.turn_id == turn.id]


async def test_iterating_late_gives_the_same_events(store: Store) -> None:
    async with opened(store, agent_of(say("one"), say("two"), say("three"))) as session:
        turns = [await session.send(text) for text in "abc"]
        await turns[-1]
        for turn in turns:
            assert [event.type for event in await events_of(turn)] == TURN
        again = Turn(turns[0].id, turns[0]._driving)
        assert [event.type for event in await events_of(again)] == TURN


async def test_iterating_in_the_middle_gives_all_of_it_once(store: Store) -> None:
    slow_call = calls(("look", {"place": "home"}), delay=1)
    async with opened(store, agent_of(slow_call, slow_call, say("done"), tools=[look])) as session:
        turn = await session.send("go")

        async def late(seconds: float) -> list[Event]:
            await asyncio.sleep(seconds)
            return await events_of(turn)

        views = await asyncio.gather(*[late(seconds) for seconds in (0.0, 0.5, 1.5, 6.0)])
        assert all(view == views[0] for view in views)
        assert [event.sequence for event in views[0]] == list(range(2, 12))


async def test_iterating_a_queued_turn_waits_for_it_and_leaves_others_out(store: Store) -> None:
    async with opened(store, agent_of(say("one", delay=1), say("two", delay=1))) as session:
        _, behind = await session.send("a"), await session.send("b")
        seen = [item async for item in behind]
        assert [item.type for item in seen if isinstance(item, Event)] == TURN
        assert [item.text for item in seen if isinstance(item, TextDelta)] == ["two"]


async def test_two_readers_see_the_same() -> None:
    async with opened(None, agent_of(say("some words here", delay=1, pace=1))) as session:
        turn = await session.send("go")

        async def read() -> list[Any]:
            return [item async for item in turn]

        one, two = await asyncio.gather(read(), read())
    assert one == two
    assert [item.text for item in one if isinstance(item, TextDelta)] == ["some ", "words ", "here"]


async def test_leaving_the_iteration_early_stops_nothing() -> None:
    async with opened(None, agent_of(say("some words here", pace=1))) as session:
        turn = await session.send("go")
        async for item in turn:
            if isinstance(item, TextDelta):
                break
        assert (await turn).text == "some words here"


async def test_a_reader_that_is_too_slow_is_told_and_misses_no_event(store: Store) -> None:
    words = tuple("word " for _ in range(3_000))
    async with opened(
        store, agent_of(call("look", place="home"), say("", pieces=words), tools=[look])
    ) as session:
        turn = await session.send("go")
        reader = aiter(turn)
        seen = [await anext(reader)]
        assert (await turn).text == "word " * 3_000  # nobody reads meanwhile, and the turn is not held up
        rest = [item async for item in reader]
        lagged = [item for item in rest if isinstance(item, Lagged)]
        assert len(lagged) == 1
        assert lagged[0].missed + len(rest) + len(seen) - 1 >= 3_000
        known = [item for item in (*seen, *rest) if isinstance(item, Event)]
        assert [event.type for event in known] == TOOL_TURN
        assert known == (await session.events())[1:], "no event is missed"


async def test_iterating_a_turn_that_waits_shows_the_ask_and_goes_on_after_the_answer(store: Store) -> None:
    @tool(ask=True)
    async def pay() -> str:
        """Pay."""
        return "paid"

    async with opened(store, agent_of(call("pay"), say("done"), tools=[pay])) as session:
        turn = await session.send("go")
        seen: list[str] = []
        async for item in turn:
            if isinstance(item, Event):
                seen.append(item.type)
                if item.type == "ask.opened":
                    await session.approve(turn.asks[0].ask_id, by="ann")
        assert seen == [
            *TURN[:3],
            "ask.opened",
            "ask.answered",
            "tool.started",
            "tool.completed",
            "output.message.completed",
            "turn.completed",
        ]


@pytest.mark.parametrize("limits", [None, Limits(turn_timeout=86_400)], ids=["for ever", "with a deadline"])
async def test_closing_the_runtime_ends_every_wait_with_a_reason(limits: Limits | None, store: Store) -> None:
    @tool(ask=True)
    async def pay() -> str:
        """Pay."""
        return "paid"

    agent = agent_of(call("pay"), say("done"), tools=[pay], limits=limits)
    async with opened(store, agent) as session:
        turn, behind = await session.send("go"), await session.send("more")
        await turn

        async def read(handle: Turn) -> list[Any]:
            return [item async for item in handle]

        readers = [asyncio.create_task(read(handle)) for handle in (turn, behind)]
        await asyncio.sleep(0.01)
    for reader in readers:
        with pytest.raises(RuntimeClosed):
            await reader
    for handle in (turn, behind):
        with pytest.raises(RuntimeClosed):
            await handle
        with pytest.raises(RuntimeClosed):
            await handle.cancel()
    with pytest.raises(RuntimeClosed):
        await session.files.write("/a.txt", b"too late")


# --- cancel --------------------------------------------------------------------------------------------------------


@tool
async def stubborn() -> str:
    """Keep a cancellation to itself."""
    try:
        await asyncio.sleep(3_600)
    except asyncio.CancelledError:
        return "never mind"
    return "slept"


@tool(ask=True)
async def pay() -> str:
    """Pay."""
    return "paid"


async def hang(event: HookEvent) -> None:
    await asyncio.sleep(3_600)


def plan(*steps: Step, **options: Any) -> Callable[[], Agent]:
    return lambda: agent_of(*steps, say("next"), tools=[look, sleep, stubborn, pay], **options)


def failing_first() -> Agent:
    answers = iter([fail("overloaded", retry_after=60.0), say("next"), say("next")])
    return Agent(model=Sim.rule(lambda request: next(answers)))


PLANS: dict[str, Callable[[], Agent]] = {
    "before anything happened": plan(say("a", delay=8)),
    "before the first piece": plan(say("a", delay=8)),
    "while the model speaks": plan(say("a lot of words", pace=3)),
    "while a tool runs": plan(call("sleep")),
    "while tools run": plan(calls(("sleep", {}), ("look", {"place": "x"}), ("sleep", {}))),
    "while a stubborn tool runs": plan(call("stubborn"), say("it went on")),
    "while stubborn tools run": plan(calls(("stubborn", {}), ("stubborn", {})), say("it went on")),
    "while calls wait in a lane": plan(calls(("sleep", {}), ("sleep", {})), parallel_calls=False),
    "while it waits for an answer": plan(call("pay")),
    "while it waits for an answer with a deadline": plan(call("pay"), limits=Limits(turn_timeout=86_400)),
    "while one call waits and another runs": plan(calls(("pay", {}), ("sleep", {}))),
    "while it waits to try again": failing_first,
    "while a hook thinks": plan(
        say("a"), hooks=(Hook(id="slow", point="before_turn", run=hang, timeout=30),)
    ),
}


@pytest.mark.parametrize("when", PLANS)
async def test_a_cancelled_turn_ends_once_wherever_it_stands(when: str, store: Store) -> None:
    agent = PLANS[when]()
    async with opened(store, agent) as session:
        turn = await session.send("go")
        if when != "before anything happened":
            await asyncio.sleep(5)
        async with asyncio.timeout(60):
            result = await turn.cancel("enough")
        assert (result.turn_id, result.status, result.stop) == (turn.id, "cancelled", "cancelled")
        assert await turn == result
        assert turn.status == "cancelled"
        assert session.turn is None
        events = await session.events()
        assert_sound(events)
        assert kinds(events).count("turn.cancelled") == 1
        assert events[-1].data.reason == "enough"  # type: ignore[attr-defined]
        assert fold(session.id, events) == session.state
        await _goes_on(session, agent)


async def _goes_on(session: Session, agent: Agent) -> None:
    """The next turn works, and what the model is sent then is a valid transcript."""
    if agent.layers[0].config.hooks:
        return  # they hang
    upcoming = (await session.inspect("and now?")).request.messages
    waiting: list[str] = []
    for message in upcoming:
        if message.role == "tool":
            assert message.content[0].call_id == waiting.pop(0)  # type: ignore[union-attr]
            continue
        assert not waiting
        waiting = [it.id for it in message.calls]
    async with asyncio.timeout(10_000):
        result = await session.run("and now?")
    assert result.status in ("completed", "waiting")


async def test_what_was_already_done_stays_done_when_a_turn_is_cancelled() -> None:
    async with opened(None, PLANS["while tools run"]()) as session:
        turn = await session.send("go")
        await asyncio.sleep(5)
        result = await turn.cancel()
        statuses = {it.call_id[-1]: it.status for it in results(await session.events())}
    assert statuses == {"0": "in_doubt", "1": "ok", "2": "in_doubt"}
    assert [it.call_id[-1] for it in result.in_doubt] == ["0", "2"]


async def test_what_a_stubborn_tool_returned_is_kept() -> None:
    async with opened(None, PLANS["while a stubborn tool runs"]()) as session:
        turn = await session.send("go")
        await asyncio.sleep(5)
        await turn.cancel()
        assert [(it.status, it.text) for it in results(await session.events())] == [("ok", "never mind")]


async def test_cancelling_twice_is_cancelling_once(store: Store) -> None:
    async with opened(store, agent_of(call("sleep"), say("next"), tools=[sleep])) as session:
        turn = await session.send("go")
        await asyncio.sleep(5)
        one, two, three = await asyncio.gather(turn.cancel("a"), turn.cancel("b"), turn.cancel("c"))
        assert one == two == three == await turn.cancel("d")
        events = await session.events()
        assert kinds(events).count("turn.cancelled") == 1
        assert events[-1].data.reason == "a"  # type: ignore[attr-defined]


async def test_cancelling_what_has_ended_changes_nothing(store: Store) -> None:
    async with opened(store, agent_of(say("done"), say("more"))) as session:
        turn = await session.send("go")
        result = await turn
        assert await turn.cancel("too late") == result
        await session.run("more")
        assert await turn.cancel("far too late") == result
        assert "turn.cancelled" not in kinds(await session.events())


async def test_a_queued_turn_can_be_cancelled_before_it_begins(store: Store) -> None:
    agent = agent_of(say("one", delay=10), say("three"))
    async with opened(store, agent) as session:
        one, two, three = [await session.send(text) for text in ("a", "b", "c")]
        result = await two.cancel("not needed")
        assert (result.status, result.iterations, result.text) == ("cancelled", 0, "")
        assert await two == result
        assert [(await turn).text for turn in (one, three)] == ["one", "three"]
        assert await two == result
        events, messages = await session.events(), await session.messages()
        assert_sound(events)
        assert [message.text for message in messages] == ["a", "one", "c", "three"]
        assert [event.type for event in await events_of(two)] == ["input.message", "turn.cancelled"]
        assert fold(session.id, events) == session.state


async def test_one_who_waits_for_a_queued_turn_learns_that_it_was_cancelled() -> None:
    async with opened(None, agent_of(say("one", delay=10))) as session:
        _, behind = await session.send("a"), await session.send("b")

        async def wait() -> TurnResult:
            return await behind

        waiter = asyncio.create_task(wait())
        await asyncio.sleep(1)
        result = await behind.cancel()
        assert await waiter == result
        assert asyncio.get_running_loop().time() < 5, "without waiting for the turn before it"


async def test_cancelling_a_turn_lets_the_next_one_begin(store: Store) -> None:
    async with opened(store, agent_of(call("sleep"), say("second"), tools=[sleep])) as session:
        turn, behind = await session.send("go"), await session.send("more")
        await asyncio.sleep(5)
        await turn.cancel()
        assert (await behind).text == "second"
        assert_sound(await session.events())


async def test_each_of_several_turns_can_be_cancelled_in_its_time(store: Store) -> None:
    agent = Agent(model=Sim.rule(lambda request: call("sleep")), tools=[sleep])
    async with opened(store, agent) as session:
        for number in range(4):
            turn = await session.send(f"input {number}")
            await asyncio.sleep(number)
            assert (await turn.cancel(f"reason {number}")).status == "cancelled"
        events = await session.events()
        assert_sound(events)
        reasons = [event.data.reason for event in events if event.type == "turn.cancelled"]  # type: ignore[attr-defined]
        assert reasons == [f"reason {number}" for number in range(4)]


async def test_a_cancelled_turn_stays_cancelled_after_a_restart(store: Store) -> None:
    agent = agent_of(call("sleep"), say("next"), tools=[sleep])
    async with opened(store, agent) as session:
        turn = await session.send("go", key="a")
        await asyncio.sleep(5)
        result = await turn.cancel("enough")
    async with opened(store, agent, session.id) as again:
        assert await (await again.send("go", key="a")) == result
        assert again.turn is None
        assert (await again.run("more")).text == "next"


async def test_those_who_wait_and_those_who_watch_learn_of_a_cancellation(store: Store) -> None:
    async with opened(store, agent_of(call("sleep"), tools=[sleep])) as session:
        turn = await session.send("go")

        async def wait() -> TurnResult:
            return await turn

        waiter, watcher = asyncio.create_task(wait()), asyncio.create_task(events_of(turn))
        await asyncio.sleep(5)
        await turn.cancel()
        assert (await waiter).status == "cancelled"
        assert (await watcher)[-1].type == "turn.cancelled"


@pytest.mark.parametrize("cancelled", [False, True], ids=["it ended", "it was cancelled"])
async def test_cancelling_the_next_turn_while_hooks_of_the_last_one_run(cancelled: bool) -> None:
    async def slow(event: HookEvent) -> None:
        await asyncio.sleep(20)

    agent = agent_of(
        say("one", delay=1),
        call("sleep"),
        tools=[sleep],
        hooks=(Hook(id="slow", point="after_turn", run=slow, timeout=30),),
    )
    async with opened(None, agent) as session:
        one = await session.send("a")
        ending = asyncio.create_task(one.cancel()) if cancelled else None
        await asyncio.sleep(5)
        two = await session.send("b")
        async with asyncio.timeout(100):
            assert (await two.cancel("no")).status == "cancelled"
            assert (await one).status == ("cancelled" if cancelled else "completed")
        assert ending is None or (await ending).status == "cancelled"
        assert_sound(await session.events())


async def test_a_tool_that_ends_as_it_is_cancelled_is_settled_once(store: Store) -> None:
    """The race of a result and a cancellation, at every turn of the loop in which it can fall."""

    @tool
    async def short() -> str:
        """Take five steps."""
        for _ in range(5):
            await asyncio.sleep(0)
        return "done"

    agent = Agent(
        model=Sim.rule(lambda request: say("ok") if request.messages[-1].role == "tool" else call("short")),
        tools=[short],
    )
    async with opened(store, agent) as session:
        for steps in range(30):
            turn = await session.send("go")
            for _ in range(steps):
                await asyncio.sleep(0)
            async with asyncio.timeout(60):
                result = await turn.cancel()
            assert result.status in ("cancelled", "completed")
            assert await turn == result
        events = await session.events(limit=10_000)
        assert_sound(events)
        assert fold(session.id, events) == session.state
        assert len([event for event in events if event.type in TURN_ENDS]) == 30


async def test_a_plain_function_that_is_cancelled_is_in_doubt() -> None:
    release = threading.Event()

    @tool
    def work() -> str:
        """Work."""
        release.wait(60)
        return "done"

    try:
        async with opened(None, agent_of(call("work"), say("next"), tools=[work])) as session:
            turn = await session.send("go")
            await asyncio.sleep(5)
            result = await turn.cancel()
    finally:
        release.set()
    assert [it.name for it in result.in_doubt] == ["work"]
