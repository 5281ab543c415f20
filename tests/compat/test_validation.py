"""The local validator: its verdicts, their order, and that they show nothing of what they are about."""

import json
from typing import Any

import pytest
from msgspec import structs

from holdfast import UsageError
from holdfast.compat.agent_sdk import Candidate, check_schema, contract, judge, validate
from holdfast.compat.agent_sdk.contract import REPAIR, VALIDATION, contract_snapshot
from holdfast.compat.agent_sdk.ids import RunIds
from holdfast.compat.agent_sdk.published import canonical_value, check_order, publication_records
from holdfast.compat.agent_sdk.repair import Report, examine
from tests.compat.recordings import SECRET, TITLED

LENIENT = structs.replace(VALIDATION, allow_additional_properties=True)


def verdicts(schema: Any, candidate: str | bytes, **options: Any) -> list[str]:
    """Codes and paths."""
    wanted = contract("schema.x", schema, **options)
    assert check_schema(wanted) == []
    return [f"{found.code} {found.path}" for found in validate(wanted, candidate)]


ACCEPTED: dict[str, tuple[Any, str]] = {
    "an integer": ({"type": "integer"}, "18446744073709551615"),
    "a number": ({"type": "number"}, "1e-7"),
    "a null": ({"type": "null"}, "null"),
    "anything, where nothing is said": ({}, '{"a": 1}'),
    "an enum of objects": ({"enum": [{"a": [1, None]}]}, '{"a": [1, null]}'),
    "code points, not bytes": ({"type": "string", "maxLength": 1}, '"💧"'),
    "what it does not look at": ({"type": "number", "minimum": 5, "oneOf": [{"const": 3}]}, "1"),
    "an array of anything": ({"type": "array"}, "[1, {}]"),
}

REFUSED: dict[str, tuple[Any, str, list[str]]] = {
    "a float for an integer": ({"type": "integer"}, "1.0", ["type_mismatch /"]),
    "an integer beyond 64 bits": ({"type": "integer"}, "18446744073709551616", ["type_mismatch /"]),
    "minus zero for an integer": ({"type": "integer"}, "-0", ["type_mismatch /"]),
    "true for a number": ({"type": "number"}, "true", ["type_mismatch /"]),
    "true for 1 in an enum": ({"enum": [1]}, "true", ["enum_mismatch /"]),
    "1.0 for 1 in an enum": ({"enum": [1]}, "1.0", ["enum_mismatch /"]),
    "not a number": ({}, "NaN", ["invalid_json /"]),
    "a lone surrogate": ({}, '"\\ud800"', ["invalid_json /"]),
    "too short": ({"type": "string", "minLength": 2}, '"x"', ["min_length_violation /"]),
    "too long": ({"type": "string", "maxLength": 1}, '"xy"', ["max_length_violation /"]),
    "an unknown type": ({"type": "date"}, "1", ["schema_contract_violation /"]),
    "several types": ({"type": ["string", "null"]}, "null", ["schema_contract_violation /"]),
    "no object where properties are named": ({"required": ["a"]}, "[]", ["type_mismatch /"]),
    "an enum stops at its value": (
        {"type": "object", "enum": [{}], "required": ["a"]},
        '{"b": 1}',
        ["enum_mismatch /"],
    ),
    "missing first, then properties by name, then what is too much": (
        {
            "type": "object",
            "required": ["z", "a"],
            "properties": {
                "c": {"type": "string"},
                "b": {"type": "array", "items": {"type": "object", "properties": {"d": {"type": "null"}}}},
            },
        },
        '{"c": 1, "b": [{}, {"d": 1, "~x/y": 2}], "u": 1, "t": 2}',
        [
            "missing_required_field /z",
            "missing_required_field /a",
            "type_mismatch /b/1/d",
            "additional_property_denied /b/1",
            "type_mismatch /c",
            "additional_property_denied /",
            "additional_property_denied /",
        ],
    ),
}


@pytest.mark.parametrize("what", ACCEPTED)
def test_what_fits_is_accepted(what: str) -> None:
    schema, candidate = ACCEPTED[what]
    assert verdicts(schema, candidate) == []


@pytest.mark.parametrize("what", REFUSED)
def test_what_does_not_fit_is_refused_in_order(what: str) -> None:
    schema, candidate, found = REFUSED[what]
    assert verdicts(schema, candidate) == found


def test_additional_properties_are_denied_by_the_policy_or_by_the_schema() -> None:
    open_schema = {"type": "object", "properties": {}}
    denied = ["additional_property_denied /"]
    assert verdicts(open_schema, '{"x": 1}') == denied
    assert verdicts(open_schema, '{"x": 1}', validation=LENIENT) == []
    assert verdicts({**open_schema, "additionalProperties": False}, '{"x": 1}', validation=LENIENT) == denied


def test_there_are_no_more_problems_than_asked_for_and_at_least_one() -> None:
    schema = {"type": "object", "required": list("abc")}
    for limit, count in ((32, 3), (2, 2), (0, 1)):
        policy = structs.replace(VALIDATION, max_errors_returned=limit)
        assert len(verdicts(schema, "{}", validation=policy)) == count


def test_a_candidate_is_measured_before_it_is_read() -> None:
    policy = structs.replace(VALIDATION, max_candidate_bytes=4)
    assert verdicts({}, '"éé"', validation=policy) == ["candidate_too_large /"]
    assert verdicts({}, '"é"', validation=policy) == []
    assert verdicts({}, b"\xff", validation=policy) == ["invalid_json /"]


