"""Names that follow from what they stand for: deliveries, keys that make them happen once, packages of children.

delivery_id(run, kind)      an output on its way
dedupe_key(delivery)        the same output to the same place has the same key
"""

from __future__ import annotations

import hashlib

from holdfast.compat.agent_sdk.canonical import Wire
from holdfast.compat.agent_sdk.ids import RunIds, pascal
from holdfast.compat.agent_sdk.refs import DestinationKind, PolicyRef

FINAL_MESSAGE, FINAL_OUTPUT = "final:message", "final:validated_output"


def chunk(cursor: str, index: int) -> str:
    """The kind of a delivery of one piece of a stream."""
    return f"stream:{cursor}:{index}"


class Delivery(Wire, frozen=True, kw_only=True):
    """One output, where it goes, and under what."""

    run_id: str
    destination_kind: DestinationKind
    destination_id: str
    sink_id: str
    kind: str
    """`final:message`, `final:validated_output`, or a `chunk`."""
    message_id: str | None = None
    validated_output_id: str | None = None
    content_ids: tuple[str, ...] = ()
    policies: tuple[PolicyRef, ...] = ()
    fingerprint: str


def delivery_id(run_id: str, kind: str) -> str:
    """The name of a delivery of this kind."""
    return f"output.delivery.{RunIds(run_id).fragment}.{kind.replace(':', '.')}"


def dedupe_key(it: Delivery) -> str:
    """`dedupe.output_delivery.` and a digest of everything that makes two deliveries the same."""
    policies = ",".join(f"{policy.id}:{policy.version or 'unversioned'}" for policy in it.policies)
    said = {
        "run": it.run_id,
        "destination_kind": pascal(it.destination_kind),
        "destination": it.destination_id,
        "sink": it.sink_id,
        "kind": it.kind,
        "message": it.message_id or "none",
        "validated": it.validated_output_id or "none",
        "content": ",".join(it.content_ids),
        "policies": policies,
        "package": it.fingerprint,
    }
    text = "|".join(f"{name}={value}" for name, value in said.items())
    return f"dedupe.output_delivery.{hashlib.sha256(text.encode()).hexdigest()}"


def child_package_id(agent_id: str, parent_fingerprint: str) -> str:
    """The package of a child with this agent, of a parent with this fingerprint."""
    digits = hashlib.sha256(parent_fingerprint.encode()).hexdigest()
    return f"package.subagent.{agent_id}.{digits[:16]}"
