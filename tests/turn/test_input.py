"""What is accepted is durable, has one turn, and is refused whole when it cannot be kept."""

import asyncio
from typing import Any

import pytest

from holdfast import BlobRef, Document, Image, Session, Text, Thinking, ToolCall, tool
from holdfast.config import Limits
from holdfast.drivers.sim import call, say
from holdfast.errors import InputRejected
from holdfast.events import Event, InputMessage
from holdfast.stores.memory import MemoryStore
from holdfast.testing.clock import START
from holdfast.turn.input import MAX_INPUT_BYTES
from tests.turn.scenes import agent_of, assert_sound, first, kinds, reopened, session_with

ANSWERS = [say(f"answer {number}") for number in range(1, 6)]


async def test_an_input_is_durable_when_send_returns() -> None:
    store = MemoryStore()
    async with session_with(agent_of(*ANSWERS), store) as session:
        turn = await session.send("hello")
        stored = await store.read(session.id)
        assert kinds(stored)[:3] == ["session.created", "input.message", "turn.started"]
        accepted = stored[1].data
        assert isinstance(accepted, InputMessage)
        assert (accepted.message.text, accepted.turn_id) == ("hello", turn.id)


BLOB = BlobRef(digest="sha256:00", size=1, media_type="image/png")

REFUSED: dict[str, tuple[Any, str]] = {
    "nothing": ("", "the input is empty"),
    "blank": (" \n\t", "the input is empty"),
    "no parts": ((), "at least one part"),
    "empty parts": ((Text(text=""), Text(text=" ")), "the input is empty"),
    "an image of nothing": ((Image(),), "neither a URL nor bytes"),
    "a call": ((ToolCall(id="a", name="x", arguments="{}"),), "only text, images and documents"),
    "thinking": ((Text(text="a"), Thinking(text="b")), "only text, images and documents"),
    "a surrogate": ("a \ud800 b", "lone surrogate"),
    "a surrogate in a part": ((Document(url="https://a.example", name="\udfff"),), "lone surrogate"),
    "none": (None, "text or a tuple of parts"),
    "bytes": (b"hello", "text or a tuple of parts"),
    "a number": (5, "text or a tuple of parts"),
    "plain strings": (("hello",), "text or a tuple of parts"),
    "a part of the wrong type": ((Text(text=5),), "text or a tuple of parts"),  # type: ignore[arg-type]
    "an object": ((object(),), "text or a tuple of parts"),
    "too large": ("a" * MAX_INPUT_BYTES, "the limit is 4,194,304"),
}


@pytest.mark.parametrize(("content", "reason"), REFUSED.values(), ids=REFUSED)
async def test_an_input_that_cannot_be_kept_is_refused_and_nothing_is_written(
    content: Any, reason: str
) -> None:
    store = MemoryStore()
    async with session_with(agent_of(*ANSWERS), store) as session:
        with pytest.raises(InputRejected, match=reason):
            await session.send(content)
        assert await store.read(session.id) == []
        assert (await session.run("and now")).text == "answer 1"
        assert_sound(await session.events())


async def test_the_largest_input_fits() -> None:
    async with session_with(agent_of(*ANSWERS)) as session:
        assert (await session.run("a" * (MAX_INPUT_BYTES - 200))).status == "completed"


async def test_parts_are_kept_as_they_are() -> None:
    parts = (Text(text="what is this?"), Image(blob=BLOB), Document(url="https://a.example/b.pdf"))
    async with session_with(agent_of(*ANSWERS)) as session:
        await session.run(parts)
        assert (await session.messages())[0].content == parts


async def test_an_input_of_only_a_picture_will_do() -> None:
    async with session_with(agent_of(*ANSWERS)) as session:
        assert (await session.run((Image(blob=BLOB),))).status == "completed"


async def test_the_same_key_is_the_same_turn() -> None:
    async with session_with(agent_of(*ANSWERS)) as session:
        turn = await session.send("hello", key="order 7")
        again = await session.send("hello again", key="order 7")
        assert again.id == turn.id
        assert (await again).text == (await turn).text == "answer 1"
        after = await session.send("hello", key="order 7")
        assert (after.id, (await after).text) == (turn.id, "answer 1")
        assert kinds(await session.events()).count("input.message") == 1


async def test_another_key_is_another_turn() -> None:
    async with session_with(agent_of(*ANSWERS)) as session:
        one, two = await session.send("a", key="1"), await session.send("a", key="2")
        assert one.id != two.id
        assert [(await one).text, (await two).text] == ["answer 1", "answer 2"]


async def test_inputs_without_a_key_are_never_the_same() -> None:
    async with session_with(agent_of(*ANSWERS)) as session:
        assert (await session.send("a")).id != (await session.send("a")).id


async def test_a_key_is_known_after_a_restart() -> None:
    store, agent = MemoryStore(), agent_of(*ANSWERS)
    async with session_with(agent, store) as session:
        turn = await session.send("hello", key="order 7")
        await turn
        await session.run("something else")
    async with reopened(store, agent, session.id) as again:
        same = await again.send("hello", key="order 7")
        assert same.id == turn.id
        assert (await same).text == "answer 1"
        assert (await again.run("more")).text == "answer 3"
        assert_sound(await again.events())


async def test_the_same_key_at_the_same_time_is_accepted_once() -> None:
    async with session_with(agent_of(*ANSWERS)) as session:
        turns = await asyncio.gather(*[session.send("hello", key="order 7") for _ in range(10)])
        assert len({turn.id for turn in turns}) == 1
        assert {(await turn).text for turn in turns} == {"answer 1"}
        assert kinds(await session.events()).count("input.message") == 1


