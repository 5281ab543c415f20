"""The parts of a package that follow from a manifest's tools and hooks, as the manifest describes them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from holdfast.compat.agent_sdk.canonical import JsonObject, hash_of, plain
from holdfast.compat.agent_sdk.capabilities import SidecarRef, SourceOf, sidecar, tool_capability
from holdfast.compat.agent_sdk.hooks import HookSpec, guard
from holdfast.compat.agent_sdk.ids import safe_name
from holdfast.compat.agent_sdk.refs import PolicyRef, source
from holdfast.compat.agent_sdk.tools import EffectClass, RiskClass, Route, route
from holdfast.store import digest_of

HOST = SourceOf(kind="host_provided", source_ref=source("source.holdfast"))
"""Who brings the tools."""

_CLASSES: dict[str, tuple[EffectClass, RiskClass]] = {
    "pure": ("Read", "Low"),
    "idempotent": ("Write", "Medium"),
    "reconcile": ("Write", "Medium"),
    "once": ("Write", "High"),
}
"""Our effect classes as theirs. One that may not happen twice is the riskier one."""

_POINTS = {
    "before_turn": ("run_starting", ("stop_run",)),
    "before_reason": ("before_model_call", ("stop_run",)),
    "before_tool": ("before_tool_call", ("deny", "modify_tool_request", "request_approval")),
    "after_tool": ("after_tool_call", ("rewrite_tool_result",)),
}
"""Our points as theirs, and what a guard may do there. After a turn nothing is guarded."""


def _policy(tool: JsonObject) -> PolicyRef:
    kind: Any = "approval" if tool["ask"] else "permission"
    return PolicyRef(kind=kind, id=f"policy.{kind}.{tool['name']}")


def _schema(tool: JsonObject) -> SidecarRef:
    return SidecarRef(
        sidecar_id=f"sidecar.schema.{tool['name']}",
        kind="tool_schema",
        version="v1",
        content_hash=hash_of(tool["parameters"]),
    )


def capability_of(tool: JsonObject) -> JsonObject:
    """What the model may ask for, and what runs then."""
    name = tool["name"]
    return tool_capability(
        name, schema=_schema(tool), policy=_policy(tool), capability_id=f"cap.tool.{name}", brought_by=HOST
    )


def route_of(tool: JsonObject) -> Route:
    """How the tool is found by its name, and how risky it is."""
    effect, risk = _CLASSES[tool["effect"]]
    return route(
        tool["name"],
        policies=[_policy(tool)],
        effect=effect,
        risk=risk,
        capability_id=f"cap.tool.{tool['name']}",
        requires_approval=bool(tool["ask"]),
        description=tool["description"],
    )


def sidecars_of(told: JsonObject, document: bytes) -> Iterator[JsonObject]:
    """The schemas of the tools, all tools with their schemas in the open, and the manifest by its digest."""
    for tool in told["tools"]:
        yield sidecar(_schema(tool), [_policy(tool)])
    if told["tools"]:
        tools = [
            {
                "schema_ref": plain(_schema(tool)),
                "redacted_schema": tool["parameters"],
                "description": tool["description"],
            }
            for tool in told["tools"]
        ]
        payload = {"tools": tools}
        reference = SidecarRef(
            sidecar_id="sidecar.tool_pack.holdfast",
            kind="tool_pack",
            version="v1",
            content_hash=hash_of(payload),
        )
        yield sidecar(reference, payload=payload)
    yield sidecar(
        SidecarRef(
            sidecar_id="sidecar.holdfast.manifest",
            kind="holdfast_manifest",
            version="v1",
            content_hash=digest_of(document),
        )
    )


def guards_of(told: JsonObject, policy: PolicyRef) -> Iterator[HookSpec]:
    """The hooks that deny when they fail. Others cannot be said there: what may change a run may not fail open."""
    for hook in told["hooks"]:
        if not hook["guard"] or hook["point"] not in _POINTS:
            continue
        point, rights = _POINTS[hook["point"]]
        yield guard(
            safe_name(hook["id"]),
            point,
            rights=rights,
            policy=policy,
            executor=f"executor.hook.{safe_name(hook['id'])}",
            timeout_ms=max(1, round(hook["timeout"] * 1000)),
        )


def policy_named(name: str) -> PolicyRef:
    """The policy of a manifest by name."""
    return PolicyRef(kind="runtime_package", id=f"policy.{safe_name(name)}")
