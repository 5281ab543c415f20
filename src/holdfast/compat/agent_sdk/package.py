"""Packages: everything that a run goes by, as one snapshot under one fingerprint.

fingerprint(package)          names the snapshot: the same for the same behaviour, whatever the order of its lists
canonical_snapshot(package)   what is hashed
build(package)                a package whose computed parts are right, checked
apply_delta(package, delta)   the next package; a package itself never changes
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from holdfast.compat.agent_sdk.canonical import JsonObject, by, canonical, parse
from holdfast.compat.agent_sdk.capabilities import check_capability, executable, projected, reserved
from holdfast.compat.agent_sdk.hooks import check_hook_sidecars, with_hook_sidecars
from holdfast.compat.agent_sdk.ids import pascal
from holdfast.errors import UsageError
from holdfast.store import digest_of

ALGORITHM = "sha256:runtime-package-canonical-v1"

INCLUDED = (
    "agent", "provider_route", "output_contracts", "output_sinks", "capabilities", "sidecars",
    "isolation_requirements", "catalogs", "child_lifecycle", "policies",
)  # fmt: skip
EXCLUDED = (
    "run_ids", "event_ids", "timestamps", "adapter_health", "temporary_paths", "telemetry_sink_health",
)  # fmt: skip
FIELDS = ("schema_version", "package_id", "provider_capabilities", "fingerprint_manifest", *INCLUDED)
"""Of a canonical snapshot. Hooks count through their sidecars, and what is volatile does not count."""

OPAQUE = frozenset({"redacted_payload", "redacted_schema", "schema"})
"""What is inside these is somebody else's: nothing in it is sorted or left out."""

OMITTED = frozenset({"correlation", "sidecar_refs"})
"""Lists that are left out when they are empty; other empty lists stand."""

RESERVED_REASON = "reserved capability kind is inactive and cannot be projected or executed"

CHILD_LIFECYCLE: JsonObject = {
    "policy_ref": {"kind": "runtime_package", "id": "policy.child.safe-defaults"},
    "manual_cancel": "cancel_agent_owned_children",
    "detach_policy_ref": {"kind": "runtime_package", "id": "policy.detach.deny-by-default"},
    "cleanup_timeout_ms": 30_000,
}


def package(
    agent_id: str = "agent.default", agent_name: str = "agent", *, package_id: str = "", **parts: Any
) -> JsonObject:
    """A package with the usual parts; `parts` are fields of the snapshot that replace them. Raises `UsageError`."""
    made: JsonObject = {
        "schema_version": 1,
        "package_id": package_id or f"package.{agent_id}",
        "agent": {"agent_id": agent_id, "name": agent_name, "default_behavior_refs": []},
        "provider_route": {"route_id": "provider.fake", "model_id": "model.fake"},
        "provider_capabilities": {"capability_version": "provider.capabilities.v1"},
        **{name: [] for name in INCLUDED if name not in ("agent", "provider_route", "policies")},
        "child_lifecycle": CHILD_LIFECYCLE,
        "policies": {"policy_refs": []},
        "fingerprint_manifest": {"readiness_profile": "p0_text"},
        **parts,
    }
    return build(made)


def read_package(text: str | bytes) -> JsonObject:
    """The package in this JSON. Raises `UsageError` when it is none."""
    found = parse(text)
    if not isinstance(found, dict):
        raise UsageError("a package is a JSON object")
    return found


def fingerprint(package: JsonObject) -> str:
    """The name of this package: `sha256:runtime-package-canonical-v1:` and 64 hex digits."""
    preimage = {
        "algorithm": ALGORITHM,
        "canonical_schema_version": 1,
        "snapshot": canonical_snapshot(package),
    }
    return f"{ALGORITHM}:{digest_of(canonical(preimage)).removeprefix('sha256:')}"


def canonical_snapshot(package: JsonObject) -> JsonObject:
    """The package with its lists in order, its computed parts made anew, and nothing volatile in it.

    Raises `UsageError` when parts are missing or not what they should be.
    """
    with _reading():
        whole = with_hook_sidecars(_pruned(package))
        whole = {**{name: [] for name in _LISTS}, **whole}
        snapshot = {name: _sorted(name, whole[name]) for name in FIELDS if name != "fingerprint_manifest"}
        snapshot["fingerprint_manifest"] = _manifest(whole)
    return snapshot


@contextmanager
def _reading() -> Iterator[None]:
    """What is missing or of another type in plain data is the caller's mistake, and said."""
    try:
        yield
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"this is not a whole package: {type(error).__name__} at {error}") from error


def _pruned(value: Any) -> Any:
    """Absent optionals may be null, or an empty list, where they came from; they are left out."""
    if isinstance(value, dict):
        kept = {key: item for key, item in value.items() if item is not None and (item or key not in OMITTED)}
        return {key: item if key in OPAQUE else _pruned(item) for key, item in kept.items()}
    return [_pruned(item) for item in value] if isinstance(value, list | tuple) else value


def _policy_order(policy: JsonObject) -> str:
    return f"{pascal(policy['kind'])}:{policy['id']}:{policy.get('version', '')}"


def _sidecar_order(ref: JsonObject) -> str:
    return f"{ref['sidecar_id']}:{ref['kind']}:{ref['version']}:{ref.get('content_hash', '')}"


def _field(name: str) -> Callable[[JsonObject], str]:
    return lambda item: str(item[name])


