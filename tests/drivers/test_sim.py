"""The simulated model: it does what its script says, streams like the real thing, and notices a script left over."""

import asyncio
from typing import Any

import msgspec
import pytest

from holdfast import (
    Agent,
    DriverError,
    Message,
    Reply,
    Request,
    Runtime,
    Text,
    TextDelta,
    Thinking,
    Usage,
    tool,
)
from holdfast.driver import DeltaKind, Driver, Transcript
from holdfast.drivers import sim as sim_module
from holdfast.drivers.sim import SOCKET_READ, Sim, Step, call, calls, fail, say
from holdfast.messages import user_message
from holdfast.testing import run_virtual

Piece = tuple[DeltaKind, str, int]


def request(*texts: str, replies: int = 0) -> Request:
    messages = [user_message(text) for text in texts or ("hello",)]
    messages += [Message(id="message_a", role="assistant", content=(Text(text="so"),))] * replies
    return Request(model="", messages=Transcript(messages))


async def ask(sim: Sim, asked: Request | None = None) -> tuple[Reply, list[Piece]]:
    """One reply, and what was streamed on the way."""
    pieces: list[Piece] = []
    reply = await sim.reply(
        asked or request(), lambda kind, piece, index: pieces.append((kind, piece, index))
    )
    return reply, pieces


def text_of(reply: Reply) -> str:
    return reply.message.text


def test_it_is_a_driver() -> None:
    driver: Driver = Sim.always("hello")
    assert driver.wire == "sim"


def test_it_says_that_it_is_no_model() -> None:
    body = msgspec.json.decode(Sim.always("hello").encode(request("what is it?")))
    assert body["simulated"] is True
    assert body["messages"][0]["content"][0]["text"] == "what is it?"
    assert "TEST DOUBLE" in (sim_module.__doc__ or "")


async def test_a_fixed_answer_answers_everything() -> None:
    sim = Sim.always("hello")
    assert [text_of((await ask(sim))[0]) for _ in range(3)] == ["hello"] * 3
    assert text_of((await ask(Sim.always(say("from a step"))))[0]) == "from a step"


async def test_a_script_is_played_in_order_and_then_is_over() -> None:
    sim = Sim.script("one", say("two"), call("look", place="home"))
    assert [text_of((await ask(sim))[0]) for _ in range(2)] == ["one", "two"]
    with pytest.raises(AssertionError, match="1 of its steps were not used"):
        sim.verify()
    reply, _ = await ask(sim)
    assert [(it.name, it.arguments) for it in reply.message.calls] == [("look", '{"place":"home"}')]
    sim.verify()
    with pytest.raises(DriverError, match="no step left after its 3"):
        await ask(sim)


async def test_a_script_left_over_fails_its_block() -> None:
    async def half() -> None:
        with Sim.script("one", "two") as sim:
            await ask(sim)

    with pytest.raises(AssertionError, match="1 of its steps were not used"):
        await half()


async def test_a_script_left_over_does_not_hide_another_error() -> None:
    def fail_early() -> None:
        with Sim.script("one"):
            raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        fail_early()


async def test_a_script_that_was_played_passes_its_block() -> None:
    with Sim.script("one") as sim:
        await ask(sim)


async def test_a_storyboard_answers_by_place_and_remembers_nothing() -> None:
    sim = Sim.storyboard("first", "second", "third")
    for replies, text in [(1, "second"), (0, "first"), (2, "third"), (1, "second")]:
        assert text_of((await ask(sim, request(replies=replies)))[0]) == text
    with pytest.raises(DriverError, match="transcript with 3 replies"):
        await ask(sim, request(replies=3))
    sim.verify()


async def test_a_rule_sees_the_request() -> None:
    sim = Sim.rule(lambda asked: asked.messages[-1].text.upper())
    assert text_of((await ask(sim, request("shout")))[0]) == "SHOUT"


async def test_a_rule_that_raises_is_a_failing_driver() -> None:
    def choose(asked: Request) -> Step:
        raise KeyError("no rule")

    with pytest.raises(KeyError):
        await ask(Sim.rule(choose))


async def test_a_step_streams_in_words() -> None:
    reply, pieces = await ask(Sim.always(Step(thinking="well then", text="It is five.")))
    assert pieces == [
        ("thinking", "well ", 0),
        ("thinking", "then", 0),
        ("text", "It ", 0),
        ("text", "is ", 0),
        ("text", "five.", 0),
    ]
    assert reply.message.content == (Thinking(text="well then", provider="sim"), Text(text="It is five."))
    assert (reply.stop, reply.model) == ("end_turn", "sim")


@pytest.mark.parametrize("text", ["a b  c", " lead", "trail ", "\n new\nline ", "one"])
async def test_pieces_add_up_to_the_whole(text: str) -> None:
    reply, pieces = await ask(Sim.always(text))
    assert "".join(piece for _, piece, _ in pieces) == text == text_of(reply)


