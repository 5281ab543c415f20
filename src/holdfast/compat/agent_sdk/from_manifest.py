"""A Holdfast manifest as a package: the same behaviour, the same fingerprint.

The tools become capabilities with their schemas beside them, the policies references, and the guards among the hooks
become hooks that deny when they fail. Whatever else changes behaviour (instructions, settings, limits, files, other
hooks) counts by the manifest's digest, which stands in a sidecar: none of its text is in the package.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from holdfast.compat.agent_sdk.canonical import JsonObject, parse, plain
from holdfast.compat.agent_sdk.contract import OutputContract, contract_of, contract_snapshot
from holdfast.compat.agent_sdk.described import capability_of, guards_of, policy_named, route_of, sidecars_of
from holdfast.compat.agent_sdk.ids import safe_name
from holdfast.compat.agent_sdk.package import package
from holdfast.compat.agent_sdk.tools import Registry, registry
from holdfast.errors import UsageError
from holdfast.manifest import Manifest


@dataclass(frozen=True)
class Exported:
    """A package with the tools that run under it."""

    package: JsonObject
    tools: Registry


def export_package(
    manifest: Manifest | bytes,
    agent: str = "",
    *,
    contracts: Iterable[OutputContract] = (),
) -> JsonObject:
    """The package of this manifest, or of a manifest's document as the store keeps it.

    `agent` is the agent's name; `contracts` stand in it beside the manifest's own. Raises `UsageError` for a document
    that is no manifest, and for numbers that the other system cannot write.
    """
    return export_tools(manifest, agent, contracts=contracts).package


def export_tools(
    manifest: Manifest | bytes,
    agent: str = "",
    *,
    contracts: Iterable[OutputContract] = (),
) -> Exported:
    """The package of this manifest, and its tools by name. Raises as `export_package` does."""
    document = manifest if isinstance(manifest, bytes) else manifest.document
    try:
        told = parse(document)
        own = [contract_of(told["output"])] if told.get("output") else []
        return _exported(told, document, agent, (*own, *contracts))
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"this is not a manifest: {type(error).__name__} at {error}") from error


def _exported(told: JsonObject, document: bytes, agent: str, contracts: Sequence[OutputContract]) -> Exported:
    agent_id = safe_name(agent or "agent.default")
    names = [policy["name"] for policy in told["policies"]] or ["package.default"]
    policies = [policy_named(name) for name in names]
    refs = [plain(policy) for policy in policies]
    made = package(
        agent_id,
        agent or "agent",
        agent={"agent_id": agent_id, "name": agent or "agent", "default_behavior_refs": refs},
        provider_route=asked_first(told),
        capabilities=[capability_of(tool) for tool in told["tools"]],
        sidecars=[*sidecars_of(told, document)],
        hooks=[plain(hook) for hook in guards_of(told, policies[0])],
        output_contracts=[contract_snapshot(contract) for contract in contracts],
        policies={"policy_refs": refs},
        fingerprint_manifest={"readiness_profile": _profile(told, contracts)},
    )
    return Exported(package=made, tools=registry(made, [route_of(tool) for tool in told["tools"]]))


def asked_first(told: JsonObject) -> JsonObject:
    """Which provider is asked first, and for which model."""
    model = told["model"] if isinstance(told["model"], str) else told["model"][0]
    vendor, _, name = model.partition("/")
    return {"route_id": f"provider.{vendor}", "model_id": f"model.{name or vendor}"}


def _profile(told: JsonObject, contracts: Sequence[OutputContract]) -> str:
    if told["tools"]:
        return "p2_side_effects"
    return "p1_typed_output" if contracts else "p0_text"
