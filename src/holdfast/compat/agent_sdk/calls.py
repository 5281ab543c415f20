"""Calls of tools, and who was asked about them: intents before effects, outcomes after, and what nobody knows."""

from __future__ import annotations

from typing import Any

from holdfast.compat.agent_sdk.ids import hidden_name, safe_name
from holdfast.compat.agent_sdk.payloads import (
    Approval,
    EffectResult,
    HookRecord,
    PendingEffect,
    Recovery,
    ToolRecord,
    ToolStatus,
)
from holdfast.compat.agent_sdk.records import Effect, JournalRecord
from holdfast.compat.agent_sdk.refs import EntityRef, destination, entity
from holdfast.compat.agent_sdk.run import Run
from holdfast.events import (
    AskAnswered,
    AskExpired,
    AskOpened,
    AskVoided,
    CallResolved,
    HookDecided,
    ToolCompleted,
    ToolStarted,
    TurnRecovered,
)
from holdfast.messages import CallStatus

_ENDS: dict[CallStatus, tuple[ToolStatus, str]] = {
    "ok": ("completed", "tool_completed"),
    "error": ("failed", "tool_failed"),
    "cancelled": ("cancelled", "tool_failed"),
    "denied": ("denied_before_execution", "tool_denied"),
    "in_doubt": ("recovery_required", "tool_recovery_required"),
}
"""How a call ended, as a status and an event of the other system."""

_WORDS: dict[str, Any] = {
    "before_turn": "run_starting",
    "before_reason": "before_model_call",
    "before_tool": "before_tool_call",
    "after_tool": "after_tool_call",
    "after_turn": "after_run_terminal",
}
"""Our points as theirs."""

KEYED = ("idempotent", "reconcile")
"""Effect classes of calls that carry a key."""


def effect_of(call_id: str) -> str:
    """The effect of a call."""
    return f"effect.{call_id}"


def _tool(name: str) -> Any:
    return destination(f"destination.tool.{name}", "tool")


def _name(run: Run, name: str) -> str:
    """The name of a tool that there is. A model may ask for others, by any words."""
    return safe_name(name) if name in run.tools else hidden_name(name)


def started(run: Run, fact: ToolStarted) -> None:
    """A call is about to run."""
    if not fact.dispatched:
        return
    run.tools.add(fact.name)
    payload = ToolRecord(
        tool_call_id=fact.call_id,
        canonical_tool_name=_name(run, fact.name),
        status="intent_recorded",
        effect_id=effect_of(fact.call_id),
        requested_args_refs=(_arguments(fact.call_id),),
        idempotency_key=fact.call_id if fact.effect in KEYED else None,
        attempt=fact.attempt,
        redacted_summary="tool call is about to run",
    )
    line = _record(run, "intent", payload)
    run.intents[fact.call_id] = line.record_id
    run.trace.publish("tool_started", line, subject=_subject(fact.call_id))


def completed(run: Run, fact: ToolCompleted) -> None:
    """A call has its outcome, or nobody knows it."""
    result = fact.result
    run.messages += 1
    if result.call_id in run.answers:
        return
    status, event = _ENDS[result.status]
    if result.status == "in_doubt":
        pending = [_pending(result.call_id, run.intents.pop(result.call_id, ""))]
        line = _recovery(run, "tool call was cut off after it was dispatched", pending)
    else:
        run.intents.pop(result.call_id, None)
        payload = ToolRecord(
            tool_call_id=result.call_id,
            canonical_tool_name=_name(run, result.name),
            status=status,
            effect_id=effect_of(result.call_id),
            result_refs=(f"content.result.{result.call_id}",),
            attempt=fact.attempt,
            error_ref="ToolFailure" if status == "failed" else None,
            redacted_summary=f"tool call {status}",
        )
        line = _record(run, "result", payload)
    run.trace.publish(event, line, subject=_subject(result.call_id))


def _arguments(call_id: str) -> str:
    """Where the arguments are. Their digest is not shown: who can guess them could tell."""
    return f"content.arguments.{call_id}"


def _subject(call_id: str) -> EntityRef:
    return entity("tool_call", call_id)


def _record(run: Run, kind: str, payload: ToolRecord) -> JournalRecord:
    return run.trace.record(
        ("tool", kind),
        payload,
        subject=_subject(payload.tool_call_id),
        related=(entity("effect", payload.effect_id),),
        key=payload.idempotency_key,
        tags=("tool_execution",),
        to=_tool(payload.canonical_tool_name),
    )


