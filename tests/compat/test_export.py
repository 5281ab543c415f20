"""What a log of ours becomes as journal records and events."""

import base64
import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from holdfast import (
    Agent,
    Config,
    Interrupt,
    MemoryStore,
    Runtime,
    SQLiteStore,
    Store,
    ToolError,
    UsageError,
    tool,
)
from holdfast.compat.agent_sdk import (
    Trace,
    event_rows,
    export_events,
    export_journal,
    export_session,
    journal_rows,
    plain,
)
from holdfast.compat.agent_sdk.payloads import (
    Approval,
    ContextProjection,
    EffectResult,
    HookRecord,
    ModelAttempt,
    Recovery,
    TerminalResult,
    ToolRecord,
)
from holdfast.compat.agent_sdk.records import check_journal
from holdfast.drivers.sim import Sim, call, calls, fail, say
from holdfast.events import (
    AskAnswered,
    AskExpired,
    AskOpened,
    AskVoided,
    CallResolved,
    Event,
    EventContext,
    Fact,
    HookDecided,
    InputMessage,
    OutputMessageCompleted,
    SessionCreated,
    ToolCompleted,
    ToolStarted,
    TurnCancelled,
    TurnFailed,
    TurnRecovered,
    TurnStarted,
    TurnSteered,
)
from holdfast.events import Failure as Fault
from holdfast.hook import Hook, HookEvent
from holdfast.messages import CallStatus, Message, Text, ToolCall, ToolResult, user_message
from tests.compat.recordings import SECRET, TITLED, exported, traced
from tests.golden import facts

T = TypeVar("T")


def summary(trace: Trace) -> list[str]:
    """The records in short: kind, and status or type."""
    found = []
    for line in trace.records:
        payload = plain(line.payload)
        said = payload.get("record", {}).get("record_kind") or payload.get("status")
        status = said or payload.get("terminal_status") or payload.get("record_type")
        found.append(f"{line.record_kind} {status}" if status else line.record_kind)
    return found


def cited(trace: Trace) -> list[str]:
    """The events in short: kind, and the number of the record behind each."""
    rows = [published.envelope for published in trace.events]
    return [f"{it.event_kind}@{(it.journal_cursor or '?').rpartition('.')[2]}" for it in rows]


def payloads(trace: Trace, kind: type[T]) -> list[T]:
    return [line.payload for line in trace.records if isinstance(line.payload, kind)]


@tool(effect="pure")
async def add(a: int, b: int) -> int:
    """Add."""
    return a + b


@tool(ask=True)
async def pay() -> str:
    """Pay."""
    return "paid"


BEGUN = ["run started", "turn started", "context"]
ASKED = ["effect_intent", "model_attempt", "effect_result completed", "model_attempt"]


def ended(status: str) -> list[str]:
    return ["message", f"run {status}", f"turn {status}"]


async def test_a_call_stands_between_two_requests_with_its_intent_before_its_outcome() -> None:
    trace = await traced(call("add", a=1, b=2), say("3"), tools=(add,))
    ran = ["tool intent_recorded", "tool completed"]
    assert summary(trace) == [*BEGUN, *ASKED, *ran, *ASKED, *ended("completed")]
    assert cited(trace)[6:8] == ["tool_started@8", "tool_completed@9"]
    assert [it.stop_reason for it in payloads(trace, ModelAttempt)] == [None, "tool_use", None, "end_turn"]
    requests = [line for line in trace.records if line.event_index.event_kind == "provider_request_intent"]
    first, again = [line.attempt_id or "" for line in requests]
    assert first.startswith("attempt.p0.")
    assert again.endswith(".tool_continuation.1")
    assert again.startswith("attempt.p2.")
    assert [it.request_message_count for it in payloads(trace, ModelAttempt)] == [1, 1, 3, 3]


async def test_a_refused_call_is_recorded_and_the_run_goes_on() -> None:
    trace = await traced(calls(("nope", {}), ("add", "{")), say("I cannot."), tools=(add,))
    assert [it.status for it in payloads(trace, ToolRecord)] == ["failed", "failed"]
    assert [it.error_ref for it in payloads(trace, ToolRecord)] == ["ToolFailure", "ToolFailure"]
    assert cited(trace)[-2:] == [
        f"run_completed@{len(trace.records) - 1}",
        f"turn_completed@{len(trace.records)}",
    ]


async def test_a_failed_request_is_an_attempt_of_its_own() -> None:
    trace = await traced(fail("overloaded", retry_after=0.01), say("Here."))
    assert summary(trace)[3:11] == [
        "effect_intent",
        "model_attempt",
        "effect_result failed",
        "model_attempt",
        *ASKED,
    ]
    assert [it.error_ref for it in payloads(trace, EffectResult)] == ["overloaded", None]
    assert "model_attempt_failed@7" in cited(trace)


