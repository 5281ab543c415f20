"""Packages: what changes a fingerprint and what does not, the rules, and manifests of ours as packages."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast import Agent, Config, Hook, HookEvent, Limits, Manifest, Policy, Runtime, UsageError, tool
from holdfast.compat.agent_sdk import (
    apply_delta,
    build,
    canonical_snapshot,
    check_package,
    conformance,
    contract,
    export_package,
    export_tools,
    fingerprint,
    package,
    plain,
    read_package,
)
from holdfast.compat.agent_sdk.canonical import JsonObject
from holdfast.compat.agent_sdk.capabilities import INACTIVE, READINESS, SidecarRef, sidecar, tool_capability
from holdfast.compat.agent_sdk.contract import contract_snapshot
from holdfast.compat.agent_sdk.hooks import check_hook, guard, hook_hash, hook_sidecar, observer
from holdfast.compat.agent_sdk.refs import PolicyRef
from holdfast.compat.agent_sdk.tools import needs_approval, provider_specs, registry, route
from holdfast.drivers.sim import Sim
from holdfast.policy import Action
from tests.compat.recordings import SECRET, TITLED

OWN = PolicyRef(kind="runtime_package", id="policy.hooks.observe")


def capability(name: str, **changes: Any) -> JsonObject:
    schema = SidecarRef(
        sidecar_id=f"sidecar.{name}", kind="tool_schema", version="v1", content_hash="sha256:1"
    )
    policy = PolicyRef(kind="approval", id=f"policy.{name}")
    return {**tool_capability(name, schema=schema, policy=policy), **changes}


def rich() -> JsonObject:
    """A package with something in every list that is sorted."""
    policies = [
        {"kind": "runtime_package", "id": "b"},
        {"kind": "approval", "id": "z"},
        {"kind": "approval", "id": "z", "version": "v2"},
    ]
    refs = [
        {"sidecar_id": "s.2", "kind": "tool_schema", "version": "v1"},
        {"sidecar_id": "s.1", "kind": "tool_schema", "version": "v1", "content_hash": "sha256:1"},
    ]
    shown = {"produces_context_items": {"allowed_kinds": ["user_input", "host_context"]}}
    return package(
        "agent.rich",
        capabilities=[capability("b", sidecar_refs=refs), capability("a", projection=shown)],
        sidecars=[
            {
                "sidecar_id": name,
                "kind": "tool_schema",
                "version": "v1",
                "refs": refs,
                "policy_refs": policies,
                "content_hash": "sha256:1",
                "redacted_payload": {"kept": [2, 1], "nothing": None, "float": 1e-7},
            }
            for name in ("s.2", "s.1")
        ],
        policies={"policy_refs": policies},
        output_contracts=[contract_snapshot(contract(f"schema.{name}", TITLED)) for name in "ba"],
        catalogs=[
            {
                "catalog_id": name,
                "source_kind": "mcp_server",
                "source_ref": {"id": "x", "kind": "host"},
                "version": None,
                "trust_state": "trusted",
                "activation_policy_ref": {"kind": "host", "id": "p"},
                "candidates": [{"candidate_id": "2"}, {"candidate_id": "1"}],
            }
            for name in ("c.2", "c.1")
        ],
    )


SORTED = (
    "policy_refs",
    "refs",
    "sidecar_refs",
    "capabilities",
    "sidecars",
    "catalogs",
    "candidates",
    "allowed_kinds",
)


def shuffled(value: Any, draw: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        kept = {
            name: item if name == "redacted_payload" else shuffled(item, draw, name)
            for name, item in value.items()
        }
        return dict(draw(st.permutations(list(kept.items()))))
    if isinstance(value, list) and key in (*SORTED, "output_contracts"):
        return [shuffled(item, draw) for item in draw(st.permutations(value))]
    return value


@settings(max_examples=15)
@given(st.data())
def test_no_order_of_lists_or_keys_changes_a_fingerprint(data: st.DataObject) -> None:
    assert fingerprint(shuffled(rich(), data.draw)) == fingerprint(rich())


def test_a_snapshot_has_its_lists_in_the_order_of_their_names() -> None:
    snapshot = canonical_snapshot(rich())
    assert [it["capability_id"] for it in snapshot["capabilities"]] == ["cap.a", "cap.b"]
    assert [it["schema_id"] for it in snapshot["output_contracts"]] == ["schema.a", "schema.b"]
    assert [it["sidecar_id"] for it in snapshot["sidecars"]] == ["s.1", "s.2"]
    assert [it["sidecar_id"] for it in snapshot["sidecars"][0]["refs"]] == ["s.1", "s.2"]
    assert [it["sidecar_id"] for it in snapshot["capabilities"][1]["sidecar_refs"]] == ["s.1", "s.2"]
    (shown,) = snapshot["capabilities"][0]["projection"].values()
    assert shown["allowed_kinds"] == ["host_context", "user_input"]
    assert [it["candidate_id"] for it in snapshot["catalogs"][0]["candidates"]] == ["1", "2"]
    named = [(it["kind"], it["id"], it.get("version")) for it in snapshot["policies"]["policy_refs"]]
    assert named == [("approval", "z", None), ("approval", "z", "v2"), ("runtime_package", "b", None)]
    assert named == [
        (it["kind"], it["id"], it.get("version")) for it in snapshot["sidecars"][1]["policy_refs"]
    ]
    assert snapshot["sidecars"][0]["redacted_payload"] == {"kept": [2, 1], "nothing": None, "float": 1e-7}
    assert not {"hooks", "volatile"} & snapshot.keys()


def test_the_order_of_what_is_not_sorted_does() -> None:
    other = rich()
    other["sidecars"] = [{**item, "redacted_payload": {"kept": [1, 2]}} for item in other["sidecars"]]
    ready = {**READINESS, "emitted_events": READINESS["emitted_events"][::-1]}
    turned = package(capabilities=[capability("a", readiness=ready)])
    assert fingerprint(other) != fingerprint(rich())
    assert fingerprint(turned) != fingerprint(package(capabilities=[capability("a")]))


def test_what_is_volatile_computed_or_absent_counts_for_nothing() -> None:
    noisy = {
        **rich(),
        "volatile": {"run_id": "run.1", "timestamp_ms": 7},
        "fingerprint_manifest": {"readiness_profile": "p0_text", "algorithm": "md5", "included_groups": []},
    }
    noisy["capabilities"] = [
        {**item, "isolation_ref": None, "source": {**item["source"], "adapter_ref": None}}
        for item in noisy["capabilities"]
    ]
    noisy["capabilities"][0]["source"]["source_ref"]["correlation"] = []
    del noisy["output_sinks"]
    assert fingerprint(noisy) == fingerprint(rich())
    assert canonical_snapshot(noisy) == canonical_snapshot(rich())
    assert "version" not in canonical_snapshot(rich())["catalogs"][0]


CHANGES: dict[str, JsonObject] = {
    "the model": {"provider_route": {"route_id": "provider.fake", "model_id": "model.other"}},
    "an executor": {"capabilities": [capability("a", executor_ref="executor.other")]},
    "the name": {"agent": {"agent_id": "agent.rich", "name": "é", "default_behavior_refs": []}},
    "the profile": {"fingerprint_manifest": {"readiness_profile": "p2_side_effects"}},
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_changes_behaviour_changes_the_fingerprint(what: str) -> None:
    assert fingerprint({**rich(), **CHANGES[what]}) != fingerprint(rich())


def test_a_hook_counts_by_its_sidecar_and_only_by_it() -> None:
    hook = observer(
        "audit.before_context",
        "before_context_assembly",
        policy=OWN,
        executor="executor.audit.before_context",
    )
    assert hook_hash(hook).startswith("sha256:84ace231")
    assert hook_hash(hook).endswith("3956")
    hooked = build({**rich(), "hooks": [plain(hook)]})
    beside = build({**rich(), "sidecars": [*rich()["sidecars"], hook_sidecar(hook)]})
    assert fingerprint(hooked) == fingerprint(beside) != fingerprint(rich())
    assert fingerprint({**rich(), "hooks": [plain(hook)]}) == fingerprint(hooked)


def without(capability: JsonObject, *names: str) -> JsonObject:
    return {name: value for name, value in capability.items() if name not in names}


RESERVED = {**READINESS, "status": INACTIVE}
WRONG: dict[str, tuple[JsonObject, str]] = {
    "another schema": ({"schema_version": 2}, "schema_version"),
    "no model": ({"provider_route": {"route_id": "x", "model_id": ""}}, "model_id"),
    "no executor": ({"capabilities": [without(capability("a"), "executor_ref")]}, "executor_ref"),
    "the host's policy": (
        {"capabilities": [capability("a", policy_ref={"kind": "host", "id": "p"})]},
        "policy_ref",
    ),
    "an active kind that is reserved": (
        {"capabilities": [capability("a", kind="mcp_tool")]},
        "reserved kind",
    ),
    "a reserved kind that runs": (
        {"capabilities": [capability("a", kind="mcp_tool", readiness=RESERVED, projection="not_projected")]},
        "no executor_ref",
    ),
    "a contract without a fingerprint": ({"output_contracts": [{"schema_id": "s"}]}, "schema_fingerprint"),
    "an isolation of another schema": ({"isolation_requirements": [{"schema_version": 2}]}, "isolation"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_package_that_breaks_a_rule_is_refused(what: str) -> None:
    change, words = WRONG[what]
    with pytest.raises(UsageError, match=words):
        check_package({**rich(), **change})


@pytest.mark.parametrize("text", ["[]", "{", '{"schema_version": 1}', '{"capabilities": 3}'])
def test_what_is_no_package_has_no_fingerprint(text: str) -> None:
    with pytest.raises(UsageError):
        fingerprint(read_package(text))


@pytest.mark.parametrize("made", [build, check_package])
@pytest.mark.parametrize(
    "part", [{"capabilities": None}, {"capabilities": [3]}, {"provider_route": []}, {"hooks": [{}]}]
)
def test_what_is_no_whole_package_is_refused_wherever_one_is_taken(
    part: dict[str, Any], made: Callable[[JsonObject], object]
) -> None:
    with pytest.raises(UsageError, match="not a"):
        made({**rich(), **part})


def test_a_delta_of_nothing_is_none() -> None:
    with pytest.raises(UsageError, match="another package"):
        apply_delta(rich(), {})


def test_a_delta_makes_the_next_package_and_leaves_this_one() -> None:
    first = package(capabilities=[capability("a")])
    before = json.dumps(first)
    delta = {
        "previous_fingerprint": fingerprint(first),
        "activated_capabilities": [capability("b")],
        "deactivated_capability_ids": [],
        "catalogs": rich()["catalogs"][:1],
        "sidecars": [],
    }
    after = apply_delta(first, delta)
    told = conformance(after)
    assert (told["projected_capabilities"], told["executable_routes"], told["catalogs"]) == (2, 2, 1)
    assert json.dumps(first) == before
    with pytest.raises(UsageError, match="another package"):
        apply_delta(after, delta)
    gone = apply_delta(
        first, {**delta, "deactivated_capability_ids": ["cap.a"], "activated_capabilities": []}
    )
    assert gone["capabilities"] == []


def test_a_reserved_capability_is_named_in_what_the_fingerprint_covers() -> None:
    idle = capability("a", kind="mcp_tool", readiness=RESERVED, projection="not_projected")
    held = package(capabilities=[without(idle, "executor_ref")])
    (status,) = held["fingerprint_manifest"]["reserved_feature_status"]
    assert (status["capability_id"], status["status"]) == ("cap.a", INACTIVE)
    assert conformance(held)["reserved_capabilities"] == 1


BAD_HOOKS: dict[str, Any] = {
    "no such point": lambda: observer("h", "never", policy=OWN, executor="e"),
    "may not": lambda: guard(
        "h", "before_tool_call", rights=("stop_run",), policy=OWN, executor="e", timeout_ms=1
    ),
    "above 0": lambda: guard(
        "h", "before_tool_call", rights=("deny",), policy=OWN, executor="e", timeout_ms=0
    ),
    "fail open": lambda: observer("h", "before_tool_call", policy=OWN, executor="e"),
}


@pytest.mark.parametrize("why", BAD_HOOKS)
def test_a_hook_that_breaks_a_rule_is_refused(why: str) -> None:
    with pytest.raises(UsageError, match=why.removeprefix("no such ")):
        check_hook(BAD_HOOKS[why]())


def test_routes_and_package_must_agree() -> None:
    policy = PolicyRef(kind="approval", id="policy.a")
    held = package(capabilities=[capability("a")], sidecars=[])
    it = route("a", policies=[policy], effect="Write", risk="High", requires_approval=True)
    assert needs_approval(it)
    assert not needs_approval(
        route("a", policies=[policy], effect="Read", risk="Medium", requires_approval=True)
    )
    tools = registry(held, [it])
    assert tools.find("a") is it
    (spec,) = provider_specs(held, tools)
    assert spec["schema_ref"]["sidecar_id"] == "sidecar.a"
    with pytest.raises(UsageError, match="no tool"):
        tools.find("A")
    with pytest.raises(UsageError, match="two routes"):
        registry(held, [it, it])
    with pytest.raises(UsageError, match="no executable capability"):
        registry(held, [route("b", policies=[policy], effect="Read", risk="Low")])
    with pytest.raises(UsageError, match="does not name the policy"):
        registry(held, [route("a", policies=[OWN], effect="Read", risk="Low")])
    with pytest.raises(UsageError, match="no tool routes"):
        provider_specs(held, registry(held, []))


# Manifests of ours


@tool(effect="pure")
async def look(where: str) -> str:
    """Look."""
    return where


@tool(ask=True)
async def pay(cents: int) -> str:
    """Pay."""
    return "paid"


async def watch(event: HookEvent) -> None:
    return None


async def decide(action: Action) -> Any:
    return None


async def manifest_of(instructions: str = SECRET, **config: Any) -> Manifest:
    async with Runtime() as runtime:
        agent = Agent(instructions, name="desk", model=Sim.always("x"), tools=[pay, look])
        session = await runtime.session(agent, config=Config(**config))
        return (await session.inspect()).manifest


async def test_a_manifest_is_a_package_with_its_tools_policies_and_guards() -> None:
    guarding = Hook(id="desk:guard", point="before_tool", run=watch, guard=True, timeout=2.5)
    watching = Hook(id="desk:watch", point="after_tool", run=watch)
    manifest = await manifest_of(hooks=(guarding, watching), policies=(Policy(name="desk", decide=decide),))
    made = export_tools(manifest, "desk")
    check_package(made.package)
    assert made.package["agent"]["agent_id"] == "desk"
    assert [hook["hook_id"] for hook in made.package["hooks"]] == ["desk:guard"]
    assert made.package["hooks"][0]["timeout"] == {"timeout_ms": 2500}
    assert made.package["policies"]["policy_refs"] == [{"kind": "runtime_package", "id": "policy.desk"}]
    rows = [(row["canonical_tool_name"], row["effect_class"], row["risk_class"]) for row in made.tools.rows()]
    assert rows == [("look", "Read", "Low"), ("pay", "Write", "High")]
    assert needs_approval(made.tools.find("pay"))
    told = {spec["name"]: spec["redacted_schema"] for spec in provider_specs(made.package, made.tools)}
    assert told == {"look": look.parameters.schema, "pay": pay.parameters.schema}


async def test_the_document_of_a_manifest_makes_the_same_package_and_holds_no_instructions() -> None:
    manifest = await manifest_of()
    assert export_package(manifest.document, "desk") == export_package(manifest, "desk")
    assert SECRET not in json.dumps(export_package(manifest, "desk"))
    assert canonical_snapshot(export_package(manifest)) == canonical_snapshot(export_package(manifest))


async def test_whatever_changes_a_manifest_changes_its_package() -> None:
    prints = [
        fingerprint(export_package(await manifest_of(**change)))
        for change in ({}, {"instructions": "other"}, {"limits": Limits(max_iterations=3)}, {"locale": "de"})
    ]
    assert len(set(prints)) == 4


@pytest.mark.parametrize("document", [b"{}", b"[]", b"not json", b'{"tools": 3}'])
def test_what_is_no_manifest_is_refused(document: bytes) -> None:
    with pytest.raises(UsageError):
        export_package(document)


def test_a_sidecar_shows_what_it_holds_only_when_told_to() -> None:
    ref = SidecarRef(sidecar_id="s", kind="k", version="v1", content_hash="sha256:1")
    assert "redacted_payload" not in sidecar(ref)
    assert sidecar(ref, payload={})["redacted_payload"] == {}