async def test_the_pieces_can_be_given() -> None:
    reply, pieces = await ask(Sim.always(say("", pieces=("a", "b", "", "c"))))
    assert [piece for _, piece, _ in pieces] == ["a", "b", "", "c"]
    assert text_of(reply) == "abc"


async def test_calls_stream_their_arguments_by_place() -> None:
    step = calls(("look", {"place": "a"}), ("look", '{"place": broken'), text="let me see")
    reply, pieces = await ask(Sim.always(step))
    assert [it for it in pieces if it[0] == "arguments"] == [
        ("arguments", '{"place":"a"}', 0),
        ("arguments", '{"place": broken', 1),
    ]
    assert reply.stop == "tool_calls"
    assert [it.arguments for it in reply.message.calls] == ['{"place":"a"}', '{"place": broken']


async def test_a_step_without_anything_is_an_empty_message() -> None:
    reply, pieces = await ask(Sim.always(""))
    assert (reply.message.content, pieces, reply.stop) == ((), [], "end_turn")


async def test_stop_and_usage_are_what_the_step_says() -> None:
    usage = Usage(input_tokens=3, output_tokens=4)
    reply, _ = await ask(Sim.always(say("cut", stop="max_tokens", usage=usage)))
    assert (reply.stop, reply.usage) == ("max_tokens", usage)


async def test_a_failure_comes_before_anything_is_sent() -> None:
    pieces: list[Any] = []
    step = fail("rate_limit", "slow down", retry_after=3.5, status=429, text="never")
    with pytest.raises(DriverError, match="slow down") as failed:
        await Sim.always(step).reply(request(), lambda *piece: pieces.append(piece))
    assert (failed.value.kind, failed.value.retry_after, failed.value.status) == ("rate_limit", 3.5, 429)
    assert pieces == []


@pytest.mark.parametrize(
    ("after", "words"), [(0, []), (2, ["one ", "two "]), (99, ["one ", "two ", "three"])]
)
async def test_a_failure_can_come_in_the_middle(after: int, words: list[str]) -> None:
    pieces: list[str] = []
    step = fail("broken_stream", text="one two three", error_after=after)
    with pytest.raises(DriverError):
        await Sim.always(step).reply(request(), lambda kind, piece, index: pieces.append(piece))
    assert pieces == words


def test_delay_and_pace_are_the_loops_time() -> None:
    async def main() -> list[float]:
        at: list[float] = []
        loop = asyncio.get_running_loop()
        step = say("one two three", delay=60, pace=10)
        await Sim.always(step).reply(request(), lambda *_: at.append(loop.time()))
        return [*at, loop.time()]

    assert run_virtual(main()) == [60.0, 70.0, 80.0, 90.0]


async def test_a_long_stream_lets_others_run() -> None:
    progress: list[int] = []
    seen = 0

    async def other() -> None:
        while True:
            progress.append(seen)
            await asyncio.sleep(0)

    def emit(*_: object) -> None:
        nonlocal seen
        seen += 1

    task = asyncio.create_task(other())
    await Sim.always(say("", pieces=("x",) * (SOCKET_READ * 5))).reply(request(), emit)
    task.cancel()
    assert len(set(progress)) >= 5


async def test_cancelling_ends_a_stream_at_once() -> None:
    started = asyncio.Event()
    task = asyncio.create_task(
        Sim.always(say("a b c", pace=3_600)).reply(request(), lambda *_: started.set())
    )
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_requests_are_kept_as_they_were_when_they_were_sent() -> None:
    @tool(effect="pure")
    async def look(place: str) -> str:
        """Look."""
        return f"nothing at {place}"

    sim = Sim.storyboard(call("look", place="home"), say("done"), say("more"))
    async with Runtime() as runtime:
        session = await runtime.session(Agent("You look.", model=sim, tools=[look]))
        await session.run("a")
        await session.run("b")
    assert [[message.role for message in sent.messages] for sent in sim.requests] == [
        ["user"],
        ["user", "assistant", "tool"],
        ["user", "assistant", "tool", "assistant", "user"],
    ]
    assert {sent.instructions for sent in sim.requests} == {"You look."}
    assert [spec.name for spec in sim.requests[0].tools] == ["look"]


async def test_only_so_many_requests_are_kept() -> None:
    sim = Sim.always("ok")
    for _ in range(1_050):
        await ask(sim)
    assert len(sim.requests) == 1_000


async def test_a_storyboard_goes_on_in_another_runtime(tmp_path: Any) -> None:
    def agent() -> Agent:
        return Agent(model=Sim.storyboard("one", "two", "three"))

    async with Runtime(tmp_path / "log.db") as runtime:
        session = await runtime.session(agent())
        await session.run("a")
        await session.run("b")
    async with Runtime(tmp_path / "log.db") as runtime:
        again = await runtime.open(session.id, agent())
        assert (await again.run("c")).text == "three"


async def test_deltas_reach_a_session_in_order() -> None:
    async with Runtime() as runtime:
        session = await runtime.session(Agent(model=Sim.always("one two three")))
        turn = await session.send("go")
        assert [item.text async for item in turn if isinstance(item, TextDelta)] == ["one ", "two ", "three"]
