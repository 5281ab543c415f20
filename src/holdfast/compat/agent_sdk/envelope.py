"""Events as the other system writes them: an envelope, and a payload of at most a sentence.

Nothing that was said is in an event. Cursors are exact to their scope.
"""

from __future__ import annotations

from typing import Any, Literal

from holdfast.compat.agent_sdk.canonical import JsonObject, Wire
from holdfast.compat.agent_sdk.ids import Privacy, check_id
from holdfast.compat.agent_sdk.kinds import TERMINAL, family_of
from holdfast.compat.agent_sdk.refs import (
    CorrelationEntry,
    DestinationRef,
    EntityRef,
    PolicyRef,
    SourceRef,
    destination,
    entity,
    source,
)
from holdfast.errors import UsageError

Delivery = Literal["best_effort_live", "journal_backed", "derived_replay", "diagnostic_only"]
ContentCapture = Literal["off", "metadata_only", "redacted_summary", "payload_refs", "raw_content"]
Overflow = Literal[
    "drop_non_terminal", "drop_progress", "summarize_and_continue", "fail_subscriber", "backpressure_caller"
]

SDK = source("source.sdk.run_loop", "sdk")
"""Where what a run does by itself comes from."""

STREAM = destination("destination.event.stream", "event_stream")
"""Where events go."""


class Correlation(Wire, frozen=True, kw_only=True):
    """What an event belongs to outside."""

    entries: tuple[CorrelationEntry, ...] = ()


class CausalRef(Wire, frozen=True, kw_only=True):
    """What led to something."""

    event_id: str | None = None
    subject_ref: EntityRef
    reason: str | None = None


class Envelope(Wire, frozen=True, kw_only=True):
    """Everything that may be known of an event without its payload."""

    schema_version: int
    event_id: str
    event_seq: int
    event_family: str
    event_kind: str
    payload_schema_version: int
    timestamp: str
    recorded_at: str
    run_id: str
    session_id: str | None = None
    agent_id: str
    turn_id: str | None = None
    attempt_id: str | None = None
    message_id: str | None = None
    context_item_id: str | None = None
    trace_id: str
    span_id: str
    parent_event_id: str | None = None
    caused_by: CausalRef | None = None
    subject_ref: EntityRef
    related_refs: tuple[EntityRef, ...] = ()
    causal_refs: tuple[CausalRef, ...] = ()
    correlation: Correlation
    tags: tuple[str, ...] = ()
    source: SourceRef
    destination: DestinationRef | None = None
    policy_refs: tuple[PolicyRef, ...] = ()
    journal_cursor: str | None = None
    state_before: str | None = None
    state_after: str | None = None
    delivery_semantics: Delivery
    privacy: Privacy
    content_capture: ContentCapture
    redaction_policy_id: str
    runtime_package_fingerprint: str

    @property
    def terminal(self) -> bool:
        """Whether the event ends something."""
        return self.event_kind in TERMINAL


class Payload(Wire, frozen=True, kw_only=True):
    """The sentence that an event carries, if any."""

    mode: Literal["envelope_only", "redacted_summary"]
    redacted_summary: str | None = None
    payload_refs: tuple[str, ...] = ()


class Published(Wire, frozen=True, kw_only=True):
    """An event: an envelope and its payload."""

    envelope: Envelope
    payload: Payload


class RunContext(Wire, frozen=True, kw_only=True):
    """What the events and records of one run share. Raises `UsageError` for names that may not be identifiers."""

    run_id: str
    agent_id: str
    session_id: str | None = None
    turn_id: str | None = None
    trace_id: str
    source: SourceRef = SDK
    fingerprint: str
    redaction_policy_id: str = "policy.redaction.default"

    def __post_init__(self) -> None:
        for name in (self.run_id, self.agent_id, self.trace_id, self.session_id, self.turn_id):
            if name is not None:
                check_id(name)


class Moment(Wire, frozen=True, kw_only=True):
    """One event's own names and place."""

    event_id: str
    span_id: str
    event_seq: int
    timestamp: str
    recorded_at: str = ""