async def test_a_run_that_fails_is_sealed_as_failed() -> None:
    trace = await traced(fail("authentication"))
    assert [it.terminal_status for it in payloads(trace, TerminalResult)] == ["failed"]
    assert [row.partition("@")[0] for row in cited(trace)[-2:]] == ["run_failed", "turn_failed"]


async def test_no_answer_that_fits_leaves_the_trace_of_an_exhausted_run() -> None:
    trace = await traced(say("{}"), say("[]"), say('{"title": 4}'), output=TITLED, repairs=2)
    assert (len(trace.records), len(trace.events)) == (29, 24)
    types = [row["payload_type"] for row in journal_rows(trace.records)]
    assert types[24:] == [
        "structured_output_repair_exhausted",
        "structured_output_terminal_failure",
        "message",
        "terminal_result",
        "turn_lifecycle",
    ]
    assert cited(trace)[-3:] == ["structured_output_failed@26", "run_failed@28", "turn_failed@29"]
    assert event_rows(trace.events)[-3]["event_kind"] == "StructuredOutputFailed"


async def test_an_answer_by_way_of_a_tool_leaves_the_same_trace() -> None:
    plainly = await traced(say("{}"), say('{"title": "x"}'), output=TITLED)
    called = await traced(call("final_answer"), call("final_answer", title="x"), output=TITLED)
    assert journal_rows(called.records) == journal_rows(plainly.records)
    assert event_rows(called.events) == event_rows(plainly.events)


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return MemoryStore() if request.param == "memory" else SQLiteStore(tmp_path / "log.db")


async def test_every_beginning_of_a_log_exports_the_beginning_of_the_whole(store: Store) -> None:
    """So that what was exported before a crash, or while a turn waits, stays true."""
    model = Sim.script(calls(("add", {"a": 1, "b": 2}), ("pay", {})), say("Done."), say("Bye."))
    async with Runtime(store) as runtime:
        session = await runtime.session(Agent("You test.", model=model, tools=[add, pay]))
        waiting = await (await session.send("Pay."))
        await session.approve(waiting.asks[0].ask_id, by="bob", reason=SECRET)
        await session.handle(waiting.turn_id)
        await session.run("Thanks.")
        events = await session.events()
    whole = export_session(events)
    check_journal(whole.records)
    for end in range(len(events)):
        part = export_session(events[:end])
        assert part.records == whole.records[: len(part.records)]
        assert part.events == whole.events[: len(part.events)]
    assert SECRET not in json.dumps(plain(whole.records))
    assert [it.event_seq for it in (published.envelope for published in whole.events)] == [
        *range(1, len(whole.events) + 1)
    ]
    assert len({line.run_id for line in whole.records}) == 2


async def test_an_approval_stands_before_the_call_that_it_releases() -> None:
    async with Runtime() as runtime:
        session = await runtime.session(
            Agent("You test.", model=Sim.script(call("pay"), say("Done.")), tools=[pay])
        )
        waiting = await (await session.send("Pay."))
        await session.approve(waiting.asks[0].ask_id, by="bob")
        await session.handle(waiting.turn_id)
        trace = export_session(await session.events())
    kinds = [line.record_kind for line in trace.records if line.record_kind in ("approval", "tool")]
    assert kinds == ["approval", "approval", "tool", "tool"]
    asked, answered = payloads(trace, Approval)
    assert asked.record_type == "dispatch_intent"
    assert answered.record["terminal_status"] == "approved"
    assert answered.record["reason_code"] == "approval.approved"


async def test_a_no_is_recorded_as_the_no_of_a_person() -> None:
    async with Runtime() as runtime:
        session = await runtime.session(
            Agent("You test.", model=Sim.script(call("pay"), say("No.")), tools=[pay])
        )
        waiting = await (await session.send("Pay."))
        await session.deny(waiting.asks[0].ask_id, by="bob", reason=SECRET)
        await session.handle(waiting.turn_id)
        trace = export_session(await session.events())
    assert payloads(trace, Approval)[1].record["reason_code"] == "approval.denied"
    assert [it.status for it in payloads(trace, ToolRecord)] == ["denied_before_execution"]
    assert any(row.startswith("tool_denied@") for row in cited(trace))
    assert SECRET not in json.dumps(plain(trace.records))


async def test_a_hook_that_decides_leaves_a_decision_an_intent_and_a_result() -> None:
    async def stop(event: HookEvent) -> Interrupt:
        return Interrupt(SECRET)

    hook = Hook(id="desk:stop", point="before_tool", run=stop)
    async with Runtime() as runtime:
        agent = Agent("You test.", model=Sim.script(call("add", a=1, b=2)), tools=[add])
        session = await runtime.session(agent, config=Config(hooks=(hook,)))
        await session.run("Add.")
        trace = export_session(await session.events())
    place = [line.record_kind for line in trace.records].index("hook")
    assert summary(trace)[place : place + 3] == ["hook", "effect_intent", "effect_result completed"]
    (decision,) = payloads(trace, HookRecord)
    assert (decision.hook_id, decision.point) == ("desk:stop", "before_tool_call")
    assert SECRET not in json.dumps(plain(trace.records))


