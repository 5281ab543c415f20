"""References: who or what a record is about, where it came from and where it goes. Their reprs show no identifier."""

from __future__ import annotations

from typing import Generic, Literal, TypeVar

from holdfast.compat.agent_sdk.canonical import Wire
from holdfast.compat.agent_sdk.ids import Privacy, Retention, Trust, check_id, pascal

EntityKind = Literal[
    "run", "turn", "attempt", "agent", "agent_pool", "topic", "event", "message", "wake_condition",
    "context_contribution", "context_item", "context_projection", "content", "artifact", "capability",
    "package_sidecar", "runtime_package", "policy_decision", "effect", "effect_intent", "effect_result",
    "tool_call", "approval_request", "stream_rule", "realtime_session", "hook", "execution_environment",
    "child_artifact", "subagent_run", "extension_action", "output_delivery",
]  # fmt: skip
SourceKind = Literal[
    "sdk", "host", "user", "system", "developer", "memory", "compaction", "hook", "extension", "tool",
    "remote_channel", "scheduled_task", "subagent", "external_runtime", "replay",
]  # fmt: skip
DestinationKind = Literal[
    "agent", "agent_pool", "topic", "provider", "context_projection", "journal", "event_stream", "telemetry",
    "output_sink", "host", "user", "remote_channel", "tool", "extension", "subagent", "external_runtime",
]  # fmt: skip
PolicyKind = Literal[
    "approval", "permission", "sandbox", "context", "privacy", "retention", "redaction", "runtime_package", "host",
]  # fmt: skip


class CorrelationEntry(Wire, frozen=True, kw_only=True):
    """Something of the host's that a record belongs to."""

    key: str
    value: str


K = TypeVar("K", bound=str)


class Ref(Wire, Generic[K], frozen=True, kw_only=True):
    """Something by its kind and name. Raises `UsageError` for a name that may not be an identifier."""

    kind: K
    id: str

    def __post_init__(self) -> None:
        check_id(self.id)

    def __repr__(self) -> str:
        return f"{pascal(self.kind)}:redacted"


class PolicyRef(Ref[PolicyKind], frozen=True, kw_only=True):
    """A policy by name."""

    version: str | None = None


class SourceRef(Ref[SourceKind], frozen=True, kw_only=True):
    """Where something came from."""

    trust: Trust
    privacy: Privacy
    correlation: tuple[CorrelationEntry, ...] = ()
    redacted_summary: str | None = None


class DestinationRef(Ref[DestinationKind], frozen=True, kw_only=True):
    """Where something goes."""

    privacy: Privacy
    retention: Retention
    correlation: tuple[CorrelationEntry, ...] = ()
    redacted_summary: str | None = None


class EntityRef(Ref[EntityKind], frozen=True, kw_only=True):
    """What something is about."""

    source: SourceRef | None = None
    privacy: Privacy
    redacted_summary: str | None = None


def entity(kind: EntityKind, name: str) -> EntityRef:
    """A reference with the usual privacy."""
    return EntityRef(kind=kind, id=name, privacy="content_refs_only")


def source(name: str, kind: SourceKind = "host", trust: Trust = "host_provided") -> SourceRef:
    """A source with the usual privacy."""
    return SourceRef(kind=kind, id=name, trust=trust, privacy="content_refs_only")


def destination(name: str, kind: DestinationKind = "host") -> DestinationRef:
    """A destination with the usual privacy and retention."""
    return DestinationRef(kind=kind, id=name, privacy="content_refs_only", retention="host_policy")
