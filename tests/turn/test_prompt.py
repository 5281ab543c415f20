"""What the model is sent: exactly what `inspect` shows, under our ids, and never encoded twice."""

import asyncio
from typing import Any

import msgspec
import pytest
from msgspec import structs

from holdfast import Agent, Event, Message, Request, Runtime, Text, ToolCall, tool
from holdfast.driver import Transcript
from holdfast.drivers.anthropic import Anthropic
from holdfast.drivers.openai import OpenAI
from holdfast.drivers.sim import Sim, Step, call, calls, say
from holdfast.errors import InputRejected
from holdfast.ids import call_id
from holdfast.stores.memory import MemoryStore
from holdfast.turn.prompt import Prompt
from tests.turn.scenes import agent_of, reopened, session_with


@tool(effect="pure")
async def look(place: str) -> str:
    """Look."""
    return f"nothing at {place}"


STEPS = (call("look", place="home"), say("Nothing at home."), say("Still nothing."), say("Bye."))


def sim_of(agent: Agent) -> Sim:
    sim = agent.layers[0].config.model
    assert isinstance(sim, Sim)
    return sim


def without_ids(request: Request) -> Any:
    """A request as plain data, less the message ids that each input gets anew."""
    return msgspec.to_builtins(
        {
            "model": request.model,
            "instructions": request.instructions,
            "tools": request.tools,
            "settings": request.settings,
            "messages": [(message.role, message.content) for message in request.messages],
        }
    )


async def test_inspect_shows_the_request_that_is_sent_next() -> None:
    agent = agent_of(*STEPS, tools=[look])
    async with session_with(agent) as session:
        for words in ("where?", "and now?", "bye"):
            shown = await session.inspect(words)
            before = len(sim_of(agent).requests)
            await session.run(words)
            sent = sim_of(agent).requests[before]
            assert without_ids(shown.request) == without_ids(sent)


async def test_inspect_sends_nothing_and_records_nothing() -> None:
    store, agent = MemoryStore(), agent_of(*STEPS, tools=[look])
    async with session_with(agent, store) as session:
        await session.inspect("hello")
        assert await store.read(session.id) == []
        await session.run("hello")
        events, state = await session.events(), msgspec.json.encode(session.state)
        asked = len(sim_of(agent).requests)
        for content in (None, "more", (Text(text="more"),)):
            await session.inspect(content)
        assert len(sim_of(agent).requests) == asked
        assert await session.events() == events
        assert msgspec.json.encode(session.state) == state
        assert (await session.run("go on")).text == "Still nothing."


async def test_inspect_shows_the_body_on_the_wire_and_the_manifest() -> None:
    async with session_with(agent_of(*STEPS, tools=[look])) as session:
        shown = await session.inspect("hello")
    assert shown.manifest.instructions == shown.request.instructions == "You help."
    assert msgspec.json.decode(shown.body)["messages"][0]["content"][0]["text"] == "hello"


async def test_a_request_says_which_session_it_is_of_and_on_whose_behalf() -> None:
    sim = Sim.always("ok")
    async with Runtime() as runtime:
        await (await runtime.session(Agent(model=sim))).run("hello")
        told = await runtime.session(Agent(model=sim), metadata={"user_id": "u-17", "secret": "s"})
        await told.run("hello")
        driver = OpenAI(api_key="")
        bodies = [msgspec.json.decode(driver.encode(request)) for request in sim.requests]
        user = msgspec.json.decode(Anthropic(api_key="").encode(sim.requests[1]))["metadata"]
        assert sim.requests[1].metadata == {"session_id": told.id, "user_id": "u-17"}
    assert [body.get("metadata") for body in bodies] == [None, {"user_id": "u-17"}]
    assert user == {"user_id": "u-17"}


async def test_inspect_shows_inputs_that_wait_their_turn() -> None:
    @tool(effect="pure")
    async def sleep() -> str:
        """Sleep."""
        await asyncio.sleep(60)
        return "slept"

    agent = agent_of(call("sleep"), say("done"), say("second"), tools=[sleep])
    async with session_with(agent) as session:
        turn = await session.send("first")
        behind = await session.send("second")
        async for item in turn:
            if isinstance(item, Event) and item.type == "tool.started":
                break
        shown = await session.inspect()
        assert [message.role for message in shown.request.messages] == ["user", "assistant", "tool", "user"]
        assert (await behind).text == "second"


