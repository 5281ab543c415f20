"""What is recorded of an answer that was validated, and the decision whether the model is asked again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from holdfast.compat.agent_sdk.canonical import JsonObject, Wire, plain
from holdfast.compat.agent_sdk.contract import OutputContract
from holdfast.compat.agent_sdk.validation import Problem, check_schema, problem, validate

RecordKind = Literal["validation_succeeded", "validation_failed", "schema_rejected"]

EXHAUSTED = "repair attempt budget exhausted"
REJECTED = "schema rejected before repair"


class Candidate(Wire, frozen=True, kw_only=True):
    """One answer that is to be validated: the attempt it came from, and where its content is."""

    source_attempt_id: str
    content_ref: str

    @property
    def validation_attempt_id(self) -> str:
        """The name of the validation of this answer."""
        return f"validation.{self.source_attempt_id}"


class Report(Wire, frozen=True, kw_only=True):
    """What the validator said of one answer."""

    candidate: Candidate
    kind: RecordKind
    problems: tuple[Problem, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether the answer is valid."""
        return self.kind == "validation_succeeded"

    @property
    def summary(self) -> str:
        """The verdict in one sentence, which shows nothing of the answer."""
        if self.fits:
            return "structured output candidate validated locally"
        first = f"{self.problems[0].redacted_summary} at {self.problems[0].path}"
        count = f" with {len(self.problems)} error(s)" if len(self.problems) > 1 else ""
        return f"structured output validation failed{count}: {first}"


def examine(contract: OutputContract, candidate: Candidate, text: str | bytes) -> Report:
    """Hold one answer against the contract. A schema that is refused refuses every answer."""
    if rejected := check_schema(contract):
        return Report(candidate=candidate, kind="schema_rejected", problems=tuple(rejected))
    return report_of(candidate, validate(contract, text))


def report_of(candidate: Candidate, problems: Sequence[Problem]) -> Report:
    """The report of these problems, or of none."""
    kind: RecordKind = "validation_failed" if problems else "validation_succeeded"
    return Report(candidate=candidate, kind=kind, problems=tuple(problems))


def refused(candidate: Candidate) -> Report:
    """The report of an answer that another validator refused for a reason that this one does not know."""
    return report_of(candidate, [problem("schema_contract_violation")])


def _about(contract: OutputContract, kind: str) -> JsonObject:
    return {
        "record_schema_version": 1,
        "record_kind": kind,
        "schema_id": contract.schema_id,
        "output_schema_version": plain(contract.schema_version),
        "privacy": "content_refs_only",
    }


def _attempt(contract: OutputContract, candidate: Candidate) -> JsonObject:
    return {
        "schema_fingerprint": contract.fingerprint,
        "source_attempt_id": candidate.source_attempt_id,
        "validation_attempt_id": candidate.validation_attempt_id,
    }


def lifecycle_record(
    contract: OutputContract, kind: Literal["requested", "validation_started"]
) -> JsonObject:
    """The record that a typed output is wanted, or that one is being validated."""
    words = {
        "requested": "structured output requested",
        "validation_started": "structured output validation started",
    }
    return {
        **_about(contract, kind),
        "schema_fingerprint": contract.fingerprint,
        "redacted_summary": words[kind],
    }


def validation_record(contract: OutputContract, report: Report) -> JsonObject:
    """The record of one validation."""
    record: JsonObject = {
        **_about(contract, report.kind),
        **_attempt(contract, report.candidate),
        "candidate_content_ref": report.candidate.content_ref,
        "redacted_summary": report.summary,
    }
    if report.problems:
        record["errors"] = plain(report.problems)
    return record


def may_repair(contract: OutputContract, report: Report, repaired: int) -> bool:
    """Whether the model is asked again, after so many repairs."""
    return report.kind != "schema_rejected" and repaired < contract.repairs


def repair_attempt_id(report: Report, number: int) -> str:
    """The name of the `number`-th repair, which follows this validation."""
    return f"repair.{report.candidate.validation_attempt_id}.{number}"


def repair_record(contract: OutputContract, report: Report, number: int) -> JsonObject:
    """The record that the model is asked again, for the `number`-th time, and with what."""
    shared = {
        **_attempt(contract, report.candidate),
        "repair_attempt_id": repair_attempt_id(report, number),
        "repair_adapter_ref": contract.repair.repair_adapter_ref,
        "attempt_index": number,
        "max_repair_attempts": contract.repair.max_repair_attempts,
    }
    about = _about(contract, "repair_requested")
    prompt = {
        **{name: about[name] for name in ("record_schema_version", "schema_id", "output_schema_version")},
        **shared,
        "prompt_summary": repair_prompt(contract),
        "include_schema_in_prompt": contract.repair.include_schema_in_prompt,
        "redacted_errors": plain(report.problems) if contract.repair.include_redacted_errors else [],
        "candidate_content": {
            "type": "content_ref_only",
            "candidate_content_ref": report.candidate.content_ref,
        },
    }
    summary = f"repair attempt {number} requested after validation failure"
    return {**about, **shared, "prompt": prompt, "redacted_summary": summary}


def repair_prompt(contract: OutputContract) -> str:
    """What the model is told when it is asked again."""
    return f"repair structured output for schema {contract.schema_id} using redacted validation errors"


def exhausted_record(
    contract: OutputContract,
    reports: Sequence[Report],
    repairs: Sequence[str],
    kind: Literal["repair_exhausted", "terminal_failure"] = "repair_exhausted",
) -> JsonObject:
    """The record that the model is not asked again: all validations and repairs, and why the last one failed."""
    last = reports[-1]
    rejected = last.kind == "schema_rejected"
    summary: Any = (
        f"structured output validation failed after {len(reports)} validation attempt(s) and "
        f"{len(repairs)} repair attempt(s): {last.summary}"
    )
    return {
        **_about(contract, kind),
        "reason": REJECTED if rejected else EXHAUSTED,
        "retry_exhausted": not rejected,
        "validation_attempts": [report.candidate.validation_attempt_id for report in reports],
        "repair_attempts": list(repairs),
        "source_attempt_ids": list(dict.fromkeys(report.candidate.source_attempt_id for report in reports)),
        "candidate_content_ref": last.candidate.content_ref,
        "redacted_summary": summary,
    }


class Judged(Wire, frozen=True, kw_only=True):
    """What became of a list of answers: the reports, the records in order, and whether the last one fits."""

    reports: tuple[Report, ...]
    records: tuple[JsonObject, ...]

    @property
    def fits(self) -> bool:
        """Whether a valid answer was found."""
        return bool(self.reports) and self.reports[-1].fits


def judge(contract: OutputContract, answers: Sequence[tuple[Candidate, str | bytes]]) -> Judged:
    """Hold answers against the contract, one after another, until one fits or no repair is left.

    An answer that is missing when a repair was asked for ends the list as well: a repair is then the last record.
    """
    reports: list[Report] = []
    records: list[JsonObject] = []
    repairs: list[str] = []
    for candidate, text in answers:
        report = examine(contract, candidate, text)
        reports.append(report)
        records.append(validation_record(contract, report))
        if report.fits:
            break
        if not may_repair(contract, report, len(repairs)):
            records.append(exhausted_record(contract, reports, repairs))
            break
        repairs.append(repair_attempt_id(report, len(repairs) + 1))
        records.append(repair_record(contract, report, len(repairs)))
    return Judged(reports=tuple(reports), records=tuple(records))
