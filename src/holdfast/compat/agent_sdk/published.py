"""How a valid answer becomes a typed result: a report, then the validated output, then its publication.

None of them holds the answer. Each is refused unless what it rests on was recorded before.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from holdfast.compat.agent_sdk.canonical import JsonObject, Wire, canonical, parse, plain
from holdfast.compat.agent_sdk.contract import OutputContract
from holdfast.compat.agent_sdk.ids import RunIds
from holdfast.compat.agent_sdk.repair import Report
from holdfast.errors import UsageError
from holdfast.store import digest_of


class CanonicalValue(Wire, frozen=True, kw_only=True):
    """The answer by content: sorted and compact, so that equal answers have one name."""

    content_id: str
    version: str
    mime: str
    size_bytes: int
    content_hash: str

    @property
    def key(self) -> str:
        """What evidence is matched by."""
        return f"{self.content_id}@{self.version}"


def canonical_value(ids: RunIds, number: int, text: str | bytes) -> CanonicalValue:
    """The `number`-th answer of a run by content; one that is not JSON to the other system, by its bytes."""
    try:
        body = canonical(parse(text))
    except UsageError:
        body = text if isinstance(text, bytes) else text.encode()
    digest = digest_of(body)
    short = digest.removeprefix("sha256:")[:12]
    return CanonicalValue(
        content_id=ids.name("content", f"canonical.{number}.{short}", "p1"),
        version="v1",
        mime="application/json",
        size_bytes=len(body),
        content_hash=digest,
    )


def publication_records(
    ids: RunIds, contract: OutputContract, report: Report, value: CanonicalValue
) -> list[JsonObject]:
    """The report, the validated output and its publication, in the order in which they are recorded.

    Raises `UsageError` for a report that did not pass.
    """
    if not report.fits:
        raise UsageError("an answer that did not pass validation cannot be published")
    number = value.content_id.split(".")[-2]
    report_ref = ids.name("content", f"validation_report.{number}", "p1") + "@v1"
    output_id = ids.name("output", f"validated.{number}", "p1")
    shared: JsonObject = {
        "record_schema_version": 1,
        "schema_id": contract.schema_id,
        "output_schema_version": plain(contract.schema_version),
        "schema_fingerprint": contract.fingerprint,
        "privacy": "content_refs_only",
    }
    evidence = {
        "validated_output_id": output_id,
        "canonical_value_ref": value.key,
        "validation_report_refs": [report_ref],
    }
    return [
        {
            **shared,
            "record_kind": "validation_report",
            "validation_report_ref": report_ref,
            "validation_attempt_id": report.candidate.validation_attempt_id,
            "source_attempt_ids": [report.candidate.source_attempt_id],
            "passed": True,
            "redacted_summary": report.summary,
        },
        {
            **shared,
            **evidence,
            "record_kind": "validated_output",
            "source_attempt_ids": [report.candidate.source_attempt_id],
            "content_refs": [value.key],
            "content_hash": value.content_hash,
            "redacted_summary": "structured output validated",
        },
        {
            **shared,
            **evidence,
            "record_kind": "typed_result_publication",
            "status": "published",
            "redacted_summary": "typed result published",
        },
    ]


def check_order(records: Iterable[JsonObject]) -> None:
    """Raise `UsageError` unless every output follows its reports, and every publication its output."""
    reports: set[str] = set()
    outputs: dict[str, Sequence[str]] = {}
    for item in records:
        match item["record_kind"]:
            case "validation_report" if item["passed"]:
                reports.add(item["validation_report_ref"])
            case "validated_output":
                _rests_on(item, reports)
                outputs[item["validated_output_id"]] = item["validation_report_refs"]
            case "typed_result_publication":
                _rests_on(item, reports)
                if outputs.get(item["validated_output_id"]) != item["validation_report_refs"]:
                    raise UsageError("a typed result is published that was not validated")


def _rests_on(item: JsonObject, reports: set[str]) -> None:
    if not item["validation_report_refs"] or not reports.issuperset(item["validation_report_refs"]):
        raise UsageError(f"a {item['record_kind']} stands before the report that it rests on")
