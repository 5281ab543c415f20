"""What holds of the state of any log that a session could have."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from holdfast.events import (
    TURN_ENDS,
    AskAnswered,
    AskExpired,
    AskOpened,
    Event,
    EventContext,
    Fact,
    Failure,
    FileDeleted,
    FileWritten,
    HookDecided,
    InputMessage,
    OutputMessageCompleted,
    ReasonFailed,
    SessionCreated,
    SessionUpdated,
    ToolCompleted,
    ToolStarted,
    TurnCancelled,
    TurnCompleted,
    TurnFailed,
    TurnStarted,
    UnknownFact,
)
from holdfast.fold import apply, fold
from holdfast.messages import Message, Text, ToolCall, ToolResult, Usage, user_message
from holdfast.state import CallState, State, TurnState, decode_state, encode_state
from holdfast.turn.decide import decide
from tests.test_state import AT, SESSION, Limit, steps_from

USED = Usage(input_tokens=3, output_tokens=2)
FAILED = Failure(code="error", message="it failed")


class Author:
    """Writes a log one allowed fact at a time, as hypothesis draws them."""

    def __init__(self, draw: st.DrawFn) -> None:
        self._draw = draw
        self.state = State(session_id=SESSION)
        self.events: list[Event] = []
        self._made = 0
        self.write(SessionCreated(agent="a", title=draw(st.text(max_size=3))))

    def pick(self, *choices: str | int | bool | None) -> str | int | bool | None:
        return self._draw(st.sampled_from(choices))

    def name(self, kind: str) -> str:
        self._made += 1
        return f"{kind}_{self._made}"

    def write(self, fact: Fact, turn_id: str = "") -> None:
        place = self.state.sequence + 1
        turn = self.state.turn
        event = Event(
            id=f"event_{place}",
            type=fact.kind or "moon.landed",
            ts=AT + timedelta(seconds=place),
            session_id=SESSION,
            sequence=place,
            context=EventContext(turn_id=turn_id or (turn.id if turn else "")),
            data=fact,
        )
        self.events.append(event)
        apply(self.state, event)

    def step(self) -> None:
        """Write one of the facts that may come next."""
        self._draw(st.sampled_from(self._allowed()))()

    def _allowed(self) -> list[Callable[[], None]]:
        state, turn = self.state, self.state.turn
        allowed = [self._accept, self._aside]
        if state.queue:
            allowed.append(self._cancel_queued)
        if turn is None:
            return allowed + ([self._begin] * 4 if state.queue else [])
        allowed += [self._end, self._hook]
        if self._owed():
            allowed += [self._claim, self._settle, self._settle, self._ask, self._ask]
        elif not turn.owed and turn.stop is None and turn.failure is None:
            allowed += [*[self._reply] * 4, self._fail]
        return allowed + ([self._close_ask] * 3 if state.asks else [])

    def _accept(self) -> None:
        turn_id = self.name("turn")
        key = self.name("key") if self.pick(True, False) else ""
        message = user_message(self._draw(st.text(min_size=1, max_size=5)))
        self.write(InputMessage(message=message, turn_id=turn_id, key=key), turn_id)

    def _begin(self) -> None:
        entry = self.state.queue[0]
        deadline = self._draw(st.none() | st.just(AT + timedelta(hours=1)))
        fact = TurnStarted(inputs=(entry.message.id,), manifest="sha256:m", deadline=deadline)
        self.write(fact, entry.turn_id)

    def _cancel_queued(self) -> None:
        entry = self._draw(st.sampled_from(self.state.queue))
        self.write(TurnCancelled(iterations=0, reason="no"), entry.turn_id)

    def _turn(self) -> TurnState:
        assert self.state.turn is not None
        return self.state.turn

    def _reply(self) -> None:
        wanted = self._draw(st.sampled_from([0, 1, 2, 2, 3]))
        calls = tuple(ToolCall(id=self.name("call"), name="t", arguments="{}") for _ in range(wanted))
        said = Text(text=self._draw(st.text(max_size=5)))
        stop = "tool_calls" if calls else self._draw(st.sampled_from(["end_turn", "max_tokens", "refusal"]))
        message = Message(id=self.name("message"), role="assistant", content=(said, *calls))
        iteration = self._turn().iteration + 1
        self.write(OutputMessageCompleted(message=message, stop=stop, iteration=iteration, usage=USED))

    def _fail(self) -> None:
        again = AT + timedelta(seconds=30) if self.pick(True, False) else None
        turn = self._turn()
        self.write(
            ReasonFailed(
                reason="overloaded",
                error=FAILED,
                iteration=turn.iteration + 1,
                attempt=turn.attempt + 1,
                retry_at=again,
            )
        )

    def _owed(self) -> list[CallState]:
        """Calls without an outcome that no open ask stands before."""
        return [call for call in self._turn().owed if call.ask_id not in self.state.asks]

    def _call(self) -> CallState:
        return self._draw(st.sampled_from(self._owed()))

    def _claim(self) -> None:
        call = self._call()
        self.write(
            ToolStarted(
                call_id=call.call.id,
                name="t",
                attempt=call.attempt + 1,
                arguments_digest="sha256:a",
                effect=self._draw(st.sampled_from(["pure", "idempotent", "reconcile", "once"])),
                epoch=1,
                dispatched=bool(self.pick(True, False)),
            )
        )

    def _settle(self) -> None:
        status = self._draw(st.sampled_from(["ok", "error", "denied", "in_doubt"]))
        call = self._call().call
        content = (Text(text=self._draw(st.text(max_size=5))),)
        result = ToolResult(call_id=call.id, name="t", content=content, status=status)
        self.write(ToolCompleted(result=result, attempt=1))

    def _ask(self) -> None:
        call = self._call()
        if call.ask_id:
            return
        until = self._draw(st.none() | st.just(AT + timedelta(minutes=1)))
        self.write(
            AskOpened(
                ask_id=self.name("ask"),
                call_id=call.call.id,
                tool="t",
                arguments="{}",
                digest="sha256:q",
                expires_at=until,
            )
        )

    def _close_ask(self) -> None:
        ask_id = self._draw(st.sampled_from(list(self.state.asks)))
        verdict = self._draw(st.sampled_from(["approved", "denied", None]))
        closed = (
            AskAnswered(ask_id=ask_id, verdict=verdict, by="mia") if verdict else AskExpired(ask_id=ask_id)
        )
        self.write(closed)

    def _hook(self) -> None:
        decision = self._draw(st.sampled_from(["pass", "modify", "interrupt"]))
        self.write(HookDecided(hook="h", point="before_tool", decision=decision, reason="why"))

    def _end(self) -> None:
        turn = self._turn()
        for call in turn.owed:
            result = ToolResult(call_id=call.call.id, name="t", content=(Text(text="-"),), status="cancelled")
            self.write(ToolCompleted(result=result))
        how = self._draw(st.sampled_from(["completed", "failed", "cancelled"]))
        if how == "completed":
            self.write(TurnCompleted(stop="end_turn", iterations=turn.iteration, usage=turn.usage))
        elif how == "failed":
            self.write(TurnFailed(stop="error", iterations=turn.iteration, error=FAILED, usage=turn.usage))
        else:
            self.write(TurnCancelled(iterations=turn.iteration, usage=turn.usage))

    def _aside(self) -> None:
        """What changes nothing of a turn."""
        path = str(self.pick("/a", "/b"))
        aside: list[Fact] = [
            FileWritten(path=path, size=1, digest="sha256:f", text="x"),
            FileDeleted(path=path),
            UnknownFact(data={"n": 1}),
            SessionUpdated(title=self._draw(st.none() | st.text(max_size=3)), metadata={"k": path}),
        ]
        self.write(self._draw(st.sampled_from(aside)))


@st.composite
def logs(draw: st.DrawFn) -> list[Event]:
    """A log that a session could have, of up to some 60 events."""
    author = Author(draw)
    for _ in range(draw(st.integers(0, 40))):
        author.step()
    return author.events


@given(logs(), st.data())
def test_a_state_written_down_anywhere_is_the_same_goes_on_the_same_and_plans_the_same(
    events: list[Event], data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(events)))
    state = fold(SESSION, events[:place])
    again = decode_state(encode_state(state))
    assert again == state
    assert steps_from(again, AT) == steps_from(state, AT)
    for event in events[place:]:
        apply(again, event)
    assert encode_state(again) == encode_state(fold(SESSION, events))


@given(logs())
def test_every_input_is_somewhere_and_every_call_answered_at_most_once(events: list[Event]) -> None:
    state = fold(SESSION, events)
    inputs = [event.data for event in events if isinstance(event.data, InputMessage)]
    begun = {
        turn_id for event in events if event.type == "turn.started" for turn_id in [event.context.turn_id]
    }
    ended = {event.context.turn_id for event in events if event.type in TURN_ENDS}
    for accepted in inputs:
        queued = any(entry.turn_id == accepted.turn_id for entry in state.queue)
        said = accepted.message in state.messages
        assert [queued, said, accepted.turn_id in ended - begun].count(True) == 1
    assert state.keys == {it.key: it.turn_id for it in inputs if it.key}
    results = [part.call_id for it in state.messages for part in it.content if isinstance(part, ToolResult)]
    calls = [call.id for it in state.messages for call in it.calls]
    owed = [call.call.id for call in state.turn.calls.values()] if state.turn and state.turn.owed else []
    assert results == calls[: len(calls) - len(owed)]


@given(logs())
def test_every_open_ask_stands_before_a_call_of_the_turn_under_way(events: list[Event]) -> None:
    state = fold(SESSION, events)
    calls = state.turn.calls if state.turn else {}
    for ask_id, ask in state.asks.items():
        assert calls[ask.call_id].ask_id == ask_id
        assert calls[ask.call_id].verdict == ""


@given(logs())
def test_usage_is_the_sum_of_the_replies(events: list[Event]) -> None:
    total = Usage()
    for event in events:
        if isinstance(event.data, OutputMessageCompleted):
            total += event.data.usage
    assert fold(SESSION, events).usage == total


@given(logs(), st.timedeltas(timedelta(days=-1), timedelta(days=1)))
def test_the_planner_always_has_an_answer_and_it_changes_nothing(
    events: list[Event], later: timedelta
) -> None:
    state, now = fold(SESSION, events), AT + later
    before = encode_state(state)
    assert decide(state, Limit(), now) == decide(state, Limit(), now)
    assert encode_state(state) == before
