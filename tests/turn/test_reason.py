"""Asking the model: failures are facts, retries wait without anybody waiting, and every turn comes to one end."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from holdfast import (
    Agent,
    ArgumentsDelta,
    DriverError,
    Event,
    Message,
    Reply,
    Request,
    Runtime,
    Session,
    Text,
    TextDelta,
    ThinkingDelta,
    ToolCall,
    TurnResult,
    Usage,
    tool,
)
from holdfast.config import Limits
from holdfast.driver import Emit
from holdfast.drivers.sim import Sim, Step, call, calls, fail, say
from holdfast.errors import RETRYABLE, DriverErrorKind, MissingCredential, UnknownModel
from holdfast.events import OutputMessageCompleted, ReasonFailed
from holdfast.fold import fold
from holdfast.stores.memory import MemoryStore
from holdfast.testing import VirtualClock
from holdfast.testing.clock import START
from holdfast.turn.retry import retry_delay
from tests.turn.scenes import (
    agent_of,
    assert_sound,
    cut_off,
    first,
    kinds,
    reopened,
    results,
    session_with,
)


def scripted(*steps: Step | str | Exception, **options: Any) -> Agent:
    """An agent whose model plays one step per request, failures among them."""
    left = list(steps)

    def choose(request: Request) -> Step | str:
        step = left.pop(0)
        if isinstance(step, Exception):
            raise step
        return step

    return Agent("You help.", model=Sim.rule(choose), **options)


async def played(agent: Agent) -> tuple[TurnResult, list[Event]]:
    async with session_with(agent) as session:
        result = await session.run("go")
        events = await session.events()
        assert_sound(events)
        assert fold(session.id, events) == session.state
    return result, events


def failures(events: list[Event]) -> list[ReasonFailed]:
    return [event.data for event in events if isinstance(event.data, ReasonFailed)]


def replies(events: list[Event]) -> list[OutputMessageCompleted]:
    return [event.data for event in events if isinstance(event.data, OutputMessageCompleted)]


async def test_an_answer_is_recorded_with_what_it_cost() -> None:
    usage = Usage(input_tokens=12, output_tokens=3, cache_read_tokens=8)
    result, events = await played(scripted(say("Hello there.", usage=usage, delay=0.5, pace=0.25)))
    assert (result.status, result.stop, result.text, result.usage) == (
        "completed",
        "end_turn",
        "Hello there.",
        usage,
    )
    (reply,) = replies(events)
    assert (reply.stop, reply.iteration, reply.attempt, reply.model) == ("end_turn", 1, 1, "sim")
    assert (reply.first_token_ms, reply.duration_ms) == (500, 1_000)


async def test_usage_is_summed_over_the_turn_and_the_session() -> None:
    one, two = Usage(input_tokens=1, output_tokens=2), Usage(input_tokens=10, output_tokens=20)

    @tool(effect="pure")
    async def look() -> str:
        """Look."""
        return "nothing"

    agent = agent_of(
        calls(("look", {}), usage=one), say("done", usage=two), say("more", usage=one), tools=[look]
    )
    async with session_with(agent) as session:
        first_turn = await session.run("go")
        assert first_turn.usage == one + two
        assert first_turn.iterations == 2
        assert (await session.run("again")).usage == one
        assert session.state.usage == one + two + one


async def test_pieces_reach_a_reader_as_they_come() -> None:
    step = Step(thinking="let me see", text="It is 5.", calls=call("look", x=1).calls, pace=1.0)

    @tool(effect="pure")
    async def look(x: int) -> int:
        """Look."""
        return x

    async with session_with(agent_of(step, say("done"), tools=[look])) as session:
        turn = await session.send("go")
        items = [(asyncio.get_running_loop().time(), item) async for item in turn]
        messages = await session.messages()
    thinking = [item.text for _, item in items if isinstance(item, ThinkingDelta)]
    words = [(at, item.text) for at, item in items if isinstance(item, TextDelta)]
    arguments = [item for _, item in items if isinstance(item, ArgumentsDelta)]
    assert thinking == ["let ", "me ", "see"]
    assert words[:3] == [(3.0, "It "), (4.0, "is "), (5.0, "5.")]
    assert [(it.text, it.index) for it in arguments] == [('{"x":1}', 0)]
    assert {it.message_id for it in arguments} == {messages[1].id}


@pytest.mark.parametrize("kind", sorted(RETRYABLE))
async def test_a_failure_that_may_pass_is_tried_again_at_a_recorded_instant(kind: DriverErrorKind) -> None:
    result, events = await played(scripted(fail(kind, "not now"), say("here again")))
    assert (result.status, result.text) == ("completed", "here again")
    (failure,) = failures(events)
    assert (failure.reason, failure.error.message, failure.attempt, failure.iteration) == (
        kind,
        "not now",
        1,
        1,
    )
    assert failure.retry_at is not None
    waited = (failure.retry_at - START).total_seconds()
    assert 0.75 <= waited <= 1.25
    (reply,) = replies(events)
    assert reply.attempt == 2
    assert next(event.ts for event in events if event.data is reply) == failure.retry_at


async def test_what_the_provider_asks_for_is_how_long_we_wait() -> None:
    _, events = await played(scripted(fail("rate_limit", retry_after=17.0), say("done")))
    assert failures(events)[0].retry_at == START + timedelta(seconds=17)


async def test_after_the_last_attempt_the_turn_fails_once() -> None:
    result, events = await played(scripted(*[fail("overloaded", f"no {number}") for number in range(3)]))
    assert (result.status, result.stop) == ("failed", "error")
    assert result.error is not None
    assert (result.error.code, result.error.message) == ("overloaded", "no 2")
    assert [failure.retry_at is None for failure in failures(events)] == [False, False, True]
    assert kinds(events).count("turn.failed") == 1
    assert kinds(events)[-1] == "turn.failed"


async def test_the_number_of_attempts_is_a_limit() -> None:
    agent = scripted(*[fail("overloaded")] * 6, say("at last"), limits=Limits(model_retries=6))
    result, events = await played(agent)
    assert result.text == "at last"
    assert [failure.attempt for failure in failures(events)] == [1, 2, 3, 4, 5, 6]
    result, _ = await played(scripted(fail("overloaded"), limits=Limits(model_retries=0)))
    assert result.status == "failed"


async def test_each_reply_has_attempts_of_its_own() -> None:
    @tool(effect="pure")
    async def look() -> str:
        """Look."""
        return "nothing"

    steps = [
        fail("overloaded"),
        fail("overloaded"),
        call("look"),
        fail("overloaded"),
        fail("overloaded"),
        say("done"),
    ]
    result, events = await played(scripted(*steps, tools=[look]))
    assert result.text == "done"
    assert [(it.iteration, it.attempt) for it in failures(events)] == [(1, 1), (1, 2), (2, 1), (2, 2)]


@pytest.mark.parametrize(
    "kind", ["authentication", "quota", "too_large", "invalid_request", "content_policy", "unsupported"]
)
async def test_a_failure_that_will_not_pass_ends_the_turn_at_once(kind: DriverErrorKind) -> None:
    result, events = await played(scripted(fail(kind, "no"), say("never asked")))
    assert (result.status, result.stop, result.iterations) == ("failed", "error", 0)
    assert result.error is not None
    assert result.error.code == kind
    assert kinds(events)[-2:] == ["reason.failed", "turn.failed"]


async def test_the_next_input_is_answered_after_a_failed_turn() -> None:
    async with session_with(scripted(fail("invalid_request"), say("better"))) as session:
        assert (await session.run("one")).status == "failed"
        assert (await session.run("two")).text == "better"
        assert_sound(await session.events())


async def test_a_stream_that_breaks_leaves_no_half_message() -> None:
    broken = Step(text="half a sentence that", error=DriverError("broken_stream", "cut"), error_after=2)
    async with session_with(scripted(broken, say("A whole one."))) as session:
        turn = await session.send("go")
        deltas = [item async for item in turn if isinstance(item, TextDelta)]
        messages = await session.messages()
    assert [item.text for item in deltas] == ["half ", "a ", "A ", "whole ", "one."]
    assert [message.text for message in messages] == ["go", "A whole one."]
    assert {item.message_id for item in deltas[2:]} == {messages[1].id}
    assert {item.message_id for item in deltas[:2]}.isdisjoint({messages[1].id})


class Odd:
    """A driver that answers with whatever it is told to, as a careless one might."""

    wire = "odd"

    def __init__(self, answer: Callable[[], Any]) -> None:
        self._answer = answer

    async def reply(self, request: Request, emit: Emit) -> Reply:
        answer: Reply = self._answer()
        return answer

    def encode(self, request: Request) -> bytes:
        return b""

    async def close(self) -> None: ...


def raising(error: BaseException) -> Callable[[], Any]:
    def answer() -> Any:
        raise error

    return answer


def message(*parts: Any) -> Message:
    return Message(id="", role="assistant", content=parts)


BUGS: dict[str, tuple[Callable[[], Any], str, str]] = {
    "a bug": (raising(KeyError("choices")), "unsupported", "raised KeyError: 'choices'"),
    "an assertion": (raising(AssertionError("no")), "unsupported", "raised AssertionError: no"),
    "what is no Exception": (raising(SystemExit(3)), "unsupported", "raised SystemExit: 3"),
    "several of those": (
        raising(BaseExceptionGroup("b", [SystemExit()])),
        "unsupported",
        "raised BaseExceptionGroup: b",
    ),
    "its own timeout": (raising(TimeoutError("slow")), "unsupported", "raised TimeoutError: slow"),
    "what cannot be written": (raising(ValueError("\ud800")), "unsupported", "raised ValueError: ?"),
    "an error that cannot be written": (raising(DriverError("quota", "\ud800")), "quota", "?"),
    "an unknown kind": (raising(DriverError("tired", "so tired")), "unsupported", "DriverError: so tired"),  # type: ignore[arg-type]
    "nothing": (lambda: None, "unsupported", "raised AttributeError"),
    "a dict": (lambda: {"text": "hi"}, "unsupported", "raised AttributeError"),
    "a text that is none": (
        lambda: Reply(message=message(Text(text=None)), stop="end_turn"),  # type: ignore[arg-type]
        "unsupported",
        "Expected `str`, got `null`",
    ),
    "arguments that were parsed": (
        lambda: Reply(message=message(ToolCall(id="", name="x", arguments={})), stop="end_turn"),  # type: ignore[arg-type]
        "unsupported",
        "Expected `str`, got `object`",
    ),
    "a stop of its own": (
        lambda: Reply(message=message(Text(text="x")), stop="length"),  # type: ignore[arg-type]
        "unsupported",
        "Invalid enum value 'length'",
    ),
    "no response id": (
        lambda: Reply(message=message(Text(text="x")), stop="end_turn", response_id=None),  # type: ignore[arg-type]
        "unsupported",
        "Expected `str`, got `null`",
    ),
}


@pytest.mark.parametrize(("answer", "code", "text"), BUGS.values(), ids=BUGS)
async def test_a_driver_with_a_bug_fails_the_turn_and_leaves_a_readable_log(
    answer: Callable[[], Any], code: str, text: str
) -> None:
    result, events = await played(Agent(model=Odd(answer)))
    assert (result.status, result.stop) == ("failed", "error")
    assert result.error is not None
    assert result.error.code == code
    assert text in result.error.message
    assert kinds(events).count("turn.failed") == 1


@pytest.mark.parametrize(
    "answer",
    [
        raising(asyncio.CancelledError("pool closed")),
        lambda: Reply(message=message(Text(text="\ud800")), stop="end_turn"),
    ],
    ids=["cancels itself", "lone surrogate"],
)
async def test_a_driver_whose_failure_may_pass_is_asked_again(answer: Callable[[], Any]) -> None:
    result, events = await played(Agent(model=Odd(answer)))
    assert result.status == "failed"
    assert len(failures(events)) == 3


async def test_a_missing_credential_fails_the_turn_and_says_what_to_do() -> None:
    missing = MissingCredential("no key for openai-chat; set OPENAI_API_KEY")
    result, _ = await played(Agent(model=Odd(raising(missing))))
    assert result.error is not None
    assert (result.error.code, result.error.message) == ("authentication", str(missing))


async def test_a_real_driver_without_a_credential_fails_the_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    result, events = await played(Agent(model="openai-chat/gpt-5-mini"))
    assert (result.status, result.stop) == ("failed", "error")
    assert result.error is not None
    assert result.error.code == "authentication"
    assert "OPENAI_API_KEY" in result.error.message
    assert len(failures(events)) == 1


async def test_an_unknown_model_is_an_error_before_anything_is_accepted() -> None:
    async with Runtime(clock=VirtualClock()) as runtime:
        with pytest.raises(UnknownModel):
            await runtime.session(Agent(model="nobody/nothing"))
        with pytest.raises(UnknownModel, match="no layer names a model"):
            await runtime.session(Agent())


async def test_refusing_ends_the_turn_as_completed() -> None:
    result, events = await played(scripted(say("I would rather not.", stop="refusal")))
    assert (result.status, result.stop, result.text) == ("completed", "refusal", "I would rather not.")
    assert kinds(events)[-1] == "turn.completed"


async def test_a_reply_that_was_cut_short_ends_the_turn() -> None:
    result, _ = await played(scripted(say("It is", stop="max_tokens")))
    assert (result.status, result.stop, result.text) == ("completed", "max_tokens", "It is")


RAN: list[str] = []


@tool
async def work() -> str:
    """Work."""
    RAN.append("work")
    return "worked"


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    RAN.clear()


async def test_calls_of_a_refused_reply_are_not_run() -> None:
    result, events = await played(scripted(calls(("work", {}), stop="refusal"), tools=[work]))
    assert (result.status, result.stop) == ("completed", "refusal")
    assert [it.status for it in results(events)] == ["cancelled"]
    assert RAN == []


async def test_a_reply_with_nothing_in_it_is_an_end() -> None:
    async with session_with(scripted(Step(), say("second"))) as session:
        result = await session.run("go")
        assert (result.status, result.stop, result.text) == ("completed", "end_turn", "")
        assert (await session.run("again")).text == "second"


async def test_at_the_iteration_limit_calls_get_a_result_and_the_turn_ends() -> None:
    agent = Agent(model=Sim.always(call("work")), tools=[work], limits=Limits(max_iterations=3))
    async with session_with(agent) as session:
        result = await session.run("go")
        events = await session.events()
        assert_sound(events)
        assert (result.status, result.stop, result.iterations) == ("completed", "max_iterations", 3)
        assert [it.status for it in results(events)] == ["ok", "ok", "cancelled"]
        assert results(events)[-1].text.endswith("because the turn ended first (max_iterations).")
        assert RAN == ["work", "work"]
        upcoming = (await session.inspect("and now?")).request.messages
    assert [message.role for message in upcoming[-3:]] == ["assistant", "tool", "user"]


async def test_the_deadline_ends_a_turn_while_the_model_speaks() -> None:
    slow = say("word " * 100, pace=1.0)
    async with session_with(agent_of(slow, say("next"), limits=Limits(turn_timeout=10.0))) as session:
        result = await session.run("go")
        events = await session.events()
        assert (result.status, result.stop, result.text) == ("completed", "deadline", "word " * 10)
        assert events[-1].ts == START + timedelta(seconds=10)
        assert kinds(events)[-2:] == ["output.message.completed", "turn.completed"]
        assert failures(events) == []
        assert (await session.run("again")).status == "completed"


async def test_the_deadline_ends_a_turn_while_a_tool_sleeps() -> None:
    @tool
    async def sleep() -> None:
        """Sleep."""
        await asyncio.sleep(3_600)

    agent = agent_of(
        calls(("sleep", {}), ("work", {})), say("never"), tools=[sleep, work], limits=Limits(turn_timeout=10)
    )
    result, events = await played(agent)
    assert result.stop == "deadline"
    assert events[-1].ts == START + timedelta(seconds=10)
    slept = next(it for it in results(events) if it.name == "sleep")
    assert (slept.status, slept.text) == (
        "error",
        "Error: sleep failed: it took longer than 10 s and was stopped.",
    )


async def test_the_deadline_ends_a_turn_while_it_waits_to_try_again() -> None:
    agent = scripted(fail("overloaded", retry_after=60.0), say("never"), limits=Limits(turn_timeout=10))
    result, events = await played(agent)
    assert result.stop == "deadline"
    assert events[-1].ts == START + timedelta(seconds=10)


async def test_a_deadline_that_passed_while_nothing_ran_ends_the_turn_on_reopening() -> None:
    agent = agent_of(say("never"), limits=Limits(turn_timeout=10))
    async with session_with(agent) as session:
        await session.run("go")
        events = await session.events()
    crash = await cut_off(events, first(events, "turn.started"))
    async with Runtime(crash, clock=VirtualClock(START + timedelta(hours=1))) as runtime:
        again = await runtime.open(session.id, agent)
        assert again.turn is not None
        assert (await again.turn).stop == "deadline"


async def _waiting(store: MemoryStore, agent: Agent) -> Session:
    async with Runtime(store, clock=VirtualClock(), drain=0) as runtime:
        session = await runtime.session(agent)
        turn = await session.send("go")
        async for item in turn:
            if isinstance(item, Event) and item.type == "reason.failed":
                break
        return session


async def test_a_retry_waits_on_over_a_restart_and_not_from_the_beginning() -> None:
    store = MemoryStore()
    agent = scripted(fail("rate_limit", retry_after=60.0), say("done"))
    session = await _waiting(store, agent)
    half_way = VirtualClock(
        START + timedelta(seconds=30) - timedelta(seconds=asyncio.get_running_loop().time())
    )
    async with Runtime(store, clock=half_way, drain=0) as runtime:
        again = await runtime.open(session.id, agent)
        assert again.turn is not None
        assert (await again.turn).text == "done"
        events = await again.events()
    assert events[-1].ts == START + timedelta(seconds=60)


async def test_a_crash_after_the_last_failure_ends_in_that_failure() -> None:
    agent = scripted(fail("invalid_request", "no such model"), say("never asked"))
    _, events = await played(agent)
    crash = await cut_off(events, first(events, "reason.failed"))
    async with reopened(crash, agent, events[0].session_id) as again:
        assert again.turn is not None
        result = await again.turn
        assert (result.status, kinds(await again.events())[-1]) == ("failed", "turn.failed")
    assert result.error is not None
    assert result.error.message == "no such model"


async def test_a_crash_before_the_reply_was_recorded_asks_again() -> None:
    agent = agent_of(say("done"))
    _, events = await played(agent)
    crash = await cut_off(events, first(events, "output.message.completed") - 1)
    async with reopened(crash, agent, events[0].session_id) as again:
        assert again.turn is not None
        assert (await again.turn).text == "done"
        assert_sound(await again.events())


def test_waits_grow_and_are_bounded() -> None:
    for attempt, longest in [(1, 1.25), (2, 2.5), (3, 5.0), (10, 75.0), (1_000, 75.0)]:
        waits = [retry_delay(attempt) for _ in range(50)]
        assert min(waits) >= longest * 0.6 - 1e-9
        assert max(waits) <= longest
        assert len(set(waits)) > 1, "many who failed at once do not come back at once"


@pytest.mark.parametrize(("asked", "waits"), [(1.0, 1.0), (17.5, 17.5), (60.0, 60.0)])
def test_what_a_provider_asks_for_counts_between_a_second_and_a_minute(asked: float, waits: float) -> None:
    assert retry_delay(1, asked) == waits


@pytest.mark.parametrize("asked", [0.0, -5.0, 61.0, 1e9, float("nan"), float("inf")])
def test_a_wait_that_makes_no_sense_is_ours(asked: float) -> None:
    assert 0.75 <= retry_delay(1, asked) <= 1.25
