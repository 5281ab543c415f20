"""The journal: durable, then shown; and the truth about what happened when something comes between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC
from pathlib import Path

import apsw
import pytest

from holdfast.clock import SystemClock
from holdfast.errors import NotEncodable, SequenceConflict, StaleEpoch, StoreError, Superseded, UsageError
from holdfast.events import EventContext
from holdfast.follow import Follower
from holdfast.journal import READER, UNCLAIMED, Journal
from holdfast.store import Store
from holdfast.stores.memory import MemoryStore
from holdfast.stores.sqlite import SQLiteStore
from holdfast.testing.clock import VirtualClock, run_virtual
from tests.logs import DONE, SESSION, TURN, delta, new_journal, next_of, open_journal, shown, titled, titles


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    made: Store = MemoryStore() if request.param == "memory" else SQLiteStore(tmp_path / "log.db")
    await made.open()
    yield made
    await made.close()


@pytest.fixture
async def file(tmp_path: Path) -> AsyncIterator[SQLiteStore]:
    """A file whose session has one event, written by epoch 1."""
    made = SQLiteStore(tmp_path / "log.db")
    await made.open()
    await new_journal(made).record(titled("first"))
    yield made
    await made.close()


class Busy:
    """Somebody else's write transaction: while it lasts, no commit ends."""

    def __init__(self, store: SQLiteStore) -> None:
        # apsw, as in the store: two SQLite libraries in one process do not see each other's locks.
        self._connection = apsw.Connection(store.path)
        self._connection.execute("BEGIN IMMEDIATE")

    def take_over(self) -> None:
        """Let another writer have the session."""
        self._connection.execute("UPDATE sessions SET epoch = epoch + 1")

    def end(self) -> None:
        self._connection.execute("COMMIT")
        self._connection.close()


async def soon() -> None:
    """Give whatever can happen time to happen."""
    await asyncio.sleep(0.05)


async def everything(follower: Follower) -> list[str]:
    """What the follower is given without waiting."""
    seen: list[str] = []
    while (item := await follower.within(0.05)) is not None:
        seen.append(shown(item))
    return seen


async def test_what_was_recorded_is_in_the_log_when_record_returns(store: Store) -> None:
    journal = new_journal(store)
    for text in ("one", "two"):
        await journal.record(titled(text))
        assert (await titles(store))[-1] == text
    assert (journal.state.sequence, journal.state.title) == (2, "two")


async def test_events_are_numbered_stamped_and_named(store: Store) -> None:
    journal = new_journal(store)
    before = SystemClock().now()
    await journal.record(titled("one"))
    await journal.record(titled("two"), titled("three"), context=TURN)
    other = EventContext(turn_id="turn_z")
    await journal.record(titled("four"), context=other)
    events = await store.read(SESSION)
    assert [event.sequence for event in events] == [1, 2, 3, 4]
    assert [event.context for event in events] == [EventContext(), TURN, TURN, other]
    assert [event.type for event in events] == ["session.updated"] * 4
    assert len({event.id for event in events}) == 4
    assert before <= events[0].ts <= events[3].ts <= SystemClock().now()
    assert events[0].ts.tzinfo is UTC


async def test_a_staged_fact_is_folded_at_once_and_durable_with_the_next_record(store: Store) -> None:
    journal = new_journal(store)
    with journal.follow() as follower:
        journal.stage(titled("staged"))
        assert (journal.state.title, journal.state.sequence) == ("staged", 1)
        assert await titles(store) == []
        await journal.record(titled("recorded"))
        assert await titles(store) == ["staged", "recorded"]
        assert await everything(follower) == ["staged", "recorded"]


async def test_a_flush_makes_what_is_staged_durable_and_one_of_nothing_does_nothing(store: Store) -> None:
    journal = new_journal(store)
    await journal.flush()
    assert await store.head(SESSION) is None
    journal.stage(titled("staged"))
    await journal.flush()
    await journal.flush()
    assert await titles(store) == ["staged"]


async def test_an_event_is_shown_only_when_it_is_durable(file: SQLiteStore) -> None:
    journal = await open_journal(file, 1)
    busy, follower = Busy(file), journal.follow()
    recording = asyncio.create_task(journal.record(titled("second")))
    reading = asyncio.create_task(next_of(follower))
    await soon()
    assert journal.state.title == "second"
    assert not recording.done()
    assert not reading.done()
    assert await titles(file) == ["first"]
    busy.end()
    assert shown(await reading) == "second"
    assert await titles(file) == ["first", "second"]
    await recording


