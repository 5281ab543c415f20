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
    CallResolved,
    Event,
    EventContext,
    Fact,
    Failure,
    FileDeleted,
    FileWritten,
    HookDecided,
    InputMessage,
    OutputMessageCompleted,
    OutputMessageReplaced,
    OutputMessageShown,
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
from holdfast.messages import BlobRef, Document, Image, Message, Text, Thinking, ToolCall, ToolResult, Usage

FOLDER = Path(__file__).parent / "events"

AT = datetime(2026, 2, 28, 23, 59, 59, 123_456, tzinfo=UTC)
LATER = datetime(2026, 3, 1, 0, 0, 30, tzinfo=UTC)
HEX = "019c0ffee0007000800000000000000"
TURN = f"turn_{HEX}1"
CALL = f"call_{HEX}1_2_0"
ASK = f"ask_{HEX}5"
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
    "session.updated": SessionUpdated(title="Two reefs", metadata={"team": "coast", "floor": "2"}),
    "input.message": InputMessage(message=ASKED, turn_id=TURN, key="order-17"),
    "turn.started": TurnStarted(inputs=(ASKED.id,), manifest=DIGEST, deadline=LATER),
    "input.message.2": InputMessage(message=ASKED, turn_id=TURN, steer=True),
    "turn.started.2": TurnStarted(inputs=(), manifest=DIGEST, rerun=CALL),
    "turn.steered": TurnSteered(inputs=(ASKED.id,)),
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
    "output.message.replaced": OutputMessageReplaced(
        message_id=f"message_{HEX}3", reason="the model was cut off"
    ),
    "reason.failed": ReasonFailed(reason="rate_limit", error=FAILURE, iteration=2, attempt=1, retry_at=LATER),
    "reason.failed.2": ReasonFailed(
        reason="quota", error=FAILURE, iteration=2, attempt=3, model="sim/one", next_model="sim/two"
    ),
    "tool.started": ToolStarted(
        call_id=CALL,
        name="look",
        attempt=2,
        arguments_digest=DIGEST,
        effect="reconcile",
        epoch=4,
        dispatched=False,
    ),
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
    "ask.answered": AskAnswered(ask_id=ASK, verdict="denied", by="mia", reason="Not today."),
    "ask.expired": AskExpired(ask_id=ASK),
    "hook.decided": HookDecided(
        hook="files:before_tool",
        point="before_tool",
        decision="modify",
        call_id=CALL,
        reason="a safer path",
        arguments='{"where": "/public.txt"}',
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
