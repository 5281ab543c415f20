"""The state: what follows from a log, whole, bit by bit, and from where it was written down."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from holdfast.events import (
    Event,
    EventContext,
    Fact,
    Failure,
    FileDeleted,
    FileWritten,
    InputMessage,
    OutputMessageCompleted,
    ReasonFailed,
    SessionCreated,
    ToolCompleted,
    ToolStarted,
    TurnStarted,
    UnknownFact,
    decode_event,
    encode_event,
)
from holdfast.fold import apply, fold
from holdfast.messages import CallStatus, Message, Text, ToolCall, ToolResult, Usage, user_message
from holdfast.state import State, decode_state, encode_state
from holdfast.turn.decide import decide
from holdfast.turn.step import Act, Owed, Reason, Step, Wait
from tests.recorded import SCENES, log

AT = datetime(2026, 1, 1, tzinfo=UTC)
SESSION, TURN = "session_a", "turn_a"


class Limit(msgspec.Struct, frozen=True):
    """What the planner needs of a manifest."""

    max_iterations: int = 2
    compaction: None = None
    repeated_calls: int = 0

    def compact_above(self, place: int) -> int | None:
        return None


def steps_from(state: State, last: datetime) -> list[Step]:
    """What is owed next: now, a little later, and when every deadline has passed."""
    instants = (last, last + timedelta(seconds=5), last + timedelta(days=1))
    return [decide(state, Limit(limit), now) for limit in (2, 100) for now in instants]


@pytest.mark.parametrize("scene", SCENES)
def test_the_fold_of_a_log_is_the_same_taken_in_one_by_one(scene: str) -> None:
    events = log(scene)
    state = State(session_id=events[0].session_id)
    for place, event in enumerate(events, 1):
        apply(state, event)
        assert state == fold(state.session_id, events[:place])
        assert state.sequence == place


@pytest.mark.parametrize("scene", SCENES)
def test_a_state_written_down_anywhere_is_the_same_and_plans_the_same_next_step(scene: str) -> None:
    events = log(scene)
    for place in range(len(events) + 1):
        state = fold(events[0].session_id, events[:place])
        again = decode_state(encode_state(state))
        assert again == state
        assert encode_state(again) == encode_state(state)
        now = events[max(place - 1, 0)].ts
        assert steps_from(again, now) == steps_from(state, now)


@pytest.mark.parametrize("scene", SCENES)
def test_a_state_written_down_anywhere_goes_on_to_the_same_end(scene: str) -> None:
    events = log(scene)
    whole = fold(events[0].session_id, events)
    for place in range(len(events)):
        state = decode_state(encode_state(fold(whole.session_id, events[:place])))
        for event in events[place:]:
            apply(state, event)
        assert encode_state(state) == encode_state(whole)


@pytest.mark.parametrize("scene", SCENES)
def test_a_log_read_back_from_its_bytes_folds_to_the_same_bytes(scene: str) -> None:
    events = log(scene)
    read = [decode_event(encode_event(event)) for event in events]
    assert read == list(events)
    assert encode_state(fold(events[0].session_id, read)) == encode_state(fold(events[0].session_id, events))


@pytest.mark.parametrize("scene", SCENES)
def test_a_finished_log_owes_nothing_and_answers_each_call_once_in_order(scene: str) -> None:
    events = log(scene)
    state = fold(events[0].session_id, events)
    assert (state.turn, state.queue, state.asks) == (None, [], {})
    assert decide(state, Limit(), events[-1].ts) == Wait()
    calls = [call.id for message in state.messages for call in message.calls]
    results = [part.call_id for it in state.messages for part in it.content if isinstance(part, ToolResult)]
    assert results == calls


def test_what_a_recorded_log_says() -> None:
    assert [it.role for it in fold("s", log("a tool")).messages] == ["user", "assistant", "tool", "assistant"]
    approved = fold("s", log("an ask that is approved"))
    assert [it.text for it in approved.messages] == ["Please do it.", "", "sent to a@b.c", "Sent."]
    retried = fold("s", log("a failure, then a retry"))
    assert (retried.usage.input_tokens, retried.title) == (100, "Recorded")
    two = fold("s", log("inputs that wait"))
    assert (list(two.keys), two.title, two.metadata) == (["a", "b"], "Two", {"done": "yes"})


@pytest.mark.parametrize(
    ("scene", "status", "stop", "text"),
    [
        ("a plain answer", "completed", "end_turn", "Hello."),
        ("a refusal", "completed", "refusal", "I must not."),
        ("a reply cut short", "completed", "max_tokens", "It is"),
        ("too many rounds", "completed", "max_iterations", ""),
        ("a deadline", "completed", "deadline", ""),
        ("a failure for good", "failed", "error", ""),
        ("an interruption", "failed", "interrupted", ""),
        ("a turn that is cancelled", "cancelled", "cancelled", ""),
    ],
)
def test_the_outcome_says_how_the_last_turn_ended(scene: str, status: str, stop: str, text: str) -> None:
    outcome = fold("s", log(scene)).outcome
    assert outcome is not None
    assert (outcome.status, outcome.stop, outcome.text) == (status, stop, text)
    assert (outcome.error is not None) == (status == "failed")


def events_of(*facts: Fact) -> list[Event]:
    """These facts in envelopes, numbered on, all of one turn."""
    return [
        Event(
            id=f"event_{place}",
            type=fact.kind or "moon.landed",
            ts=AT,
            session_id=SESSION,
            sequence=place,
            context=EventContext(turn_id=TURN),
            data=fact,
        )
        for place, fact in enumerate(facts, 1)
    ]


ASKED = InputMessage(message=user_message("go"), turn_id=TURN)
BEGUN = TurnStarted(inputs=(ASKED.message.id,), manifest="sha256:x")


def reply(*names: str) -> OutputMessageCompleted:
    parts = tuple(ToolCall(id=f"call_{name}", name=name, arguments="{}") for name in names)
    message = Message(id="message_r", role="assistant", content=parts)
    return OutputMessageCompleted(
        message=message, stop="tool_calls", iteration=1, usage=Usage(output_tokens=5)
    )


def claim(name: str) -> ToolStarted:
    return ToolStarted(
        call_id=f"call_{name}", name=name, attempt=1, arguments_digest="d", effect="once", epoch=1
    )


def result(name: str, text: str = "", status: CallStatus = "ok") -> ToolCompleted:
    content = (Text(text=text),)
    return ToolCompleted(result=ToolResult(call_id=f"call_{name}", name=name, content=content, status=status))


def state_after(*facts: Fact) -> State:
    return fold(SESSION, events_of(ASKED, BEGUN, *facts))


def words(state: State) -> Sequence[str]:
    return [message.text for message in state.messages if message.role == "tool"]


def test_results_join_the_transcript_together_in_the_models_order() -> None:
    asked = reply("a", "b", "c")
    assert words(state_after(asked, result("c", "3"), result("a", "1"))) == []
    done = state_after(asked, result("c", "3"), result("a", "1"), result("b", "2"))
    assert words(done) == ["1", "2", "3"]
    assert decide(done, Limit(), AT) == Reason()


def test_the_first_outcome_of_a_call_counts_and_a_strangers_does_not() -> None:
    state = state_after(reply("a", "b"), result("a", "first"), result("a", "second"), result("z"))
    assert state.turn is not None
    assert [call.call.name for call in state.turn.owed] == ["b"]
    first = state.turn.calls["call_a"].result
    assert first is not None
    assert first.text == "first"


def test_a_claim_without_an_outcome_is_remembered_as_dispatched() -> None:
    state = state_after(reply("a"), claim("a"))
    assert decide(state, Limit(), AT) == Act((Owed("call_a", "doubt"),))


def test_a_claim_that_was_not_dispatched_did_no_harm_and_may_run() -> None:
    waiting = msgspec.structs.replace(claim("a"), dispatched=False)
    assert decide(state_after(reply("a"), waiting), Limit(), AT) == Act((Owed("call_a", "run"),))


def test_a_reply_settles_the_failures_before_it() -> None:
    failure = ReasonFailed(
        reason="overloaded", error=Failure(code="x", message="x"), iteration=1, attempt=2, retry_at=AT
    )
    failed, replied = state_after(failure), state_after(failure, reply("a"))
    assert failed.turn is not None
    assert (failed.turn.attempt, failed.turn.retry_at) == (2, AT)
    assert replied.turn is not None
    assert (replied.turn.attempt, replied.turn.retry_at, replied.turn.failure) == (0, None, None)


def test_calls_in_doubt_are_kept_for_the_result_of_the_turn() -> None:
    state = state_after(reply("a", "b"), result("a", "?", "in_doubt"), result("b"))
    assert state.turn is not None
    assert [it.call_id for it in state.turn.in_doubt] == ["call_a"]


def test_where_a_turn_stands_is_known_while_the_state_knows_it() -> None:
    assert fold(SESSION, events_of(ASKED)).status_of(TURN) == "queued"
    assert state_after().status_of(TURN) == "running"
    assert state_after().status_of("turn_z") is None
    ended = fold("s", log("a failure for good"))
    assert ended.outcome is not None
    assert ended.status_of(ended.outcome.turn_id) == "failed"


def test_the_last_write_of_a_file_counts_until_it_is_deleted() -> None:
    one = FileWritten(path="/a", size=1, digest="sha256:1", text="1")
    two = FileWritten(path="/a", size=2, digest="sha256:2", text="22")
    assert state_after(one, two).files == {"/a": two}
    assert state_after(one, two, FileDeleted(path="/a"), FileDeleted(path="/b")).files == {}


def test_a_kind_that_is_not_known_changes_nothing_but_the_sequence() -> None:
    before, after = state_after(), state_after(UnknownFact(data={"who": "knows"}))
    assert after.sequence == before.sequence + 1
    after.sequence = before.sequence
    assert after == before


def test_metadata_of_the_state_is_not_the_facts_own() -> None:
    created = SessionCreated(metadata={"a": "1"})
    state = fold(SESSION, events_of(created))
    state.metadata["b"] = "2"
    assert created.metadata == {"a": "1"}


def test_a_state_of_nothing_is_almost_no_bytes() -> None:
    assert encode_state(State(session_id="s")) == b'{"session_id":"s"}'
