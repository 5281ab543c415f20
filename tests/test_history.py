"""A long session opens from its newest snapshot, and what it shows is what its whole log says."""

import asyncio
import hashlib
import itertools
import json
import logging
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import msgspec
import pytest
from msgspec import structs

from holdfast import Agent, MemoryStore, Runtime, Session, SQLiteStore, tool
from holdfast import history as reading
from holdfast.driver import Request
from holdfast.drivers.sim import Sim, Step, call, say
from holdfast.errors import StoreLocked
from holdfast.events import Event
from holdfast.fold import fold
from holdfast.history import VERSION, History, catch_up
from holdfast.messages import Message
from holdfast.state import State, encode_state
from holdfast.store import Snapshot, Store
from holdfast.testing import VirtualClock, run_virtual
from holdfast.turn import prompt
from holdfast.turn.repair import repair
from tests.turn.scenes import cut_off, first

TURNS = 12


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Snapshots are worth it after a few events."""
    monkeypatch.setattr(reading, "WORTH", 20)


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    store: Store = MemoryStore() if request.param == "memory" else SQLiteStore(tmp_path / "log.db")
    yield store
    await store.close()


@tool(effect="pure")
async def look(page: int) -> str:
    """Look."""
    return f"page {page}"


def agent() -> Agent:
    """It looks something up whenever it is asked an even number."""

    def choose(request: Request) -> Step:
        last = request.messages[-1]
        if last.role == "tool":
            return say(f"It says {last.text}.")
        return call("look", page=int(last.text)) if int(last.text) % 2 == 0 else say("Odd.")

    return Agent("You look.", name="looker", model=Sim.rule(choose), tools=[look])


async def talked(store: Store, turns: int = TURNS) -> str:
    async with Runtime(store) as runtime:
        session = await runtime.session(agent())
        for number in range(turns):
            await session.run(str(number), key=f"key {number}")
        return session.id


async def whole(session: Session) -> State:
    """The state with all of its transcript."""
    await session._journal.history.recall(session.state)
    return session.state


async def test_a_session_opens_from_its_snapshot_and_is_what_its_log_says(store: Store) -> None:
    session_id = await talked(store)
    async with Runtime(store, agents=[agent()]) as runtime:
        session = await runtime.open(session_id)
        events = await session.events()
        assert session.state.unread > 0, "it was read from a snapshot"
        assert session.message_count == len(fold(session_id, events).messages)
        assert encode_state(await whole(session)) == encode_state(fold(session_id, events))


async def test_a_turn_after_opening_sends_the_whole_transcript(store: Store) -> None:
    session_id = await talked(store)
    async with Runtime(store, agents=[agent()]) as runtime:
        session = await runtime.open(session_id)
        sent = (await session.inspect("99")).request
        again = await runtime.open(session_id, read_only=True)
        assert repair(await again.messages()) == repair(list(sent.messages))[:-1]
        assert (await session.run("100")).text == "It says page 100."
        assert encode_state(await whole(session)) == encode_state(fold(session_id, await session.events()))
        assert (await session.send("5", key="key 5")).status == "completed", (
            "keys are known from the snapshot"
        )


async def test_pages_of_the_transcript_are_the_transcript(store: Store) -> None:
    session_id = await talked(store)
    async with Runtime(store) as runtime:
        session = await runtime.open(session_id, read_only=True)
        everything = fold(session_id, await session.events()).messages
        assert session.state.unread > 0
        pages, before = [], session.message_count
        while before > 0:
            pages[:0] = await session.messages(before=before, limit=7)
            before -= 7
        assert pages == everything == await session.messages()
        assert await session.messages(limit=3) == everything[-3:]
        assert await session.messages(before=5) == everything[:5]
        assert await session.messages(before=2, limit=9) == everything[:2]
        assert await session.messages(limit=0) == await session.messages(before=0) == []
        assert session.state.unread > 0, "reading a page keeps nothing in memory"


async def test_snapshots_are_far_apart(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[int] = []
    keep = type(store).save_snapshot

    async def counted(self: Store, session_id: str, snapshot: Snapshot) -> None:
        saved.append(snapshot.sequence)
        await keep(self, session_id, snapshot)

    monkeypatch.setattr(type(store), "save_snapshot", counted)
    monkeypatch.setattr(reading, "PART", 2)
    await talked(store, 60)
    gaps = [later - earlier for earlier, later in itertools.pairwise(saved)]
    assert all(gap >= max(20, later // 2) for gap, later in zip(gaps, saved[1:], strict=True))
    assert 3 <= len(saved) <= 8


async def snapshot_of(store: Store, session_id: str) -> Snapshot:
    kept = await store.load_snapshot(session_id)
    assert kept is not None
    return kept


def spoiled(kept: Snapshot) -> dict[str, Snapshot]:
    """Snapshots that must not be used."""
    state = json.loads(kept.body[32:])
    other = json.dumps({**state, "session_id": "session_other"}).encode()
    odd = json.dumps({**state, "sequence": "many"}).encode()
    changed = bytearray(kept.body)
    changed[-20] ^= 1
    return {
        "corrupt": structs.replace(kept, body=bytes(changed)),
        "empty": structs.replace(kept, body=b""),
        "newer": structs.replace(kept, version=VERSION + 1),
        "older": structs.replace(kept, version=VERSION - 1),
        "of another session": structs.replace(kept, body=hashlib.sha256(other).digest() + other),
        "unreadable": structs.replace(kept, body=hashlib.sha256(odd).digest() + odd),
    }


@pytest.mark.parametrize("what", ["corrupt", "empty", "newer", "older", "of another session", "unreadable"])
async def test_a_snapshot_that_cannot_be_used_is_passed_over_and_made_anew(
    what: str, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    session_id = await talked(store)
    await store.open()
    await store.save_snapshot(session_id, spoiled(await snapshot_of(store, session_id))[what])
    async with Runtime(store, agents=[agent()]) as runtime:
        with caplog.at_level(logging.WARNING, "holdfast"):
            session = await runtime.open(session_id)
        assert f"the snapshot of {session_id} is not used" in caplog.text
        assert session.state == fold(session_id, await session.events())
        assert (await session.run("101")).text == "Odd."
        caplog.clear()
        again = await History(store).load(session_id)
        assert caplog.text == ""
        assert again.unread > 0, "there is a good one now"


async def test_a_snapshot_of_more_than_the_log_has_is_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryStore()
    session_id = await talked(store)
    await store.open()
    kept = await snapshot_of(store, session_id)
    shorter = await cut_off(await store.read(session_id), kept.sequence - 3)
    await shorter.open()
    await shorter.save_snapshot(session_id, kept)
    with caplog.at_level(logging.WARNING, "holdfast"):
        state = await History(shorter).load(session_id)
    assert f"the log ends before event {kept.sequence}" in caplog.text
    assert state == fold(session_id, await shorter.read(session_id))


async def test_no_snapshot_is_made_while_a_turn_is_under_way_or_of_what_is_not_durable() -> None:
    store = MemoryStore()
    session_id = await talked(store)
    await store.open()
    history = History(store)
    state = await history.load(session_id)
    before = await snapshot_of(store, session_id)
    events = await store.read(session_id)
    busy = fold(session_id, events[: first(events, "turn.started")])
    busy.sequence = 10_000
    assert busy.turn is not None
    await history.keep(busy)
    assert await store.load_snapshot(session_id) == before
    await history.keep(state)
    assert await store.load_snapshot(session_id) == before, "it would save nothing"


async def test_what_became_of_a_call_in_doubt_long_ago_can_still_be_said(store: Store) -> None:
    @tool(effect="once")
    async def pay() -> str:
        """Pay."""
        return "paid"

    def choose(request: Request) -> Step:
        last = request.messages[-1]
        return call("pay") if last.text == "pay" else say("Right.")

    payer = Agent("You pay.", name="payer", model=Sim.rule(choose), tools=[pay])
    source = MemoryStore()
    async with Runtime(source) as runtime:
        session = await runtime.session(payer)
        await session.run("pay")
        events = await session.events()
    cut = await cut_off(events, first(events, "tool.started"))
    await store.open()
    await store.append(session.id, await cut.read(session.id), expected=0, epoch=1)
    for data in source._blobs.values():
        await store.put_blob(data)
    async with Runtime(store, agents=[payer]) as runtime:
        again = await runtime.open(session.id)
        assert again.turn is not None
        await again.turn
        for number in range(20):
            await again.run(str(number))
    async with Runtime(store, agents=[payer]) as runtime:
        later = await runtime.open(session.id)
        (doubt,) = later.in_doubt
        place = next(n for n, it in enumerate(await later.messages()) if it.role == "tool")
        assert place < later.state.unread
        await later.resolve(doubt.call_id, result="it was paid", by="ada")
        assert (await later.messages())[place].text == "it was paid"
        assert encode_state(await whole(later)) == encode_state(fold(session.id, await later.events()))
    async with Runtime(store, agents=[payer]) as runtime:
        last = await runtime.open(session.id)
        assert (await last.messages())[place].text == "it was paid"


class Distant(MemoryStore):
    """A store whose answers are on their way for a moment."""

    async def read(self, session_id: str, *, after: int = 0, limit: int = 1_000) -> list[Event]:
        found = await super().read(session_id, after=after, limit=limit)
        await asyncio.sleep(0)
        return found


async def test_several_may_take_in_what_was_written_at_the_same_time() -> None:
    store = Distant()
    agent = Agent("You help.", name="helper", model=Sim.always("Hello."))
    async with Runtime(store) as runtime:
        session = await runtime.session(agent)
        await session.run("One.")
        events = await session.events()
        state = fold(session.id, events[:2])
        await asyncio.gather(*[catch_up(state, store) for _ in range(3)])
        assert encode_state(state) == encode_state(fold(session.id, events))


class Counting(MemoryStore):
    """Counts the events that are read back."""

    def __init__(self) -> None:
        super().__init__()
        self.given = 0

    async def read(self, session_id: str, *, after: int = 0, limit: int = 1_000) -> list[Event]:
        page = await super().read(session_id, after=after, limit=limit)
        self.given += len(page)
        return page


def test_a_turn_late_in_a_long_session_reads_and_prepares_no_more_than_an_early_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prepared: list[int] = []

    def counted(messages: Sequence[Message], seen: set[str] | None = None) -> list[Message]:
        prepared.append(len(messages))
        return repair(messages, seen)

    monkeypatch.setattr(prompt, "repair", counted)

    async def main() -> None:
        store = Counting()
        async with Runtime(store, clock=VirtualClock()) as runtime:
            session = await runtime.session(agent())
            costs: list[tuple[int, int]] = []
            for number in range(1, 201, 2):
                prepared.clear()
                before = store.given
                await session.run(str(number))
                costs.append((sum(prepared), store.given - before))
            assert session.message_count == 200
        assert set(costs[1:]) == {(2, 0)}, "the answer of the turn before, and this turn's question"

    run_virtual(main())


def test_whoever_changes_what_a_snapshot_holds_gives_it_a_new_version() -> None:
    shape = json.dumps(msgspec.json.schema(State), sort_keys=True).encode()
    known = {1: "f25e5e2114e75ace"}
    found = hashlib.sha256(shape).hexdigest()[:16]
    assert known.get(VERSION) == found, (
        f"State changed: set history.VERSION to {VERSION + 1} and note {found} for it here"
    )


async def test_a_snapshot_that_cannot_be_kept_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class Unwilling(MemoryStore):
        async def save_snapshot(self, session_id: str, snapshot: Snapshot) -> None:
            raise StoreLocked("somebody else has the file")

    store = Unwilling()
    with caplog.at_level(logging.WARNING, "holdfast"):
        session_id = await talked(store)
    assert f"no snapshot of {session_id} could be kept" in caplog.text
    async with Runtime(store, agents=[agent()]) as runtime:
        session = await runtime.open(session_id)
        assert (await session.run("7")).text == "Odd."
