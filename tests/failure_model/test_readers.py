"""Readers of a log: sequences, notifications that are lost, readers that are slow or come back later."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest
from msgspec import structs

from holdfast import Event, Lagged, Runtime, Session, TextDelta
from holdfast.drivers.sim import call, say
from holdfast.errors import SequenceConflict
from holdfast.events import OutputMessageCompleted
from holdfast.testing import WrappedStore
from tests.failure_model.agents import agent_of, toil
from tests.failure_model.world import INPUT, PATIENCE, World, serve
from tests.logs import titled

T = TypeVar("T")


class Deaf(WrappedStore):
    """Nothing that is written is ever noticed."""

    async def carry_out(self, operation: str, work: Callable[[], Awaitable[T]]) -> T:
        if operation == "woken":
            await asyncio.sleep(0.05)
            return None  # type: ignore[return-value]
        return await work()


async def collect(session: Session, last: str, after: int = 0) -> list[Event]:
    """Follow the log up to an event of this kind."""
    found: list[Event] = []
    async with asyncio.timeout(PATIENCE):
        async for event in session.follow(after):
            found.append(event)
            if event.type == last:
                break
    return found


async def test_cp67_of_appends_at_one_place_one_is_taken_and_the_numbers_have_no_gap(world: World) -> None:
    agent = agent_of("Hello.")
    await serve_once(world)
    events = await world.log()
    store = await world.watcher()
    stores = [world.disk.store() for _ in range(3)]
    for other in stores:
        await other.open()
    session_id, last = events[0].session_id, len(events)
    epoch = await store.claim(session_id)
    made = [event_after(events[-1], n) for n in range(6)]
    ends = await asyncio.gather(
        *[
            stores[n % 3].append(session_id, [event], expected=last, epoch=epoch)
            for n, event in enumerate(made)
        ],
        return_exceptions=True,
    )
    for other in stores:
        await other.close()
    assert [type(end) for end in ends].count(SequenceConflict) == 5
    assert [event.sequence for event in await world.log()] == list(range(1, last + 2))
    assert (await world.go_on(agent, INPUT)).text == "Hello."


async def serve_once(world: World) -> None:
    await world.go_on(agent_of("Hello."))


def event_after(event: Event, number: int) -> Event:
    """Somebody's next event."""
    fact = titled(number)
    name = f"{event.id[:-1]}{number}"
    return structs.replace(event, id=name, type=fact.kind, sequence=event.sequence + 1, data=fact)


async def test_cp68_a_reader_catches_up_by_its_cursor_when_every_notification_is_lost(world: World) -> None:
    agent = agent_of(call("toil"), "Done.", tools=[toil(world, "idempotent")])
    await world.kill("after tool.started", agent)
    async with Runtime(Deaf(world.disk.store())) as reader, world.runtime(agent) as writer:
        (head,) = await reader.sessions()
        watching = await reader.open(head.session_id, read_only=True)
        reading = asyncio.ensure_future(collect(watching, "turn.completed"))
        await serve(writer, agent)
        seen = await reading
    assert seen == await world.log()


async def test_cp69_a_slow_reader_is_told_what_it_missed_and_holds_nobody_up(world: World) -> None:
    agent = agent_of(say(pieces=tuple(f"{n} " for n in range(3_000)), text=""))
    async with world.runtime(agent) as runtime:
        session = await runtime.session(agent)
        turn = await session.send(INPUT)
        seen: list[object] = []
        items = aiter(turn)
        seen.append(await anext(items))
        result = await turn  # while nobody reads
        assert result.status == "completed"
        async for item in items:
            seen.append(item)
    assert len(seen) < 1_100, "it holds no more than so many"
    (lagged,) = [item for item in seen if isinstance(item, Lagged)]
    assert lagged.missed > 1_000
    missing = [event for event in await world.log() if event.sequence > lagged.after]
    assert missing[-1].type == "turn.completed"


async def test_cp70_a_reader_that_comes_back_with_an_old_cursor_resumes_exactly(world: World) -> None:
    agent = agent_of(call("toil"), "Done.", tools=[toil(world, "idempotent")])
    await world.kill("after tool.started", agent)
    half = await world.log()
    async with world.runtime(agent) as runtime:
        session = await serve(runtime, agent)
        whole = await world.log()
        for after in range(len(half) + 1):
            assert await session.events(after=after) == whole[after:]
        assert half + await collect(session, "turn.completed", after=len(half)) == whole
        assert await session.events(after=len(whole)) == []


async def test_cp70_a_subscription_goes_on_from_its_cursor_in_another_process(world: World) -> None:
    agent = agent_of(call("toil"), "Done.", tools=[toil(world, "idempotent")])
    seen: list[Event] = []
    cursors: list[str] = []

    async def watch(runtime: Runtime) -> None:
        async with runtime.subscribe(signals=False) as subscription:
            await (await runtime.session(agent)).send(INPUT, key=INPUT)
            async for item in subscription:
                assert isinstance(item, Event)
                seen.append(item)
                cursors.append(subscription.cursor)

    await world.kill("toiled", agent, watch)
    assert 0 < len(seen) <= len(await world.log())
    async with world.runtime(agent) as runtime:
        await serve(runtime, agent)
        whole = await world.log()
        for place, cursor in enumerate(cursors, 1):
            async with asyncio.timeout(PATIENCE), runtime.subscribe(after=cursor, signals=False) as again:
                rest = [await anext(again) for _ in range(len(whole) - place)]
            assert seen[:place] + rest == whole


async def test_cp71_pieces_that_were_shown_may_vanish_and_the_durable_message_counts(world: World) -> None:
    words = [say("First words here."), say("Other words now.")]
    agent = agent_of(words[0])
    shown: list[str] = []

    async def watch(runtime: Runtime) -> None:
        session = await runtime.session(agent)
        turn = await session.send(INPUT, key=INPUT)
        async for item in turn:
            if isinstance(item, TextDelta):
                shown.append(item.text)

    await world.kill("answered", agent, watch)
    after = await world.go_on(agent_of(words[1]))
    (message,) = [
        event.data.message for event in after.events if isinstance(event.data, OutputMessageCompleted)
    ]
    assert message.text == "Other words now."
    assert "".join(shown) in ("First words here.", "First words ", "First ", "")
    async with world.runtime() as runtime:
        (head,) = await runtime.sessions()
        session = await runtime.open(head.session_id, read_only=True)
        assert (await session.messages())[-1].text == "Other words now."


@pytest.mark.parametrize("side", ["before", "after"])
async def test_cp71_no_piece_is_ever_in_the_log(world: World, side: str) -> None:
    agent = agent_of("Hello there.")
    await world.kill(f"{side} output.message.completed", agent)
    await world.go_on(agent)
    assert not [event.type for event in await world.log() if "delta" in event.type]
