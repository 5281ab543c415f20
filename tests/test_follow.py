"""Followers: in order, bounded, told what they missed, and never left waiting."""

from __future__ import annotations

import asyncio
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import StoreFull
from holdfast.events import Event
from holdfast.follow import Follower, Lagged, Signal
from holdfast.journal import Journal
from holdfast.stores.memory import MemoryStore
from tests.logs import DONE, FAILED, OTHER, SESSION, TURN, delta, new_journal, next_of, shown, titled


@pytest.fixture
async def journal() -> Journal:
    store = MemoryStore()
    await store.open()
    return new_journal(store)


async def all_of(follower: Follower) -> list[Event | Signal]:
    async with asyncio.timeout(10):
        return [item async for item in follower]


async def read(follower: Follower, count: int) -> list[Event | Signal]:
    return [await next_of(follower) for _ in range(count)]


async def test_a_follower_sees_events_and_signals_in_the_order_they_were_published(journal: Journal) -> None:
    await journal.record(titled("before"))
    with journal.follow() as follower:
        assert follower.after == 1
        journal.publish(delta("he"))
        await journal.record(titled("one"), titled("two"))
        journal.publish(delta("llo"))
        assert [shown(item) for item in await read(follower, 4)] == ["he", "one", "two", "llo"]


async def test_followers_do_not_hold_each_other_up(journal: Journal) -> None:
    with journal.follow(size=1) as slow, journal.follow() as fast:
        for number in range(5):
            await journal.record(titled(number))
        assert [shown(item) for item in await read(fast, 5)] == ["0", "1", "2", "3", "4"]
        assert [shown(item) for item in await read(slow, 1)] == ["0"]
        assert await next_of(slow) == Lagged(missed=4, after=1)


async def test_a_reader_that_is_too_slow_is_told_once_what_it_missed_and_goes_on(journal: Journal) -> None:
    with journal.follow(size=2) as follower:
        await journal.record(*[titled(number) for number in range(5)])
        journal.publish(delta("lost"))
        assert [shown(item) for item in await read(follower, 2)] == ["0", "1"]
        await journal.record(titled("also lost"))  # there is room, but order comes first
        assert await next_of(follower) == Lagged(missed=5, after=2)
        await journal.record(titled("seen"))
        assert shown(await next_of(follower)) == "seen"
        missed = await journal.store.read(SESSION, after=2, limit=4)
        assert [shown(event) for event in missed] == ["2", "3", "4", "also lost"]


async def test_a_reader_that_missed_everything_is_told_to_start_where_it_came(journal: Journal) -> None:
    await journal.record(titled("before"))
    with journal.follow(size=1) as follower:
        journal.publish(delta("a"))
        await journal.record(titled("b"))
        assert shown(await next_of(follower)) == "a"
        assert await next_of(follower) == Lagged(missed=1, after=1)


def at_once(follower: Follower) -> Event | Signal | None:
    """The next item if there is one now; otherwise the wait for it is given up."""
    waiting = follower.__anext__()
    try:
        waiting.send(None)
    except StopIteration as came:
        item: Event | Signal = came.value
        return item
    waiting.close()
    return None


MOVES = st.lists(st.sampled_from(["record", "record three", "signal", "read", "read two"]), max_size=60)


@given(MOVES, st.integers(1, 5))
def test_a_reader_that_repairs_from_the_log_sees_every_event_once_and_in_order(
    moves: list[str], size: int
) -> None:
    async def main() -> None:
        store = MemoryStore()
        await store.open()
        journal, seen = new_journal(store), [0]
        with journal.follow(size=size) as follower:
            for move in [*moves, *["read"] * (size + 2)]:
                if move.startswith("record"):
                    await journal.record(*[titled(move)] * (3 if move == "record three" else 1))
                elif move == "signal":
                    journal.publish(delta("x"))
                for _ in range({"read": 1, "read two": 2}.get(move, 0)):
                    item = at_once(follower)
                    if isinstance(item, Lagged):
                        assert item.after <= seen[-1]
                        repaired = await store.read(SESSION, after=item.after)
                        seen += [event.sequence for event in repaired if event.sequence > seen[-1]]
                    elif isinstance(item, Event) and item.sequence > seen[-1]:
                        seen.append(item.sequence)
        assert seen == list(range(journal.state.sequence + 1))

    asyncio.run(main())


