"""Filters over envelopes: compiled once, matched without reading a payload, a journal or a content store."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from holdfast.compat.agent_sdk.canonical import JsonObject, Wire, declared
from holdfast.compat.agent_sdk.envelope import Envelope, Overflow
from holdfast.errors import UsageError
from holdfast.store import digest_of

Access = Literal["envelope_only", "redacted_summary", "payload_refs", "full_payload_if_policy_allows"]

Dimension = Literal["any"] | dict[Literal["include"], tuple[str, ...]]
"""`"any"`, or what it must be one of. An empty list matches nothing."""


class QueueBounds(Wire, frozen=True, kw_only=True, omit_defaults=False):
    """How much waits for a reader: `terminal_reserve` places are kept for events that end something."""

    capacity: int = 64
    terminal_reserve: int = 1
    overflow: Overflow = "drop_non_terminal"


class EventFilter(Wire, frozen=True, kw_only=True, omit_defaults=False):
    """What a reader wants: all dimensions must match, and one value of each."""

    run_ids: Dimension = "any"
    session_ids: Dimension = "any"
    agent_ids: Dimension = "any"
    turn_ids: Dimension = "any"
    families: Dimension = "any"
    kinds: Dimension = "any"
    source_kinds: Dimension = "any"
    destination_kinds: Dimension = "any"
    subject_kinds: Dimension = "any"
    related_entity_kinds: Dimension = "any"
    correlation_keys: Dimension = "any"
    tags: Dimension = "any"
    privacy_classes: Dimension = "any"
    delivery_semantics: Dimension = "any"
    terminal_only: bool = False
    payload_access: Access = "envelope_only"
    queue: QueueBounds = QueueBounds()


def include(*values: str) -> Dimension:
    """One of these."""
    return {"include": values}


TERMINAL_RUNS = EventFilter(families=include("run"), terminal_only=True)
"""The ends of runs."""

_READ: dict[str, tuple[str, Callable[[Envelope], Iterable[str | None]]]] = {
    "run_ids": ("run_id", lambda e: (e.run_id,)),
    "session_ids": ("session_id", lambda e: (e.session_id,)),
    "agent_ids": ("agent_id", lambda e: (e.agent_id,)),
    "turn_ids": ("turn_id", lambda e: (e.turn_id,)),
    "families": ("event_family", lambda e: (e.event_family,)),
    "kinds": ("event_kind", lambda e: (e.event_kind,)),
    "source_kinds": ("source_kind", lambda e: (e.source.kind,)),
    "destination_kinds": ("destination_kind", lambda e: (e.destination.kind if e.destination else None,)),
    "subject_kinds": ("subject_kind", lambda e: (e.subject_ref.kind,)),
    "related_entity_kinds": ("related_entity_kind", lambda e: [ref.kind for ref in e.related_refs]),
    "correlation_keys": ("correlation_key", lambda e: [entry.key for entry in e.correlation.entries]),
    "tags": ("tag", lambda e: e.tags),
    "privacy_classes": ("privacy", lambda e: (e.privacy,)),
    "delivery_semantics": ("delivery_semantics", lambda e: (e.delivery_semantics,)),
}
"""For each dimension the field of the envelope, and how it is read."""


@dataclass(frozen=True)
class CompiledFilter:
    """A filter that is ready to match. Raises `UsageError` for one that asks publishers to wait for readers."""

    filter: EventFilter

    def __post_init__(self) -> None:
        if self.filter.queue.overflow == "backpressure_caller":
            raise UsageError(
                "InvalidOverflowPolicy: a reader never slows a run; choose another overflow than backpressure_caller"
            )

    @cached_property
    def fingerprint(self) -> str:
        """Names exactly this filter."""
        return digest_of(declared(self.filter))

    @cached_property
    def filter_id(self) -> str:
        """`filter.` and the digest of the fingerprint."""
        return "filter." + digest_of(self.fingerprint.encode()).removeprefix("sha256:")

    @property
    def scope(self) -> JsonObject:
        """The scope of this filter's cursors."""
        return {"filter": {"filter_id": self.filter_id, "filter_fingerprint": self.fingerprint}}

    @cached_property
    def _wanted(self) -> tuple[tuple[Callable[[Envelope], Iterable[Any]], frozenset[str]], ...]:
        given = [
            (read, getattr(self.filter, name)) for name, (_, read) in _READ.items() if self._narrows(name)
        ]
        return tuple((read, frozenset(wanted["include"])) for read, wanted in given)

    @cached_property
    def indexed_fields(self) -> tuple[str, ...]:
        """The fields of the envelope that it looks at."""
        return tuple(field for name, (field, _) in _READ.items() if self._narrows(name))

    def _narrows(self, name: str) -> bool:
        return bool(getattr(self.filter, name) != "any")

    def matches(self, envelope: Envelope) -> bool:
        """Whether the reader wants this event; only the envelope is looked at."""
        if self.filter.terminal_only and not envelope.terminal:
            return False
        return all(any(value in wanted for value in read(envelope)) for read, wanted in self._wanted)