def _inside(item: JsonObject, **orders: Callable[[Any], str]) -> JsonObject:
    """The object with these of its lists sorted."""
    return {key: by(orders[key], value) if key in orders else value for key, value in item.items()}


def _capability(item: JsonObject) -> JsonObject:
    made = _inside(item, sidecar_refs=_sidecar_order)
    if isinstance(projection := made.get("projection"), dict):
        lists = {"allowed_kinds": str, "allowed_ref_kinds": str}
        made["projection"] = {mode: _inside(what, **lists) for mode, what in projection.items()}
    return made


def _catalog(item: JsonObject) -> JsonObject:
    return _inside(item, candidates=_candidate_id)


def _candidate_id(candidate: Any) -> str:
    if isinstance(candidate, str):
        return candidate
    return str(candidate.get("candidate_id") or candidate.get("capability_id") or candidate.get("id"))


_LISTS: dict[str, tuple[str, Callable[[JsonObject], JsonObject]]] = {
    "output_contracts": ("schema_id", dict),
    "output_sinks": ("sink_id", dict),
    "capabilities": ("capability_id", _capability),
    "sidecars": (
        "sidecar_id",
        lambda item: _inside(item, refs=_sidecar_order, policy_refs=_policy_order),
    ),
    "isolation_requirements": ("requirement_ref", dict),
    "catalogs": ("catalog_id", _catalog),
}
"""For each list of a package what it is sorted by, and what is sorted inside its items."""


def _sorted(name: str, value: Any) -> Any:
    if name in _LISTS:
        key, tidy = _LISTS[name]
        return [tidy(item) for item in by(_field(key), value)]
    if name == "agent":
        return _inside(value, default_behavior_refs=_policy_order)
    return _inside(value, policy_refs=_policy_order) if name == "policies" else value


def _manifest(package: JsonObject) -> JsonObject:
    """What the fingerprint covers. It is made from the package and never taken from it, but for two settings."""
    given = package.get("fingerprint_manifest", {})
    said = {item["capability_id"]: item for item in given.get("reserved_feature_status", [])}
    held = [
        {
            "capability_id": item["capability_id"],
            "kind": item["kind"],
            "owner_role": item["readiness"]["owner_role"],
            "status": "reserved_inactive",
            "reason": said.get(item["capability_id"], {}).get("reason", RESERVED_REASON),
        }
        for item in by(_field("capability_id"), filter(reserved, package["capabilities"]))
    ]
    return {
        "algorithm": ALGORITHM,
        "canonical_schema_version": 1,
        "readiness_profile": given.get("readiness_profile", "p0_text"),
        "included_groups": list(INCLUDED),
        "excluded_groups": list(EXCLUDED),
        "reserved_feature_status": held,
    }


def build(package: JsonObject) -> JsonObject:
    """The package with its computed parts made anew. Raises `UsageError` when it breaks a rule."""
    with _reading():
        made = with_hook_sidecars(_pruned(package))
        made = {**made, "fingerprint_manifest": _manifest(made)}
    check_package(made)
    return made


def check_package(package: JsonObject) -> None:
    """Raise `UsageError` for the first rule that this package breaks."""
    with _reading():
        _check(package)


def _check(package: JsonObject) -> None:
    if package.get("schema_version") != 1:
        raise UsageError(f"a package has schema_version 1, this one {package.get('schema_version')!r}")
    for name in ("route_id", "model_id"):
        if not package["provider_route"].get(name):
            raise UsageError(f"the package's provider_route has no {name}")
    for capability in package["capabilities"]:
        check_capability(capability)
    _check_outputs(package)
    check_hook_sidecars(package)
    for requirement in package["isolation_requirements"]:
        if requirement.get("schema_version") != 1:
            raise UsageError(
                f"isolation requirement {requirement.get('requirement_ref')!r} has another schema"
            )
    for capability in filter(projected, package["capabilities"]):
        if not executable(capability):
            raise UsageError(f"capability {capability['capability_id']!r} is visible and cannot be executed")


def _check_outputs(package: JsonObject) -> None:
    for contract in package["output_contracts"]:
        if not str(contract.get("schema_fingerprint", "")).startswith("sha256:"):
            raise UsageError(f"output contract {contract.get('schema_id')!r} has no schema_fingerprint")


def apply_delta(package: JsonObject, delta: JsonObject) -> JsonObject:
    """The package that follows from this one. Raises `UsageError` for a delta that was made for another."""
    if delta.get("previous_fingerprint") != fingerprint(package):
        raise UsageError("this delta was made for another package; make it anew from the present one")
    gone = set(delta.get("deactivated_capability_ids", ()))
    kept = [item for item in package["capabilities"] if item["capability_id"] not in gone]
    return build(
        {
            **package,
            "capabilities": [*kept, *delta.get("activated_capabilities", ())],
            "catalogs": [*package["catalogs"], *delta.get("catalogs", ())],
            "sidecars": [*package["sidecars"], *delta.get("sidecars", ())],
        }
    )


def conformance(package: JsonObject) -> JsonObject:
    """The fingerprint, and how much of everything there is."""

    def count(items: Iterable[Any]) -> int:
        return len(list(items))

    capabilities = package["capabilities"]
    return {
        "fingerprint": fingerprint(package),
        "projected_capabilities": count(filter(projected, capabilities)),
        "executable_routes": count(filter(executable, capabilities)),
        "reserved_capabilities": count(filter(reserved, capabilities)),
        "catalogs": len(package["catalogs"]),
        "sidecars": len(package["sidecars"]),
    }
