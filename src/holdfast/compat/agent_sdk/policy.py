"""Decisions as the other system writes them, the reasons of those that fail closed, and its stand-alone policies.

Only `Allow` lets something happen. What is missing denies under a code of its own; nothing is allowed by default.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Literal

from msgspec import Struct

from holdfast.compat.agent_sdk.canonical import JsonObject, plain
from holdfast.compat.agent_sdk.refs import PolicyRef, SourceRef
from holdfast.hook import Allow, AskFor, Decision, Defer, Deny, Interrupt, Modify

Missing = Literal[
    "policy_snapshot", "policy_ref", "permission_evaluator", "sandbox_evaluator", "approval_dispatcher", "adapter",
    "sink", "store", "journal_append", "executor_ref", "isolation_runtime",
]  # fmt: skip
"""What somebody may lack; each denies."""

Sandbox = Literal["DenyHostExecution", "RequireIsolation", "AllowHostExecution"]
Capture = Literal["Off", "MetadataOnly", "RedactedSummary", "RawContent"]

_FAILURES: dict[str, str] = {
    "journal_append": "JournalFailure",
    "adapter": "IsolationFailure",
    "isolation_runtime": "IsolationFailure",
    "approval_dispatcher": "ApprovalFailure",
}


def reason(code: str, policies: Iterable[PolicyRef] = (), summary: str | None = None) -> JsonObject:
    """Why something was decided, under a stable code."""
    refs = [plain(policy) for policy in policies]
    return {"code": code, "redacted_summary": summary, "policy_refs": refs}


def allow(code: str, policies: Iterable[PolicyRef] = ()) -> JsonObject:
    """It may happen."""
    return {"Allow": {"reason": reason(code, policies)}}


def deny(
    code: str = "policy.default_deny", policies: Iterable[PolicyRef] = (), summary: str | None = None
) -> JsonObject:
    """It may not happen."""
    return {"Deny": {"reason": reason(code, policies, summary)}}


def missing(what: Missing, policies: Iterable[PolicyRef] = ()) -> JsonObject:
    """It may not happen, for want of this."""
    return deny(f"missing.{what}", policies)


def failure_of(what: Missing) -> tuple[str, str]:
    """The kind of error that a missing part is, and what to do about it: the host must be configured."""
    return _FAILURES.get(what, "PolicyDenial"), "HostConfigurationNeeded"


def allowed(decision: JsonObject) -> bool:
    """Whether this decision lets it happen; only `Allow` does."""
    return set(decision) == {"Allow"}


def code_of(decision: JsonObject) -> str:
    """The reason code of a decision that has one, else an empty text."""
    (body,) = decision.values()
    given: Any = body.get("reason") if isinstance(body, dict) else None
    return str(given["code"]) if given else ""


def decision_of(decision: Decision, *, now: datetime, approval: JsonObject | None = None) -> JsonObject:
    """A decision of one of Holdfast's hooks or policies. The words of its reason are not shown, but for a code.

    `approval` is the specification that an `Ask` carries; without one, nobody can be asked, and it denies.
    """
    match decision:
        case Allow():
            return allow("policy.allowed")
        case Deny():
            return deny("policy.denied")
        case AskFor():
            return {"Ask": {"approval": approval}} if approval else missing("approval_dispatcher")
        case Modify():
            return {
                "Modify": {"modification": {"redacted_summary": "request was modified", "policy_refs": []}}
            }
        case Interrupt():
            return {"Interrupt": {"reason": reason("policy.interrupted")}}
        case Defer(until=until):
            wait = max(0, round((until - now).total_seconds() * 1000))
            why = reason("policy.deferred")
            return {"Defer": {"resume_policy": {"resume_after_ms": wait, "reason": why}}}


class Grant(Struct, frozen=True, kw_only=True):
    """A source may use a capability."""

    source: SourceRef
    capability: str


def permission(grants: Iterable[Grant], source: SourceRef, capability: str) -> JsonObject:
    """Whether this source may use this capability: the first grant that names both says so; else denied."""
    granted = any(grant.source == source and grant.capability == capability for grant in grants)
    return allow("permission.granted") if granted else deny("permission.default_deny")


def sandbox(mode: Sandbox, *, adapter: bool, without: JsonObject | None = None) -> JsonObject:
    """Whether a process may start. `without` is what to decide when isolation is required and nothing isolates."""
    if mode == "DenyHostExecution":
        return deny("sandbox.host_denied")
    if mode == "RequireIsolation" and not adapter:
        return without or missing("adapter")
    return allow("sandbox.allowed")


def escalation(*, required: bool, dispatcher: bool) -> JsonObject:
    """Whether a decision may be passed on to somebody."""
    if required and not dispatcher:
        return deny("escalation.missing_dispatcher")
    return allow("escalation.allowed")


class CapturePolicy(Struct, frozen=True, kw_only=True):
    """When raw content may be kept: when every one of these says so. By default, never."""

    mode: Capture = "Off"
    source_permits_content: bool = False
    sink_permits_content: bool = False
    redaction_required: bool = True
    retention_required: bool = True
    sampling_required: bool = True
    byte_limit: int = 0


def captures_raw(policy: CapturePolicy) -> bool:
    """Whether raw content may be kept under this policy."""
    gates = (
        policy.source_permits_content,
        policy.sink_permits_content,
        policy.redaction_required,
        policy.retention_required,
        policy.sampling_required,
        policy.byte_limit > 0,
    )
    return policy.mode == "RawContent" and all(gates)
