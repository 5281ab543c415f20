"""A model call, from the request to the durable reply; and replies that are not what they should be."""

import asyncio
from collections import Counter
from datetime import timedelta

import pytest

from holdfast import (
    Agent,
    Allow,
    Decision,
    Defer,
    Hook,
    HookEvent,
    Interrupt,
    Limits,
    Policy,
    Request,
    Tool,
    ToolCall,
    ToolResult,
    tool,
)
from holdfast.drivers.sim import Step, calls, fail, say
from holdfast.events import OutputMessageCompleted, OutputMessageReplaced, OutputMessageShown, ReasonFailed
from holdfast.messages import Thinking, Usage
from holdfast.policy import Action
from holdfast.turn import watch
from tests.drivers.test_openai_chat_network import ALL, HELLO
from tests.drivers.wire_server import Script, WireServer, streams
from tests.failure_model.agents import agent_of, agent_with, toil
from tests.failure_model.world import INPUT, Aftermath, LaterClock, Model, World, point

COUNTED = Usage(input_tokens=7, output_tokens=3)


def replies(after: Aftermath) -> list[OutputMessageCompleted]:
    return [event.data for event in after.events if isinstance(event.data, OutputMessageCompleted)]


def failures(after: Aftermath) -> list[ReasonFailed]:
    return [event.data for event in after.events if isinstance(event.data, ReasonFailed)]


async def test_cp11_a_hook_whose_verdict_was_not_stored_is_asked_again_and_a_stored_one_is_not(
    world: World,
) -> None:
    async def stop(event: HookEvent) -> Interrupt:
        world.ledger.append("asked")
        await point("asked")
        return Interrupt("not today")

    agent = agent_of("Never said.", hooks=(Hook(id="stop", point="before_turn", run=stop),))
    await world.kill("asked", agent)
    await world.kill("after hook.decided", agent)
    assert world.ledger == ["asked", "asked"]
    after = await world.go_on(agent)
    assert world.ledger == ["asked", "asked"]
    assert after.status == "failed"
    assert after.kinds.count("hook.decided") == 1


async def test_cp12_a_request_that_was_not_sent_is_sent_and_costs_nothing_extra(world: World) -> None:
    agent = agent_of(say("Hello.", usage=COUNTED))
    await world.kill("asking", agent)
    after = await world.go_on(agent)
    assert (after.text, len(replies(after))) == ("Hello.", 1)
    assert after.outcome is not None
    assert after.outcome.usage == COUNTED


async def test_cp13_a_request_without_an_answer_is_tried_again_as_another_attempt_and_not_for_ever(
    world: World,
) -> None:
    agent = agent_of(fail("connection"), limits=Limits(model_retries=2))
    await world.kill("before reason.failed", agent)
    after = await world.go_on(agent)
    assert [failed.attempt for failed in failures(after)] == [1, 2, 3]
    assert (after.status, replies(after)) == ("failed", [])


async def test_cp13_a_process_that_died_while_it_waited_asks_again(world: World) -> None:
    agent = agent_of(say("Hello.", delay=0.01))
    await world.kill("asking", agent)
    await world.kill("asking", agent)
    after = await world.go_on(agent)
    assert [(reply.iteration, reply.message.text) for reply in replies(after)] == [(1, "Hello.")]


async def test_cp14_words_that_were_shown_before_the_end_of_a_process_are_void_and_replaced(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "KEPT_WITHIN", 0.001)
    await world.kill("after output.message.shown", agent_of(say("Half a sentence.", pace=60)))
    shown = [event.data for event in await world.log() if isinstance(event.data, OutputMessageShown)]
    assert [fact.text for fact in shown] == ["Half "]
    await world.kill("after output.message.replaced", agent_of("Something else."))
    after = await world.go_on(agent_of("Something else."))
    (void,) = [event.data for event in after.events if isinstance(event.data, OutputMessageReplaced)]
    (reply,) = replies(after)
    assert void.message_id == shown[0].message_id != reply.message.id
    assert (reply.attempt, reply.message.text) == (1, "Something else.")
    assert [message.text for message in after.messages] == [INPUT, "Something else."]


async def test_cp14_a_stream_that_ends_with_its_process_leaves_one_completed_message(world: World) -> None:
    agent = agent_of(say("A whole sentence."))
    for _ in range(3):
        await world.kill("streaming text", agent)
    after = await world.go_on(agent)
    assert [reply.message.text for reply in replies(after)] == ["A whole sentence."]


async def test_cp14_words_that_were_shown_before_the_turn_was_cancelled_are_kept_and_marked(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "KEPT_WITHIN", 0.001)
    await world.kill("after output.message.shown", agent_of(say("Half a sentence.", pace=60)))
    agent = agent_of("Something else.")
    async with world.runtime(agent) as runtime:
        (head,) = await runtime.sessions()
        session = await runtime.open(head.session_id, drive=False)
        assert session.turn is not None
        assert session.state.turn is not None
        shown = session.state.turn.shown
        await session.turn.cancel("enough")
    after = await world.go_on(agent)
    assert shown == "Half "
    assert (after.status, after.text) == ("cancelled", shown)
    assert [(reply.message.text, reply.stop) for reply in replies(after)] == [(shown, "cut_off")]
    assert "output.message.replaced" not in after.kinds