async def test_what_is_dropped_takes_no_memory(journal: Journal) -> None:
    with journal.follow(size=10) as follower:
        tracemalloc.start()
        try:
            for _ in range(5_000):
                journal.publish(delta("x" * 1_000))
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert held < 100_000
        await read(follower, 10)
        assert await next_of(follower) == Lagged(missed=4_990, after=0)


async def test_closing_ends_the_iteration_after_what_was_taken_in(journal: Journal) -> None:
    follower = journal.follow(size=2)
    for number in range(3):
        journal.publish(delta(number))
    follower.close()
    follower.close()
    journal.publish(delta("too late"))
    assert [shown(item) for item in await all_of(follower)] == ["0", "1", "Lagged"]
    assert not journal.followed


async def test_closing_wakes_the_one_who_waits(journal: Journal) -> None:
    follower = journal.follow()
    waiting = asyncio.create_task(all_of(follower))
    await asyncio.sleep(0)
    follower.close()
    assert await waiting == []


async def test_a_failure_reaches_the_reader_after_what_it_already_has(journal: Journal) -> None:
    with journal.follow() as follower:
        journal.publish(delta("a"))
        journal.fail(StoreFull())
        assert shown(await next_of(follower)) == "a"
        for _ in range(2):
            with pytest.raises(StoreFull):
                await next_of(follower)


async def test_a_failure_wakes_the_one_who_waits(journal: Journal) -> None:
    with journal.follow() as follower:
        waiting = asyncio.create_task(all_of(follower))
        await asyncio.sleep(0)
        journal.fail(StoreFull())
        with pytest.raises(StoreFull):
            await waiting


async def test_a_wait_that_was_given_up_loses_nothing(journal: Journal) -> None:
    with journal.follow() as follower:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(follower), 0.01)
        journal.publish(delta("a"))
        assert shown(await asyncio.wait_for(anext(follower), 5)) == "a"


@pytest.mark.parametrize("end", [DONE, FAILED])
async def test_a_follower_of_one_turn_sees_only_that_and_ends_with_it(journal: Journal, end: object) -> None:
    follower = journal.follow("turn_a")
    await journal.record(titled("of a"), context=TURN)
    await journal.record(titled("of b"), DONE, context=OTHER)
    await journal.record(titled("of nobody"))
    journal.publish(delta("x", "turn_a"))
    journal.publish(delta("y", "turn_b"))
    await journal.record(end, context=TURN)  # type: ignore[arg-type]
    await journal.record(titled("after"), context=TURN)
    assert [shown(item) for item in await all_of(follower)] == ["of a", "x", type(end).__name__]
    assert not journal.followed


async def test_a_follower_of_one_turn_ends_with_it_also_when_it_missed_the_end(journal: Journal) -> None:
    follower = journal.follow("turn_a", size=1)
    await journal.record(titled("seen"), titled("missed"), DONE, context=TURN)
    items = await all_of(follower)
    assert [shown(item) for item in items] == ["seen", "Lagged"]
    assert items[1] == Lagged(missed=2, after=1)
    missed = await journal.store.read(SESSION, after=1)
    assert [event.data for event in missed] == [titled("missed"), DONE]


async def test_a_follower_of_a_turn_of_several_appends_waits_for_its_end(journal: Journal) -> None:
    follower = journal.follow("turn_a")
    reading = asyncio.create_task(all_of(follower))
    for text in ("one", "two"):
        await journal.record(titled(text), context=TURN)
        await asyncio.sleep(0)
    assert not reading.done()
    await journal.record(DONE, context=TURN)
    assert [shown(item) for item in await reading] == ["one", "two", "TurnCompleted"]
