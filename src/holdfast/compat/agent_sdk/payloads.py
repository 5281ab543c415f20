"""What journal records say, told apart by `type`. No payload holds what was said; summaries stand in for it."""

from __future__ import annotations

from typing import Any, Literal

from holdfast.compat.agent_sdk.canonical import JsonObject, Wire
from holdfast.compat.agent_sdk.refs import DestinationRef, EntityRef, PolicyRef, SourceRef

EffectKind = Literal[
    "provider_request", "tool_execution", "approval_dispatch", "memory_write", "extension_action",
    "output_delivery", "file_write", "process_start", "process_signal", "isolated_process_start",
    "child_agent_start", "run_message_delivery", "child_artifact_shutdown", "detach_transfer", "hook_mutation",
]  # fmt: skip
EffectStatus = Literal["completed", "failed", "timed_out", "cancelled", "denied_before_execution", "unknown"]
ToolStatus = Literal[
    "requested", "request_modified", "intent_recorded", "completed", "failed", "timed_out", "cancelled",
    "denied_before_execution", "result_rewritten", "unknown", "recovery_required",
]  # fmt: skip
RunStatus = Literal["started", "completed", "failed", "cancelled"]


RecordType = Literal[
    "lifecycle", "validation", "repair", "repair_exhaustion", "validation_report", "validated_output",
    "typed_result_publication",
]  # fmt: skip
"""What a record about a typed output is about."""


class RunLifecycle(Wire, frozen=True, kw_only=True, tag="run_lifecycle"):
    """A run began or went on."""

    status: str
    reason: str


class TerminalResult(Wire, frozen=True, kw_only=True, tag="terminal_result"):
    """A run ended; nothing else ends it."""

    effect_id: str
    result_record_id: str
    terminal_status: RunStatus


class TurnLifecycle(Wire, frozen=True, kw_only=True, tag="turn_lifecycle"):
    """A turn began or ended."""

    turn_id: str
    run_ids: tuple[str, ...]
    status: RunStatus
    input_message_id: str | None = None
    output_message_id: str | None = None
    context_projection_id: str | None = None
    redacted_summary: str


class ContextProjection(Wire, frozen=True, kw_only=True, tag="context_projection"):
    """What the model is about to see was put together."""

    projection_id: str
    selected_item_count: int
    provider_destination: DestinationRef


class ModelAttempt(Wire, frozen=True, kw_only=True, tag="model_attempt"):
    """The model is asked, or has answered."""

    provider_route_id: str
    provider_model_id: str
    request_message_count: int
    stop_reason: str | None = None
    usage: JsonObject | None = None


class MessageRecord(Wire, frozen=True, kw_only=True, tag="message"):
    """A message is complete."""

    message_id: str
    role: str
    redacted_summary: str


class StructuredOutput(Wire, frozen=True, kw_only=True, tag="structured_output"):
    """Something about a typed output; `record` says what."""

    record_type: RecordType
    record: JsonObject


class Approval(Wire, frozen=True, kw_only=True, tag="approval"):
    """Somebody is asked, or has answered."""

    record_type: Literal["requested", "dispatch_intent", "dispatch_result", "responded", "denied"]
    record: JsonObject


class ToolRecord(Wire, frozen=True, kw_only=True, tag="tool"):
    """A call is about to run, or has run; arguments and results are references."""

    tool_call_id: str
    canonical_tool_name: str
    status: ToolStatus
    effect_id: str
    requested_args_refs: tuple[str, ...] = ()
    result_refs: tuple[str, ...] = ()
    idempotency_key: str | None = None
    attempt: int = 0
    error_ref: str | None = None
    redacted_summary: str


class HookRecord(Wire, frozen=True, kw_only=True, tag="hook"):
    """A hook decided something."""

    schema_version: int
    hook_id: str
    point: str
    payload: JsonObject


class EffectIntent(Wire, frozen=True, kw_only=True, tag="effect_intent"):
    """Something is about to be done to the world."""

    effect_id: str
    kind: EffectKind
    subject_ref: EntityRef
    source: SourceRef
    destination: DestinationRef | None = None
    policy_refs: tuple[PolicyRef, ...] = ()
    idempotency_key: str | None = None
    dedupe_key: str | None = None
    content_refs: tuple[str, ...] = ()
    redacted_summary: str


class EffectResult(Wire, frozen=True, kw_only=True, tag="effect_result"):
    """What became of it."""

    effect_id: str
    terminal_status: EffectStatus
    external_operation_id: str | None = None
    reconciliation_ref: str | None = None
    error_ref: str | None = None
    content_refs: tuple[str, ...] = ()
    redacted_summary: str


class Checkpoint(Wire, frozen=True, kw_only=True, tag="checkpoint"):
    """A place to go on from; never the truth."""

    checkpoint_id: str
    run_id: str
    checkpoint_seq: int
    covers_journal_seq: int
    loop_state: str
    turn_id: str | None = None
    attempt_id: str | None = None
    runtime_package_fingerprint: str
    pending_side_effects: tuple[Any, ...] = ()
    pending_approvals: tuple[Any, ...] = ()
    content_ref_manifest: tuple[Any, ...] = ()
    state_hash: str
    created_at_millis: int
    writer_id: str


class PendingEffect(Wire, frozen=True, kw_only=True):
    """An effect of which nobody knows whether it took place."""

    effect_id: str
    intent_record_id: str
    idempotency_key: str | None = None
    dedupe_key: str | None = None
    unsafe_pending_reason: str


class Recovery(Wire, frozen=True, kw_only=True, tag="recovery"):
    """A run was cut off; these effects are open."""

    unsafe_pending: tuple[PendingEffect, ...] = ()
    recovery_reason: str
    policy_refs: tuple[PolicyRef, ...] = ()


Payload = (
    RunLifecycle
    | TerminalResult
    | TurnLifecycle
    | ContextProjection
    | ModelAttempt
    | MessageRecord
    | StructuredOutput
    | Approval
    | ToolRecord
    | HookRecord
    | EffectIntent
    | EffectResult
    | Checkpoint
    | Recovery
)
"""What a record may say."""

RECORD_KINDS: dict[type[Wire], str] = {
    RunLifecycle: "run",
    TerminalResult: "run",
    TurnLifecycle: "turn",
    ContextProjection: "context",
    ModelAttempt: "model_attempt",
    MessageRecord: "message",
    StructuredOutput: "structured_output",
    Approval: "approval",
    ToolRecord: "tool",
    HookRecord: "hook",
    EffectIntent: "effect_intent",
    EffectResult: "effect_result",
    Checkpoint: "checkpoint",
    Recovery: "recovery",
}
"""The kind of the record that holds such a payload."""


def type_of(payload: Payload) -> str:
    """The `type` under which this payload is written."""
    return str(payload.__struct_config__.tag)
