"""Tool routes: how a tool that the model names is found, what the model is told of it, and who must agree."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from holdfast.compat.agent_sdk.canonical import JsonObject, Wire, by
from holdfast.compat.agent_sdk.capabilities import SidecarRef, executable, projected, schema_ref
from holdfast.compat.agent_sdk.ids import Privacy, Retention
from holdfast.compat.agent_sdk.package import fingerprint
from holdfast.compat.agent_sdk.refs import (
    DestinationRef,
    PolicyRef,
    SourceRef,
    destination,
    source,
)
from holdfast.errors import UsageError

EffectClass = Literal["Read", "Write", "Process", "Network", "ApprovalDispatch", "OutputDelivery"]
RiskClass = Literal["Low", "Medium", "High", "Critical"]


class Route(Wire, frozen=True, kw_only=True):
    """A tool by the name that the model uses, and what runs under it."""

    capability_id: str
    canonical_tool_name: str
    namespace: str
    description: str | None = None
    source: SourceRef
    destination: DestinationRef
    executor_ref: str | None = None
    policy_refs: tuple[PolicyRef, ...]
    requires_approval: bool
    sidecar_refs: tuple[SidecarRef, ...] = ()
    effect_class: EffectClass
    risk_class: RiskClass
    privacy: Privacy
    retention: Retention


def route(
    name: str,
    *,
    policies: Iterable[PolicyRef],
    effect: EffectClass,
    risk: RiskClass,
    capability_id: str | None = None,
    requires_approval: bool = False,
    description: str | None = None,
) -> Route:
    """A route with the usual names."""
    return Route(
        capability_id=capability_id or f"cap.{name}",
        canonical_tool_name=name,
        namespace=f"tool.{name}",
        description=description,
        source=source("source.sdk.toolpack", "sdk"),
        destination=destination(f"destination.tool.{name}", "tool"),
        executor_ref=f"executor.{name}.v1",
        policy_refs=tuple(policies),
        requires_approval=requires_approval,
        effect_class=effect,
        risk_class=risk,
        privacy="content_refs_only",
        retention="host_policy",
    )


def needs_approval(it: Route) -> bool:
    """Whether somebody is asked before each call: it says so, it is risky, and a policy about approval is named."""
    risky = it.risk_class in ("High", "Critical")
    return it.requires_approval and risky and any(ref.kind == "approval" for ref in it.policy_refs)


class Registry(Wire, frozen=True, kw_only=True):
    """The tools of one package, by name."""

    routes: tuple[Route, ...]
    package_fingerprint: str

    def find(self, name: str) -> Route:
        """The route of exactly this name. Raises `UsageError` when there is none."""
        for it in self.routes:
            if it.canonical_tool_name == name:
                return it
        raise UsageError(f"the package has no tool {name!r}")

    def rows(self) -> list[JsonObject]:
        """What of the routes is compared: what each runs, under which policies, and how risky it is."""
        return [_row(it) for it in self.routes]


def _row(it: Route) -> JsonObject:
    return {
        "canonical_tool_name": it.canonical_tool_name,
        "capability_id": it.capability_id,
        "effect_class": it.effect_class,
        "executor_ref": it.executor_ref,
        "namespace": it.namespace,
        "policy_refs": [ref.id for ref in it.policy_refs],
        "risk_class": it.risk_class,
    }


def registry(package: JsonObject, routes: Iterable[Route]) -> Registry:
    """The tools of this package, sorted by name. Raises `UsageError` when routes and package disagree."""
    held = {item["capability_id"]: item for item in package["capabilities"]}
    found: dict[str, Route] = {}
    for it in by(lambda it: it.canonical_tool_name, routes):
        if it.canonical_tool_name in found:
            raise UsageError(f"two routes are called {it.canonical_tool_name!r}")
        _check(it, held.get(it.capability_id))
        found[it.canonical_tool_name] = it
    return Registry(routes=tuple(found.values()), package_fingerprint=fingerprint(package))


def _check(it: Route, capability: JsonObject | None) -> None:
    name = it.canonical_tool_name
    if not it.executor_ref or not it.policy_refs:
        raise UsageError(f"tool {name!r} needs an executor and a policy")
    if capability is None or not executable(capability):
        raise UsageError(f"tool {name!r}: the package has no executable capability {it.capability_id!r}")
    if it.executor_ref != capability["executor_ref"]:
        raise UsageError(
            f"tool {name!r} runs {it.executor_ref!r}, in the package {capability['executor_ref']!r}"
        )
    wanted = (capability["policy_ref"]["kind"], capability["policy_ref"]["id"])
    if wanted not in [(ref.kind, ref.id) for ref in it.policy_refs]:
        raise UsageError(f"tool {name!r} does not name the policy of its capability")


def provider_specs(package: JsonObject, tools: Registry) -> list[JsonObject]:
    """What a provider is told of the tools. Raises `UsageError` for a route that the model may not see."""
    shown = {item["capability_id"]: item for item in filter(projected, package["capabilities"])}
    if not shown:
        return []
    if not tools.routes:
        raise UsageError("the package shows tools to the model, and no tool routes are there")
    return [_spec(package, shown.get(it.capability_id), it) for it in tools.routes]


def _spec(package: JsonObject, capability: JsonObject | None, it: Route) -> JsonObject:
    reference = schema_ref(capability) if capability else None
    if reference is None:
        raise UsageError(f"tool {it.canonical_tool_name!r} has no schema that the model may see")
    spec: JsonObject = {
        "name": it.canonical_tool_name,
        "capability_id": it.capability_id,
        "namespace": it.namespace,
        "schema_ref": reference,
        "policy_refs": [{"kind": ref.kind, "id": ref.id} for ref in it.policy_refs],
    }
    if it.description is not None:
        spec["description"] = it.description
    if (schema := _inline(package, reference["sidecar_id"])) is not None:
        spec["redacted_schema"] = schema
    return spec


def _inline(package: JsonObject, sidecar_id: str) -> Any:
    """The schema, where some sidecar shows the tools that it holds."""
    for item in package["sidecars"]:
        for tool in (item.get("redacted_payload") or {}).get("tools", ()):
            if tool.get("schema_ref", {}).get("sidecar_id") == sidecar_id:
                return tool.get("redacted_schema")
    return None
