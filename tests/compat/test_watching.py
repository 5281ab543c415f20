"""Who gets which events, what is dropped for a slow reader, and what may be seen of content."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from holdfast import Allow, Defer, Deny, Interrupt, Modify, UsageError
from holdfast.compat.agent_sdk import plain
from holdfast.compat.agent_sdk.content import ContentRef, ResolvePolicy, raw_context, resolve
from holdfast.compat.agent_sdk.envelope import EventCursor, Frame, Published
from holdfast.compat.agent_sdk.filters import TERMINAL_RUNS, CompiledFilter, EventFilter, QueueBounds, include
from holdfast.compat.agent_sdk.kinds import FAMILIES, PROGRESS, TERMINAL, family_of
from holdfast.compat.agent_sdk.policy import (
    CapturePolicy,
    Grant,
    Missing,
    allowed,
    captures_raw,
    code_of,
    decision_of,
    deny,
    escalation,
    failure_of,
    missing,
    permission,
    sandbox,
)
from holdfast.compat.agent_sdk.queue import read
from holdfast.compat.agent_sdk.refs import source
from holdfast.compat.agent_sdk.stream import Delta, LiteralRule
from holdfast.compat.agent_sdk.telemetry import Projection, SinkQueue
from holdfast.store import digest_of
from tests.compat.recordings import SECRET, event_of, run_of

RUN = run_of("privacy")
DELTA, OTHER, END = "model_stream_delta", "message_accepted", "run_completed"


def stream(*kinds: str) -> list[Published]:
    return [
        event_of(RUN, number, kind, cursor=f"journal.{number}" if kind != DELTA else None)
        for number, kind in enumerate(kinds, 1)
    ]


def bounded(overflow: Any, *kinds: str, capacity: int = 2, reserve: int = 1) -> list[Frame]:
    bounds = QueueBounds(capacity=capacity, terminal_reserve=reserve, overflow=overflow)
    return read(stream(*kinds), CompiledFilter(EventFilter(queue=bounds)))


def told(frames: list[Frame]) -> list[tuple[int, int]]:
    """For each frame its number, and how many went missing before it."""
    return [(it.cursor.event_seq, it.overflow.dropped_count if it.overflow else 0) for it in frames]


def test_there_are_as_many_kinds_as_the_other_system_has() -> None:
    assert (len(FAMILIES), len(TERMINAL), len(PROGRESS), len(set(FAMILIES.values()))) == (119, 49, 10, 18)
    assert family_of("context_assembled") == "turn"
    with pytest.raises(UsageError):
        family_of("run_begun")


def test_a_filter_is_named_by_everything_it_says() -> None:
    plain_one = CompiledFilter(EventFilter())
    assert plain_one.fingerprint == "sha256:d921a7778382804f8b8ce99b4794e8065e387815cf5a670b3084595989f67548"
    assert plain_one.filter_id == "filter.5893e28a60be796092a2aff3d1aeedd99c797fe02b8b21ed6afedabe44eb2f5c"
    ends = CompiledFilter(TERMINAL_RUNS).fingerprint
    assert (ends[7:15], ends[-4:]) == ("5fc07237", "c558")


def test_a_filter_wants_all_dimensions_and_one_value_of_each() -> None:
    envelope = event_of(RUN, 1, END).envelope

    def matches(**wanted: Any) -> bool:
        return CompiledFilter(EventFilter(**wanted)).matches(envelope)

    assert matches(families=include("turn", "run"), kinds=include(END))
    assert not matches(families=include("run"), kinds=include(DELTA))
    assert not matches(run_ids=include())
    assert not matches(session_ids=include("session.1"))  # it has none
    assert not matches(tags=include("x"))
    assert matches(terminal_only=True)
    assert not CompiledFilter(TERMINAL_RUNS).matches(event_of(RUN, 2, "run_started").envelope)


def test_nobody_who_publishes_waits_for_a_reader() -> None:
    with pytest.raises(UsageError, match="InvalidOverflowPolicy"):
        bounded("backpressure_caller", DELTA)


def test_what_ends_something_pushes_out_what_does_not() -> None:
    assert told(bounded("drop_non_terminal", DELTA, DELTA, END)) == [(1, 0), (3, 1)]
    assert told(bounded("drop_non_terminal", DELTA, END, "turn_completed")) == [(2, 0), (3, 1)]


def test_more_ends_than_there_is_room_for_is_said_not_hidden() -> None:
    frames = bounded("drop_non_terminal", END, "turn_completed", "tool_completed")
    assert told(frames) == [(2, 0), (3, 1)]
    notice = frames[-1].overflow
    assert notice is not None
    assert (notice.terminal_preserved, notice.reason, notice.repair_from) == (
        False,
        "subscriber_queue_full",
        "journal.1",
    )


def test_progress_makes_way_for_what_is_said_once() -> None:
    assert told(bounded("drop_progress", DELTA, OTHER, OTHER)) == [(2, 2)]
    assert told(bounded("drop_progress", OTHER, DELTA)) == [(1, 1)]


def test_progress_is_summed_up() -> None:
    frames = bounded("summarize_and_continue", DELTA, DELTA, OTHER, END, capacity=4)
    assert told(frames) == [(2, 2), (3, 0), (4, 0)]
    assert (
        frames[0].event.payload.redacted_summary == "redacted progress summary for 2 dropped progress frames"
    )


def test_a_reader_that_may_miss_nothing_fails_with_the_place_to_repair_from() -> None:
    frames = bounded("fail_subscriber", OTHER, OTHER, END)
    assert told(frames) == [(1, 1)]
    assert frames[0].overflow is not None
    assert frames[0].overflow.repair_from == "journal.2"


def test_a_cursor_serves_its_own_scope_and_no_other() -> None:
    events = stream(DELTA, OTHER, END)
    wanted, other = CompiledFilter(EventFilter()), CompiledFilter(TERMINAL_RUNS)
    frames = read(events, wanted)
    assert told(read(events, wanted, after=frames[0].cursor)) == [(2, 0), (3, 0)]
    with pytest.raises(UsageError, match="cannot be used"):
        read(events, other, after=frames[0].cursor)
    for scope in ("all", {"run": "run.privacy"}, {"agent": "run.privacy"}):
        at = EventCursor(scope=scope, event_seq=1, event_id="event.1")
        assert told(read(events, wanted, scope=scope, after=at)) == [(2, 0), (3, 0)]
        with pytest.raises(UsageError):
            read(events, wanted, scope={"run": "run.other"}, after=at)


# Decisions

NOW = datetime(2026, 5, 24, 12, tzinfo=UTC)
MISSING = (
    "policy_snapshot",
    "policy_ref",
    "approval_dispatcher",
    "journal_append",
    "adapter",
    "executor_ref",
)


@pytest.mark.parametrize("what", MISSING)
def test_what_is_missing_denies_and_is_never_worth_a_retry(what: Any) -> None:
    decision = missing(what)
    assert not allowed(decision)
    assert code_of(decision) == f"missing.{what}"
    assert failure_of(what)[1] == "HostConfigurationNeeded"


def test_failures_of_missing_parts_are_told_apart() -> None:
    failures: dict[Missing, str] = {
        "journal_append": "JournalFailure",
        "adapter": "IsolationFailure",
        "approval_dispatcher": "ApprovalFailure",
        "sink": "PolicyDenial",
    }
    assert {what: failure_of(what)[0] for what in failures} == failures


def test_nothing_is_allowed_that_nobody_granted() -> None:
    me, you = source("source.me"), source("source.you")
    grants = [Grant(source=me, capability="FilesystemRead")]
    assert allowed(permission(grants, me, "FilesystemRead"))
    assert code_of(permission(grants, me, "Shell")) == "permission.default_deny"
    assert not allowed(permission(grants, you, "FilesystemRead"))
    assert code_of(sandbox("DenyHostExecution", adapter=True)) == "sandbox.host_denied"
    assert code_of(sandbox("RequireIsolation", adapter=False)) == "missing.adapter"
    assert allowed(sandbox("RequireIsolation", adapter=True))
    assert code_of(escalation(required=True, dispatcher=False)) == "escalation.missing_dispatcher"
    assert allowed(escalation(required=False, dispatcher=False))
    assert code_of(deny()) == "policy.default_deny"


def test_our_decisions_are_theirs_without_the_words() -> None:
    found = {
        next(iter(made)): made
        for made in (
            decision_of(it, now=NOW)
            for it in (
                Allow(),
                Deny(SECRET),
                Modify(arguments=SECRET),
                Interrupt(SECRET),
                Defer(until=NOW + timedelta(seconds=2), reason=SECRET),
            )
        )
    }
    assert [name for name, made in found.items() if allowed(made)] == ["Allow"]
    assert list(found) == ["Allow", "Deny", "Modify", "Interrupt", "Defer"]
    assert found["Defer"]["Defer"]["resume_policy"]["resume_after_ms"] == 2_000
    assert SECRET not in json.dumps(found)


GATES: dict[str, Any] = {
    "mode": "RedactedSummary",
    "source_permits_content": False,
    "sink_permits_content": False,
    "redaction_required": False,
    "retention_required": False,
    "sampling_required": False,
    "byte_limit": 0,
}
OPEN: dict[str, Any] = {
    "mode": "RawContent",
    "source_permits_content": True,
    "sink_permits_content": True,
    "byte_limit": 1,
}


@pytest.mark.parametrize("gate", GATES)
def test_one_closed_gate_keeps_raw_content_out(gate: str) -> None:
    assert captures_raw(CapturePolicy(**OPEN))
    assert not captures_raw(CapturePolicy(**{**OPEN, gate: GATES[gate]}))


# Content

CONTENT = SECRET.encode()
REF = ContentRef(
    content_id="content.1", version="v1", content_hash=digest_of(CONTENT), redacted_summary="a word"
)
HELD = {"content.1": ("v1", CONTENT)}


def test_content_is_shown_only_to_whom_it_may_be() -> None:
    for ref, held, policy, version, why in (
        (REF, HELD, None, "v2", "version_mismatch"),
        (REF, HELD, ResolvePolicy(allowed_privacy_classes=("public",)), None, "permission_denied"),
        (REF, {}, None, None, "missing"),
        (REF, {"content.1": ("v2", CONTENT)}, None, None, "version_mismatch"),
        (REF, {"content.1": ("v1", b"changed")}, None, None, "hash_mismatch"),
        (REF, HELD, raw_context(3), None, "max_bytes_exceeded"),
    ):
        found = resolve(ref, held, policy, version)
        assert (found.refused, found.bytes) == (why, None)
    shown = resolve(REF, HELD, raw_context(64))
    assert shown.bytes == CONTENT
    assert SECRET not in repr(shown)
    assert resolve(REF, HELD).redacted_summary == "a word"


def test_what_is_not_known_of_content_is_null() -> None:
    assert plain(REF)["mime"] is None
    assert len(plain(REF)) == 16


# Telemetry


def told_to(queue: SinkQueue, kind: Any, number: int) -> Any:
    return queue.push(Projection(kind=kind, run_id="run.1", journal_cursor=f"journal.{number}", raw=SECRET))


def test_a_full_sink_loses_progress_and_keeps_what_ends_a_run() -> None:
    queue = SinkQueue(sink_id="sink.1", sink_kind="test", capacity=2)
    assert told_to(queue, "progress", 1) is None
    assert told_to(queue, "progress", 2).dropped_count == 1  # the reserve stays free
    assert told_to(queue, "run_terminal", 3) is None
    failure = told_to(queue, "usage", 4)
    assert (failure.terminal_preserved, failure.dropped_count) == (True, 1)
    assert [it.kind for it in queue.waiting] == ["run_terminal", "usage"]
    lost = told_to(queue, "usage", 5)
    assert (lost.terminal_preserved, lost.repair_cursor.cursor) == (False, "journal.5")
    assert all(it.raw is None for it in queue.waiting)


def test_a_sink_that_fails_is_told_the_same_again() -> None:
    queue = SinkQueue(sink_id="sink.1", sink_kind="test")
    told_to(queue, "progress", 1)
    told_to(queue, "run_terminal", 2)
    got: list[str] = []

    def send(projection: Projection) -> None:
        if projection.journal_cursor == "journal.2" and not got[1:]:
            got.append("failed")
            raise OSError(SECRET)
        got.append(projection.journal_cursor)

    failure = queue.drain(send)
    assert failure is not None
    assert (failure.failure_kind, failure.last_acknowledged_cursor.export_seq) == ("export_failed", 1)
    assert SECRET not in json.dumps(plain(failure))
    assert queue.drain(send) is None
    assert (got, queue.acknowledged) == (["journal.1", "failed", "journal.2"], 2)


# Stream rules


def pieces(*texts: str, channel: Any = "assistant_text", secret: bool = False) -> list[Delta]:
    return [
        Delta(channel=channel, cursor=f"delta.{number}", text=text, secret=secret)
        for number, text in enumerate(texts)
    ]


def matches(rule: LiteralRule, deltas: list[Delta]) -> list[str]:
    return [found.cursor for delta in deltas for found in rule.feed(delta)]


def test_a_text_is_found_across_pieces_within_the_window() -> None:
    rule = LiteralRule("r", "abc", "stop_run", ("assistant_text",))
    assert matches(rule, pieces("xa", "b", "cabcab", "c", "c")) == ["delta.2", "delta.2", "delta.3"]
    narrow = LiteralRule("r", "abc", "stop_run", ("assistant_text",), window=3)
    assert matches(narrow, pieces("ab", "é" * 9, "c", "ABC")) == []
    loose = LiteralRule("r", "abc", "stop_run", ("assistant_text",), case_sensitive=False)
    assert matches(loose, pieces("A", "Bc")) == ["delta.1"]
    (found,) = loose.feed(pieces("İİxAbCx")[0])
    assert found.match_sha256 == digest_of(b"AbC")


def test_hidden_thoughts_secrets_and_other_channels_are_not_watched() -> None:
    rule = LiteralRule("r", "abc", "stop_run", ("assistant_text", "hidden_chain_of_thought"))
    assert matches(rule, pieces("abc", channel="hidden_chain_of_thought")) == []
    assert matches(rule, pieces("abc", secret=True)) == []
    assert matches(rule, pieces("abc", channel="tool_result_text")) == []


@pytest.mark.parametrize("given", [{"text": ""}, {"channels": ()}, {"window": 2}, {"window": 65_537}])
def test_a_rule_that_cannot_match_is_refused(given: Any) -> None:
    with pytest.raises(UsageError):
        LiteralRule(
            **{"rule_id": "r", "text": "abc", "action": "stop_run", "channels": ("assistant_text",), **given}
        )
