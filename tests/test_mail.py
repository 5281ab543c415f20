"""A letter is answered once, however often it is seen."""

import asyncio
from pathlib import Path

from holdfast import Agent, Runtime
from holdfast.drivers.sim import Sim
from holdfast.events import EventContext, SessionUpdated
from holdfast.fold import unplaced
from holdfast.stores.sqlite import SQLiteStore


async def test_a_letter_that_is_found_again_before_its_answer_is_durable_is_answered_once(
    tmp_path: Path,
) -> None:
    store = SQLiteStore(tmp_path / "log.db")
    async with Runtime(store) as runtime:
        session = await runtime.session(Agent(model=Sim.always("Hello.")))
        await session.run("Hi.")
        fact, now = SessionUpdated(title="ours"), runtime.clock.now()
        await store.post(session.id, unplaced(fact, EventContext(), now, session.id))
        await asyncio.gather(*[session._runner.collect() for _ in range(3)])
        assert [event.type for event in await session.events()].count("session.updated") == 1
        assert await store.letters(session.id) == []


async def test_a_letter_whose_answer_was_refused_is_answered_by_whoever_is_the_writer_next(
    tmp_path: Path,
) -> None:
    store = SQLiteStore(tmp_path / "log.db")
    async with Runtime(store) as runtime:
        session = await runtime.session(Agent(model=Sim.always("Hello.")))
        await session.run("Hi.")
        fact, now = SessionUpdated(title="ours"), runtime.clock.now()
        await store.post(session.id, unplaced(fact, EventContext(), now, session.id))
        await store.claim(session.id, owner="somebody else")
        await session._runner.collect()
        assert len(await store.letters(session.id)) == 1
        await session._runner.collect()
        assert [event.type for event in await session.events()].count("session.updated") == 1
        assert await store.letters(session.id) == []
