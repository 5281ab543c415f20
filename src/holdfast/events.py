"""Facts: the one contract the whole system hangs on.

A *fact* is something that happened, in the past tense. Wrapped in its envelope it is an `Event`, and the only
way to make one is `Journal.record`. A session's events are numbered 1..n without gaps and never change; a changed
meaning is a new kind. Unknown fields are ignored on read, unknown kinds are kept as `UnknownFact`.
"""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any, ClassVar, Literal

import msgspec
from msgspec import Struct

from holdfast.errors import DriverErrorKind, NotEncodable, StoreCorrupt
from holdfast.messages import BlobRef, Message, StopReason, ToolResult, Usage

Effect = Literal["pure", "idempotent", "reconcile", "once"]
"""What a tool's author promises about running a call twice; see `holdfast.tool`."""

TurnStop = Literal[
    "end_turn", "max_tokens", "refusal", "max_iterations", "deadline", "interrupted", "error", "cancelled"
]
"""Why a turn ended. The first five complete it, `interrupted` and `error` fail it."""


class Fact(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Something that happened; `kind` is the event's `type`."""

    kind: ClassVar[str] = ""


class Failure(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What went wrong, for a person (`message`) and for code (`code`). `detail` is for operators only."""

    code: str
    message: str
    detail: str = ""


class SessionCreated(Fact, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A session began. `layers` is the digest of the blob holding its portable configuration."""

    kind: ClassVar[str] = "session.created"
    harness: str = ""
    agent: str = ""
    layers: str = ""
    title: str = ""
    metadata: dict[str, str] = {}


class SessionUpdated(Fact, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The title or metadata changed; unset fields stay as they were."""

    kind: ClassVar[str] = "session.updated"
    title: str | None = None
    metadata: dict[str, str] | None = None


class InputMessage(Fact, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """An input was accepted, and with it the turn that will answer it."""

    kind: ClassVar[str] = "input.message"
    message: Message
    turn_id: str
    key: str = ""
    """The caller's idempotency key."""
    steer: bool = False
    """It joins the turn under way, before the next model call."""


class TurnStarted(Fact, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A turn began under a frozen manifest."""

    kind: ClassVar[str] = "turn.started"
    inputs: tuple[str, ...]
    """Ids of the input messages it answers."""
    manifest: str
    deadline: datetime | None = None
    rerun: str = ""
    """The call in doubt that it runs again, and nothing else."""


class TurnSteered(Fact, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Inputs that came during the turn entered its transcript here."""

    kind: ClassVar[str] = "turn.steered"
    inputs: tuple[str, ...]


class TurnRecovered(Fact, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A writer went on with a turn that was cut off: the `attempt`-th in a row without progress. 0: a person did."""

    kind: ClassVar[str] = "turn.recovered"
    attempt: int = 0
    by: str = ""


class TurnCompleted(Fact, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The turn came to rest by itself or at a limit."""

    kind: ClassVar[str] = "turn.completed"
    stop: TurnStop
    iterations: int
    usage: Usage = Usage()


class TurnFailed(Fact, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The turn ended on a failure."""

    kind: ClassVar[str] = "turn.failed"
    stop: TurnStop
    iterations: int
    error: Failure
    usage: Usage = Usage()


class TurnCancelled(Fact, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Somebody stopped the turn."""

    kind: ClassVar[str] = "turn.cancelled"
    iterations: int
    reason: str = ""
    usage: Usage = Usage()


class OutputMessageCompleted(Fact, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The model answered: its message with any calls, what it cost, and why it stopped."""

    kind: ClassVar[str] = "output.message.completed"
    message: Message
    stop: StopReason
    iteration: int
    attempt: int = 1
    model: str = ""
    response_id: str = ""
    usage: Usage = Usage()
    duration_ms: int = 0
    first_token_ms: int | None = None
    cost: Decimal | None = None
    """In US dollars; None where it is not known."""
    price_date: date | None = None
    """Of which day the prices are that it was computed from."""


class OutputMessageShown(Fact, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """More words of a message that is still being written: readers have seen them, whatever becomes of it."""

    kind: ClassVar[str] = "output.message.shown"
    message_id: str
    text: str


class OutputMessageReplaced(Fact, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What was shown of this message is void: the model is asked again, for a message with another id."""

    kind: ClassVar[str] = "output.message.replaced"
    message_id: str
    reason: str = ""


class ReasonFailed(Fact, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A model call failed. With `retry_at` the same request is due again then; with `next_model` that one is asked
    instead; without either, the turn is lost."""

    kind: ClassVar[str] = "reason.failed"
    reason: DriverErrorKind
    error: Failure
    iteration: int
    attempt: int
    """Of the attempts at this reply with this model."""
    retry_at: datetime | None = None
    model: str = ""
    """That failed, as it was asked for."""
    next_model: str = ""


class ToolStarted(Fact, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The claim: this writer (`epoch`) is about to run this call for the `attempt`-th time."""

    kind: ClassVar[str] = "tool.started"
    call_id: str
    name: str
    attempt: int
    arguments_digest: str
    effect: Effect
    epoch: int
    dispatched: bool = True
    """False when something must still happen before the tool runs; a cut-off then is harmless."""


class ToolCompleted(Fact, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The one recorded outcome of a call."""

    kind: ClassVar[str] = "tool.completed"
    result: ToolResult
    attempt: int = 0
    """0 when the call never ran (unknown tool, invalid arguments, denied)."""
    duration_ms: int = 0


class CallResolved(Fact, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A person said what became of a call in doubt (`result`, which the model reads from here on), or had it run again
    (in a turn of its own, `turn_id`)."""

    kind: ClassVar[str] = "call.resolved"
    call_id: str
    by: str
    result: ToolResult | None = None
    turn_id: str = ""
    reason: str = ""


class AskOpened(Fact, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A question that somebody must answer before a call may run."""

    kind: ClassVar[str] = "ask.opened"
    ask_id: str
    call_id: str
    tool: str
    arguments: str
    digest: str
    """Of tool, arguments and reason: an answer binds exactly this."""
    reason: str = ""
    owner: str = ""
    expires_at: datetime | None = None


class AskAnswered(Fact, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Somebody answered, once."""

    kind: ClassVar[str] = "ask.answered"
    ask_id: str
    verdict: Literal["approved", "denied"]
    by: str
    reason: str = ""


class AskExpired(Fact, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Nobody answered in time; the call is denied."""

    kind: ClassVar[str] = "ask.expired"
    ask_id: str


class HookDecided(Fact, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A hook or policy changed something (or failed and was passed over): what, and why."""

    kind: ClassVar[str] = "hook.decided"
    hook: str
    point: str
    decision: Literal["deny", "modify", "ask", "interrupt", "pass"]
    call_id: str = ""
    reason: str = ""
    arguments: str | None = None
    """The changed arguments, where the decision changed them."""


class FileWritten(Fact, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A session file has this content from here on: `text` when small, else `blob`."""

    kind: ClassVar[str] = "file.written"
    path: str
    size: int
    digest: str
    text: str | None = None
    blob: BlobRef | None = None
    read_only: bool = False
    call_id: str = ""


class FileDeleted(Fact, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A session file is gone."""

    kind: ClassVar[str] = "file.deleted"
    path: str
    call_id: str = ""


class UnknownFact(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """A kind that this version does not know, kept as it was read."""

    data: Any


KINDS: dict[str, type[Fact]] = {fact.kind: fact for fact in Fact.__subclasses__() if fact.kind}
"""Every kind of fact, by its event type."""


TURN_ENDS: frozenset[str] = frozenset({TurnCompleted.kind, TurnFailed.kind, TurnCancelled.kind})
"""The event types that end a turn; each turn has exactly one."""


class EventContext(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Where an event belongs: its turn, its input, and its place in a trace."""

    turn_id: str = ""
    input_message_id: str = ""
    exec_id: str = ""
    trace_id: str = ""
    span_id: str = ""
    parent_span_id: str = ""


class Event(Struct, frozen=True, kw_only=True, gc=False):
    """A fact in its envelope."""

    id: str
    type: str
    ts: datetime
    session_id: str
    sequence: int
    context: EventContext
    data: Fact


class _Envelope(Struct, frozen=True, kw_only=True, gc=False):
    id: str
    type: str
    ts: datetime
    session_id: str
    sequence: int
    context: EventContext
    data: msgspec.Raw


_encoder = msgspec.json.Encoder()
_envelope = msgspec.json.Decoder(_Envelope)
_facts = {kind: msgspec.json.Decoder(fact) for kind, fact in KINDS.items()}


def encode_event(event: Event) -> bytes:
    """The event as one JSON object. Raises `NotEncodable` for text that is not valid Unicode."""
    try:
        return _encoder.encode(_as_read(event) if type(event.data) is UnknownFact else event)
    except (UnicodeEncodeError, TypeError, ValueError, RecursionError) as error:
        raise NotEncodable(
            f"event {event.sequence} ({event.type}) of {event.session_id} cannot be written as JSON: {error}; "
            "remove lone surrogates and values that JSON does not have"
        ) from error


def _as_read(event: Event) -> _Envelope:
    """An event of a kind this version does not know, with its data as it was read."""
    assert isinstance(event.data, UnknownFact)
    return _Envelope(
        id=event.id,
        type=event.type,
        ts=event.ts,
        session_id=event.session_id,
        sequence=event.sequence,
        context=event.context,
        data=msgspec.Raw(_encoder.encode(event.data.data)),
    )


def decode_event(body: bytes) -> Event:
    """The event in this JSON. Raises `StoreCorrupt` when it is not one."""
    try:
        raw = _envelope.decode(body)
        decoder = _facts.get(raw.type)
        data = decoder.decode(raw.data) if decoder else UnknownFact(data=msgspec.json.decode(raw.data))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise StoreCorrupt(f"a stored event cannot be read ({error}): {body[:200]!r}") from error
    return Event(
        id=raw.id,
        type=raw.type,
        ts=raw.ts,
        session_id=raw.session_id,
        sequence=raw.sequence,
        context=raw.context,
        data=data,
    )