async def test_a_flush_waits_for_what_is_already_on_its_way(file: SQLiteStore) -> None:
    journal = await open_journal(file, 1)
    busy = Busy(file)
    recording = asyncio.create_task(journal.record(titled("second")))
    await asyncio.sleep(0)
    flushing = asyncio.create_task(journal.flush())
    await soon()
    assert not flushing.done()
    busy.end()
    await flushing
    assert await titles(file) == ["first", "second"]
    await recording


async def test_an_append_whose_caller_was_cancelled_is_kept_shown_and_gone_on_from(file: SQLiteStore) -> None:
    journal = await open_journal(file, 1)
    busy, follower = Busy(file), journal.follow()
    recording = asyncio.create_task(journal.record(titled("second")))
    await soon()
    recording.cancel()
    with pytest.raises(asyncio.CancelledError):
        await recording
    busy.end()
    await journal.flush()
    assert journal.broken is None
    assert await titles(file) == ["first", "second"]
    await journal.record(titled("third"))
    assert await everything(follower) == ["second", "third"]
    assert [event.sequence for event in await file.read(SESSION)] == [1, 2, 3]


async def test_an_append_whose_caller_was_cancelled_and_that_was_refused_is_known_to_be(
    file: SQLiteStore,
) -> None:
    journal = await open_journal(file, 1)
    busy, follower = Busy(file), journal.follow()
    recording = asyncio.create_task(journal.record(titled("second")))
    await soon()
    recording.cancel()
    with pytest.raises(asyncio.CancelledError):
        await recording
    busy.take_over()
    busy.end()
    with pytest.raises(StaleEpoch):
        await journal.flush()
    with pytest.raises(StaleEpoch):
        await next_of(follower)
    assert isinstance(journal.broken, StaleEpoch)
    assert await titles(file) == ["first"]


async def test_a_letter_whose_answer_was_refused_stays_until_it_is_answered(file: SQLiteStore) -> None:
    journal = await open_journal(file, 1)
    await journal.post(titled("left"))
    busy = Busy(file)
    recording = asyncio.create_task(journal.record(titled("second")))
    await soon()
    journal.stage(titled("answer"))
    journal.take((await file.letters(SESSION))[0].number)
    busy.take_over()
    busy.end()
    with pytest.raises(StaleEpoch):
        await recording
    await journal.own()
    await journal.record(titled("third"))
    assert await titles(file) == ["first", "third"]
    assert [shown(letter.event) for letter in await file.letters(SESSION)] == ["left"]
    assert journal.answered == set()


async def test_records_of_several_tasks_keep_the_order_in_which_they_were_made(store: Store) -> None:
    journal = new_journal(store)
    with journal.follow() as follower:
        await asyncio.gather(*[journal.record(titled(number)) for number in range(50)])
        assert await titles(store) == [str(number) for number in range(50)]
        assert await everything(follower) == await titles(store)


async def two_writers(store: Store, *, claims: bool) -> tuple[Journal, Superseded]:
    """The journal of a writer that another one has overtaken, and how it learnt of that."""
    journal = new_journal(store)
    await journal.record(titled("first"))
    second = await open_journal(store, await store.claim(SESSION) if claims else 1)
    await second.record(titled("of the second"))
    with pytest.raises(Superseded) as caught:
        await journal.record(titled("of the first"))
    return journal, caught.value


@pytest.mark.parametrize(("claims", "kind"), [(True, StaleEpoch), (False, SequenceConflict)])
async def test_a_writer_that_was_overtaken_writes_nothing_more_and_says_why(
    store: Store, claims: bool, kind: type[Superseded]
) -> None:
    journal, error = await two_writers(store, claims=claims)
    assert type(error) is kind
    assert journal.broken is error
    for attempt in (journal.record(titled("again")), journal.record(), journal.flush()):
        with pytest.raises(kind):
            await attempt
    with pytest.raises(kind):
        journal.stage(titled("staged"))
    assert await titles(store) == ["first", "of the second"]


async def test_whoever_drives_a_turn_stops_before_a_session_that_was_lost_is_owned_again(
    store: Store,
) -> None:
    late, _ = await two_writers(store, claims=True)
    late.driver = asyncio.ensure_future(asyncio.Event().wait())  # type: ignore[assignment]  # a task that never ends
    await late.own()
    assert late.driver.cancelled()
    assert late.state.sequence == len(await store.read(SESSION))


