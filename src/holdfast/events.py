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
from msgspec import Struct, field

from holdfast.errors import DriverErrorKind, NotEncodable, StoreCorrupt
from holdfast.facts import answers, asks, budgets, compaction, deliveries, drift, guards, hooks, policies
from holdfast.facts.answers import OutputChecked as OutputChecked
from holdfast.facts.answers import OutputContract
from holdfast.facts.asks import AskAnswered as AskAnswered
from holdfast.facts.asks import AskExpired as AskExpired
from holdfast.facts.asks import AskOpened as AskOpened
from holdfast.facts.asks import AskVoided as AskVoided
from holdfast.facts.asks import GrantRevoked as GrantRevoked
from holdfast.facts.asks import GrantUsed as GrantUsed
from holdfast.facts.budgets import Spent
from holdfast.facts.compaction import CompactionAsked as CompactionAsked
from holdfast.facts.drift import Drifted as Drifted
from holdfast.facts.fact import Fact as Fact
from holdfast.facts.fact import Failure as Failure
from holdfast.facts.guards import GuardDecided as GuardDecided
from holdfast.facts.policies import PolicyDecided as PolicyDecided
from holdfast.messages import BlobRef, Message, StopReason, ToolResult, Usage

Effect = Literal["pure", "idempotent", "reconcile", "once"]
"""What a tool's author promises about running a call twice; see `holdfast.tool`."""

TurnStop = Literal[
    "end_turn",
    "max_tokens",
    "refusal",
    "max_iterations",
    "deadline",
    "budget",
    "loop",
    "interrupted",
    "invalid_output",
    "error",
    "cancelled",
]
"""Why a turn ended. All but the last four complete it, `interrupted`, `invalid_output` and `error` fail it."""


class SessionCreated(Fact, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A session began. `layers` is the digest of the blob holding its portable configuration."""

    kind: ClassVar[str] = "session.created"
    harness: str = ""
    agent: str = ""
    layers: str = ""
    title: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    principal: str = ""
    """On whose behalf it is, for budgets."""
    organisation: str = ""


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
    output: OutputContract | None = None
    """What the turn's answer must look like."""


class TurnStarted(Fact, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A turn began under a frozen manifest."""

    kind: ClassVar[str] = "turn.started"
    inputs: tuple[str, ...]
    """Ids of the input messages it answers."""
    manifest: str
    deadline: datetime | None = None
    rerun: str = ""
    """The call in doubt that it runs again, and nothing else."""
    layers: str = ""
    """The digest of the blob with the layers of its manifest, where they are not those the session was made with."""
    labels: tuple[str, ...] = ()
    """What its inputs bring into the session, for the taint rule."""


class TurnSteered(Fact, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Inputs that came during the turn entered its transcript here."""

    kind: ClassVar[str] = "turn.steered"
    inputs: tuple[str, ...]
    labels: tuple[str, ...] = ()


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
    reason: str = ""
    """In words, where the stop alone does not say it."""


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
    counted: Spent | None = None
    """What budgets count of it, where nothing was set aside on the log."""


class OutputMessageShown(Fact, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """More words of a message that is still being written: readers have seen them, whatever becomes of it."""

    kind: ClassVar[str] = "output.message.shown"
    message_id: str
    text: str


class OutputMessageReplaced(Fact, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What was shown of this message is void, since the model was cut off or a guard withheld it: what comes in its
    place is a message with another id."""

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
    labels: tuple[str, ...] = ()
    """What the call may bring into the session, for the taint rule."""


class ToolCompleted(Fact, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The one recorded outcome of a call."""

    kind: ClassVar[str] = "tool.completed"
    result: ToolResult
    attempt: int = 0
    """0 when the call never ran (unknown tool, invalid arguments, denied)."""
    duration_ms: int = 0
    labels: tuple[str, ...] = ()
    """What a result that was given from outside brings into the session, for the taint rule."""


class CallResolved(Fact, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A person said what became of a call in doubt (`result`, which the model reads from here on), or had it run again
    (in a turn of its own, `turn_id`)."""

    kind: ClassVar[str] = "call.resolved"
    call_id: str
    by: str
    result: ToolResult | None = None
    turn_id: str = ""
    reason: str = ""


class HookDecided(Fact, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A hook changed something (or failed and was passed over): what, and why."""

    kind: ClassVar[str] = "hook.decided"
    hook: str
    point: str
    decision: Literal["deny", "modify", "ask", "interrupt", "pass"]
    call_id: str = ""
    reason: str = ""
    arguments: str | None = None
    """The changed arguments, where the decision changed them."""
    message_id: str = ""
    """The input that was decided about, before a turn."""
    view: str | None = None
    """What the model is told in place of its words, from here on."""
    original: BlobRef | None = None
    """The result as the tool gave it, where the hook keeps what it replaces."""


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


_FACTS: tuple[type[Fact], ...] = (
    SessionCreated, SessionUpdated, InputMessage, TurnStarted, TurnSteered, TurnRecovered, TurnCompleted,
    TurnFailed, TurnCancelled, OutputMessageCompleted, OutputMessageShown, OutputMessageReplaced,
    ReasonFailed, ToolStarted, ToolCompleted, CallResolved, HookDecided, FileWritten, FileDeleted,
    *answers.FACTS, *asks.FACTS, *budgets.FACTS, *compaction.FACTS, *deliveries.FACTS, *drift.FACTS,
    *guards.FACTS, *hooks.FACTS, *policies.FACTS,
)  # fmt: skip

KINDS: dict[str, type[Fact]] = {fact.kind: fact for fact in _FACTS}
"""Every kind of fact, by its event type: those above, and those of each subject."""


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
_facts: dict[str, msgspec.json.Decoder[Any]] = {}
"""Made when the first fact of a kind is read: making all of them takes longer than importing this file."""


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


def _decoder(kind: str) -> msgspec.json.Decoder[Any] | None:
    if kind in KINDS:
        _facts[kind] = msgspec.json.Decoder(KINDS[kind])
    return _facts.get(kind)


def decode_event(body: bytes) -> Event:
    """The event in this JSON. Raises `StoreCorrupt` when it is not one."""
    try:
        raw = _envelope.decode(body)
        decoder = _facts.get(raw.type) or _decoder(raw.type)
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