async def test_cp15_half_a_tool_call_is_discarded_and_never_run_when_its_process_dies(world: World) -> None:
    agent = agent_of(calls(("toil", {"what": "first"}), text="I will."), "Done.", tools=[toil(world)])
    await world.kill("streaming arguments", agent)
    assert world.ledger == []
    after = await world.go_on(agent)
    assert len(after.results) == len(world.ledger) == 1


async def test_cp15_half_a_tool_call_is_discarded_and_never_run_when_its_stream_breaks(world: World) -> None:
    broken = [calls(("toil", '{"what": "fi'), error=fail("broken_stream").error, error_after=1)]

    def choose(request: Request) -> Step | str:
        return broken.pop() if broken else "Done."

    after = await world.go_on(agent_with(Model.rule(choose), tools=[toil(world)]))
    assert world.ledger == []
    assert [failed.reason for failed in failures(after)] == ["broken_stream"]
    assert all(not message.calls for message in after.messages)


async def test_cp16_half_a_thought_is_never_sent_back(world: World) -> None:
    sent: list[Request] = []

    def choose(request: Request) -> Step:
        sent.append(request)
        thought = "Let me think about this."
        return say("Hello.", thinking=thought) if len(sent) > 1 else say("Hello.", thinking="Unfinished " * 9)

    agent = agent_with(Model.rule(choose))
    await world.kill("streaming thinking", agent)
    after = await world.go_on(agent)
    assert len(sent) == 2
    assert not [
        part for message in sent[1].messages for part in message.content if isinstance(part, Thinking)
    ]
    thoughts = [
        part.text for message in after.messages for part in message.content if isinstance(part, Thinking)
    ]
    assert thoughts == ["Let me think about this."]


async def _a_stream_that_stops(world: World, script: Script, reason: str) -> None:
    async with WireServer([script, streams(*ALL)]) as server:
        # The first answer is soon given up and its process dies; the second has all the time it wants.
        hasty, patient = server.driver(stall_timeout=0.5), server.driver()
        await world.kill("after reason.failed", Agent("You help.", name="helper", model=hasty))
        after = await world.go_on(Agent("You help.", name="helper", model=patient))
        await hasty.close()
        await patient.close()
    assert [failed.reason for failed in failures(after)] == [reason]
    assert failures(after)[0].retry_at is not None
    assert [reply.message.text for reply in replies(after)] == ["Hello"]


async def test_cp17_a_half_open_stream_is_given_up_and_asked_for_again(world: World) -> None:
    await _a_stream_that_stops(world, streams(HELLO, end=False), "stalled")


async def test_cp18_a_stream_that_ends_without_its_end_is_an_error_and_never_a_completion(
    world: World,
) -> None:
    await _a_stream_that_stops(world, streams(HELLO), "broken_stream")


async def test_cp19_a_reply_that_was_finished_and_not_stored_is_asked_for_again_and_there_once(
    world: World,
) -> None:
    agent = agent_of(say("Hello.", usage=COUNTED))
    await world.kill("answered", agent)
    after = await world.go_on(agent)
    assert [reply.message.text for reply in replies(after)] == ["Hello."]
    assert after.outcome is not None
    assert after.outcome.usage == COUNTED, "the log counts what it holds"


@pytest.mark.parametrize("side", ["before", "after"])
async def test_cp20_message_calls_and_usage_are_stored_together_or_not_at_all(
    world: World, side: str
) -> None:
    step = calls(("toil", {"what": "a"}), ("toil", {"what": "b"}), text="I will.", usage=COUNTED)
    agent = agent_of(step, "Done.", tools=[toil(world, "idempotent")])
    await world.kill(f"{side} output.message.completed", agent)
    async with world.runtime() as runtime:
        (head,) = await runtime.sessions()
        session = await runtime.open(head.session_id, read_only=True)
        turn = session.state.turn
        assert turn is not None
        there = side == "after"
        assert ("I will." in [message.text for message in await session.messages()]) == there
        assert [call.call.name for call in turn.calls.values()] == (["toil", "toil"] if there else [])
        assert turn.usage == (COUNTED if there else Usage())
    assert (await world.go_on(agent)).text == "Done."


async def test_cp21_a_wait_that_was_cut_off_ends_at_the_recorded_instant(world: World) -> None:
    failing = [fail("rate_limit", retry_after=30)]
    agent = agent_with(Model.rule(lambda request: failing.pop() if failing else say("Hello.")))
    clock = LaterClock()
    await world.kill("after reason.failed", agent, clock=clock)
    clock.ahead += timedelta(seconds=29.5)
    async with asyncio.timeout(25):  # a wait from its beginning would take thirty seconds
        after = await world.go_on(agent, clock=clock)
    (failed,) = failures(after)
    assert failed.retry_at is not None
    assert failed.retry_at <= after.events[-1].ts < failed.retry_at + timedelta(seconds=25)
    assert after.text == "Hello."


