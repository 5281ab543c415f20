"""Journal records: a payload, what it belongs to, and a copy of that to search by."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import structs

from holdfast.compat.agent_sdk.canonical import Wire
from holdfast.compat.agent_sdk.envelope import CausalRef, RunContext
from holdfast.compat.agent_sdk.ids import Privacy, check_id, journal_cursor
from holdfast.compat.agent_sdk.payloads import RECORD_KINDS, EffectIntent, EffectKind, Payload
from holdfast.compat.agent_sdk.refs import (
    CorrelationEntry,
    DestinationRef,
    EntityRef,
    SourceRef,
    entity,
)
from holdfast.errors import UsageError


class EventIndex(Wire, frozen=True, kw_only=True):
    """What a record can be found by. Its kinds are words of their own, not those of events."""

    run_id: str
    session_id: str | None = None
    agent_id: str
    turn_id: str | None = None
    event_family: str
    event_kind: str
    source: SourceRef
    destination: DestinationRef | None = None
    subject_ref: EntityRef
    related_refs: tuple[EntityRef, ...] = ()
    correlation_keys: tuple[CorrelationEntry, ...] = ()
    tags: tuple[str, ...] = ()
    privacy_class: Privacy
    delivery_semantics: str


class JournalRecord(Wire, frozen=True, kw_only=True):
    """One line of a journal."""

    journal_schema_version: int
    journal_seq: int
    record_id: str
    record_kind: str
    run_id: str
    session_id: str | None = None
    agent_id: str
    turn_id: str | None = None
    attempt_id: str | None = None
    subject_ref: EntityRef
    related_refs: tuple[EntityRef, ...] = ()
    causal_refs: tuple[CausalRef, ...] = ()
    source: SourceRef
    destination: DestinationRef | None = None
    correlation_keys: tuple[CorrelationEntry, ...] = ()
    tags: tuple[str, ...] = ()
    delivery_semantics: str
    event_index: EventIndex
    timestamp_millis: int
    runtime_package_fingerprint: str
    privacy: Privacy
    content_refs: tuple[str, ...] = ()
    redaction_policy_id: str
    idempotency_key: str | None = None
    dedupe_key: str | None = None
    checkpoint_ref: str | None = None
    payload: Payload

    @property
    def cursor(self) -> str:
        """Where it is in its journal."""
        return journal_cursor(self.journal_seq)


class Entry(Wire, frozen=True, kw_only=True):
    """One record's own names and place, and what it is about."""

    record_id: str
    journal_seq: int
    timestamp_millis: int
    family: str
    kind: str
    subject: EntityRef | None = None
    related: tuple[EntityRef, ...] = ()
    destination: DestinationRef | None = None
    attempt_id: str | None = None
    idempotency_key: str | None = None
    tags: tuple[str, ...] = ()


def record(run: RunContext, entry: Entry, payload: Payload) -> JournalRecord:
    """A record of this run, with its searchable copy."""
    subject = entry.subject or entity("run", run.run_id)
    index = EventIndex(
        run_id=run.run_id,
        session_id=run.session_id,
        agent_id=run.agent_id,
        turn_id=run.turn_id,
        event_family=entry.family,
        event_kind=entry.kind,
        source=run.source,
        destination=entry.destination,
        subject_ref=subject,
        related_refs=entry.related,
        tags=entry.tags,
        privacy_class="content_refs_only",
        delivery_semantics="journal_backed",
    )
    return JournalRecord(
        journal_schema_version=1,
        journal_seq=entry.journal_seq,
        record_id=check_id(entry.record_id),
        record_kind=RECORD_KINDS[type(payload)],
        run_id=run.run_id,
        session_id=run.session_id,
        agent_id=run.agent_id,
        turn_id=run.turn_id,
        attempt_id=entry.attempt_id,
        subject_ref=subject,
        related_refs=entry.related,
        source=run.source,
        destination=entry.destination,
        tags=entry.tags,
        delivery_semantics="journal_backed",
        event_index=index,
        timestamp_millis=entry.timestamp_millis,
        runtime_package_fingerprint=run.fingerprint,
        privacy="content_refs_only",
        redaction_policy_id=run.redaction_policy_id,
        idempotency_key=entry.idempotency_key,
        payload=payload,
    )


class Effect(Wire, frozen=True, kw_only=True):
    """Something that is about to be done."""

    effect_id: str
    kind: EffectKind
    subject: EntityRef
    destination: DestinationRef
    idempotency_key: str | None = None
    summary: str


def intent(run: RunContext, entry: Entry, effect: Effect) -> JournalRecord:
    """The record that must stand before this effect."""
    payload = EffectIntent(
        effect_id=check_id(effect.effect_id),
        kind=effect.kind,
        subject_ref=effect.subject,
        source=run.source,
        destination=effect.destination,
        idempotency_key=effect.idempotency_key,
        redacted_summary=effect.summary,
    )
    about = structs.replace(
        entry,
        subject=effect.subject,
        related=(entity("effect", effect.effect_id),),
        destination=effect.destination,
        idempotency_key=effect.idempotency_key,
    )
    return record(run, about, payload)


def check_journal(records: Iterable[JournalRecord]) -> None:
    """Raise `UsageError` unless the records count 1, 2, 3 … without a gap, under one schema, each with its own id."""
    seen: set[str] = set()
    for number, line in enumerate(records, 1):
        if line.journal_schema_version != 1:
            raise UsageError(
                f"record {number} has journal schema {line.journal_schema_version}; only 1 is known"
            )
        if line.journal_seq != number:
            raise UsageError(f"record {number} of the journal is numbered {line.journal_seq}")
        if line.record_id in seen:
            raise UsageError(f"record {number} repeats the id of another")
        seen.add(line.record_id)
