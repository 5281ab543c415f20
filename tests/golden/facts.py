"""A rich instance of every kind of fact, and the golden files made of them.

A golden file is the one thing here that never changes: logs with such events exist. When a kind gains a field, add a
second instance for it (`tool.started.2`) and write its file with

    python -m tests.golden.facts --write

which writes what is missing and leaves every file that is there as it is.
"""

from __future__ import annotations

import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

from holdfast.events import (
    AskAnswered,
    AskExpired,
    AskOpened,
    AskVoided,
    CallResolved,
    Drifted,
    Event,
    EventContext,
    Fact,
    Failure,
    FileDeleted,
    FileWritten,
    GrantRevoked,
    GrantUsed,
    GuardDecided,
    HookDecided,
    InputMessage,
    OutputChecked,
    OutputMessageCompleted,
    OutputMessageReplaced,
    OutputMessageShown,
    PolicyDecided,
    ReasonFailed,
    SessionCreated,
    SessionUpdated,
    ToolCompleted,
    ToolStarted,
    TurnCancelled,
    TurnCompleted,
    TurnFailed,
    TurnRecovered,
    TurnStarted,
    TurnSteered,
    encode_event,
)
from holdfast.facts.answers import OutputContract
from holdfast.facts.asks import Grant
from holdfast.facts.budgets import (
    Booked,
    BudgetExceeded,
    BudgetRaised,
    BudgetReserved,
    BudgetSettled,
    BudgetWarned,
    PaymentMade,
    Spent,
)
from holdfast.facts.compaction import CompactionAsked, CompactionFailed, ContextCompacted
from holdfast.facts.deliveries import SinkDelivered, SinkOwed, SinkStarted
from holdfast.facts.hooks import HooksOwed, HooksRun
from holdfast.messages import BlobRef, Document, Image, Message, Text, Thinking, ToolCall, ToolResult, Usage

FOLDER = Path(__file__).parent / "events"

AT = datetime(2026, 2, 28, 23, 59, 59, 123_456, tzinfo=UTC)
LATER = datetime(2026, 3, 1, 0, 0, 30, tzinfo=UTC)
HEX = "019c0ffee0007000800000000000000"
TURN = f"turn_{HEX}1"
CALL = f"call_{HEX}1_2_0"
ASK = f"ask_{HEX}5"
GIVEN = ToolResult(call_id=CALL, name="locate", content=(Text(text="home"),))
DIGEST = "sha256:" + "9f" * 32
BLOB = BlobRef(digest=DIGEST, size=70_000, media_type="text/plain", preview="The beginning …")
USAGE = Usage(
    input_tokens=1_200, output_tokens=80, cache_read_tokens=1_000, cache_write_tokens=64, reasoning_tokens=32
)
FAILURE = Failure(code="rate_limit", message="The provider asks to wait.", detail="HTTP 429")
ASKED = Message(
    id=f"message_{HEX}2",
    role="user",
    content=(
        Text(text='Was ist das? "Zitat", \\, \u2028, 🪸'),
        Image(blob=BlobRef(digest=DIGEST, size=3, media_type="image/png")),
        Image(url="https://example.com/a.png"),
        Document(blob=BLOB, name="notes.txt"),
        Document(url="https://example.com/a.pdf", name="a.pdf"),
    ),
)
REPLY = Message(
    id=f"message_{HEX}3",
    role="assistant",
    content=(
        Thinking(text="Hm.", signature="c2lnbmF0dXJl", provider="sim", encrypted="b3BhcXVl"),
        Text(text="I look at it."),
        ToolCall(id=CALL, name="look", arguments='{"where": "/notes.txt"}', provider_id="call_77"),
    ),
    phase="commentary",
)
RESULT = ToolResult(
    call_id=CALL,
    name="look",
    content=(Text(text="A reef."), Image(url="https://example.com/reef.png"), Document(blob=BLOB, name="b")),
    status="in_doubt",
    provider_id="call_77",
)