TURN = "turn_" + "0b" * 16
CALL = "call_" + "0b" * 16 + "_1_0"


def log(*data: Fact, name: str = "pay") -> list[Event]:
    """A log with one turn that has asked for one call, and then this."""
    asked = Message(id="message_r", role="assistant", content=(ToolCall(id=CALL, name=name, arguments="{}"),))
    begun: tuple[Fact, ...] = (
        SessionCreated(agent="desk"),
        InputMessage(message=user_message("Pay."), turn_id=TURN),
        TurnStarted(inputs=("message_i",), manifest="sha256:m"),
        OutputMessageCompleted(message=asked, stop="tool_calls", iteration=1),
    )
    return [
        Event(
            id=f"event_{number}",
            type=fact.kind,
            ts=datetime(2026, 5, 24, 12, tzinfo=UTC),
            session_id="session_" + "0a" * 16,
            sequence=number,
            context=EventContext(turn_id=TURN),
            data=fact,
        )
        for number, fact in enumerate((*begun, *data), 1)
    ]


def started(name: str = "pay") -> ToolStarted:
    return ToolStarted(
        call_id=CALL, name=name, attempt=1, arguments_digest="sha256:a", effect="once", epoch=1
    )


def completed(status: CallStatus, name: str = "pay") -> ToolCompleted:
    result = ToolResult(call_id=CALL, name=name, content=(Text(text=SECRET),), status=status)
    return ToolCompleted(result=result, attempt=1)


def test_a_call_in_doubt_is_an_open_effect_and_not_an_outcome() -> None:
    trace = export_session(log(started(), completed("in_doubt")))
    (recovery,) = payloads(trace, Recovery)
    (pending,) = recovery.unsafe_pending
    (intent,) = [line for line in trace.records if isinstance(line.payload, ToolRecord)]
    assert (pending.effect_id, pending.intent_record_id) == (f"effect.{CALL}", intent.record_id)
    assert cited(trace)[-1] == f"tool_recovery_required@{len(trace.records)}"


def test_a_run_that_is_gone_on_with_tells_which_effects_are_open() -> None:
    cut_off = payloads(export_session(log(started(), TurnRecovered(attempt=1))), Recovery)
    at_rest = payloads(export_session(log(started(), completed("ok"), TurnRecovered(attempt=1))), Recovery)
    assert [len(it.unsafe_pending) for it in (*cut_off, *at_rest)] == [1, 0]


def test_a_cancelled_turn_is_a_cancelled_run() -> None:
    trace = export_session(log(TurnCancelled(iterations=1, reason=SECRET)))
    assert [it.terminal_status for it in payloads(trace, TerminalResult)] == ["cancelled"]
    assert [row.partition("@")[0] for row in cited(trace)[-2:]] == ["run_cancelled", "turn_failed"]
    assert SECRET not in json.dumps(plain(trace.records))


def test_what_is_steered_into_a_run_is_put_together_with_the_rest() -> None:
    trace = export_session(log(TurnSteered(inputs=("message_s", "message_t"))))
    context = payloads(trace, ContextProjection)
    assert [it.selected_item_count for it in context] == [1, 4]
    assert cited(trace)[-1] == f"context_assembled@{len(trace.records)}"


def test_what_a_person_says_of_a_call_in_doubt_is_what_became_of_its_effect() -> None:
    said = ToolResult(call_id=CALL, name="pay", content=(Text(text=SECRET),))
    resolved = CallResolved(call_id=CALL, by="bob", result=said)
    rerun = CallResolved(call_id=CALL, by="bob", turn_id="turn_x")
    trace = export_session(log(started(), completed("in_doubt"), resolved, rerun))
    result = payloads(trace, EffectResult)[-1]
    assert (result.effect_id, result.terminal_status) == (f"effect.{CALL}", "completed")
    assert result.reconciliation_ref
    assert SECRET not in json.dumps(plain(trace.records))
    assert trace.records[-1].payload is result


def ask() -> AskOpened:
    return AskOpened(
        ask_id="ask_1", call_id=CALL, tool="pay", arguments=SECRET, digest="sha256:d", reason=SECRET
    )


ANSWERS = {
    "approval.timeout": AskExpired(ask_id="ask_1"),
    "approval.cancelled": AskVoided(ask_id="ask_1", call_id=CALL, reason=SECRET),
    "approval.denied": AskAnswered(ask_id="ask_1", verdict="denied", by="bob", reason=SECRET),
    "approval.approved": AskAnswered(ask_id="ask_1", verdict="answered", by="bob", reason=SECRET),
}


