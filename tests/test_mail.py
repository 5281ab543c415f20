"""A letter is answered once, however often it is seen."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from holdfast import Agent, Runtime
from holdfast.drivers.sim import Sim
from holdfast.events import Event, EventContext, InputMessage, SessionUpdated
from holdfast.fold import unplaced
from holdfast.ids import new_id
from holdfast.messages import user_message
from holdfast.stores.memory import MemoryStore
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


async def test_a_letter_that_says_what_another_said_is_thrown_away_after_that_one_is_on_the_log() -> None:
    order: list[str] = []

    class Watched(MemoryStore):
        def append(self, session_id: str, events: Sequence[Event], **options: Any) -> asyncio.Future[None]:
            order.extend(event.type for event in events)
            return super().append(session_id, events, **options)

        async def discard(self, session_id: str, numbers: Sequence[int], *, epoch: int) -> None:
            order.append("discarded")
            await super().discard(session_id, numbers, epoch=epoch)

    store = Watched()
    async with Runtime(store) as runtime:
        session = await runtime.session(Agent(model=Sim.always("Hello.")))
        await session.run("Hi.")
        fact = InputMessage(message=user_message("More."), turn_id=new_id("turn"), key="k")
        for _ in range(2):
            await store.post(session.id, unplaced(fact, EventContext(), runtime.clock.now(), session.id))
        await session._runner.collect()
        assert order.count("discarded") == 1
        assert order.index("discarded") > len(order) - 1 - order[::-1].index("input.message")
        assert await store.letters(session.id) == []