FACTS: dict[str, Fact] = {
    "session.created": SessionCreated(
        harness="desk", agent="refunds", layers=DIGEST, title="A reef", metadata={"team": "sea"}
    ),
    "session.created.2": SessionCreated(agent="refunds", principal="mia", organisation="acme"),
    "budget.reserved": BudgetReserved(
        key=f"{TURN}:7",
        amount=Spent(model_calls=1, tokens=5_000, usd=Decimal("0.0125")),
        accounts=(Booked(account="principal:mia:usd:2026-02-28", quantity="usd", amount=Decimal("0.0125")),),
    ),
    "budget.reserved.2": BudgetReserved(key=CALL, call_id=CALL),
    "budget.settled": BudgetSettled(
        key=f"{TURN}:7", amount=Spent(model_calls=1, tokens=1_280, usd=Decimal("0.00264")), how="assumed"
    ),
    "budget.exceeded": BudgetExceeded(
        budget="Mia's day",
        scope="principal",
        quantity="usd",
        limit=Decimal("2.50"),
        used=Decimal("2.49"),
        asked=Decimal("0.0125"),
        account="principal:mia:usd:2026-02-28",
        waits=True,
        until=LATER,
        key=f"wait:session_{HEX}8:42",
    ),
    "budget.warned": BudgetWarned(
        budget="Mia's day",
        scope="principal",
        quantity="usd",
        limit=Decimal(2),
        used=Decimal("2.01"),
        account="principal:mia:usd:2026-02-28",
    ),
    "budget.raised": BudgetRaised(
        budget="session usd", amount=Decimal("1.5"), by="mia", account="principal:mia:usd"
    ),
    "payment.made": PaymentMade(
        call_id=CALL,
        key=f"{CALL}:1",
        receipt="receipt-1",
        amount=Decimal("2.50"),
        currency="USD",
        payee="the shop",
        purpose="a book",
    ),
    "turn.completed.2": TurnCompleted(
        stop="budget", iterations=3, usage=USAGE, reason="The budget is used up."
    ),
    "session.updated": SessionUpdated(title="Two reefs", metadata={"team": "coast", "floor": "2"}),
    "input.message": InputMessage(message=ASKED, turn_id=TURN, key="order-17"),
    "turn.started": TurnStarted(inputs=(ASKED.id,), manifest=DIGEST, deadline=LATER),
    "input.message.2": InputMessage(message=ASKED, turn_id=TURN, steer=True),
    "input.message.3": InputMessage(
        message=ASKED,
        turn_id=TURN,
        output=OutputContract(name="Invoice", schema={"type": "object"}, wrapped=True, repairs=1),
    ),
    "turn.started.2": TurnStarted(inputs=(), manifest=DIGEST, rerun=CALL),
    "turn.steered": TurnSteered(inputs=(ASKED.id,)),
    "hooks.owed": HooksOwed(attempt=2),
    "hooks.run": HooksRun(reason="they were begun 3 times, and cut off each time"),
    "sink.owed": SinkOwed(key=f"tickets:{TURN}", sink="tickets"),
    "sink.started": SinkStarted(key=f"tickets:{TURN}", sink="tickets", attempt=2),
    "sink.delivered": SinkDelivered(
        key=f"tickets:{TURN}",
        sink="tickets",
        status="failed",
        attempt=2,
        receipt="ticket 17",
        reason="the server is closed",
        retry_at=AT,
    ),
    "turn.steered.2": TurnSteered(inputs=(ASKED.id,), labels=("untrusted",)),
    "turn.started.4": TurnStarted(inputs=(ASKED.id,), manifest=DIGEST, layers=DIGEST),
    "manifest.drifted": Drifted(
        before=DIGEST,
        after="sha256:" + "8e" * 32,
        choice="pin",
        changes=("instructions changed", "tools.look added"),
        by="ann",
        layers=DIGEST,
    ),
    "turn.started.3": TurnStarted(inputs=(ASKED.id,), manifest=DIGEST, labels=("untrusted",)),
    "tool.started.2": ToolStarted(
        call_id=CALL,
        name="look",
        attempt=1,
        arguments_digest=DIGEST,
        effect="pure",
        epoch=4,
        labels=("private", "untrusted"),
    ),
    "turn.recovered": TurnRecovered(attempt=2, by="mia"),
    "turn.completed": TurnCompleted(stop="max_tokens", iterations=3, usage=USAGE),
    "turn.failed": TurnFailed(stop="error", iterations=2, error=FAILURE, usage=USAGE),
    "turn.cancelled": TurnCancelled(iterations=1, reason="the user left", usage=USAGE),
    "output.message.completed": OutputMessageCompleted(
        message=REPLY,
        stop="tool_calls",
        iteration=2,
        attempt=3,
        model="sim-1",
        response_id="resp_1",
        usage=USAGE,
        duration_ms=1_500,
        first_token_ms=300,
    ),
    "output.message.shown": OutputMessageShown(message_id=f"message_{HEX}3", text="I will "),
    "output.message.completed.2": OutputMessageCompleted(
        message=REPLY,
        stop="tool_calls",
        iteration=2,
        usage=USAGE,
        cost=Decimal("0.0001005"),
        price_date=date(2026, 2, 27),
    ),
    "output.message.completed.3": OutputMessageCompleted(
        message=REPLY,
        stop="tool_calls",
        iteration=2,
        usage=USAGE,
        counted=Spent(model_calls=1, tokens=1_100, usd=Decimal("0.0001005")),
    ),
    "output.message.replaced": OutputMessageReplaced(
        message_id=f"message_{HEX}3", reason="the model was cut off"
    ),
    "output.checked": OutputChecked(message_id=f"message_{HEX}3", fits=True, text='{"cents": 5}'),
    "output.checked.2": OutputChecked(
        message_id=f"message_{HEX}3",
        call_id="call_1",
        problems=('"cents" is a required property',),
        repair=Message(
            id=f"message_{HEX}4", role="user", content=(Text(text="Give the whole answer again."),)
        ),
    ),
    "reason.failed": ReasonFailed(reason="rate_limit", error=FAILURE, iteration=2, attempt=1, retry_at=LATER),
    "reason.failed.2": ReasonFailed(
        reason="quota", error=FAILURE, iteration=2, attempt=3, model="sim/one", next_model="sim/two"
    ),
    "context.compacted": ContextCompacted(
        summary=ASKED,
        covers=12,
        upto=f"message_{HEX}4",
        reason="threshold",
        messages_before=14,
        messages_after=3,
        tokens_before=170_001,
        attempt=2,
        model="sim/short",
        response_id="resp_2",
        usage=USAGE,
        duration_ms=900,
        cost=Decimal("0.004"),
        price_date=date(2026, 2, 27),
    ),
    "context.compaction.failed": CompactionFailed(
        reason="too_large",
        error_kind="overloaded",
        error=FAILURE,
        attempt=1,
        retry_at=LATER,
        model="sim/short",
        next_model="sim/two",
    ),
    "context.compaction.asked": CompactionAsked(by="mia"),
    "tool.started": ToolStarted(
        call_id=CALL,
        name="look",
        attempt=2,
        arguments_digest=DIGEST,
        effect="reconcile",
        epoch=4,
        dispatched=False,
    ),
    "tool.completed.2": ToolCompleted(result=RESULT, labels=("untrusted",)),
    "tool.completed": ToolCompleted(result=RESULT, attempt=2, duration_ms=40),
    "call.resolved": CallResolved(
        call_id=CALL, by="ada", result=RESULT, turn_id=TURN, reason="the bank's statement shows it"
    ),
    "ask.opened": AskOpened(
        ask_id=ASK,
        call_id=CALL,
        tool="look",
        arguments='{"where": "/notes.txt"}',
        digest=DIGEST,
        reason="It is private.",
        owner="ops",
        expires_at=LATER,
    ),
    "ask.opened.2": AskOpened(
        ask_id=ASK,
        call_id=CALL,
        tool="locate",
        arguments="{}",
        digest=DIGEST,
        reason="Where?",
        expires_at=LATER,
        wants="result",
        who=("browser", "*@example.com"),
        on_expiry="default",
        default='"home"',
        raised_by="tool",
        bound=DIGEST,
        schema={"type": "string"},
        options=("home", "work"),
        free_text=False,
        origin=(f"session_{HEX}7",),
    ),
    "ask.opened.3": AskOpened(
        ask_id=ASK,
        call_id=CALL,
        tool="look",
        arguments="{}",
        digest=DIGEST,
        who=("mia",),
        also=(("*@ops", "mia"),),
    ),
    "ask.answered": AskAnswered(ask_id=ASK, verdict="denied", by="mia", reason="Not today."),
    "ask.answered.2": AskAnswered(
        ask_id=ASK,
        verdict="approved",
        by="mia",
        key="k1",
        arguments='{"cents":5}',
        digest=DIGEST,
        grant=Grant(
            id=f"grant_{HEX}6",
            verdict="approved",
            scope="arguments",
            by="mia",
            tool="pay",
            arguments={"to": "*@example.com"},
            raised_by="author",
            bound=DIGEST,
            until=LATER,
            reason="for today",
        ),
    ),
    "ask.answered.3": AskAnswered(ask_id=ASK, verdict="answered", by="browser", result=GIVEN),
    "ask.answered.4": AskAnswered(
        ask_id=ASK,
        verdict="answered",
        by="browser",
        result=GIVEN,
        guarded=(
            GuardDecided(
                guard="keys", where="tool_output", action="redact", code="guard.words", call_id=CALL
            ),
        ),
    ),
    "ask.expired.2": AskExpired(ask_id=ASK, result=GIVEN),
    "ask.voided": AskVoided(ask_id=ASK, call_id=CALL, reason="pay is not what it was"),
    "grant.used": GrantUsed(
        grant_id=f"grant_{HEX}6",
        call_id=CALL,
        tool="pay",
        arguments='{"cents":5}',
        digest=DIGEST,
        verdict="approved",
        by="mia",
        reason="pay needs approval",
        raised_by="author",
        bound=DIGEST,
    ),
    "grant.revoked": GrantRevoked(grant_id=f"grant_{HEX}6", by="mia", reason="enough"),
    "ask.expired": AskExpired(ask_id=ASK),
    "hook.decided": HookDecided(
        hook="files:before_tool",
        point="before_tool",
        decision="modify",
        call_id=CALL,
        reason="a safer path",
        arguments='{"where": "/public.txt"}',
    ),
    "hook.decided.2": HookDecided(
        hook="cards:mask",
        point="before_turn",
        decision="modify",
        message_id=f"message_{HEX}1",
        view="Where is the public file?",
    ),
    "hook.decided.3": HookDecided(
        hook="cards:mask", point="after_tool", decision="modify", call_id=CALL, original=BLOB
    ),
    "guard.decided": GuardDecided(
        guard="cards",
        where="tool_input",
        action="redact",
        code="guard.expression",
        rule="expression 1",
        call_id=CALL,
    ),
    "guard.decided.2": GuardDecided(
        guard="tone",
        where="stream",
        action="block",
        code="guard.words",
        rule="words 2",
        message_id=f"message_{HEX}3",
        reason="be kind",
        note=Message(id=f"message_{HEX}4", role="user", content=(Text(text="Answer again."),)),
    ),
    "policy.decided": PolicyDecided(
        action="tool",
        decision="defer",
        code="policy.deferred",
        policy="night",
        name="look",
        reason="It is night.",
        call_id=CALL,
        until=LATER,
    ),
    "policy.decided.2": PolicyDecided(
        action="tool",
        decision="deny",
        code="rule.no-notes",
        policy="rules",
        name="look",
        rule="no-notes",
        reason="Notes stay here.",
        arguments='{"where": "/public.txt"}',
        call_id=CALL,
    ),
    "file.written": FileWritten(
        path="/notes.txt", size=7, digest=DIGEST, text="A reef.", read_only=True, call_id=CALL
    ),
    "file.written.2": FileWritten(path="/big.txt", size=70_000, digest=DIGEST, blob=BLOB),
    "file.deleted": FileDeleted(path="/notes.txt", call_id=CALL),
}
"""By the name of the golden file: the kind, and a number from the second on."""

CONTEXT = EventContext(
    turn_id=TURN,
    input_message_id=ASKED.id,
    exec_id=f"exec_{HEX}6",
    trace_id="4bf92f3577b34da6a3ce929d0e0e4736",
    span_id="00f067aa0ba902b7",
    parent_span_id="b7ad6b7169203331",
)


def event_of(name: str) -> Event:
    """The fact of this name in an envelope with every field set."""
    fact = FACTS[name]
    return Event(
        id=f"event_{HEX}7",
        type=fact.kind,
        ts=AT,
        session_id=f"session_{HEX}8",
        sequence=42,
        context=CONTEXT,
        data=fact,
    )


def golden(name: str) -> bytes:
    """The event as the log holds it."""
    return (FOLDER / f"{name}.json").read_bytes().removesuffix(b"\n")


def write_missing() -> list[str]:
    """Write the files that are not there yet; their names."""
    missing = [name for name in FACTS if not (FOLDER / f"{name}.json").exists()]
    for name in missing:
        (FOLDER / f"{name}.json").write_bytes(encode_event(event_of(name)) + b"\n")
    return missing


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit(__doc__)
    sys.stdout.write(f"wrote {', '.join(write_missing()) or 'nothing: every file is there'}\n")
