"""What is said to a session that another process is at work on reaches it there, and nothing of it is lost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from holdfast import Agent, Config, Event, Runtime, Session, TextDelta, tool
from holdfast.clock import SystemClock
from holdfast.drivers.sim import Sim, call, calls, fail, say
from holdfast.errors import SessionHeld, UnknownAsk
from holdfast.events import AskAnswered, ToolCompleted, TurnCancelled
from holdfast.hook import Allow, AskFor
from holdfast.policy import Action, Policy
from holdfast.testing import problems_in

GATE: list[asyncio.Event] = []


@tool(effect="once")
async def work() -> str:
    """Work until somebody says stop."""
    await GATE[-1].wait()
    return "worked"


@tool(ask=True)
async def pay() -> str:
    """Pay."""
    return "paid"


@pytest.fixture(autouse=True)
def gate() -> asyncio.Event:
    GATE.append(asyncio.Event())
    return GATE[-1]


def worker() -> Agent:
    board = (call("work"), say("Done."), say("Again."), say("And again."))
    return Agent("Work.", name="worker", model=Sim.storyboard(*board), tools=[work, pay])


@asynccontextmanager
async def two(tmp_path: Path, agent: Agent) -> AsyncIterator[tuple[Runtime, Runtime]]:
    """Two runtimes on one file, each with a store of its own, as two processes have."""
    path = tmp_path / "log.db"
    async with Runtime(path, agents=[agent]) as one, Runtime(path, agents=[agent]) as other:
        yield one, other


async def at_work(one: Runtime, other: Runtime, agent: Agent) -> tuple[Session, Session]:
    """A session whose tool runs in the first runtime, and the same session opened in the second."""
    mine = await one.session(agent)
    await mine.send("Begin.")
    async for event in mine.follow():
        if event.type == "tool.started":
            break
    theirs = await other.open(mine.id)
    with pytest.raises(SessionHeld):
        await theirs.resume()
    return mine, theirs


async def test_a_turn_that_runs_elsewhere_is_cancelled_there(tmp_path: Path) -> None:
    agent = worker()
    async with two(tmp_path, agent) as (one, other):
        mine, theirs = await at_work(one, other, agent)
        assert theirs.turn is not None
        async with asyncio.timeout(30):
            result = await theirs.turn.cancel("enough")
        assert (result.status, [call.name for call in result.in_doubt]) == ("cancelled", ["work"])
        assert mine.turn is None
        events = await mine.events()
        (end,) = [event.data for event in events if isinstance(event.data, TurnCancelled)]
        assert end.reason == "enough"
        assert problems_in(events) == []
        assert await other.store.letters(mine.id) == []


async def test_words_for_a_turn_that_runs_elsewhere_enter_it_there(
    tmp_path: Path, gate: asyncio.Event
) -> None:
    agent = worker()
    async with two(tmp_path, agent) as (one, other):
        mine, theirs = await at_work(one, other, agent)
        turn = await theirs.steer("Quickly!", key="k")
        assert mine.turn is not None
        assert turn.id == mine.turn.id
        assert (await theirs.steer("Quickly!", key="k")).id == turn.id
        async for event in mine.follow():
            if event.type == "input.message" and event.sequence > 3:
                break
        gate.set()
        assert (await turn).text == "Done."
        assert [it.text for it in await mine.messages()] == ["Begin.", "", "worked", "Quickly!", "Done."]
        assert problems_in(await mine.events()) == []


async def test_an_input_with_one_key_is_accepted_once_wherever_it_is_said(
    tmp_path: Path, gate: asyncio.Event
) -> None:
    agent = worker()
    async with two(tmp_path, agent) as (one, other):
        mine, theirs = await at_work(one, other, agent)
        turns = {(await session.send("More.", key="k")).id for session in (theirs, mine, theirs)}
        assert len(turns) == 1
        gate.set()
        turn = await theirs.send("More.", key="k")
        assert {turn.id} == turns
        assert (await turn).text == "Again."
        assert [it.text for it in await mine.messages()].count("More.") == 1


async def test_an_answer_reaches_a_session_whose_other_call_runs_elsewhere(
    tmp_path: Path, gate: asyncio.Event
) -> None:
    board = (calls(("work", {}), ("pay", {})), say("Both done."))
    agent = Agent("Work.", name="worker", model=Sim.storyboard(*board), tools=[work, pay])
    async with two(tmp_path, agent) as (one, other):
        mine, theirs = await at_work(one, other, agent)
        (ask_id,) = theirs.state.asks
        await theirs.approve(ask_id, by="ada")
        with pytest.raises(UnknownAsk):
            await theirs.approve("ask_7", by="ada")
        async for event in mine.follow():
            if isinstance(event.data, AskAnswered):
                assert event.data.by == "ada"
                break
        gate.set()
        assert theirs.turn is not None
        assert (await theirs.turn).text == "Both done."
        outcomes = [it.data.result.text for it in await mine.events() if isinstance(it.data, ToolCompleted)]
        assert sorted(outcomes) == ["paid", "worked"]


async def test_a_turn_that_runs_elsewhere_can_be_iterated_to_its_end(
    tmp_path: Path, gate: asyncio.Event
) -> None:
    agent = worker()
    async with two(tmp_path, agent) as (one, other):
        mine, theirs = await at_work(one, other, agent)
        turn = theirs.turn
        assert turn is not None

        async def read() -> list[str]:
            return [item.type async for item in turn if isinstance(item, Event)]

        reader = asyncio.create_task(read())
        await asyncio.sleep(0.2)
        gate.set()
        seen = await reader
        assert seen == [it.type for it in await mine.events() if it.context.turn_id == turn.id]
        assert seen[-1] == "turn.completed"


async def test_iterating_takes_over_when_the_one_who_drove_is_gone(tmp_path: Path) -> None:
    agent = Agent("Talk.", name="talker", model=Sim.always(say("Hello there.", delay=0.3)))
    path = tmp_path / "log.db"
    async with Runtime(path, agents=[agent], drain=0.0) as one:
        mine = await one.session(agent)
        await mine.send("Hi.")
        async with Runtime(path, agents=[agent]) as other:
            theirs = await other.open(mine.id)
            turn = theirs.turn
            assert turn is not None
            reader = asyncio.ensure_future(_all(turn))
            await asyncio.sleep(0.05)
            await one.close()
            seen = await reader
    assert seen[-1].type == "turn.completed"
    assert not any(isinstance(item, TextDelta) for item in seen)


async def _all(turn: object) -> list[Event]:
    return [item async for item in turn]  # type: ignore[attr-defined]


async def test_a_letter_outlives_the_process_it_was_for(tmp_path: Path) -> None:
    agent = worker()
    path = tmp_path / "log.db"
    async with Runtime(path, agents=[agent], drain=0.0) as one:
        mine = await one.session(agent)
        await mine.send("Begin.")
    async with Runtime(path, agents=[agent]) as other:
        await other.store.claim(mine.id, owner="a third", hold=60.0)
        theirs = await other.open(mine.id, drive=False)
        turn = await theirs.send("And this.")
        assert turn.status == "queued"
        assert len(await other.store.letters(mine.id)) == 1
        await other.store.claim(mine.id, owner="a third")
    async with Runtime(path, agents=[agent]) as after:
        (session,) = await after.recover()
        GATE[-1].set()
        await session.run("Last.")
        said = [message.text for message in await session.messages()]
        assert said.index("And this.") < said.index("Last.")
        assert await after.store.letters(mine.id) == []
        assert problems_in(await session.events()) == []


async def test_a_session_that_waits_for_a_person_is_held_by_nobody(tmp_path: Path) -> None:
    async def decide(action: Action) -> AskFor | Allow:
        later = SystemClock().now() + timedelta(hours=2)
        return AskFor(reason="may I?", expires_at=later) if action.kind == "tool" else Allow()

    board = (call("work"), say("Done."))
    GATE[-1].set()
    asking = Config(policies=(Policy(name="asking", decide=decide),))
    agent = Agent("Work.", name="worker", model=Sim.storyboard(*board), tools=[work], config=asking)
    async with two(tmp_path, agent) as (one, other):
        mine = await one.session(agent)
        result = await mine.run("Begin.")
        assert result.status == "waiting"
        theirs = await other.open(mine.id)
        await theirs.approve(result.asks[0].ask_id, by="ada")
        assert theirs.turn is not None
        assert (await theirs.turn).text == "Done.", "the turn went on where it was answered, at once"
        assert problems_in(await theirs.events()) == []


async def test_a_worker_goes_on_with_a_model_call_that_another_let_go_of_until_later(tmp_path: Path) -> None:
    agent = Agent("Talk.", name="talker", model=Sim.script(fail("overloaded", retry_after=2.0), say("Here.")))
    path = tmp_path / "log.db"
    async with Runtime(path, agents=[agent], lease=1.0) as one:
        mine = await one.session(agent)
        await mine.send("Hi.")
        async for event in mine.follow():
            if event.type == "reason.failed":
                break
        async with Runtime(path, agents=[agent], lease=1.0) as other:
            theirs = await other.open(mine.id)
            await theirs.resume()  # nobody holds it until the retry is due
            assert theirs.turn is not None
            async with asyncio.timeout(20):
                assert (await theirs.turn).text == "Here."
        assert problems_in(await mine.events()) == []


async def test_a_session_that_became_ours_by_writing_a_file_goes_on_when_its_turn_is_awaited(
    tmp_path: Path, gate: asyncio.Event
) -> None:
    agent = worker()
    path = tmp_path / "log.db"
    async with Runtime(path, agents=[agent], drain=0.0) as one:
        mine = await one.session(agent)
        await mine.send("Begin.")
    gate.set()
    async with Runtime(path, agents=[agent]) as other:
        await other.store.claim(mine.id, owner="a third", hold=60.0)
        theirs = await other.open(mine.id)
        turn = theirs.turn
        assert turn is not None
        await other.store.claim(mine.id, owner="a third")
        await theirs.files.write("/note.txt", b"seen")
        async with asyncio.timeout(30):
            assert (await turn).status == "completed"
        assert problems_in(await theirs.events()) == []
