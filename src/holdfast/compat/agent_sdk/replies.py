"""Calls of models and what came of them: attempts, answers that were held against a contract, repairs."""

from __future__ import annotations

from typing import Any

from holdfast.compat.agent_sdk.payloads import EffectResult, EffectStatus, ModelAttempt
from holdfast.compat.agent_sdk.published import canonical_value, publication_records
from holdfast.compat.agent_sdk.records import Effect
from holdfast.compat.agent_sdk.refs import entity
from holdfast.compat.agent_sdk.repair import (
    Candidate,
    Report,
    examine,
    exhausted_record,
    lifecycle_record,
    may_repair,
    refused,
    repair_attempt_id,
    repair_record,
    validation_record,
)
from holdfast.compat.agent_sdk.run import PROVIDER, Run
from holdfast.events import OutputChecked, OutputMessageCompleted, ReasonFailed
from holdfast.messages import StopReason, Usage

STOPS: dict[StopReason, str] = {
    "end_turn": "end_turn",
    "tool_calls": "tool_use",
    "max_tokens": "max_tokens",
    "refusal": "provider_error",
    "cut_off": "cancelled",
}
"""Why a model stopped, in the other system's words."""

_STATUS: dict[str, EffectStatus] = {
    "end_turn": "completed",
    "tool_use": "completed",
    "cancelled": "cancelled",
}
"""What became of a request, by why the model stopped; otherwise it failed."""

_PHASES = {
    "": ("p0", ""),
    "repair": ("p1", "repair"),
    "tool_continuation": ("p2", "tool_continuation"),
    "retry": ("p0", "retry"),
}
"""How attempts are named, by why the model is asked."""


def replied(run: Run, fact: OutputMessageCompleted) -> None:
    """The model answered."""
    stop = STOPS[fact.stop]
    _ask(run)
    _answer(run, _STATUS.get(stop, "failed"), stop, fact.usage)
    run.output = fact.message
    run.messages += 1
    run.why = "tool_continuation" if fact.stop == "tool_calls" else ""


def failed(run: Run, fact: ReasonFailed) -> None:
    """The model call failed; it may be tried again."""
    _ask(run)
    _answer(run, "failed", "provider_error", None, error=fact.reason)
    run.why = "retry"


def _ask(run: Run) -> None:
    """The intent, and the request."""
    trace = run.trace
    phase, word = _PHASES[run.why]
    run.attempts[word] = number = run.attempts.get(word, 0) + 1
    tail = f"{word}.{number}" if word else ("" if number == 1 else str(number))
    trace.attempt_id = trace.ids.name("attempt", tail, phase)
    effect = Effect(
        effect_id=_effect(run, phase, tail),
        kind="provider_request",
        subject=entity("attempt", trace.attempt_id),
        destination=PROVIDER,
        idempotency_key=trace.ids.name("idempotency", tail, phase) if tail else None,
        summary="provider request",
    )
    intent = trace.intent(("effect", "provider_request_intent"), effect)
    attempt = trace.record(("model_attempt", "provider_request_projected"), _attempt(run))
    trace.publish("provider_request_projected", intent)
    trace.publish("model_attempt_started", attempt)


def _effect(run: Run, phase: str, tail: str) -> str:
    return run.trace.ids.name("effect", f"provider_request.{tail}" if tail else "provider_request", phase)


def _attempt(run: Run, **said: Any) -> ModelAttempt:
    return ModelAttempt(
        provider_route_id=run.route["route_id"],
        provider_model_id=run.route["model_id"],
        request_message_count=run.messages,
        **said,
    )


def _answer(run: Run, status: EffectStatus, stop: str, usage: Usage | None, error: str | None = None) -> None:
    trace = run.trace
    intent = next(
        line
        for line in reversed(trace.trace.records)
        if line.event_index.event_kind == "provider_request_intent"
    )
    effect = intent.related_refs[0]
    trace.record(
        ("effect", "provider_request_result"),
        EffectResult(
            effect_id=effect.id,
            terminal_status=status,
            error_ref=error,
            redacted_summary=f"provider request {status}",
        ),
        subject=intent.subject_ref,
        related=(effect,),
        to=PROVIDER,
    )
    used = None if usage is None else _usage(usage)
    kind, event = ("failed", "model_attempt_failed") if error else ("completed", "model_message_completed")
    line = trace.record(("model_attempt", kind), _attempt(run, stop_reason=stop, usage=used))
    trace.publish(event, line)


def _usage(usage: Usage) -> dict[str, int]:
    total = usage.input_tokens + usage.output_tokens
    return {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens, "total_tokens": total}


def checked(run: Run, fact: OutputChecked) -> None:
    """An answer was held against the contract of the turn. Whether it fits is as the log says."""
    if run.contract is None or run.output is None:
        return
    if fact.call_id:
        run.answers.add(fact.call_id)
    started = run.structured(
        "lifecycle", "validation_started", lifecycle_record(run.contract, "validation_started")
    )
    run.trace.publish("structured_output_validation_started", started)
    text = _text(run, fact)
    report = _report(run, fact, text)
    run.reports.append(report)
    line = run.structured("validation", report.kind, validation_record(run.contract, report))
    if report.fits:
        _publish(run, report, text)
        return
    run.trace.publish("structured_output_validation_failed", line)
    if may_repair(run.contract, report, len(run.repairs)):
        _repair(run, report)
    else:
        _exhaust(run)


def _text(run: Run, fact: OutputChecked) -> str:
    if fact.text is not None or run.output is None:
        return fact.text or ""
    given = (call.arguments for call in run.output.calls if call.id == fact.call_id)
    return next(given, run.output.text)


def _report(run: Run, fact: OutputChecked, text: str) -> Report:
    assert run.contract is not None
    number = len(run.reports) + 1
    candidate = Candidate(
        source_attempt_id=run.trace.attempt_id or run.trace.ids.name("attempt"),
        content_ref=run.trace.ids.name("content", f"candidate.{number}", "p1"),
    )
    if fact.fits:
        return Report(candidate=candidate, kind="validation_succeeded")
    seen = examine(run.contract, candidate, text)
    return seen if seen.kind == "validation_failed" else refused(candidate)


def _publish(run: Run, report: Report, text: str) -> None:
    assert run.contract is not None
    value = canonical_value(run.trace.ids, len(run.reports), text)
    for body in publication_records(run.trace.ids, run.contract, report, value):
        kind = body["record_kind"]
        line = run.structured(kind, kind, body)
    run.trace.publish("structured_output_validated", line)


def _repair(run: Run, report: Report) -> None:
    assert run.contract is not None
    number = len(run.repairs) + 1
    run.repairs.append(repair_attempt_id(report, number))
    line = run.structured("repair", "repair_requested", repair_record(run.contract, report, number))
    run.trace.publish("structured_output_repair_requested", line)
    run.why = "repair"
    run.messages += 1


def _exhaust(run: Run) -> None:
    """No answer fitted, and the model is not asked again."""
    assert run.contract is not None
    body = exhausted_record(run.contract, run.reports, run.repairs)
    run.structured("repair_exhaustion", "repair_exhausted", body)
    body = exhausted_record(run.contract, run.reports, run.repairs, "terminal_failure")
    line = run.structured("repair_exhaustion", "terminal_failure", body)
    run.trace.publish("structured_output_failed", line)
