"""Steering: words to a turn under way enter before its next model call, and are never lost."""

import asyncio

import pytest

from holdfast import tool
from holdfast.drivers.sim import call, say
from holdfast.events import InputMessage
from holdfast.stores.memory import MemoryStore
from tests.turn.scenes import agent_of, assert_sound, cut_off, kinds, reopened, session_with


async def test_words_during_a_tool_enter_after_its_result_and_before_the_next_model_call() -> None:
    gate = asyncio.Event()

    @tool(effect="pure")
    async def wait() -> str:
        """Wait."""
        await gate.wait()
        return "waited"

    agent = agent_of(call("wait"), say("Fine."), tools=[wait])
    async with session_with(agent) as session:
        turn = await session.send("Begin.")
        await asyncio.sleep(0.1)
        assert (await session.steer("Be brief.")).id == turn.id
        await session.steer("And kind.")
        gate.set()
        assert (await turn).text == "Fine."
        assert [message.text for message in await session.messages()] == [
            "Begin.",
            "",
            "waited",
            "Be brief.",
            "And kind.",
            "Fine.",
        ]
        events = await session.events()
        assert_sound(events)
        assert kinds(events).count("turn.steered") == 1, "several count as one"


async def test_words_while_the_model_streams_make_it_answer_again() -> None:
    agent = agent_of(say("One two three.", pace=1.0), say("Yes, briefly."))
    async with session_with(agent) as session:
        turn = await session.send("Begin.")
        await asyncio.sleep(1.5)
        await session.steer("Briefly!")
        assert (await turn).text == "Yes, briefly."
        assert [message.text for message in await session.messages()] == [
            "Begin.",
            "One two three.",
            "Briefly!",
            "Yes, briefly.",
        ]


async def test_words_to_a_session_at_rest_are_an_ordinary_input() -> None:
    async with session_with(agent_of(say("Hello."))) as session:
        turn = await session.steer("Hi.")
        assert (await turn).text == "Hello."


async def test_words_that_came_too_late_get_a_turn_of_their_own() -> None:
    gate = asyncio.Event()

    @tool(effect="pure")
    async def wait() -> str:
        """Wait."""
        await gate.wait()
        return ""

    agent = agent_of(call("wait"), say("I heard you."), tools=[wait])
    async with session_with(agent) as session:
        turn = await session.send("Begin.")
        await asyncio.sleep(0.1)
        await session.steer("Wait, one more thing.")
        assert (await turn.cancel("enough")).status == "cancelled"
        await asyncio.sleep(1)
        assert session.state.outcome is not None
        assert session.state.outcome.text == "I heard you."
        assert (await session.messages())[-2].text == "Wait, one more thing."


async def test_words_with_one_key_are_accepted_once() -> None:
    agent = agent_of(say("One two three.", pace=1.0), say("Yes."))
    async with session_with(agent) as session:
        turn = await session.send("Begin.")
        await asyncio.sleep(0.5)
        await session.steer("Briefly!", key="k")
        await session.steer("Briefly!", key="k")
        await turn
        inputs = [event for event in await session.events() if isinstance(event.data, InputMessage)]
        assert len(inputs) == 2


@pytest.mark.parametrize("after", range(1, 11))
async def test_words_survive_a_crash_at_any_event(after: int) -> None:
    agent = agent_of(say("One two three.", pace=1.0), say("Yes, briefly."))
    store = MemoryStore()
    async with session_with(agent, store) as session:
        turn = await session.send("Begin.")
        await asyncio.sleep(1.5)
        await session.steer("Briefly!")
        await turn
        events, session_id = await session.events(), session.id
    assert len(events) == 10
    cut = await cut_off(events, after)
    async with reopened(cut, agent, session_id) as session:
        if (pending := session.turn) is not None:
            await pending
        await asyncio.sleep(1)
        said = [message.text for message in await session.messages()]
    if any(isinstance(event.data, InputMessage) and event.data.steer for event in events[:after]):
        assert "Briefly!" in said
        assert said.index("Briefly!") < len(said) - 1, "and it was answered"