async def test_the_same_key_again_shows_the_turn_from_its_first_event() -> None:
    async with session_with(agent_of(*ANSWERS)) as session:
        await session.run("before")
        await session.run("hello", key="order 7")
        await session.run("after")
        again = await session.send("hello", key="order 7")
        seen = [item.type async for item in again if isinstance(item, Event)]
    assert seen == ["input.message", "turn.started", "output.message.completed", "turn.completed"]


@pytest.mark.parametrize("key", ["\ud800", 5, None, b"key"])
async def test_a_key_that_no_log_can_hold_is_refused(key: Any) -> None:
    async with session_with(agent_of(*ANSWERS)) as session:
        with pytest.raises(InputRejected, match="key"):
            await session.send("hello", key=key)
        assert (await session.run("hello")).text == "answer 1"


async def test_inputs_wait_for_the_turn_before_them_in_order() -> None:
    @tool(effect="pure")
    async def sleep() -> str:
        """Sleep."""
        await asyncio.sleep(10)
        return "slept"

    async with session_with(agent_of(call("sleep"), *ANSWERS, tools=[sleep])) as session:
        turns = [await session.send(f"input {number}") for number in range(1, 4)]
        assert [turn.status for turn in turns] == ["running", "queued", "queued"]
        assert [(await turn).text for turn in reversed(turns)] == ["answer 3", "answer 2", "answer 1"]
        events, messages = await session.events(), await session.messages()
    assert_sound(events)
    said = [message.text for message in messages if message.role == "user"]
    assert said == ["input 1", "input 2", "input 3"]
    starts = [event.context.turn_id for event in events if event.type == "turn.started"]
    assert starts == [turn.id for turn in turns]
    ends = [event.sequence for event in events if event.type == "turn.completed"]
    begins = [event.sequence for event in events if event.type == "turn.started"]
    assert all(begin > end for begin, end in zip(begins[1:], ends, strict=False)), "one turn at a time"


async def test_inputs_from_many_tasks_at_once_are_all_answered() -> None:
    answers = [say(f"answer {number}") for number in range(20)]
    async with session_with(agent_of(*answers)) as session:
        results = await asyncio.gather(*[session.run(f"input {number}") for number in range(20)])
        assert_sound(await session.events())
    assert {result.text for result in results} == {f"answer {number}" for number in range(20)}


async def test_an_input_enters_the_transcript_when_its_turn_begins() -> None:
    async with session_with(agent_of(*ANSWERS)) as session:
        await asyncio.gather(session.run("one"), session.run("two"))
        messages = await session.messages()
    assert [message.text for message in messages] == ["one", "answer 1", "two", "answer 2"]


async def test_a_turn_begins_under_the_manifest_and_with_the_deadline_of_its_limits() -> None:
    async with session_with(agent_of(*ANSWERS, limits=Limits(turn_timeout=90.5))) as session:
        manifest = (await session.inspect()).manifest
        await session.run("go")
        events = await session.events()
    started = events[first(events, "turn.started") - 1].data
    assert started.manifest == manifest.digest  # type: ignore[attr-defined]
    assert (started.deadline - START).total_seconds() == 90.5  # type: ignore[attr-defined]


class Slow(MemoryStore):
    """A disk that takes a second for each append."""

    def append(self, session_id: str, events: Any, **options: Any) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        write = super().append(session_id, events, **options)

        def finish() -> None:
            if not done.done():
                error = write.exception()
                done.set_result(None) if error is None else done.set_exception(error)

        loop.call_later(1.0, finish)
        return done


async def sending(session: Session, **options: Any) -> asyncio.Task[Any]:
    task = asyncio.create_task(session.send("hello", **options))
    await asyncio.sleep(0.5)  # the append is under way
    assert not task.done()
    return task


async def test_send_returns_only_when_the_input_is_durable() -> None:
    async with session_with(agent_of(*ANSWERS), Slow()) as session:
        began = asyncio.get_running_loop().time()
        await session.send("hello")
        assert asyncio.get_running_loop().time() - began >= 1.0


async def test_a_second_send_of_a_key_waits_until_the_first_is_durable() -> None:
    async with session_with(agent_of(*ANSWERS), Slow()) as session:
        began = asyncio.get_running_loop().time()
        task = await sending(session, key="order 7")
        second = await session.send("hello", key="order 7")
        assert asyncio.get_running_loop().time() - began >= 1.0
        assert (await task).id == second.id


async def test_an_input_whose_sender_gave_up_is_answered_all_the_same() -> None:
    async with session_with(agent_of(*ANSWERS), Slow()) as session:
        task = await sending(session, key="order 7")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(60):
            turn = session.turn
            assert turn is not None
            assert (await turn).text == "answer 1"
            assert (await session.send("hello", key="order 7")).id == turn.id
        assert_sound(await session.events())


async def test_a_result_that_is_asked_for_while_its_end_is_being_written_is_that_end() -> None:
    async with session_with(agent_of(*ANSWERS), Slow()) as session:
        turn = await session.send("hello")
        await asyncio.sleep(0.5)
        assert session.state.turn is None, "its end is under way"
        assert turn.status == "completed"
        assert (await turn).text == "answer 1"


async def test_an_input_sent_while_the_end_of_a_turn_is_being_written_is_answered() -> None:
    async with session_with(agent_of(*ANSWERS), Slow()) as session:
        turn = await session.send("one")
        await asyncio.sleep(0.5)
        assert session.state.turn is None, "its end is under way"
        async with asyncio.timeout(60):
            assert (await session.run("two")).text == "answer 2"
            assert (await turn).text == "answer 1"
        assert_sound(await session.events())