@pytest.mark.parametrize("code", ANSWERS)
def test_an_ask_ends_once_and_under_a_code_of_its_own(code: str) -> None:
    trace = export_session(log(ask(), ANSWERS[code], ANSWERS[code]))
    approvals = payloads(trace, Approval)
    assert [it.record_type for it in approvals] == ["dispatch_intent", "dispatch_result"]
    assert approvals[1].record["reason_code"] == code
    assert SECRET not in json.dumps(plain(trace.records))


def test_a_hook_that_was_passed_over_changed_nothing() -> None:
    passed = HookDecided(hook="h", point="before_tool", decision="pass", call_id=CALL)
    assert payloads(export_session(log(passed)), HookRecord) == []


HOSTILE = ["a\nb", "", "é" * 400, "\ud800", SECRET, "x" * 5_000]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_that_a_model_made_up_neither_breaks_the_export_nor_shows_in_it(name: str) -> None:
    trace = export_session(log(completed("error", name), name=name))
    written = json.dumps(plain(trace.records)) + json.dumps(plain(trace.events))
    assert not name or name not in written
    assert SECRET not in written
    check_journal(trace.records)


def test_the_name_of_a_tool_that_there_is_is_shown() -> None:
    ran = payloads(export_session(log(started(), completed("ok"))), ToolRecord)
    assert [it.canonical_tool_name for it in ran] == ["pay", "pay"]


ENCODINGS = {
    "as it is": SECRET,
    "base64": base64.b64encode(SECRET.encode()).decode(),
    "base64 for URLs": base64.urlsafe_b64encode(SECRET.encode()).decode().rstrip("="),
    "hex": SECRET.encode().hex(),
    "percent": quote(SECRET, safe="").replace("-", "%2D"),
    "escapes": "".join(f"\\u{ord(letter):04x}" for letter in SECRET),
    "backwards": SECRET[::-1],
    "SHA-256": hashlib.sha256(SECRET.encode()).hexdigest(),
}


async def test_nothing_private_is_in_an_export_in_any_encoding() -> None:
    """In what users, models, tools, approvers and operators say: each in every encoding."""
    canary = " ".join(ENCODINGS.values())

    @tool(ask=lambda arguments: canary)
    async def pay(text: str) -> str:
        """Pay."""
        raise ToolError(f"{canary} {text}")

    async with Runtime() as runtime:
        model = Sim.script(call("pay", text=canary), call(canary), say(canary))
        session = await runtime.session(
            Agent(canary, model=model, tools=[pay]), title=canary, metadata={"canary": canary}
        )
        waiting = await (await session.send(canary, key=canary))
        await session.approve(waiting.asks[0].ask_id, by=canary, reason=canary)
        await session.handle(waiting.turn_id)
        trace = await exported(runtime, await session.events())
    assert [it.status for it in payloads(trace, ToolRecord)] == ["intent_recorded", "failed", "failed"]
    written = json.dumps(plain(trace.records)) + json.dumps(plain(trace.events))
    assert [name for name, form in ENCODINGS.items() if form in written] == []


@pytest.mark.parametrize("name", facts.FACTS)
def test_every_kind_of_fact_can_be_exported(name: str) -> None:
    """Also where it does not belong: a log is written by newer versions as well."""
    made = facts.event_of(name)
    last = structs.replace(made, sequence=5, context=EventContext(turn_id=TURN))
    trace = export_session([*log(), last])
    check_journal(trace.records)


@settings(max_examples=50)
@given(st.lists(st.sampled_from(sorted(facts.FACTS)), max_size=30))
def test_any_facts_in_any_order_can_be_exported_and_the_beginning_stays(names: list[str]) -> None:
    more = [facts.event_of(name) for name in names]
    context = EventContext(turn_id=TURN)
    events = [*log(), *(structs.replace(it, sequence=5 + at, context=context) for at, it in enumerate(more))]
    whole, part = export_session(events), export_session(events[: 4 + len(more) // 2])
    check_journal(whole.records)
    assert whole.records[: len(part.records)] == part.records
    assert whole.events[: len(part.events)] == part.events
    backed = {line.cursor for line in whole.records}
    assert all(published.envelope.journal_cursor in backed for published in whole.events)


def test_a_log_that_does_not_begin_at_its_beginning_is_refused() -> None:
    events = log(TurnFailed(stop="error", iterations=1, error=Fault(code="x", message=SECRET)))
    with pytest.raises(UsageError, match="first event"):
        export_journal(events[1:])
    with pytest.raises(UsageError, match="stands where number 2 is due"):
        export_events([events[0], *events[2:]])
    assert SECRET not in json.dumps(plain(export_journal(events)))
