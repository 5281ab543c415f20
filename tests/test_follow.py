"""Followers: in order, bounded, told what they missed, and never left waiting."""

from __future__ import annotations

import asyncio
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import StoreFull
from holdfast.events import Event
from holdfast.follow import EVENTS, SIGNALS, Follower, Lagged, Signal
from holdfast.journal import Journal
from holdfast.stores.memory import MemoryStore
from tests.logs import DONE, FAILED, OTHER, TURN, delta, new_journal, next_of, shown, titled, titles


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
        assert follower.sequence == 1
        journal.publish(delta("he"))
        await journal.record(titled("one"), titled("two"))
        journal.publish(delta("llo"))
        assert [shown(item) for item in await read(follower, 4)] == ["he", "one", "two", "llo"]


async def test_followers_do_not_hold_each_other_up(journal: Journal) -> None:
    with journal.follow() as slow, journal.follow() as fast:
        for number in range(EVENTS + 5):
            await journal.record(titled(number))
            assert shown(await next_of(fast)) == str(number)
        assert [shown(item) for item in await read(slow, EVENTS + 5)] == await titles(journal.store)


async def test_a_reader_that_is_too_slow_is_told_once_what_it_missed_and_goes_on(journal: Journal) -> None:
    with journal.follow() as follower:
        await journal.record(titled("one"))
        for number in range(SIGNALS + 3):
            journal.publish(delta(number))
        await journal.record(titled("two"))
        assert shown(await next_of(follower)) == "one"
        assert await next_of(follower) == Lagged(missed=3, after=1)
        seen = await read(follower, SIGNALS + 1)
        assert [shown(seen[0]), shown(seen[-1])] == ["3", "two"]


async def test_a_slow_reader_gets_every_event_from_the_log_whatever_is_dropped(journal: Journal) -> None:
    with journal.follow() as follower:
        for number in range(EVENTS * 2):
            await journal.record(titled(number))
        journal.publish(delta("at last"))
        seen = await read(follower, EVENTS * 2 + 1)
        assert [shown(item) for item in seen] == [*await titles(journal.store), "at last"]


async def test_following_can_begin_before_what_is_at_hand(journal: Journal) -> None:
    for number in range(3):
        await journal.record(titled(number))
    with journal.follow(after=1) as follower:
        await journal.record(titled("live"))
        assert [shown(item) for item in await read(follower, 3)] == ["1", "2", "live"]


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


MOVES = st.lists(st.sampled_from(["record", "record many", "signal", "read", "read two"]), max_size=20)


@given(MOVES)
def test_a_reader_however_slow_sees_every_event_once_and_in_order(moves: list[str]) -> None:
    async def main() -> None:
        store = MemoryStore()
        await store.open()
        journal, seen = new_journal(store), [0]
        with journal.follow() as follower:
            for move in [*moves, *["read"] * 400]:
                if move.startswith("record"):
                    await journal.record(*[titled(move)] * (300 if move == "record many" else 1))
                elif move == "signal":
                    journal.publish(delta("x"))
                for _ in range({"read": 1, "read two": 2}.get(move, 0)):
                    item = at_once(follower)
                    if isinstance(item, Event):
                        seen.append(item.sequence)
            while (item := at_once(follower)) is not None:
                seen += [item.sequence] if isinstance(item, Event) else []
        assert seen == list(range(journal.state.sequence + 1))

    asyncio.run(main())


async def test_what_is_dropped_takes_no_memory(journal: Journal) -> None:
    with journal.follow() as follower:
        for _ in range(SIGNALS):
            journal.publish(delta("x" * 1_000))
        tracemalloc.start()
        try:
            for _ in range(5_000):
                journal.publish(delta("x"))
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert held < 300_000
        assert await next_of(follower) == Lagged(missed=5_000, after=0)


async def test_readers_that_stand_still_cost_next_to_nothing(journal: Journal) -> None:
    await journal.record(titled("first"))
    tracemalloc.start()
    try:
        readers = [journal.follow(after=0) for _ in range(100)]
        assert [shown(await next_of(reader)) for reader in readers] == ["first"] * 100
        for number in range(2_000):
            journal.publish(delta(number))
            await journal.record(titled(number))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    log = 2_000 * 1_500
    assert held < log + 100 * 2_000
    for reader in readers:
        reader.close()


async def test_closing_ends_the_iteration(journal: Journal) -> None:
    follower = journal.follow()
    for number in range(3):
        journal.publish(delta(number))
    follower.close()
    follower.close()
    journal.publish(delta("too late"))
    assert await all_of(follower) == []
    assert not journal.audience.listening


async def test_closing_wakes_the_one_who_waits(journal: Journal) -> None:
    follower = journal.follow()
    waiting = asyncio.create_task(all_of(follower))
    await asyncio.sleep(0)
    follower.close()
    assert await waiting == []


async def test_a_failure_reaches_the_reader_after_what_it_already_has(journal: Journal) -> None:
    with journal.follow() as follower:
        journal.publish(delta("a"))
        journal.audience.fail(StoreFull())
        assert shown(await next_of(follower)) == "a"
        for _ in range(2):
            with pytest.raises(StoreFull):
                await next_of(follower)


async def test_a_failure_wakes_the_one_who_waits(journal: Journal) -> None:
    with journal.follow() as follower:
        waiting = asyncio.create_task(all_of(follower))
        await asyncio.sleep(0)
        journal.audience.fail(StoreFull())
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
    assert not journal.audience.listening


async def test_a_follower_of_one_turn_that_comes_late_is_shown_all_of_it(journal: Journal) -> None:
    await journal.record(titled("seen"), titled("too"), DONE, context=TURN)
    items = await all_of(journal.follow("turn_a", after=0))
    assert [shown(item) for item in items] == ["seen", "too", "TurnCompleted"]


async def test_a_follower_of_a_turn_of_several_appends_waits_for_its_end(journal: Journal) -> None:
    follower = journal.follow("turn_a")
    reading = asyncio.create_task(all_of(follower))
    for text in ("one", "two"):
        await journal.record(titled(text), context=TURN)
        await asyncio.sleep(0)
    assert not reading.done()
    await journal.record(DONE, context=TURN)
    assert [shown(item) for item in await reading] == ["one", "two", "TurnCompleted"]
