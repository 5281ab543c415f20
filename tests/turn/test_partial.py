"""Words that readers have seen are not lost: finished, replaced by a new message, or kept and marked."""

import asyncio

from holdfast import Agent, Runtime, Thinking, ToolCall
from holdfast.config import Limits
from holdfast.drivers.sim import Sim, Step, call, fail, say
from holdfast.errors import DriverError
from holdfast.events import OutputMessageCompleted, OutputMessageReplaced, OutputMessageShown
from holdfast.stores.memory import MemoryStore
from holdfast.testing import VirtualClock
from tests.turn.scenes import agent_of, assert_sound, cut_off, kinds, reopened, session_with

SLOW = say("One two three four.", pace=1.0)
"""A second for each word."""


async def test_words_shown_for_more_than_a_second_are_on_the_log_before_the_message_is_finished() -> None:
    async with session_with(agent_of(SLOW)) as session:
        turn = await session.send("Count.")
        await asyncio.sleep(2.5)
        seen = await session.events()
        assert "".join(e.data.text for e in seen if isinstance(e.data, OutputMessageShown)) == "One "
        assert (await turn).text == "One two three four."
        events = await session.events()
    assert kinds(events).count("output.message.completed") == 1
    assert "output.message.replaced" not in kinds(events)


async def test_a_quick_message_is_written_once() -> None:
    async with session_with(agent_of(say("One two three four."))) as session:
        await session.run("Count.")
        assert "output.message.shown" not in kinds(await session.events())


async def test_a_cancelled_turn_keeps_the_words_that_were_shown_and_marks_them() -> None:
    async with session_with(agent_of(SLOW, say("Five."))) as session:
        turn = await session.send("Count.")
        await asyncio.sleep(1.7)
        result = await turn.cancel("enough")
        assert (result.status, result.text) == ("cancelled", "One two ")
        kept = [e.data for e in await session.events() if isinstance(e.data, OutputMessageCompleted)]
        assert [(fact.stop, fact.message.text) for fact in kept] == [("cut_off", "One two ")]
        assert [message.text for message in await session.messages()] == ["Count.", "One two "]
        assert (await session.run("Go on.")).status == "completed"
        assert_sound(await session.events())


async def test_a_turn_whose_model_fails_for_good_keeps_the_words_that_were_shown() -> None:
    broken = Step(text="Half a sentence", error=DriverError("invalid_request", "no"), error_after=2)
    async with session_with(agent_of(broken)) as session:
        result = await session.run("Speak.")
        assert (result.status, result.stop) == ("failed", "error")
        assert (await session.messages())[-1].text == result.text == "Half a "
        assert_sound(await session.events())


async def test_a_retry_replaces_what_was_shown() -> None:
    broken = Step(text="Half a sentence", error=DriverError("broken_stream", "cut"), error_after=2)
    steps = [broken, say("A whole sentence.")]
    agent = Agent("You speak.", model=Sim.rule(lambda request: steps.pop(0)))
    async with session_with(agent) as session:
        result = await session.run("Speak.")
        events = await session.events()
    (shown,) = [e.data for e in events if isinstance(e.data, OutputMessageShown)]
    (void,) = [e.data for e in events if isinstance(e.data, OutputMessageReplaced)]
    (said,) = [e.data for e in events if isinstance(e.data, OutputMessageCompleted)]
    assert result.text == "A whole sentence."
    assert void.message_id == shown.message_id != said.message.id
    assert kinds(events).index("reason.failed") < kinds(events).index("output.message.replaced")


async def test_a_failure_before_the_first_word_replaces_nothing() -> None:
    async with session_with(agent_of(fail("overloaded"), say("Here."))) as session:
        await session.run("Speak.")
        assert not {"output.message.shown", "output.message.replaced"} & set(kinds(await session.events()))


async def test_after_a_crash_in_mid_stream_the_model_is_asked_again_and_the_shown_words_are_replaced() -> (
    None
):
    async with session_with(agent_of(SLOW)) as session:
        await (await session.send("Count."))
        events = await session.events()
    for after in range(kinds(events).index("output.message.shown") + 1, len(events) - 1):
        store = await cut_off(events, after)
        async with reopened(store, agent_of(say("Counted.")), session.id) as again:
            assert again.turn is not None
            assert (await again.turn).text == "Counted."
            recovered = await again.events()
        assert kinds(recovered).count("output.message.replaced") == 1
        assert kinds(recovered).count("output.message.completed") == 1
        assert [message.text for message in again.state.messages] == ["Count.", "Counted."]
        assert_sound(recovered)


async def test_a_turn_that_is_cancelled_after_a_crash_keeps_what_was_shown_before_it() -> None:
    async with session_with(agent_of(SLOW)) as session:
        await (await session.send("Count."))
        events = await session.events()
    store = await cut_off(events, kinds(events).index("output.message.shown") + 1)
    async with Runtime(store, clock=VirtualClock()) as runtime:
        looked_at = await runtime.open(session.id, agent_of(say("never")), drive=False)
        assert looked_at.turn is not None
        assert (await looked_at.turn.cancel("enough")).status == "running", "left for whoever goes on with it"
    async with reopened(store, agent_of(say("never")), session.id) as again:
        result = await again.handle(looked_at.turn.id)
        assert (result.status, result.text) == ("cancelled", "One ")
        kept = [e.data for e in await again.events() if isinstance(e.data, OutputMessageCompleted)]
        assert [(fact.stop, fact.message.text) for fact in kept] == [("cut_off", "One ")]
        assert [message.text for message in await again.messages()] == ["Count.", "One "]
        assert_sound(await again.events())


async def test_half_a_call_is_not_run_and_half_a_thought_is_not_sent_back() -> None:
    step = Step(
        thinking="I wonder whether",
        text="Let me look. ",
        calls=(call("work").calls),
        pace=1.0,
    )
    async with session_with(agent_of(step, say("Fine."))) as session:
        turn = await session.send("Work.")
        await asyncio.sleep(5.2)
        await turn.cancel()
        (_, kept) = await session.messages()
        assert not [part for part in kept.content if isinstance(part, Thinking | ToolCall)]
        assert "tool.started" not in kinds(await session.events())


async def test_the_deadline_keeps_what_was_shown() -> None:
    async with session_with(agent_of(SLOW, limits=Limits(turn_timeout=2.5))) as session:
        result = await session.run("Count.")
        assert (result.stop, result.text) == ("deadline", "One two three ")


async def test_closing_the_runtime_in_mid_stream_leaves_the_turn_to_be_asked_again() -> None:
    store = MemoryStore()
    async with Runtime(store, clock=VirtualClock(), drain=0.0) as runtime:
        session = await runtime.session(agent_of(SLOW))
        await session.send("Count.")
        await asyncio.sleep(2.2)
    async with reopened(store, agent_of(say("Counted.")), session.id) as again:
        assert again.turn is not None
        assert (await again.turn).text == "Counted."
        assert_sound(await again.events())