def nested(depth: int) -> Any:
    schema: Any = {}
    for _ in range(depth):
        schema = {"items": schema}
    return schema


HOSTILE: dict[str, tuple[Any, str]] = {
    "a reference elsewhere": ({"$ref": "https://example.com/x"}, "hostile_schema"),
    "a reference inside": ({"properties": {"a": {"$ref": "#/x"}}}, "unsupported_schema_ref"),
    "a format": ({"type": "string", "format": "email"}, "hostile_schema"),
    "too deep": (nested(40), "hostile_schema"),
    "too many properties": ({"properties": {str(n): {} for n in range(257)}}, "hostile_schema"),
    "too many values": ({"enum": list(range(513))}, "hostile_schema"),
    "too long a pattern": ({"pattern": "é" * 1_025}, "hostile_schema"),
    "too large": ({"description": "x" * 65_536}, "hostile_schema"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_schema_that_could_do_harm_is_refused_and_nothing_is_repaired(what: str) -> None:
    schema, code = HOSTILE[what]
    wanted = contract("schema.x", schema)
    assert {found.code for found in check_schema(wanted)} == {code}
    candidate = Candidate(source_attempt_id="attempt.1", content_ref="content.1")
    rejected, exhausted = judge(wanted, [(candidate, "1"), (candidate, "2")]).records
    assert (rejected["record_kind"], exhausted["record_kind"]) == ("schema_rejected", "repair_exhausted")
    assert (exhausted["reason"], exhausted["retry_exhausted"]) == ("schema rejected before repair", False)


def test_other_dialects_modes_and_shapes_are_refused() -> None:
    wanted = contract("schema.x", TITLED)
    for changed, code in (
        (structs.replace(wanted, dialect="host_registered"), "unsupported_dialect"),
        (structs.replace(wanted, mode="incremental_preview"), "schema_contract_violation"),
        (
            structs.replace(wanted, schema=structs.replace(wanted.schema, content_hash="md5:1")),
            "schema_contract_violation",
        ),
    ):
        assert [found.code for found in check_schema(changed)] == [code]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"budget": 1}, "retry budget"),
        ({"validation": structs.replace(VALIDATION, max_candidate_bytes=0)}, "max_candidate_bytes"),
    ],
)
def test_a_contract_that_cannot_be_kept_is_refused(options: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        contract("schema.x", TITLED, **options)
    with pytest.raises(UsageError, match="null"):
        contract("schema.x", None)


def test_repairs_end_with_the_smaller_of_the_two_limits() -> None:
    def kinds(repairs: int, budget: int) -> list[str]:
        repair = structs.replace(REPAIR, max_repair_attempts=repairs)
        wanted = contract("schema.x", TITLED, repair=repair, budget=budget)
        answers = [
            (Candidate(source_attempt_id=f"attempt.{number}", content_ref="content.1"), "{}")
            for number in range(9)
        ]
        return [record["record_kind"] for record in judge(wanted, answers).records]

    failed = "validation_failed"
    assert kinds(0, 2) == [failed, "repair_exhausted"]
    assert kinds(1, 2) == [failed, "repair_requested", failed, "repair_exhausted"]


def test_no_record_shows_what_was_answered() -> None:
    repair = structs.replace(REPAIR, max_repair_attempts=1)
    schema = {**TITLED, "properties": {"title": {"enum": ["x"]}}}
    wanted = contract("schema.x", schema, repair=repair)
    answers = [
        (Candidate(source_attempt_id=f"attempt.{number}", content_ref="content.1"), text)
        for number, text in enumerate((SECRET, json.dumps({"title": SECRET, SECRET: 1})))
    ]
    judged = judge(wanted, answers)
    assert [report.kind for report in judged.reports] == ["validation_failed", "validation_failed"]
    assert SECRET not in json.dumps(judged.records)


def passed(text: str) -> tuple[Report, list[Any]]:
    wanted = contract("schema.x", TITLED)
    report = examine(wanted, Candidate(source_attempt_id="attempt.1", content_ref="content.1"), text)
    ids = RunIds("run.1")
    return report, publication_records(ids, wanted, report, canonical_value(ids, 1, text))


def test_a_typed_result_rests_on_an_output_and_that_on_a_report() -> None:
    report, records = passed('{"title": "x"}')
    assert report.fits
    check_order(records)
    for order in (records[1:], records[:1] + records[2:], records[::-1]):
        with pytest.raises(UsageError):
            check_order(order)
    with pytest.raises(UsageError, match="did not pass"):
        passed("{}")


def test_equal_answers_have_one_name() -> None:
    ids = RunIds("run.1")
    one, other = (canonical_value(ids, 1, text) for text in ('{"a":1,"b":2}', '{ "b": 2, "a": 1 }'))
    assert one == other
    assert one.content_id.endswith(one.content_hash.removeprefix("sha256:")[:12])
    assert canonical_value(ids, 1, "NaN").content_hash != canonical_value(ids, 1, "Infinity").content_hash


def test_every_setting_of_a_contract_stands_in_a_package() -> None:
    shown = [
        contract_snapshot(contract("schema.x", TITLED, **options))
        for options in (
            {},
            {"budget": 3},
            {"validation": LENIENT},
            {"version": (2, 0, 0)},
            {"hint": "schema_optional"},
        )
    ]
    assert len({json.dumps(item, sort_keys=True) for item in shown}) == 5


def test_without_an_answer_none_fits() -> None:
    judged = judge(contract("schema.a", {"type": "object"}), [])
    assert (judged.fits, judged.records) == (False, ())
