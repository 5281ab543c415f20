"""A run as it is written: records and events under one numbering, each event after the record that it cites."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property

from holdfast.compat.agent_sdk.canonical import JsonObject
from holdfast.compat.agent_sdk.envelope import Moment, Published, RunContext, event
from holdfast.compat.agent_sdk.ids import RunIds, pascal
from holdfast.compat.agent_sdk.payloads import Payload, StructuredOutput, type_of
from holdfast.compat.agent_sdk.records import Effect, Entry, JournalRecord, intent, record
from holdfast.compat.agent_sdk.refs import DestinationRef, EntityRef, destination

JOURNAL = destination("destination.journal", "journal")
"""Where records go that are about nothing outside."""


@dataclass
class Trace:
    """The records and events of a session, numbered 1, 2, 3 … each."""

    records: list[JournalRecord] = field(default_factory=list)
    events: list[Published] = field(default_factory=list)


Journal = tuple[JournalRecord, ...]
"""The records of a session."""

Stream = tuple[Published, ...]
"""The events of a session."""


def millis(at: datetime) -> int:
    """The instant in milliseconds since 1970."""
    return round(at.timestamp() * 1000)


def instant(at: datetime) -> str:
    """The instant in UTC, as `2026-05-24T12:00:00Z`."""
    return at.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


@dataclass
class RunTrace:
    """What one run adds to the trace of its session. `at` is when the present step happened."""

    trace: Trace
    context: RunContext
    at: datetime
    attempt_id: str | None = None
    _labels: dict[str, int] = field(default_factory=dict)
    _published: int = 0

    @cached_property
    def ids(self) -> RunIds:
        """The names of this run."""
        return RunIds(self.context.run_id)

    def record(
        self,
        index: tuple[str, str],
        payload: Payload,
        *,
        subject: EntityRef | None = None,
        related: tuple[EntityRef, ...] = (),
        key: str | None = None,
        tags: tuple[str, ...] = (),
        to: DestinationRef = JOURNAL,
    ) -> JournalRecord:
        """Append a record; `index` is the family and kind it is found by."""
        entry = self._entry(index, subject=subject, related=related, key=key, tags=tags, to=to)
        return self._append(record(self.context, entry, payload))

    def intent(self, index: tuple[str, str], effect: Effect) -> JournalRecord:
        """Append what must stand before this effect."""
        return self._append(intent(self.context, self._entry(index), effect))

    def _entry(
        self,
        index: tuple[str, str],
        *,
        subject: EntityRef | None = None,
        related: tuple[EntityRef, ...] = (),
        key: str | None = None,
        tags: tuple[str, ...] = (),
        to: DestinationRef | None = None,
    ) -> Entry:
        label = ".".join(index)
        self._labels[label] = count = self._labels.get(label, 0) + 1
        return Entry(
            record_id=self.ids.name("journal", label if count == 1 else f"{label}.{count}"),
            journal_seq=len(self.trace.records) + 1,
            timestamp_millis=millis(self.at),
            family=index[0],
            kind=index[1],
            subject=subject,
            related=related,
            destination=to,
            attempt_id=self.attempt_id,
            idempotency_key=key,
            tags=tags,
        )

    def _append(self, line: JournalRecord) -> JournalRecord:
        self.trace.records.append(line)
        return line

    def publish(self, kind: str, cites: JournalRecord, subject: EntityRef | None = None) -> None:
        """Publish an event that this record backs."""
        self._published += 1
        moment = Moment(
            event_id=self.ids.name("event", self._published),
            span_id=self.ids.name("span", self._published),
            event_seq=len(self.trace.events) + 1,
            timestamp=instant(self.at),
        )
        self.trace.events.append(event(self.context, moment, kind, cursor=cites.cursor, subject=subject))


def journal_rows(records: Iterable[JournalRecord]) -> list[JsonObject]:
    """What of records is compared: their order, and what each says."""
    return [
        {
            "journal_seq": line.journal_seq,
            "record_kind": pascal(line.record_kind),
            "payload_type": _payload_type(line.payload),
            "delivery_semantics": line.delivery_semantics,
        }
        for line in records
    ]


def _payload_type(payload: Payload) -> str:
    if isinstance(payload, StructuredOutput):
        return f"structured_output_{payload.record['record_kind']}"
    return type_of(payload)


def event_rows(events: Iterable[Published]) -> list[JsonObject]:
    """What of events is compared: their order, and which record backs each."""
    return [
        {
            "event_seq": envelope.event_seq,
            "event_family": pascal(envelope.event_family),
            "event_kind": pascal(envelope.event_kind),
            "delivery_semantics": pascal(envelope.delivery_semantics),
            "journal_cursor": envelope.journal_cursor,
        }
        for envelope in (published.envelope for published in events)
    ]
