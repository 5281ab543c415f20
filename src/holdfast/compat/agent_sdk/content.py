"""Content that records only refer to, and the rule by which somebody gets to see it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

from holdfast.compat.agent_sdk.canonical import Wire
from holdfast.compat.agent_sdk.ids import Privacy, Retention, Trust
from holdfast.compat.agent_sdk.policy import Capture, CapturePolicy, captures_raw
from holdfast.compat.agent_sdk.refs import DestinationRef, PolicyRef, SourceRef
from holdfast.store import digest_of

ContentKind = Literal[
    "text", "document", "image", "audio", "video", "file", "tool_result", "schema", "stdout", "stderr",
    "output_payload", "memory_record", "external",
]  # fmt: skip
Refusal = Literal["version_mismatch", "permission_denied", "missing", "hash_mismatch", "max_bytes_exceeded"]


class ContentRef(Wire, frozen=True, kw_only=True, omit_defaults=False):
    """One piece of content; what is not known of it is null."""

    content_id: str
    version: str
    kind: ContentKind = "text"
    artifact_ref: str | None = None
    scope: Literal["run", "session", "host_workspace", "external", "persistent_store"] = "run"
    producer_ref: str | None = None
    source_ref: SourceRef | None = None
    destination_ref: DestinationRef | None = None
    mime: str | None = None
    size_bytes: int | None = None
    content_hash: str | None = None
    privacy_class: Privacy = "content_refs_only"
    retention_class: Retention = "run_scoped"
    trust_class: Trust = "host_provided"
    resolver_ref: str | None = None
    redacted_summary: str = ""


class ResolvePolicy(Wire, frozen=True, kw_only=True):
    """What a reader may see. By default: what is public or only referred to, and of that the summary."""

    allowed_privacy_classes: tuple[Privacy, ...] = ("public", "content_refs_only")
    max_bytes: int = 0
    require_hash_match: bool = True
    allow_raw_content: bool = False
    policy_refs: tuple[PolicyRef, ...] = ()


def raw_context(max_bytes: int) -> ResolvePolicy:
    """What a reader may see who has been let see the content itself."""
    return ResolvePolicy(max_bytes=max_bytes, allow_raw_content=True)


class Resolved(Struct, frozen=True, kw_only=True):
    """What a reader sees: the summary, and the bytes where they are allowed; or why nothing. Its repr shows neither."""

    redacted_summary: str = ""
    bytes: bytes | None = None
    refused: Refusal | None = None

    @property
    def raw_content_included(self) -> bool:
        """Whether the bytes are there."""
        return self.bytes is not None

    def __repr__(self) -> str:
        return f"Resolved(refused={self.refused!r}, raw_content_included={self.raw_content_included})"


Held = Mapping[str, tuple[str, bytes]]
"""Versions and bytes by content id."""


def resolve(
    ref: ContentRef, held: Held, policy: ResolvePolicy | None = None, version: str | None = None
) -> Resolved:
    """What this policy lets a reader see of the content, or why it lets him see nothing."""
    policy = policy or ResolvePolicy()
    if why := _refusal(ref, held, policy, version):
        return Resolved(refused=why)
    content = held[ref.content_id][1]
    if not policy.allow_raw_content:
        return Resolved(redacted_summary=ref.redacted_summary)
    if len(content) > policy.max_bytes:
        return Resolved(refused="max_bytes_exceeded")
    return Resolved(redacted_summary=ref.redacted_summary, bytes=content)


def _refusal(ref: ContentRef, held: Held, policy: ResolvePolicy, version: str | None) -> Refusal | None:
    if version not in (None, ref.version):
        return "version_mismatch"
    if ref.privacy_class not in policy.allowed_privacy_classes:
        return "permission_denied"
    if ref.content_id not in held:
        return "missing"
    stored, content = held[ref.content_id]
    if stored != ref.version:
        return "version_mismatch"
    unlike = policy.require_hash_match and ref.content_hash != digest_of(content)
    return "hash_mismatch" if unlike else None


EFFECTIVE: dict[Capture, str] = {
    "Off": "off",
    "MetadataOnly": "metadata_only",
    "RedactedSummary": "redacted_summary",
    "RawContent": "raw_content",
}
"""How a capture mode is spelled in events and telemetry."""


class Captured(Struct, frozen=True, kw_only=True):
    """What may be kept: what was asked for, or less."""

    allowed: bool
    effective: str


def capture(asked: Capture, policy: CapturePolicy) -> Captured:
    """What may be kept of content for which this mode is asked. Raw content that is denied becomes a summary."""
    if asked == "RawContent" and not captures_raw(policy):
        return Captured(allowed=False, effective="redacted_summary")
    return Captured(allowed=True, effective=EFFECTIVE[asked])