async def test_inspect_refuses_what_send_would_refuse() -> None:
    async with session_with(agent_of(*STEPS, tools=[look])) as session:
        with pytest.raises(InputRejected):
            await session.inspect("")


async def test_a_request_is_the_same_after_a_restart() -> None:
    store, agent = MemoryStore(), agent_of(*STEPS, tools=[look])
    async with session_with(agent, store) as session:
        await session.run("where?")
        shown = (await session.inspect("more")).request
    async with reopened(store, agent, session.id) as again:
        assert without_ids((await again.inspect("more")).request) == without_ids(shown)


async def test_calls_get_ids_of_ours_and_keep_the_providers() -> None:
    wanted = tuple(ToolCall(id="", name="look", arguments='{"place":"a"}', provider_id="p") for _ in range(2))

    def choose(request: Request) -> Any:
        return Step(calls=wanted) if request.messages[-1].role == "user" else say("done")

    sim = Sim.rule(choose)
    async with session_with(Agent(model=sim, tools=[look])) as session:
        turn = await session.send("go")
        await turn
        await session.run("again")
        messages = await session.messages()
    first, second = (message for message in messages if message.role == "assistant" and message.calls)
    assert [it.id for it in first.calls] == [call_id(turn.id, 1, 0), call_id(turn.id, 1, 1)]
    assert [it.provider_id for it in (*first.calls, *second.calls)] == ["p"] * 4
    sent = [it.provider_id for message in sim.requests[-1].messages for it in message.calls]
    assert len(sent) == len(set(sent)) == 4, "what is sent has ids that are told apart"
    assert sent[0] == "p"


async def test_every_request_is_valid_whatever_the_turns_before_came_to() -> None:
    @tool(timeout=1)
    async def hang() -> None:
        """Hang."""
        await asyncio.Event().wait()

    steps = (calls(("hang", {}), ("nobody", {}), ("look", "{")), say("", stop="end_turn"), say("ok"))
    agent = agent_of(*steps, say("more"), say("last"), tools=[hang, look])
    async with session_with(agent) as session:
        await session.run("one")
        turn = await session.send("two")
        await turn.cancel()
        await session.run("three")
    for request in sim_of(agent).requests:
        assert_answered(list(request.messages))


def assert_answered(messages: list[Message]) -> None:
    waiting: list[str] = []
    for message in messages:
        assert message.content
        if message.role == "tool":
            assert message.content[0].call_id == waiting.pop(0)  # type: ignore[union-attr]
        else:
            assert not waiting
            waiting = [it.id for it in message.calls]
    assert not waiting


async def test_a_message_is_encoded_once_however_many_requests_hold_it() -> None:
    encoded: list[str] = []

    class Counting(Sim):
        wire = "counting"

        async def reply(self, request: Request, emit: Any) -> Any:
            request.messages.encoded(self.wire, self._encode)
            return await super().reply(request, emit)

        def _encode(self, message: Message) -> bytes:
            encoded.append(message.id)
            return b""

    async with session_with(Agent(model=Counting(lambda request: "ok"))) as session:
        for number in range(20):
            await session.run(f"input {number}")
    assert len(encoded) == len(set(encoded)) == 39


def test_a_prompt_only_takes_in_what_is_new() -> None:
    prompt = Prompt()
    messages = [Message(id=f"message_{n}", role="user", content=(Text(text=str(n)),)) for n in range(3)]
    first = prompt.upto(messages[:2], 0)
    assert isinstance(first, Transcript)
    assert [message.id for message in first] == ["message_0", "message_1"]
    again = prompt.upto(messages, 0)
    assert again is first
    assert [message.id for message in again] == ["message_0", "message_1", "message_2"]


def test_a_prompt_is_made_anew_when_a_result_was_retold() -> None:
    prompt = Prompt()
    before = [Message(id=f"message_{n}", role="user", content=(Text(text="old"),)) for n in range(2)]
    after = [structs.replace(before[0], content=(Text(text="new"),)), before[1]]
    assert [message.text for message in prompt.upto(before, 0)] == ["old", "old"]
    assert [message.text for message in prompt.upto(after, 1)] == ["new", "old"]