async def test_cp21_a_wait_that_is_over_wakes_no_worker_before_its_time(world: World) -> None:
    failing = [fail("rate_limit", retry_after=30)]
    agent = agent_with(Model.rule(lambda request: failing.pop() if failing else say("Hello.")))
    clock = LaterClock()
    await world.kill("after reason.failed", agent, clock=clock)
    async with world.runtime(agent, clock=clock) as runtime:
        assert await runtime.store.due(clock.now()) == []
        assert len(await runtime.store.due(clock.now() + timedelta(seconds=30))) == 1


async def test_cp21_what_a_policy_put_off_happens_at_the_recorded_instant_and_once(world: World) -> None:
    clock = LaterClock()
    until = clock.now() + timedelta(seconds=30)

    async def later(action: Action) -> Decision:
        return Defer(until=until, reason="office hours") if action.kind == "tool" else Allow()

    agent = agent_of(
        calls(("toil", {})), "Done.", tools=[toil(world)], policies=(Policy(name="later", decide=later),)
    )
    await world.kill("after policy.decided", agent, clock=clock)
    async with world.runtime(agent, clock=clock) as runtime:
        assert await runtime.store.due(clock.now()) == []
        clock.ahead = timedelta(seconds=31)
        (session_id,) = await runtime.store.due(clock.now())
        assert await runtime.drive(session_id) == "completed"
        after = await world.look_at(await runtime.open(session_id))
    assert (after.text, [result.status for result in after.results]) == ("Done.", ["ok"])
    assert len(world.ledger) == 1


@pytest.mark.parametrize("place", ["toiled", "after tool.completed"])
async def test_cp24_calls_whose_provider_ids_repeat_or_are_empty_are_told_apart(
    world: World, place: str
) -> None:
    made = tuple(
        ToolCall(id="", name="toil", arguments=f'{{"what":"{what}"}}', provider_id=provider_id)
        for what, provider_id in (("a", "same"), ("b", "same"), ("c", ""), ("d", ""))
    )
    agent = agent_of(Step(calls=made), "Done.", tools=[toil(world, "idempotent")])
    await world.kill(place, agent)
    after = await world.go_on(agent)
    assert len({result.call_id for result in after.results}) == 4
    assert [result.status for result in after.results] == ["ok"] * 4
    assert len(set(world.ledger)) == 4
    asked = next(message for message in after.messages if message.calls)
    assert [call.provider_id for call in asked.calls] == ["same", "same", "", ""]


BAD_ARGUMENTS = {
    "huge": '{"what":' + "9" * 100_000 + "}",
    "deep": '{"what":' + "[" * 50_000 + "]" * 50_000 + "}",
    "NaN": '{"what":NaN}',
    "surrogate": '{"what":"\\ud800"}',
    "not text": '{"what":5}',
    "not json": '{"what":',
    "twice": '{"what":"a","what":5}',
    "nothing": "null",
}


async def test_cp25_bad_arguments_are_results_that_the_model_reads_and_the_session_goes_on(
    world: World,
) -> None:
    bad = calls(*[("toil", text) for text in BAD_ARGUMENTS.values()], ("toil", {"what": "good"}))
    agent = agent_of(bad, "Done.", tools=[toil(world)])
    await world.kill("before tool.started", agent)
    after = await world.go_on(agent)
    assert after.text == "Done."
    told = [part for message in after.messages for part in message.content if isinstance(part, ToolResult)]
    statuses = dict(zip([*BAD_ARGUMENTS, "good"], [result.status for result in told], strict=True))
    assert statuses == {**dict.fromkeys(BAD_ARGUMENTS, "error"), "good": "ok"}
    assert len(world.ledger) == 1


def deep(levels: int) -> object:
    value: object = "at last"
    for _ in range(levels):
        value = [value]
    return value


POISON: dict[str, object] = {
    "surrogate": "\ud800",
    "nul": "a\0b",
    "object": object(),
    "deep": deep(900),
    "nan": float("nan"),
    "bytes": b"\xff\x00",
}


async def test_cp26_values_that_cannot_be_stored_are_made_storable_and_nobody_goes_round_in_circles(
    world: World,
) -> None:
    def poisonous(name: str) -> Tool:
        @tool(name=name, effect="idempotent")
        async def poison() -> object:
            """Return it."""
            world.act(name)
            return POISON[name]

        return poison

    agent = agent_of(
        calls(*[(name, {}) for name in POISON]), "Done.", tools=[poisonous(name) for name in POISON]
    )
    await world.kill("before tool.completed", agent)
    after = await world.go_on(agent)
    assert (after.status, after.text) == ("completed", "Done.")
    assert sorted(result.name for result in after.results) == sorted(POISON)
    assert max(Counter(world.ledger).values()) == 2
    by_name = {result.name: result for result in after.results}
    assert by_name["surrogate"].text != POISON["surrogate"]
    assert by_name["nul"].text == "a\0b"
    assert by_name["object"].status == "error"
