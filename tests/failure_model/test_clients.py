"""Calls that are carried out elsewhere, and what becomes of the results that are handed in."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from holdfast import Agent, AskFor, Runtime, Session, Tool, ToolResult, tool
from holdfast.drivers.sim import call, calls
from holdfast.errors import AskClosed, StoreError, UnknownAsk
from holdfast.events import AskAnswered, InputMessage
from tests.failure_model.agents import agent_of
from tests.failure_model.world import Aftermath, LaterClock, World, point, rest, serve, until

BOTH = calls(("locate", {"what": "a"}), ("locate", {"what": "b"}))


def locate(client: bool | AskFor = True) -> Tool:
    """A tool that an application carries out."""

    @tool(name="locate", client=client)
    async def run(what: str) -> str:
        """Where something is."""
        raise AssertionError("it is carried out at the client")

    return run


def asking(*steps: Any, client: bool | AskFor = True) -> Agent:
    return agent_of(*(steps or (BOTH, "Done.", "Next.")), tools=[locate(client)])


async def reopened(runtime: Runtime) -> Session:
    (head,) = await runtime.sessions()
    return await runtime.open(head.session_id)


def told(after: Aftermath) -> list[str]:
    """What the model read, in its order."""
    parts = [part for message in after.messages for part in message.content]
    return [part.text for part in parts if isinstance(part, ToolResult)]


async def all_in(session: Session, text: str = "at {what}") -> None:
    """Hand in everything that is still asked for."""
    for ask in session.asks:
        await session.submit(ask.ask_id, text.format(what=ask.arguments[-3]), by="browser", key=ask.ask_id)


async def test_cp45_of_two_results_at_once_from_two_processes_the_first_counts_and_it_resumes_once(
    world: World,
) -> None:
    agent = asking(call("locate", what="a"), "Done.")
    async with world.runtime(agent) as one, world.runtime(agent) as other:
        mine = await serve(one, agent)
        theirs = await reopened(other)
        (ask,) = mine.asks
        ends = await asyncio.gather(
            mine.submit(ask.ask_id, "here", by="browser"),
            theirs.submit(ask.ask_id, "there", by="phone"),
            return_exceptions=True,
        )
        assert None in ends, "one of them counts"
        assert all(end is None or isinstance(end, UnknownAsk | StoreError) for end in ends)
        await until(lambda: None in (mine.state.turn, theirs.state.turn))
    after = await world.go_on(agent)
    (answered,) = [event.data for event in after.events if isinstance(event.data, AskAnswered)]
    assert answered.result is not None
    assert told(after) == [answered.result.text] in (["here"], ["there"])
    assert after.kinds.count("output.message.completed") == 2, "it went on once"


async def test_cp45_a_result_that_comes_twice_is_refused_and_says_whose_counts(world: World) -> None:
    agent = asking(call("locate", what="a"), "Done.")
    async with world.runtime(agent) as runtime:
        session = await serve(runtime, agent)
        (ask,) = session.asks
        await session.submit(ask.ask_id, "here", by="browser", key="k")
        await session.submit(ask.ask_id, "here", by="browser", key="k")
        with pytest.raises(AskClosed, match="answered by browser"):
            await session.submit(ask.ask_id, "there", by="phone")
        await rest(session)
        after = await world.look_at(session)
    assert told(after) == ["here"]


async def test_cp45_part_of_the_results_resumes_nothing_and_survives_a_restart(world: World) -> None:
    agent = asking()
    await world.kill("after ask.opened", agent)

    async def second(runtime: Runtime) -> None:
        session = await serve(runtime, agent)
        _, last = session.asks
        await session.submit(last.ask_id, "at b", by="browser")

    await world.kill("after ask.answered", agent, second)
    async with world.runtime(agent) as runtime:
        session = await serve(runtime, agent)
        assert session.turn is not None
        assert (await session.turn).status == "waiting"
        (left,) = session.asks
        assert left.arguments == '{"what":"a"}'
        assert (await world.look_at(session)).kinds.count("output.message.completed") == 1
        await all_in(session)
        await rest(session)
        after = await world.look_at(session)
    assert (after.text, told(after)) == ("Done.", ["at a", "at b"])
    assert after.kinds.count("output.message.completed") == 2, "it went on once"


async def test_cp45_a_result_for_something_that_nobody_asked_is_refused_and_changes_nothing(
    world: World,
) -> None:
    agent = asking()
    async with world.runtime(agent) as runtime:
        session = await serve(runtime, agent)
        before = await session.events()
        with pytest.raises(UnknownAsk, match="no open ask ask_nobody"):
            await session.submit("ask_nobody", "here", by="browser")
        assert await session.events() == before
        assert len(session.asks) == 2


async def test_cp45_a_result_that_comes_too_late_is_refused_and_the_call_has_one_all_the_same(
    world: World,
) -> None:
    clock = LaterClock()
    agent = asking(call("locate", what="a"), "Done.", client=AskFor(reason="", expires_in=60.0))
    await world.kill("after ask.opened", agent, clock=clock)
    clock.ahead = timedelta(seconds=61)
    async with world.runtime(agent, clock=clock) as runtime:
        session = await reopened(runtime)
        asked = [event.data.ask_id for event in await session.events() if event.type == "ask.opened"]  # type: ignore[attr-defined]
        with pytest.raises(UnknownAsk):
            await session.submit(asked[0], "here", by="browser")
        await rest(session)
        after = await world.look_at(session)
    assert [result.status for result in after.results] == ["denied"]
    assert after.text == "Done."


async def test_cp45_calls_of_a_turn_that_was_cancelled_have_results_and_theirs_come_too_late(
    world: World,
) -> None:
    agent = asking()
    await world.kill("after ask.opened", agent)
    async with world.runtime(agent) as runtime:
        session = await reopened(runtime)
        first, second = session.asks
        await session.submit(first.ask_id, "at a", by="browser")
        assert session.turn is not None
        assert (await session.turn.cancel("never mind")).status == "cancelled"
        with pytest.raises(AskClosed, match="its turn ended"):
            await session.submit(second.ask_id, "at b", by="browser")
        after = await world.look_at(session)
        assert sorted(result.status for result in after.results) == ["cancelled", "ok"]
        assert (await session.run("And now?")).text == "Done."


@pytest.mark.parametrize("place", ["after input.message", "after ask.answered"])
async def test_cp45_a_result_after_a_new_message_belongs_to_its_turn_and_the_message_waits_in_line(
    world: World, place: str
) -> None:
    agent = asking()
    await world.kill("after ask.opened", agent)

    async def another(runtime: Runtime) -> None:
        session = await reopened(runtime)
        await session.send("And now?", key="And now?")
        await all_in(session)

    await world.kill(place, agent, another)
    async with world.runtime(agent) as runtime:
        session = await reopened(runtime)
        await session.send("And now?", key="And now?")
        await all_in(session)
        await rest(session)
        after = await world.look_at(session)
    roles = [message.role for message in after.messages]
    assert roles == ["user", "assistant", "tool", "tool", "assistant", "user", "assistant"]
    assert told(after) == ["at a", "at b"]
    assert [after.messages[4].text, after.text] == ["Done.", "Next."]
    assert len([event for event in after.events if isinstance(event.data, InputMessage)]) == 2


async def test_cp46_a_result_that_was_stored_and_not_resumed_is_taken_up_by_a_sweep(world: World) -> None:
    agent = asking(call("locate", what="a"), "Done.")
    await world.kill("after ask.opened", agent)

    async def hand_in(runtime: Runtime) -> None:
        await all_in(await reopened(runtime))
        await point("never")

    await world.kill("after ask.answered", agent, hand_in)
    async with world.runtime(agent) as runtime:
        (session_id,) = await runtime.store.due(runtime.clock.now())
        assert await runtime.drive(session_id) == "completed"
        after = await world.look_at(await runtime.open(session_id))
    assert (after.text, told(after)) == ("Done.", ["at a"])
    assert after.kinds.count("ask.answered") == 1


async def test_cp46_a_result_that_was_left_for_a_writer_that_died_is_taken_up_by_a_sweep(
    world: World,
) -> None:
    gate, begun = asyncio.Event(), asyncio.Event()

    @tool(effect="pure")
    async def work() -> str:
        """Work."""
        begun.set()
        await gate.wait()
        return "worked"

    agent = agent_of(calls(("locate", {"what": "a"}), ("work", {})), "Done.", tools=[locate(), work])

    async def leave_a_result(runtime: Runtime) -> None:
        """A writer, and a result from somebody else right before it dies."""
        await (await runtime.session(agent)).send("Go.", key="Go.")
        await begun.wait()
        async with world.runtime(agent) as other:
            await all_in(await reopened(other))
        await point("left")

    await world.kill("left", agent, leave_a_result)
    gate.set()
    async with world.runtime(agent) as runtime:
        (session_id,) = await runtime.store.due(runtime.clock.now())
        assert await runtime.drive(session_id) == "completed"
        after = await world.look_at(await runtime.open(session_id))
    assert (after.text, told(after)) == ("Done.", ["at a", "worked"])
    assert after.kinds.count("ask.answered") == 1
