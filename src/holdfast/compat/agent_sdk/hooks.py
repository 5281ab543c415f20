"""Hooks of a package: specifications, the rules they must keep, and the sidecars through which they are hashed."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from holdfast.compat.agent_sdk.canonical import JsonObject, Wire, declared, plain
from holdfast.compat.agent_sdk.capabilities import SidecarRef, sidecar
from holdfast.compat.agent_sdk.refs import PolicyRef
from holdfast.errors import UsageError
from holdfast.store import digest_of

_POINTS = """
run_starting: inject_context stop_run
before_context_assembly: inject_context
after_context_assembly: request_compaction stop_run
before_provider_projection: modify_projection stop_run
before_model_call: modify_projection request_approval stop_run
on_model_delta:
after_model_call: request_retry stop_run
before_structured_output_validation: modify_validation_hints
after_structured_output_validation: request_retry
before_tool_call*: deny modify_tool_request request_approval
after_tool_call: request_retry rewrite_tool_result
before_approval_request*: modify_approval_request deny
after_approval_decision:
before_subagent_start*: deny modify_subagent_request
after_subagent_terminal: request_usage_rollup_repair
before_isolation_process_start*: deny modify_process_request
after_isolation_process_exit: request_cleanup_repair
on_run_cancel_requested: request_cleanup_repair
before_run_complete*: request_retry validate_detach stop_completion_with_repair_needed
after_run_terminal:
before_compaction: mark_protected_context
after_compaction: request_projection_audit_repair
"""

_ROWS = [line.partition(":") for line in _POINTS.strip().splitlines()]

ALLOWED: dict[str, frozenset[str]] = {
    name.removesuffix("*"): frozenset({"observe", *classes.split()}) for name, _, classes in _ROWS
}
"""What a hook may answer at each point."""

CRITICAL: frozenset[str] = frozenset(name[:-1] for name, _, _ in _ROWS if name.endswith("*"))
"""Points at which a hook may not fail open."""


class Ordering(Wire, frozen=True, kw_only=True):
    """When a hook runs among those of its point."""

    phase: Literal["early", "normal", "late"]
    order: int


class HookQueue(Wire, frozen=True, kw_only=True):
    """How much waits for a hook that does not block."""

    capacity: int
    terminal_reserve: int


class Execution(Wire, frozen=True, kw_only=True):
    """Whether the run waits for a hook."""

    mode: Literal["blocking", "non_blocking"]
    queue: HookQueue | None = None
    overflow: str | None = None


class Timeout(Wire, frozen=True, kw_only=True):
    """How long a hook may take."""

    timeout_ms: int


class Rights(Wire, frozen=True, kw_only=True):
    """What a hook may answer."""

    rights: tuple[str, ...]


class HookSpec(Wire, frozen=True, kw_only=True):
    """One hook of a package. The order of these fields is part of its hash."""

    hook_id: str
    point: str
    source: Literal["host_config", "in_process", "extension", "sdk_default", "test_only_fake"]
    ordering: Ordering
    execution: Execution
    timeout: Timeout
    failure: Literal["fail_open_observe_only", "deny", "interrupt_run", "fail_run"]
    mutation_rights: Rights
    privacy: str
    policy_ref: PolicyRef
    executor_ref: str


def observer(hook_id: str, point: str, *, policy: PolicyRef, executor: str) -> HookSpec:
    """A hook that only looks on: 250 ms, nobody waits for it, and it may fail."""
    return HookSpec(
        hook_id=hook_id,
        point=point,
        source="in_process",
        ordering=Ordering(phase="normal", order=100),
        execution=Execution(
            mode="non_blocking",
            queue=HookQueue(capacity=64, terminal_reserve=4),
            overflow="drop_observe_only",
        ),
        timeout=Timeout(timeout_ms=250),
        failure="fail_open_observe_only",
        mutation_rights=Rights(rights=("observe",)),
        privacy="envelope_and_redacted_summary",
        policy_ref=policy,
        executor_ref=executor,
    )


def guard(
    hook_id: str, point: str, *, rights: tuple[str, ...], policy: PolicyRef, executor: str, timeout_ms: int
) -> HookSpec:
    """A hook that the run waits for, and that denies when it fails."""
    return HookSpec(
        hook_id=hook_id,
        point=point,
        source="in_process",
        ordering=Ordering(phase="normal", order=100),
        execution=Execution(mode="blocking"),
        timeout=Timeout(timeout_ms=timeout_ms),
        failure="deny",
        mutation_rights=Rights(rights=tuple(sorted(rights))),
        privacy="envelope_and_redacted_summary",
        policy_ref=policy,
        executor_ref=executor,
    )


def hook_hash(spec: HookSpec) -> str:
    """The digest of a hook: over its fields in the order in which they are declared."""
    return digest_of(declared(spec))


def hook_sidecar(spec: HookSpec) -> JsonObject:
    """What stands for a hook in the fingerprint of its package."""
    name = f"hook.{spec.hook_id}"
    reference = SidecarRef(sidecar_id=name, kind="hook_spec", version="v1", content_hash=hook_hash(spec))
    return sidecar(reference, [spec.policy_ref])


def check_hook(spec: HookSpec) -> None:
    """Raise `UsageError` for a hook that breaks a rule."""
    allowed = ALLOWED.get(spec.point)
    rights = set(spec.mutation_rights.rights)
    changing = rights - {"observe"}
    if allowed is None:
        raise UsageError(f"hook {spec.hook_id!r}: there is no point {spec.point!r}")
    if spec.timeout.timeout_ms <= 0:
        raise UsageError(f"hook {spec.hook_id!r}: its timeout must be above 0")
    if rights - allowed:
        raise UsageError(
            f"hook {spec.hook_id!r} may not {', '.join(sorted(rights - allowed))} at {spec.point}"
        )
    if spec.execution.mode == "non_blocking" and changing:
        raise UsageError(f"hook {spec.hook_id!r}: what nobody waits for can only observe")
    if (changing or spec.point in CRITICAL) and spec.failure == "fail_open_observe_only":
        raise UsageError(f"hook {spec.hook_id!r} guards something and may not fail open")


def read_hook(document: Any) -> HookSpec:
    """The hook in this plain data. Raises `UsageError` when it is none."""
    if isinstance(document, HookSpec):
        return document
    try:
        return msgspec.convert(document, HookSpec)
    except msgspec.ValidationError as error:
        raise UsageError(f"this is not a hook: {error}") from error


def with_hook_sidecars(package: JsonObject) -> JsonObject:
    """The package with the sidecars of its hooks made anew."""
    hooks = [read_hook(document) for document in package.get("hooks", ())]
    if not hooks:
        return package
    made = {f"hook.{spec.hook_id}": hook_sidecar(spec) for spec in hooks}
    kept = [item for item in package["sidecars"] if item["sidecar_id"] not in made]
    return {**package, "hooks": [plain(spec) for spec in hooks], "sidecars": [*kept, *made.values()]}


def check_hook_sidecars(package: JsonObject) -> None:
    """Raise `UsageError` unless each hook keeps the rules and has the sidecar that follows from it."""
    held = {item["sidecar_id"]: item for item in package["sidecars"]}
    for spec in map(read_hook, package.get("hooks", ())):
        check_hook(spec)
        if held.get(f"hook.{spec.hook_id}") != hook_sidecar(spec):
            raise UsageError(f"the sidecar of hook {spec.hook_id!r} does not follow from it")