def event(
    run: RunContext,
    moment: Moment,
    kind: str,
    *,
    cursor: str | None = None,
    summary: str | None = None,
    subject: EntityRef | None = None,
) -> Published:
    """An event of this run. With a journal cursor it is backed by that record, else it is live only.

    Raises `UsageError` for a kind there is not.
    """
    envelope = Envelope(
        schema_version=1,
        event_id=check_id(moment.event_id),
        event_seq=moment.event_seq,
        event_family=family_of(kind),
        event_kind=kind,
        payload_schema_version=1,
        timestamp=moment.timestamp,
        recorded_at=moment.recorded_at or moment.timestamp,
        run_id=run.run_id,
        session_id=run.session_id,
        agent_id=run.agent_id,
        turn_id=run.turn_id,
        trace_id=run.trace_id,
        span_id=moment.span_id,
        subject_ref=subject or entity("run", run.run_id),
        correlation=Correlation(),
        source=run.source,
        destination=STREAM,
        journal_cursor=cursor,
        delivery_semantics="journal_backed" if cursor else "best_effort_live",
        privacy="content_refs_only",
        content_capture="off",
        redaction_policy_id=run.redaction_policy_id,
        runtime_package_fingerprint=run.fingerprint,
    )
    mode: Literal["envelope_only", "redacted_summary"] = "redacted_summary" if summary else "envelope_only"
    return Published(envelope=envelope, payload=Payload(mode=mode, redacted_summary=summary))


Scope = str | JsonObject
"""`"all"`, or an object with one key: `run`, `agent` or `filter`."""


class EventCursor(Wire, frozen=True, kw_only=True):
    """How far a reader of this scope has come."""

    scope: Scope
    event_seq: int
    event_id: str
    journal_cursor: str | None = None

    def check(self, scope: Scope) -> None:
        """Raise `UsageError` unless this is a cursor of exactly that scope; one of another may skip or repeat."""
        if _exactly(self.scope) != _exactly(scope):
            raise UsageError(f"a cursor of {_said(self.scope)} cannot be used for {_said(scope)}")


def _exactly(scope: Scope) -> Any:
    if isinstance(scope, dict) and "filter" in scope:
        return "filter", scope["filter"]["filter_fingerprint"]
    return scope


def _said(scope: Scope) -> str:
    return scope if isinstance(scope, str) else next(iter(scope))


class ArchiveCursor(Wire, frozen=True, kw_only=True):
    """A place in an archive of events; neither a live cursor nor one of a journal."""

    archive_id: str
    position: str
    event_id: str | None = None
    watermark: str | None = None


class OverflowNotice(Wire, frozen=True, kw_only=True):
    """What a reader missed, and from where the journal can repair it."""

    policy: Overflow
    dropped_count: int
    gap_start: EventCursor | None = None
    gap_end: EventCursor
    repair_from: str | None = None
    terminal_preserved: bool
    reason: str


class Frame(Wire, frozen=True, kw_only=True):
    """An event as a reader gets it."""

    event: Published
    cursor: EventCursor
    archive_cursor: ArchiveCursor | None = None
    overflow: OverflowNotice | None = None


DROPPED = "policy_dropped_non_terminal"
FULL = "subscriber_queue_full"


def preserved(policy: Overflow, dropped: int, upto: EventCursor) -> OverflowNotice:
    """The notice that so many events went missing before this one, which ends something and was kept."""
    return OverflowNotice(
        policy=policy,
        dropped_count=dropped,
        gap_end=upto,
        repair_from=upto.journal_cursor,
        terminal_preserved=True,
        reason=DROPPED,
    )


def frame_of(published: Published, scope: Scope = "all") -> Frame:
    """The event with its cursor in this scope."""
    envelope = published.envelope
    cursor = EventCursor(
        scope=scope,
        event_seq=envelope.event_seq,
        event_id=envelope.event_id,
        journal_cursor=envelope.journal_cursor,
    )
    return Frame(event=published, cursor=cursor)
