"""Capabilities of a package: what a model may see of them, and what runs when it asks. Only tools can be active."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from holdfast.compat.agent_sdk.canonical import JsonObject, Wire, plain
from holdfast.compat.agent_sdk.refs import PolicyRef, SourceRef, source
from holdfast.errors import UsageError

READINESS: JsonObject = {
    "status": "active",
    "owner_role": "02-runtime-package-p0-fake-tool",
    "typed_sidecar_contract": "capability.tool.schema_ref.executor_ref.policy_ref",
    "fingerprint_fields": [
        "capability_id", "kind", "namespace", "version", "projection", "executor_ref", "policy_ref", "sidecar_refs",
        "source",
    ],
    "emitted_events": ["capability_loaded", "tool_requested", "tool_completed"],
    "journal_records": [
        "package_catalog_snapshot", "package_delta", "tool_execution_intent", "tool_execution_result",
    ],
    "acceptance_tests": [
        "provider_visible_capability_requires_executor_and_policy_refs", "projection_and_execution_hashes_match",
    ],
}  # fmt: skip
"""What an active tool declares. These words are part of every fingerprint."""

TOOLPACK = source("source.sdk.toolpack", "sdk")

INACTIVE = "reserved_inactive"


class SidecarRef(Wire, frozen=True, kw_only=True):
    """A sidecar by name and content."""

    sidecar_id: str
    kind: str
    version: str
    content_hash: str | None = None


class SourceOf(Wire, frozen=True, kw_only=True):
    """Who brings a capability."""

    kind: str
    source_ref: SourceRef
    adapter_ref: str | None = None


FAKE = SourceOf(kind="test_only_fake", source_ref=TOOLPACK)
"""Test doubles."""


def tool_capability(
    name: str,
    *,
    schema: SidecarRef,
    policy: PolicyRef,
    capability_id: str | None = None,
    brought_by: SourceOf = FAKE,
    executor: str | None = None,
) -> JsonObject:
    """An active tool whose schema the model sees."""
    return {
        "capability_id": capability_id or f"cap.{name}",
        "kind": "tool",
        "source": plain(brought_by),
        "namespace": f"tool.{name}",
        "version": "v1",
        "visibility": "active",
        "projection": {"provider_tool_schema": {"schema_ref": plain(schema)}},
        "executor_ref": executor or f"executor.{name}.v1",
        "policy_ref": plain(policy),
        "privacy": "content_refs_only",
        "readiness": READINESS,
    }


def sidecar(
    reference: SidecarRef, policies: Iterable[PolicyRef] = (), payload: JsonObject | None = None
) -> JsonObject:
    """What stands beside a package under this reference, with what it holds where that is shown."""
    made: JsonObject = {
        "sidecar_id": reference.sidecar_id,
        "kind": reference.kind,
        "version": reference.version,
        "refs": [plain(reference)],
        "policy_refs": [plain(policy) for policy in policies],
        "content_hash": reference.content_hash,
    }
    return made if payload is None else {**made, "redacted_payload": payload}


def projected(capability: JsonObject) -> bool:
    """Whether the model sees it."""
    return capability.get("visibility") == "active" and capability.get("projection") != "not_projected"


def executable(capability: JsonObject) -> bool:
    """Whether it runs when the model asks."""
    active = capability.get("kind") == "tool" and capability.get("visibility") == "active"
    return active and bool(capability.get("executor_ref"))


def reserved(capability: JsonObject) -> bool:
    """Whether it is of a kind that is declared and does nothing."""
    return capability.get("kind") != "tool" or _status(capability) == INACTIVE


def _status(capability: JsonObject) -> Any:
    return capability.get("readiness", {}).get("status")


def schema_ref(capability: JsonObject) -> JsonObject | None:
    """Where the schema is that the model sees; None where it sees none."""
    projection = capability.get("projection")
    if not isinstance(projection, dict):
        return None
    shown = projection.get("provider_tool_schema")
    return dict(shown["schema_ref"]) if isinstance(shown, dict) else None


def check_capability(capability: JsonObject) -> None:
    """Raise `UsageError` for a capability that a package cannot hold."""
    for complaint in _complaints(capability):
        raise UsageError(f"capability {capability.get('capability_id')!r} {complaint}")


def _complaints(capability: JsonObject) -> Iterator[str]:
    if reserved(capability):
        if _status(capability) != INACTIVE or projected(capability):
            yield f"is of the reserved kind {capability.get('kind')!r}: it may be neither active nor visible"
        if capability.get("executor_ref"):
            yield f"is of the reserved kind {capability.get('kind')!r}: it may have no executor_ref"
    elif projected(capability):
        if not capability.get("executor_ref"):
            yield "is visible to the model and has no executor_ref"
        if capability.get("policy_ref", {}).get("kind", "host") == "host":
            yield "is visible to the model and needs a policy_ref that is not the host's"