def _pending(call_id: str, intent: str) -> PendingEffect:
    return PendingEffect(
        effect_id=effect_of(call_id),
        intent_record_id=intent or "unknown",
        unsafe_pending_reason="potentially non-idempotent effect without a recorded outcome",
    )


def _recovery(run: Run, why: str, pending: list[PendingEffect]) -> JournalRecord:
    return run.trace.record(
        ("recovery", "marker"), Recovery(unsafe_pending=tuple(pending), recovery_reason=why)
    )


def recovered(run: Run, fact: TurnRecovered) -> None:
    """A writer went on with the run; these effects were open."""
    open_calls = [_pending(call_id, intent) for call_id, intent in run.intents.items()]
    _recovery(run, "run was cut off and is gone on with", open_calls)


def resolved(run: Run, fact: CallResolved) -> None:
    """A person said what became of a call in doubt."""
    if fact.result is None:
        return
    run.trace.record(
        ("effect", "reconciled"),
        EffectResult(
            effect_id=effect_of(fact.call_id),
            terminal_status="failed" if fact.result.status == "error" else "completed",
            reconciliation_ref=f"reconciliation.{fact.call_id}",
            redacted_summary="outcome was reconciled by a person",
        ),
        subject=_subject(fact.call_id),
        related=(entity("effect", effect_of(fact.call_id)),),
    )


def asked(run: Run, fact: AskOpened) -> None:
    """Somebody is asked."""
    run.tools.add(fact.tool)
    _approval(
        run,
        "dispatch_intent",
        fact.call_id,
        {
            "canonical_tool_name": _name(run, fact.tool),
            "redacted_args_summary": "arguments of a tool call",
            "requested_args_ref": _arguments(fact.call_id),
            "allowed_decisions": ["Approved", "Denied"],
        },
    )
    run.asks[fact.ask_id] = fact.call_id


_VERDICTS: dict[str, tuple[str, str, str]] = {
    "approved": ("approved", "completed", "approval.approved"),
    "answered": ("approved", "completed", "approval.approved"),
    "denied": ("denied", "denied_before_execution", "approval.denied"),
    "expired": ("timed_out", "timed_out", "approval.timeout"),
    "voided": ("cancelled", "cancelled", "approval.cancelled"),
}


def answered(run: Run, fact: AskAnswered | AskExpired | AskVoided) -> None:
    """Somebody has answered, nobody did in time, or the question no longer stands."""
    call_id = run.asks.pop(fact.ask_id, None)
    if call_id is None:
        return
    verdict = fact.verdict if isinstance(fact, AskAnswered) else fact.kind.rpartition(".")[2]
    terminal, effect, code = _VERDICTS[verdict]
    said = {"terminal_status": terminal, "effect_terminal_status": effect, "reason_code": code}
    _approval(run, "dispatch_result", call_id, said)


def _approval(run: Run, kind: Any, call_id: str, said: dict[str, Any]) -> None:
    effect = f"effect.{call_id}.approval"
    about = {
        "approval_request_id": f"approval.request.{call_id}",
        "approval_dispatch_effect_id": effect,
        "tool_call_id": call_id,
    }
    run.trace.record(
        ("approval", kind),
        Approval(record_type=kind, record={**about, **said}),
        subject=entity("approval_request", about["approval_request_id"]),
        related=(entity("effect", effect), _subject(call_id)),
    )


def decided(run: Run, fact: HookDecided) -> None:
    """A hook changed something: the decision, the effect that it is, and that it was applied."""
    if fact.decision == "pass":
        return
    number = len(run.trace.trace.records) + 1
    hook = safe_name(fact.hook)
    effect = f"effect.hook.{hook}.hook.invocation.{number}"
    subject = entity("hook", hook)
    payload = HookRecord(
        schema_version=1,
        hook_id=hook,
        point=_WORDS.get(fact.point, fact.point),
        payload={
            "type": "decision",
            "decision": "accepted_journaled_before_apply",
            "response_class": fact.decision,
        },
    )
    run.trace.record(("hook", "decision"), payload, subject=subject, related=(entity("effect", effect),))
    run.trace.intent(
        ("effect", "hook_mutation_intent"),
        Effect(
            effect_id=effect,
            kind="hook_mutation",
            subject=subject,
            destination=destination("destination.run"),
            summary=f"hook decided {fact.decision}",
        ),
    )
    result = EffectResult(
        effect_id=effect, terminal_status="completed", redacted_summary="hook decision applied"
    )
    run.trace.record(
        ("effect", "hook_mutation_result"), result, subject=subject, related=(entity("effect", effect),)
    )