async def test_those_who_follow_a_writer_that_was_overtaken_are_told_also_when_they_come_later(
    store: Store,
) -> None:
    journal = new_journal(store)
    early = journal.follow()
    await journal.record(titled("first"))
    await (await open_journal(store, await store.claim(SESSION))).record(titled("of the second"))
    with pytest.raises(StaleEpoch):
        await journal.record(titled("of the first"))
    assert shown(await next_of(early)) == "first"
    for follower in (early, journal.follow()):
        with pytest.raises(StaleEpoch):
            await next_of(follower)


async def test_a_fact_that_cannot_be_written_stops_the_journal_before_anything_is(store: Store) -> None:
    journal = new_journal(store)
    await journal.record(titled("first"))
    follower = journal.follow()
    with pytest.raises(NotEncodable, match="lone surrogates"):
        await journal.record(titled("good"), titled("\ud800"))
    with pytest.raises(NotEncodable):
        await next_of(follower)
    with pytest.raises(NotEncodable):
        await journal.record(titled("later"))
    assert await titles(store) == ["first"]


async def test_a_closed_store_stops_the_journal(store: Store) -> None:
    journal = new_journal(store)
    await journal.record(titled("first"))
    await store.close()
    with pytest.raises(StoreError):
        await journal.record(titled("second"))
    assert isinstance(journal.broken, StoreError)
    await store.open()
    assert await titles(store) == ["first"]


async def test_a_journal_that_may_only_be_read_says_how_to_write(store: Store) -> None:
    await new_journal(store).record(titled("first"))
    journal = await open_journal(store, UNCLAIMED, name=READER)
    with pytest.raises(UsageError, match="was opened read-only; open it to write"):
        await journal.own()
    with pytest.raises(UsageError, match="is not claimed"):
        await journal.record(titled("second"))
    await journal.flush()
    assert (journal.state.title, await titles(store)) == ("first", ["first"])


def test_a_late_flush_makes_what_is_staged_durable_in_time_and_waits_for_nobody() -> None:
    async def main() -> None:
        store = MemoryStore()
        await store.open()
        journal = new_journal(store, VirtualClock())
        journal.stage(titled("staged"))
        journal.flush_within(1.0)
        journal.flush_within(5.0)
        await asyncio.sleep(0.9)
        assert await titles(store) == []
        await asyncio.sleep(0.2)
        assert await titles(store) == ["staged"]
        journal.stage(titled("taken along"))
        journal.flush_within(1.0)
        await journal.record(titled("recorded"))
        await asyncio.sleep(2)
        assert await titles(store) == ["staged", "taken along", "recorded"]

    run_virtual(main())


def test_a_late_flush_that_is_refused_is_known_to_be() -> None:
    async def main() -> None:
        store = MemoryStore()
        await store.open()
        journal = new_journal(store)
        await journal.record(titled("first"))
        await store.claim(SESSION)
        with journal.follow() as follower:
            journal.stage(titled("second"))
            journal.flush_within(1.0)
            with pytest.raises(StaleEpoch):
                await next_of(follower)
        with pytest.raises(StaleEpoch):
            await journal.flush()
        assert await titles(store) == ["first"]

    run_virtual(main())


async def test_signals_are_shown_to_those_who_follow_and_never_stored(store: Store) -> None:
    journal = new_journal(store)
    assert not journal.audience.listening
    journal.publish(delta("unseen"))
    with journal.follow() as follower:
        assert journal.audience.listening
        journal.publish(delta("he"))
        await journal.record(titled("one"))
        journal.publish(delta("llo"))
        assert await everything(follower) == ["he", "one", "llo"]
    assert not journal.audience.listening
    assert await titles(store) == ["one"]


async def test_what_is_derived_from_a_state_is_made_once_for_each_journal(store: Store) -> None:
    journal, other = new_journal(store), new_journal(store)
    journal.derived(list).append("kept")
    assert journal.derived(list) == ["kept"]
    assert journal.derived(dict) == {}
    assert other.derived(list) == []


async def test_asking_for_the_turn_under_way_without_one_is_the_callers_mistake(store: Store) -> None:
    journal = new_journal(store)
    await journal.record(DONE, context=TURN)
    with pytest.raises(AssertionError, match=f"session {SESSION} has no turn under way"):
        _ = journal.running
