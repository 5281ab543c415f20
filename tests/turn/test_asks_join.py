"""An answered call starts at once, whatever else of its batch is still at work."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from holdfast import Agent, AskFor, Runtime, Session, SQLiteStore, tool
from holdfast.config import Config
from holdfast.drivers.sim import Sim, call, calls, say
from holdfast.errors import AskClosed
from holdfast.events import Event
from holdfast.store import Letter
from holdfast.stores.memory import MemoryStore
from holdfast.testing import SlowStore, VirtualClock, problems_in
from tests.turn.scenes import assert_sound, kinds, results

RAN: list[str] = []


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    RAN.clear()


@tool(effect="once")
async def dig(seconds: float) -> str:
    """Dig for a while."""
    await asyncio.sleep(seconds)
    RAN.append("dig")
    return "dug"


@tool(effect="once", ask=True)
async def pay(cents: int) -> str:
    """Pay."""
    RAN.append(f"pay {cents}")
    return f"paid {cents}"


@tool(effect="once", ask=True, lane="till")
async def till(cents: int) -> str:
    """Open the till."""
    RAN.append(f"till {cents} opened")
    await asyncio.sleep(5)
    RAN.append(f"till {cents} closed")
    return "closed"


@tool(effect="once", lane="till")
async def count() -> str:
    """Count the till."""
    await asyncio.sleep(20)
    RAN.append("counted")
    return "counted"


def agent(*asked: tuple[str, dict[str, object]], **config: object) -> Agent:
    return Agent(
        "Work.",
        name="worker",
        model=Sim.storyboard(calls(*asked), say("Done.")),
        tools=[dig, pay, till, count],
        config=Config(**config),  # type: ignore[arg-type]
    )


@asynccontextmanager
async def at_work(agent: Agent, store: MemoryStore | None = None) -> AsyncIterator[Session]:
    async with Runtime(store, clock=VirtualClock(), drain=0) as runtime:
        session = await runtime.session(agent)
        await session.send("go")
        await asyncio.sleep(1)
        yield session


async def test_an_answered_call_starts_while_its_siblings_run() -> None:
    async with at_work(agent(("dig", {"seconds": 60}), ("pay", {"cents": 5}))) as session:
        (ask,) = session.asks
        await session.approve(ask.ask_id, by="ann")
        await asyncio.sleep(1)
        assert RAN == ["pay 5"]
        assert session.turn is not None
        assert (await session.turn).text == "Done."
        events = await session.events()
        assert_sound(events)
        assert problems_in(events) == []
        told = [message.text for message in await session.messages() if message.role == "tool"]
    assert RAN == ["pay 5", "dig"]
    assert told == ["dug", "paid 5"], "the model reads results in its own order"


async def test_several_are_answered_in_any_order_and_each_resumes_what_it_can() -> None:
    batch = (("pay", {"cents": 1}), ("dig", {"seconds": 60}), ("pay", {"cents": 2}), ("pay", {"cents": 3}))
    async with at_work(agent(*batch)) as session:
        one, two, three = session.asks
        await session.approve(three.ask_id, by="ann")
        await asyncio.sleep(1)
        assert RAN == ["pay 3"]
        await session.deny(one.ask_id, by="ann", reason="not this")
        await asyncio.sleep(1)
        assert [it.text for it in results(await session.events())][-1] == "Denied: not this. Nothing was run."
        await asyncio.sleep(120)
        assert RAN == ["pay 3", "dig"]
        assert session.turn is not None
        assert (await session.turn).asks == (two,)
        await session.approve(two.ask_id, by="bob")
        assert (await session.turn).text == "Done."
        assert_sound(await session.events())
    assert RAN == ["pay 3", "dig", "pay 2"]


async def test_a_late_call_waits_for_its_lane() -> None:
    async with at_work(agent(("count", {}), ("till", {"cents": 1}), ("till", {"cents": 2}))) as session:
        for ask in session.asks:
            await session.approve(ask.ask_id, by="ann")
        assert session.turn is not None
        assert (await session.turn).text == "Done."
    assert RAN == [
        "counted",
        "till 1 opened",
        "till 1 closed",
        "till 2 opened",
        "till 2 closed",
    ]


async def test_without_parallel_calls_a_late_one_waits_for_the_others() -> None:
    async with at_work(
        agent(("dig", {"seconds": 30}), ("pay", {"cents": 1}), parallel_calls=False)
    ) as session:
        await session.approve(session.asks[0].ask_id, by="ann")
        await asyncio.sleep(5)
        assert RAN == []
        assert session.turn is not None
        assert (await session.turn).text == "Done."
    assert RAN == ["dig", "pay 1"]


async def test_an_ask_expires_while_its_siblings_run() -> None:
    @tool(ask=AskFor(reason="may I?", expires_in=10))
    async def wipe() -> str:
        """Wipe."""
        RAN.append("wipe")
        return "wiped"

    board = Sim.storyboard(calls(("dig", {"seconds": 60}), ("wipe", {})), say("Done."))
    async with at_work(Agent("Work.", model=board, tools=[dig, wipe])) as session:
        (ask,) = session.asks
        await asyncio.sleep(15)
        assert kinds(await session.events())[-2:] == ["ask.expired", "tool.completed"]
        with pytest.raises(AskClosed, match="nobody answered in time; open: none"):
            await session.approve(ask.ask_id, by="ann")
        assert session.turn is not None
        assert (await session.turn).text == "Done."
    assert RAN == ["dig"]


async def test_a_cancelled_turn_stops_those_that_joined_as_well() -> None:
    async with at_work(
        agent(("dig", {"seconds": 60}), ("till", {"cents": 5}), ("pay", {"cents": 1}))
    ) as session:
        await session.approve(session.asks[0].ask_id, by="ann")
        await asyncio.sleep(1)
        assert session.turn is not None
        result = await session.turn.cancel("enough")
        assert result.status == "cancelled"
        assert sorted(it.name for it in result.in_doubt) == ["dig", "till"]
        assert problems_in(await session.events()) == []
    assert RAN == ["till 5 opened"]


async def test_a_runtime_that_closes_leaves_what_was_answered_owed() -> None:
    store = MemoryStore()
    worker = agent(("dig", {"seconds": 600}), ("till", {"cents": 5}))
    async with at_work(worker, store) as session:
        await session.approve(session.asks[0].ask_id, by="ann")
    async with Runtime(store, clock=VirtualClock(), drain=0) as runtime:
        again = await runtime.open(session.id, worker)
        assert again.turn is not None
        result = await again.turn
        assert result.text == "Done."
        assert_sound(await again.events())


async def test_an_answer_from_another_process_starts_the_call_while_its_siblings_run(tmp_path: Path) -> None:
    gate = asyncio.Event()

    @tool(effect="once")
    async def wait() -> str:
        """Wait."""
        await gate.wait()
        RAN.append("waited")
        return "waited"

    board = Sim.storyboard(calls(("wait", {}), ("pay", {"cents": 5})), say("Done."))
    worker = Agent("Work.", name="worker", model=board, tools=[wait, pay])
    path = tmp_path / "log.db"
    async with Runtime(path, agents=[worker]) as one, Runtime(path, agents=[worker]) as other:
        mine = await one.session(worker)
        turn = await mine.send("go")
        async for event in mine.follow():
            if event.type == "tool.started":
                break
        theirs = await other.open(mine.id)
        (ask,) = theirs.asks
        await theirs.approve(ask.ask_id, by="ann")
        async with asyncio.timeout(10):
            while "pay 5" not in RAN:  # noqa: ASYNC110 - what runs is a tool
                await asyncio.sleep(0.05)
        assert RAN == ["pay 5"]
        gate.set()
        assert (await turn).text == "Done."
        assert problems_in(await mine.events()) == []


async def test_of_two_answers_left_for_another_process_the_second_is_refused(tmp_path: Path) -> None:
    gate = asyncio.Event()

    @tool(effect="once")
    async def wait() -> str:
        """Wait."""
        await gate.wait()
        return "waited"

    board = Sim.storyboard(calls(("wait", {}), ("pay", {"cents": 5})), say("Done."))
    worker = Agent("Work.", name="worker", model=board, tools=[wait, pay])
    path = tmp_path / "log.db"
    async with (
        Runtime(path, agents=[worker]) as one,
        Runtime(path, agents=[worker]) as two,
        Runtime(path, agents=[worker]) as three,
    ):
        mine = await one.session(worker)
        turn = await mine.send("go")
        async for event in mine.follow():
            if event.type == "tool.started":
                break
        theirs, others = await two.open(mine.id), await three.open(mine.id)
        (ask,) = theirs.asks
        await theirs.approve(ask.ask_id, by="ann", key="k1")
        with pytest.raises(AskClosed, match="approved by ann"):
            await others.deny(ask.ask_id, by="bob")
        await others.approve(ask.ask_id, by="ann", key="k1")
        gate.set()
        async with asyncio.timeout(10):
            while (result := await turn).status == "waiting":  # noqa: ASYNC110 - the letter is on its way
                await asyncio.sleep(0.05)
        assert result.text == "Done."
        assert kinds(await mine.events()).count("ask.answered") == 1
    assert RAN == ["pay 5"]


class Interrupted(SQLiteStore):
    """A store whose reader of letters is held up by what happens `meanwhile`."""

    meanwhile: Callable[[], Awaitable[None]] | None = None

    async def letters(self, session_id: str) -> list[Letter]:
        if (meanwhile := self.meanwhile) is not None:
            self.meanwhile = None
            await meanwhile()
        return await super().letters(session_id)


async def test_an_answer_that_went_from_a_letter_to_the_log_between_two_looks_came_first(
    tmp_path: Path,
) -> None:
    gate = asyncio.Event()

    @tool(effect="once")
    async def wait() -> str:
        """Wait."""
        await gate.wait()
        return "waited"

    board = Sim.storyboard(calls(("wait", {}), ("pay", {"cents": 5})), say("Done."))
    worker = Agent("Work.", name="worker", model=board, tools=[wait, pay])
    path = tmp_path / "log.db"
    slow = Interrupted(path)
    async with Runtime(path, agents=[worker]) as one, Runtime(slow, agents=[worker]) as two:
        mine = await one.session(worker)
        turn = await mine.send("go")
        async for event in mine.follow():
            if event.type == "tool.started":
                break
        theirs = await two.open(mine.id)
        (ask,) = theirs.asks

        async def recorded() -> None:
            await mine.approve(ask.ask_id, by="ann")

        slow.meanwhile = recorded
        with pytest.raises(AskClosed, match="approved by ann"):
            await theirs.deny(ask.ask_id, by="bob")
        assert await slow.letters(mine.id) == []
        gate.set()
        assert (await turn).text == "Done."
        assert kinds(await mine.events()).count("ask.answered") == 1


async def test_an_answer_that_was_left_for_a_writer_that_went_away_came_before_a_later_one(
    tmp_path: Path,
) -> None:
    worker = Agent(
        "Work.", name="worker", model=Sim.storyboard(call("pay", cents=5), say("Done.")), tools=[pay]
    )
    path = tmp_path / "log.db"
    async with Runtime(path, agents=[worker]) as one:
        mine = await one.session(worker)
        (ask,) = (await mine.run("go")).asks
    async with Runtime(path, agents=[worker]) as two, Runtime(path, agents=[worker]) as three:
        await two.store.claim(mine.id, owner="who goes away", hold=60)
        await (await two.open(mine.id)).approve(ask.ask_id, by="ann")
        assert RAN == []
        theirs = await three.open(mine.id)
        await two.store.renew("who goes away", 0.0)
        with pytest.raises(AskClosed, match="approved by ann"):
            await theirs.deny(ask.ask_id, by="bob")
        assert (await theirs.handle(ask_turn(await theirs.events()))).text == "Done."
    assert RAN == ["pay 5"]


def ask_turn(events: list[Event]) -> str:
    """The turn that asked."""
    return next(event.context.turn_id for event in events if event.type == "ask.opened")


async def test_a_turn_whose_answer_is_on_its_way_to_the_disk_goes_on_and_is_not_at_rest(
    tmp_path: Path,
) -> None:
    worker = Agent(
        "Work.", model=Sim.storyboard(call("pay", cents=5), say("Done.")), name="worker", tools=[pay]
    )
    path = tmp_path / "log.db"
    slow = SlowStore(SQLiteStore(path), 1.0)
    async with Runtime(slow, agents=[worker]) as runtime:
        mine = await runtime.session(worker)
        turn = await mine.send("go")
        (ask,) = (await turn).asks
        answering = asyncio.ensure_future(mine.approve(ask.ask_id, by="ann"))
        while mine.state.asks:  # noqa: ASYNC110 - until it is folded, and not yet durable
            await asyncio.sleep(0.01)
        result = await turn
        assert (result.status, result.text) == ("completed", "Done.")
        await answering


async def test_the_time_of_an_answer_that_was_left_is_when_it_was_said() -> None:
    """A letter that was written in time counts, though its reader comes too late."""
    expiring = AskFor(reason="may I?", expires_in=3_600)

    @tool(ask=expiring)
    async def wipe() -> str:
        """Wipe."""
        RAN.append("wipe")
        return "wiped"

    worker = Agent("Work.", model=Sim.storyboard(calls(("wipe", {})), say("Done.")), tools=[wipe])
    store = MemoryStore()
    async with at_work(worker, store) as session:
        (ask,) = session.asks
        assert ask.expires_at is not None
        answered = ask.expires_at - timedelta(minutes=1)
        clock = VirtualClock(answered)
        async with Runtime(store, clock=clock, drain=0) as runtime:
            watching = await runtime.open(session.id, drive=False)
            await watching.approve(ask.ask_id, by="ann")
    late = VirtualClock(ask.expires_at + timedelta(days=1))
    async with Runtime(store, clock=late, drain=0) as runtime:
        again = await runtime.open(session.id, worker)
        if again.turn is not None:
            await again.turn
    assert RAN == ["wipe"]
