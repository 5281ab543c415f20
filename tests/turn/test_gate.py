"""Hooks and policies decide before things happen, the first refusal wins, and what guards fails closed."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from holdfast import (
    Agent,
    Allow,
    AskFor,
    Context,
    Defer,
    Deny,
    Event,
    HookEvent,
    Interrupt,
    Modify,
    Text,
    ToolError,
    TurnResult,
    tool,
)
from holdfast.drivers.sim import Sim, call, calls, fail, say
from holdfast.errors import ConfigError
from holdfast.events import HookDecided, PolicyDecided
from holdfast.fold import fold
from holdfast.hook import Hook, Point
from holdfast.policy import Action, Policy
from holdfast.testing.clock import START
from tests.turn.scenes import agent_of, assert_sound, claims, kinds, results, session_with

RUN: list[str] = []


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    RUN.clear()


@tool(effect="idempotent")
async def note(ctx: Context, text: str) -> str:
    """Note."""
    RUN.append(text)
    return f"noted {text}"


def hook(decide: Any, point: Point = "before_tool", name: str = "h", **options: Any) -> Hook:
    return Hook(id=name, point=point, run=_deciding(decide), **options)


def policy(decide: Any, name: str = "p", kind: str = "tool", **options: Any) -> Policy:
    answer = _deciding(decide)

    async def asked(action: Action) -> Any:
        return await answer(action) if action.kind == kind else Allow()

    return Policy(name=name, decide=asked, **options)


def _deciding(decide: Any) -> Callable[[Any], Any]:
    async def run(question: Any) -> Any:
        if isinstance(decide, BaseException):
            raise decide
        return await decide(question) if callable(decide) else decide

    return run


async def hang(_: object) -> Allow:
    await asyncio.Event().wait()
    return Allow()


def noting(*gates: Hook | Policy, **options: Any) -> Agent:
    return agent_of(
        call("note", text="a"),
        say("done"),
        tools=[note],
        hooks=tuple(it for it in gates if isinstance(it, Hook)),
        policies=tuple(it for it in gates if isinstance(it, Policy)),
        **options,
    )


async def played(agent: Agent) -> tuple[TurnResult, list[Event]]:
    async with session_with(agent) as session:
        result = await session.run("go")
        events = await session.events()
        assert_sound(events)
        assert fold(session.id, events) == session.state
    return result, events


def decisions(events: Sequence[Event]) -> list[HookDecided | PolicyDecided]:
    return [event.data for event in events if isinstance(event.data, HookDecided | PolicyDecided)]


GATES = {"hook": hook, "policy": policy}


@pytest.mark.parametrize("gate", GATES.values(), ids=GATES)
async def test_a_denied_call_is_a_result_and_the_turn_goes_on(gate: Any) -> None:
    result, events = await played(noting(gate(Deny("not on Sundays"))))
    assert (result.status, result.text) == ("completed", "done")
    (outcome,) = results(events)
    assert (outcome.status, outcome.text) == ("denied", "Denied: not on Sundays. Nothing was run.")
    (decided,) = decisions(events)
    assert (decided.decision, decided.reason, decided.call_id) == ("deny", "not on Sundays", outcome.call_id)
    assert claims(events) == []
    assert RUN == []


@pytest.mark.parametrize("gate", GATES.values(), ids=GATES)
async def test_changed_arguments_are_what_runs_and_are_recorded(gate: Any) -> None:
    _, events = await played(noting(gate(Modify(arguments='{"text":"b"}', reason="polite"))))
    assert RUN == ["b"]
    (decided,) = decisions(events)
    assert (decided.decision, decided.arguments, decided.reason) == ("modify", '{"text":"b"}', "polite")


@pytest.mark.parametrize("arguments", ['{"words":1}', "{", '{"text":"\\ud800"}'])
async def test_changed_arguments_are_checked_like_the_models(arguments: str) -> None:
    _, events = await played(noting(hook(Modify(arguments=arguments))))
    (outcome,) = results(events)
    assert outcome.status == "error"
    assert "Nothing was run" in outcome.text
    assert RUN == []


@pytest.mark.parametrize("gate", GATES.values(), ids=GATES)
async def test_an_interrupt_ends_the_turn_before_any_call_of_the_reply_runs(gate: Any) -> None:
    async def only_b(question: Any) -> Any:
        return Interrupt("that is enough") if '"b"' in question.arguments else Allow()

    agent = agent_of(
        calls(("note", {"text": "a"}), ("note", {"text": "b"}), ("note", {"text": "c"})),
        say("never said"),
        tools=[note],
        **{"hooks" if gate is hook else "policies": (gate(only_b),)},
    )
    result, events = await played(agent)
    assert (result.status, result.stop) == ("failed", "interrupted")
    assert result.error is not None
    code = "interrupted" if gate is hook else "policy.interrupted"
    assert (result.error.code, result.error.message) == (code, "that is enough")
    assert [outcome.status for outcome in results(events)] == ["cancelled"] * 3
    assert RUN == []
    assert [it.decision for it in decisions(events)] == ["interrupt"]


async def test_a_call_that_a_hook_puts_off_is_refused_for_now() -> None:
    _, events = await played(
        noting(hook(Defer(until=START + timedelta(hours=1), reason="the bank is closed")))
    )
    (outcome,) = results(events)
    assert outcome.status == "denied"
    assert "not before 2026-01-01T01:00:00+00:00" in outcome.text
    assert "the bank is closed" in outcome.text
    assert RUN == []


async def test_a_policy_is_told_what_is_about_to_happen() -> None:
    seen: list[Action] = []

    async def watch(action: Action) -> Allow:
        seen.append(action)
        return Allow()

    agent = noting(Policy(name="watch", decide=watch))
    result, events = await played(agent)
    assert [(action.kind, action.name) for action in seen] == [
        ("turn", ""),
        ("model", "sim/"),
        ("tool", "note"),
        ("model", "sim/"),
    ]
    at_tool = seen[2]
    assert (at_tool.arguments, at_tool.effect) == ('{"text":"a"}', "idempotent")
    assert at_tool.call_id == results(events)[0].call_id
    assert {action.turn_id for action in seen} == {result.turn_id}
    assert decisions(events) == [], "what changes nothing is not recorded"


async def test_a_policy_sees_what_a_hook_changed() -> None:
    seen: list[str] = []

    async def watch(action: Action) -> Allow:
        seen.append(action.arguments)
        return Allow()

    await played(noting(hook(Modify(arguments='{"text":"b"}')), policy(watch)))
    assert seen == ['{"text":"b"}']


async def test_the_first_refusal_ends_the_asking() -> None:
    async def unreachable(_: object) -> Allow:
        raise AssertionError("asked after a refusal")

    _, events = await played(
        noting(hook(Deny("first"), name="a"), hook(unreachable, name="b", guard=True), policy(unreachable))
    )
    assert results(events)[0].text == "Denied: first. Nothing was run."


FAILURES = {
    "raises": (ValueError("broken"), "ValueError: broken"),
    "hangs": (hang, "no answer within 5 s"),
    "cancels itself": (asyncio.CancelledError(), "CancelledError"),
    "ends the program": (SystemExit(3), "SystemExit: 3"),
    "panics": (BaseExceptionGroup("b", [SystemExit(3)]), "BaseExceptionGroup: b (1 sub-exception)"),
    "answers nonsense": (True, "TypeError: True is not a decision"),
    "answers no": (False, "TypeError: False is not a decision"),
    "answers what no log can hold": (Deny("\ud800"), "UnicodeEncodeError"),
    "answers with a number": (Deny(5), "ValidationError: Expected `str`, got `int`"),  # type: ignore[arg-type]
    "raises what cannot be written": (ValueError("\ud800"), "ValueError: ?"),
}


@pytest.mark.parametrize(("answer", "reason"), FAILURES.values(), ids=FAILURES)
async def test_a_policy_that_fails_denies(answer: Any, reason: str) -> None:
    _, events = await played(noting(policy(answer, name="house")))
    (outcome,) = results(events)
    assert outcome.status == "denied"
    assert f"the policy house failed: {reason}" in outcome.text
    assert RUN == []


async def test_a_policy_that_decides_nothing_denies() -> None:
    _, events = await played(noting(policy(None, name="house")))
    assert results(events)[0].text == "Denied: the policy house decided nothing. Nothing was run."


@pytest.mark.parametrize(("answer", "reason"), FAILURES.values(), ids=FAILURES)
async def test_a_guard_that_fails_denies(answer: Any, reason: str) -> None:
    _, events = await played(noting(hook(answer, name="guard", guard=True)))
    (outcome,) = results(events)
    assert outcome.status == "denied"
    assert f"the guard guard failed: {reason}" in outcome.text
    assert RUN == []


@pytest.mark.parametrize(("answer", "reason"), FAILURES.values(), ids=FAILURES)
async def test_another_hook_that_fails_is_passed_over_and_reported(answer: Any, reason: str) -> None:
    _, events = await played(noting(hook(answer, name="advice")))
    assert results(events)[0].status == "ok"
    (decided,) = decisions(events)
    assert (decided.decision, decided.hook) == ("pass", "advice")
    assert reason in decided.reason
    assert RUN == ["a"]


async def test_a_hook_has_at_most_30_seconds() -> None:
    async def slow(_: object) -> Deny:
        await asyncio.sleep(31)
        return Deny("too late")

    _, events = await played(noting(hook(slow, timeout=3_600.0)))
    assert results(events)[0].status == "ok"
    assert decisions(events)[0].reason == "it failed: no answer within 30 s"


TURN_REFUSALS = {
    "deny": (Deny("closed"), "closed"),
    "interrupt": (Interrupt("closed"), "closed"),
    "ask": (AskFor(reason="who are you"), "who are you (a person can be asked about a tool call only)"),
    "modify": (
        Modify(result="x"),
        "a decision to modify has nothing to change before a turn or a model call",
    ),
}


@pytest.mark.parametrize("where", ["before_turn", "before_reason", "turn", "model"])
@pytest.mark.parametrize(("decision", "reason"), TURN_REFUSALS.values(), ids=TURN_REFUSALS)
async def test_a_refused_turn_ends_before_the_model_is_asked(where: Any, decision: Any, reason: str) -> None:
    gate = hook(decision, where) if where.startswith("before") else policy(decision, kind=where)
    result, events = await played(noting(gate))
    assert (result.status, result.stop) == ("failed", "interrupted")
    assert result.error is not None
    assert result.error.message == reason
    assert "output.message.completed" not in kinds(events)
    (decided,) = decisions(events)
    assert (decided.action if isinstance(decided, PolicyDecided) else decided.point) == where


@pytest.mark.parametrize("kind", ["turn", "model"])
async def test_a_policy_on_turns_and_models_fails_closed(kind: str) -> None:
    result, _ = await played(noting(policy(ValueError("broken"), name="house", kind=kind)))
    assert result.stop == "interrupted"
    assert result.error is not None
    assert result.error.message == "the policy house failed: ValueError: broken"


async def test_hooks_are_told_what_belongs_to_their_point() -> None:
    seen: list[HookEvent] = []

    async def watch(event: HookEvent) -> None:
        seen.append(event)

    points: tuple[Point, ...] = ("before_turn", "before_reason", "before_tool", "after_tool", "after_turn")
    result, events = await played(noting(*(hook(watch, point, name=point) for point in points)))
    assert [event.point for event in seen] == [
        "before_turn",
        "before_reason",
        "before_tool",
        "after_tool",
        "before_reason",
        "after_turn",
    ]
    told = {event.point: event for event in seen}
    assert told["before_turn"].message is not None
    assert told["before_turn"].message.content == (Text(text="go"),)
    assert (told["before_tool"].tool, told["before_tool"].arguments) == ("note", '{"text":"a"}')
    assert (told["after_tool"].tool, told["after_tool"].arguments) == ("note", '{"text":"a"}')
    assert told["after_tool"].result == results(events)[0]
    assert told["after_turn"].message is not None
    assert told["after_turn"].message.text == "done"
    assert {event.turn_id for event in seen} == {result.turn_id}


async def test_before_turn_is_asked_once_although_the_model_is_asked_again() -> None:
    asked: list[str] = []

    async def watch(event: HookEvent) -> None:
        asked.append(event.point)

    attempts = iter([fail("overloaded"), say("done")])

    agent = noting(hook(watch, "before_turn", name="t"), hook(watch, "before_reason", name="r"))
    flaky = Agent(model=Sim.rule(lambda request: next(attempts)), config=agent.layers[0].config)
    result, _ = await played(flaky)
    assert result.status == "completed"
    assert asked == ["before_turn", "before_reason", "before_reason"]


@pytest.mark.parametrize(
    ("decision", "status", "text"),
    [
        (Modify(result="noted"), "ok", "noted"),
        (Modify(result="bad \ud800"), "ok", "noted a"),
        (Deny("it holds a name"), "denied", "Withheld: it holds a name"),
        (Modify(arguments='{"text":"b"}'), "ok", "noted a"),
        (Allow(), "ok", "noted a"),
        (None, "ok", "noted a"),
    ],
    ids=["modify", "unwritable", "deny", "arguments", "allow", "nothing"],
)
async def test_a_result_is_what_hooks_leave_of_it(decision: Any, status: str, text: str) -> None:
    _, events = await played(noting(hook(decision, "after_tool")))
    (outcome,) = results(events)
    assert (outcome.status, outcome.text) == (status, text)
    assert RUN == ["a"]


async def test_what_hooks_make_of_a_result_is_recorded() -> None:
    for decision, kind, reason in (
        (Modify(result="b", reason="shorter"), "modify", "shorter"),
        (Deny("it holds a name"), "deny", "it holds a name"),
        (Interrupt("seen enough"), "interrupt", "seen enough"),
    ):
        _, events = await played(noting(hook(decision, "after_tool", name="dlp")))
        (decided,) = decisions(events)
        assert (decided.hook, decided.point, decided.decision, decided.reason) == (
            "dlp",
            "after_tool",
            kind,
            reason,
        )
        assert decided.call_id == results(events)[0].call_id


async def test_a_failing_result_stays_one_when_its_text_is_changed() -> None:
    @tool
    async def order() -> None:
        """Order."""
        raise ToolError("secret detail")

    agent = agent_of(
        call("order"), say("done"), tools=[order], hooks=(hook(Modify(result="no"), "after_tool"),)
    )
    _, events = await played(agent)
    (outcome,) = results(events)
    assert (outcome.status, outcome.text) == ("error", "no")


async def test_a_guard_after_a_tool_that_fails_withholds_the_result() -> None:
    _, events = await played(noting(hook(ValueError("broken"), "after_tool", name="dlp", guard=True)))
    (outcome,) = results(events)
    assert (outcome.status, outcome.text) == ("denied", "Withheld: the guard dlp failed: ValueError: broken")


async def test_an_interrupt_after_a_tool_ends_the_turn_and_keeps_the_result() -> None:
    result, events = await played(noting(hook(Interrupt("seen enough"), "after_tool")))
    assert (result.status, result.stop) == ("failed", "interrupted")
    (outcome,) = results(events)
    assert (outcome.status, outcome.text) == ("ok", "noted a")


async def test_what_hooks_after_the_turn_do_changes_nothing() -> None:
    for decision in (Deny("no"), Interrupt("no"), ValueError("broken")):
        result, _ = await played(noting(hook(decision, "after_turn")))
        assert (result.status, result.text) == ("completed", "done")


async def test_the_next_input_is_not_lost_while_hooks_after_the_turn_run() -> None:
    started = asyncio.Event()

    async def slow(event: HookEvent) -> None:
        started.set()
        await asyncio.sleep(4)

    agent = agent_of(say("first"), say("second"), hooks=(hook(slow, "after_turn"),))
    async with session_with(agent) as session:
        one = await session.send("one")
        await started.wait()
        two = await session.send("two")
        async with asyncio.timeout(60):
            assert (await two).text == "second"
            assert (await one).text == "first"
        events = await session.events()
    assert_sound(events)
    turns = {event.context.turn_id for event in events if event.type != "session.created"}
    assert turns == {one.id, two.id}, "every event is stamped with its own turn"


async def test_hooks_after_a_turn_that_fail_are_recorded_with_the_turn_that_ended() -> None:
    started = asyncio.Event()

    async def broken(event: HookEvent) -> None:
        started.set()
        await asyncio.sleep(4)
        raise ValueError("broken")

    hooks = (hook(broken, "after_turn", name="late"), hook(broken, "after_turn", name="last", guard=True))
    async with session_with(agent_of(say("first"), say("second"), hooks=hooks)) as session:
        one = await session.send("one")
        await started.wait()
        two = await session.send("two")
        assert (await two).text == "second"
        events = await session.events()
    failed = [(it.data.hook, it.context.turn_id) for it in events if isinstance(it.data, HookDecided)]
    assert failed[:2] == [("late", one.id), ("last", one.id)]


@pytest.mark.parametrize("decision", [Deny("no"), Interrupt("no")])
async def test_no_hook_after_a_turn_keeps_the_next_from_running(decision: Any) -> None:
    ran: list[str] = []

    async def note_it(event: HookEvent) -> None:
        ran.append(event.status)

    await played(noting(hook(decision, "after_turn", name="a"), hook(note_it, "after_turn", name="b")))
    assert ran == ["completed"]


IMPOSSIBLE = {
    "a change without arguments": (
        "before_tool",
        Modify(result="x"),
        "a decision to modify a call needs arguments",
    ),
    "a change without a result": (
        "after_tool",
        Modify(message="x"),
        "a decision to modify a result needs result",
    ),
    "a question after it ran": (
        "after_tool",
        AskFor(reason="sure?"),
        "a call that has run can be neither asked about nor put off",
    ),
    "a delay after it ran": (
        "after_tool",
        Defer(until=START + timedelta(days=1)),
        "a call that has run can be neither asked about nor put off",
    ),
}


@pytest.mark.parametrize(("where", "decision", "why"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
async def test_what_a_hook_cannot_decide_there_is_a_failure(where: Any, decision: Any, why: str) -> None:
    _, events = await played(noting(hook(decision, where, name="dlp", guard=True)))
    (outcome,) = results(events)
    assert outcome.status == "denied"
    assert f"the guard dlp failed: {why}" in outcome.text
    _, events = await played(noting(hook(decision, where, name="advice")))
    assert results(events)[0].text == "noted a"
    (decided,) = decisions(events)
    assert decided.decision == "pass"
    assert why in decided.reason


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"point": "before_tools"}, "no point 'before_tools'; choose from before_turn"),
        ({"run": Deny("no")}, "no async function"),
        ({"timeout": 0.0}, "give seconds above 0"),
        ({"timeout": float("nan")}, "give seconds above 0"),
    ],
)
async def test_a_hook_that_could_never_run_is_found_when_the_manifest_is_made(
    wrong: dict[str, Any], why: str
) -> None:
    gate = replace(hook(Deny("no"), guard=True), **wrong)
    with pytest.raises(ConfigError, match=f"hook h.*{why}"):
        await played(noting(gate))
