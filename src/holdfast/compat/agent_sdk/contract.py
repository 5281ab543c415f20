"""Output contracts: the schema that an answer must fit, and what happens when it does not."""

from __future__ import annotations

import re
from typing import Any, Literal

import msgspec
from msgspec import structs

from holdfast.compat.agent_sdk.canonical import JsonObject, Wire, hash_of, plain
from holdfast.compat.agent_sdk.ids import check_id
from holdfast.compat.agent_sdk.policy import Capture
from holdfast.compat.agent_sdk.refs import PolicyRef
from holdfast.errors import UsageError
from holdfast.facts.answers import OutputContract as Asked

Dialect = Literal["json_schema2020_12_subset", "rust_serde_type_name", "host_registered"]

_HASH = re.compile("sha256:[0-9a-f]{64}")


class SchemaVersion(Wire, frozen=True, kw_only=True):
    """Major, minor, patch."""

    major: int
    minor: int
    patch: int


class SchemaSource(Wire, frozen=True, kw_only=True):
    """Where the schema is, and its digest."""

    type: Literal["inline_json", "content_store", "rust_serde", "host_registered"]
    content_hash: str
    redacted_schema: Any = None


class ValidationPolicy(Wire, frozen=True, kw_only=True):
    """How strictly an answer is read."""

    validator_ref: str
    max_candidate_bytes: int
    max_errors_returned: int
    allow_additional_properties: bool
    timeout_ms: int
    failure_visibility: str


class RepairPolicy(Wire, frozen=True, kw_only=True):
    """How often, and with what, the model is asked again."""

    repair_adapter_ref: str
    max_repair_attempts: int
    include_schema_in_prompt: bool
    include_redacted_errors: bool
    include_candidate_content: str
    backoff: str
    on_exhausted: str


class RetryBudget(Wire, frozen=True, kw_only=True):
    """Attempts in all."""

    max_attempts: int


class ContentPolicy(Wire, frozen=True, kw_only=True):
    """When the raw answer may be kept: by default, never."""

    mode: Capture
    source_permits_content: bool
    sink_permits_content: bool
    redaction_required: bool
    retention_required: bool
    sampling_required: bool
    byte_limit: int
    policy_ref: PolicyRef


class ProjectionHint(Wire, frozen=True, kw_only=True):
    """What the provider is told of the schema. It stays a hint: the local validator decides."""

    provider_hint_policy: str
    include_schema_ref: bool


class OutputContract(Wire, frozen=True, kw_only=True):
    """What an answer must look like."""

    schema_id: str
    schema_version: SchemaVersion
    dialect: Dialect
    schema: SchemaSource
    mode: Literal["final_only", "incremental_preview"]
    validation: ValidationPolicy
    repair: RepairPolicy
    retry_budget: RetryBudget
    content_policy: ContentPolicy
    projection_hint: ProjectionHint

    @property
    def fingerprint(self) -> str:
        """Names the schema."""
        return self.schema.content_hash

    @property
    def repairs(self) -> int:
        """How often the model may be asked again."""
        return min(self.repair.max_repair_attempts, self.retry_budget.max_attempts)


VALIDATION = ValidationPolicy(
    validator_ref="validator.output.json_schema.local.v1",
    max_candidate_bytes=32_768,
    max_errors_returned=32,
    allow_additional_properties=False,
    timeout_ms=10_000,
    failure_visibility="redacted_summary",
)
REPAIR = RepairPolicy(
    repair_adapter_ref="repair.output.provider_redacted.v1",
    max_repair_attempts=2,
    include_schema_in_prompt=True,
    include_redacted_errors=True,
    include_candidate_content="content_ref_only",
    backoff="none",
    on_exhausted="fail_run",
)
CONTENT = ContentPolicy(
    mode="Off",
    source_permits_content=False,
    sink_permits_content=False,
    redaction_required=True,
    retention_required=True,
    sampling_required=True,
    byte_limit=0,
    policy_ref=PolicyRef(kind="privacy", id="policy.output.content_capture.safe_defaults"),
)


def contract(
    schema_id: str,
    schema: Any,
    *,
    version: tuple[int, int, int] = (1, 0, 0),
    validation: ValidationPolicy = VALIDATION,
    repair: RepairPolicy = REPAIR,
    budget: int = 2,
    hint: str = "schema_required",
) -> OutputContract:
    """A contract for this inline schema, strict unless told otherwise. Raises `UsageError` for an impossible one."""
    major, minor, patch = version
    made = OutputContract(
        schema_id=check_id(schema_id),
        schema_version=SchemaVersion(major=major, minor=minor, patch=patch),
        dialect="json_schema2020_12_subset",
        schema=inline(schema),
        mode="final_only",
        validation=validation,
        repair=repair,
        retry_budget=RetryBudget(max_attempts=budget),
        content_policy=CONTENT,
        projection_hint=ProjectionHint(provider_hint_policy=hint, include_schema_ref=True),
    )
    check_shape(made)
    return made


def inline(schema: Any) -> SchemaSource:
    """This schema, under the digest of its canonical JSON."""
    return SchemaSource(type="inline_json", content_hash=hash_of(schema), redacted_schema=schema)


def check_shape(given: OutputContract) -> None:
    """Raise `UsageError` for a contract that cannot be kept."""
    if given.retry_budget.max_attempts < given.repair.max_repair_attempts:
        raise UsageError(f"contract {given.schema_id}: the retry budget is smaller than the repair attempts")
    if given.validation.max_candidate_bytes <= 0:
        raise UsageError(f"contract {given.schema_id}: max_candidate_bytes must be above 0")
    if not _HASH.fullmatch(given.schema.content_hash):
        raise UsageError(f"contract {given.schema_id}: content_hash is not sha256: and 64 hex digits")
    if given.schema.type == "inline_json" and given.schema.redacted_schema is None:
        raise UsageError(f"contract {given.schema_id}: an inline schema is null")


def contract_document(given: OutputContract) -> JsonObject:
    """The contract as the other system writes it."""
    return dict(plain(given))


def contract_snapshot(given: OutputContract) -> JsonObject:
    """What of the contract stands in a package: every setting, and who validates and repairs."""
    return {
        **contract_document(given),
        "schema_fingerprint": given.fingerprint,
        "local_validator_version": given.validation.validator_ref,
        "validation_policy_ref": {"kind": "runtime_package", "id": given.validation.validator_ref},
        "repair_policy_ref": {"kind": "runtime_package", "id": given.repair.repair_adapter_ref},
    }


def contract_of(asked: Asked | JsonObject) -> OutputContract:
    """The contract of a turn of ours, or of a manifest's description. The schema decides about additional properties.

    Raises `UsageError` for what is no contract.
    """
    if isinstance(asked, dict):
        try:
            asked = msgspec.convert(asked, Asked)
        except msgspec.ValidationError as error:
            raise UsageError(f"this is not an output contract: {error}") from error
    made = contract(
        f"schema.{asked.name}",
        asked.schema,
        repair=structs.replace(REPAIR, max_repair_attempts=asked.repairs),
        budget=asked.repairs,
    )
    validation = structs.replace(made.validation, allow_additional_properties=True, max_candidate_bytes=2**31)
    return structs.replace(made, validation=validation)
