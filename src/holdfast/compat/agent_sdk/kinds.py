"""The kinds of events, their families, and which of them end something (a star) or are mere progress (a plus)."""

from __future__ import annotations

from holdfast.errors import UsageError

_TABLE = """
run: run_started run_completed* run_failed* run_cancelled* run_checkpointed run_cancel_requested
    run_resume_requested run_resume_failed
turn: turn_started turn_completed* turn_failed* context_assembled provider_request_projected
message: message_accepted message_committed
model: model_attempt_started model_stream_delta+ model_message_completed* model_attempt_failed*
tool: tool_requested tool_started tool_completed* tool_failed* tool_denied* tool_recovery_required*
approval: approval_requested approval_dispatched approval_dispatch_unavailable* approval_responded*
    approval_denied* approval_timed_out* approval_cancelled*
hook: hook_registered hook_invoked hook_completed* hook_failed* hook_timed_out* hook_cancelled*
    hook_response_applied* hook_response_rejected*
stream_rule: stream_rule_registered stream_rule_compile_failed stream_rule_matched stream_intervention_requested
    stream_intervention_applied stream_rule_repeat_state_recorded+
realtime: realtime_connect_requested realtime_connected realtime_input_send_requested realtime_input_sent+
    realtime_output_receive_requested realtime_output_received+ realtime_interrupted realtime_restart_requested
    realtime_restart_started realtime_restart_completed realtime_restart_failed* realtime_close_requested
    realtime_closed* realtime_backpressure_applied+
isolation: isolation_requested isolation_adapter_health_checked isolation_capability_matched
    isolation_downgrade_denied isolation_downgrade_approved isolation_environment_prepared
    isolation_process_started isolation_process_io_captured+ isolation_process_stats_recorded+
    isolation_cleanup_started isolation_cleanup_completed* isolation_cleanup_failed* isolation_failed*
child_lifecycle: child_lifecycle_requested child_lifecycle_completed* child_lifecycle_detached*
subagent: subagent_started subagent_handoff subagent_event_wrapped subagent_usage_rolled_up subagent_completed*
extension: extension_action_submitted extension_action_started extension_action_completed*
    extension_action_failed* extension_action_denied*
output_delivery: output_dispatch_requested output_dispatch_completed* output_dispatch_failed*
    output_dispatch_deduped*
structured_output: structured_output_requested structured_output_validation_started
    structured_output_validation_failed structured_output_repair_requested structured_output_validated*
    structured_output_failed*
telemetry: telemetry_sink_failed telemetry_sink_recovered usage_recorded+ cost_estimated+ cost_corrected+
recovery: replay_started replay_completed* replay_failed*
agent_pool: agent_pool_created agent_pool_run_joined agent_pool_run_left run_message_accepted
    run_message_delivered run_message_responded* run_message_failed* run_message_timed_out*
    run_message_expired* run_message_cancelled* wake_condition_registered wake_condition_triggered*
    wake_condition_timed_out* wake_condition_cancelled* wake_condition_failed*
"""


def _read(table: str) -> tuple[dict[str, str], frozenset[str], frozenset[str]]:
    families: dict[str, str] = {}
    marked: dict[str, set[str]] = {"*": set(), "+": set()}
    family = ""
    for word in table.split():
        if word.endswith(":"):
            family = word[:-1]
            continue
        kind = word.rstrip("*+")
        families[kind] = family
        if kind != word:
            marked[word[-1]].add(kind)
    return families, frozenset(marked["*"]), frozenset(marked["+"])


FAMILIES, TERMINAL, PROGRESS = _read(_TABLE)
"""The family under which each kind is published; the kinds that end something; those a slow reader misses first."""


def family_of(kind: str) -> str:
    """The family that this kind is published in. Raises `UsageError` for a kind there is not."""
    try:
        return FAMILIES[kind]
    except KeyError:
        raise UsageError(
            f"there is no event kind {kind!r}; see holdfast.compat.agent_sdk.kinds.FAMILIES"
        ) from None
