"""The planner: every rule, the order of the rules, and that nothing but the facts counts."""

import copy
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct, structs

from holdfast import Allow, Decision, Deny, Event, Interrupt, Manifest, Runtime, ToolError, tool
from holdfast.agent import Agent
from holdfast.capability import Compaction
from holdfast.config import Config, Limits
from holdfast.driver import Request
from holdfast.drivers.sim import Sim, Step, calls, fail, say
from holdfast.events import AskOpened, Failure
from holdfast.facts.answers import OutputContract
from holdfast.facts.budgets import BudgetExceeded
from holdfast.fold import apply, fold
from holdfast.messages import Message, Text, ToolCall, ToolResult, tool_message, user_message
from holdfast.policy import Action, Policy
from holdfast.state import CallState, Queued, State, TurnState, decode_state, encode_state
from holdfast.testing import VirtualClock, run_virtual
from holdfast.turn.decide import RULES, Rule, decide
from holdfast.turn.step import RECORDS, Act, Begin, Compact, Owed, Reason, Stop, Wait
from tests.turn.scenes import assert_sound

NOW = datetime(2026, 3, 1, tzinfo=UTC)
SOON, AGO = NOW + timedelta(seconds=30), NOW - timedelta(seconds=30)


class Three(Struct):
    """The limits these tests decide under."""

    max_iterations: int = 3
    compaction: Compaction | None = Compaction()
    repeated_calls: int = 2

    def compact_above(self, place: int) -> int | None:
        return 1_000


def call_state(number: int = 0, **facts: Any) -> CallState:
    return CallState(call=ToolCall(id=f"call_{number}", name="look", arguments="{}"), **facts)


def done(number: int = 0) -> CallState:
    return call_state(
        number, result=ToolResult(call_id=f"call_{number}", name="look", content=(Text(text="ok"),))
    )


def asking(number: int = 0) -> CallState:
    return call_state(number, ask_id=f"ask_{number}")


def turn(*calls: CallState, asks: dict[str, datetime | None] | None = None, **facts: Any) -> State:
    under_way = TurnState(
        id="turn_a",
        manifest="",
        started_at=AGO,
        calls={it.call.id: it for it in calls},
        **{"iteration": 1, **facts},
    )
    open_asks = {
        ask_id: AskOpened(ask_id=ask_id, call_id="", tool="", arguments="", digest="", expires_at=until)
        for ask_id, until in (asks or {}).items()
    }
    return State(session_id="session_a", turn=under_way, asks=open_asks)


def long(state: State) -> State:
    """The same, with a transcript beyond the threshold."""
    return structs.replace(state, context=2_000)


def wanted(state: State) -> State:
    """The same, where somebody wants a summary."""
    return structs.replace(state, compaction_by="ana")


def circling(state: State) -> State:
    """The same, where the model has made the same call twice."""
    call = ToolCall(id="call_0", name="look", arguments="{}")
    said = Message(id="", role="assistant", content=(call,))
    told = tool_message(ToolResult(call_id="call_0", name="look", content=(Text(text="ok"),)))
    return structs.replace(state, messages=[WORDS, said, told, said, told])


def over(**facts: Any) -> BudgetExceeded:
    """A budget that is used up."""
    one = Decimal(1)
    return BudgetExceeded(
        budget="b", scope="turn", quantity="tokens", limit=one, used=one, asked=one, **facts
    )


FAILURE = Failure(code="server_error", message="no")
TOO_LARGE = Failure(code="too_large", message="no")

CONTRACT = OutputContract(name="Answer", schema={"type": "object"}, repairs=1)

WORDS = user_message("Be brief.")
STEERED = Queued(turn_id="turn_1", message=WORDS)

TABLE = {
    "the deadline has passed": [
        (turn(deadline=AGO), Stop("deadline")),
        (turn(deadline=NOW), Stop("deadline")),
        (turn(deadline=AGO, failure=FAILURE), Stop("deadline")),
        (turn(call_state(), deadline=AGO, stop="tool_calls"), Stop("deadline")),
        (turn(deadline=AGO, stop="end_turn"), Stop("deadline")),
        (turn(deadline=AGO, retry_at=SOON, attempt=1), Stop("deadline")),
    ],
    "the model call failed for good, or a policy interrupted": [
        (turn(failure=FAILURE), Stop("error")),
        (turn(failure=FAILURE, failure_stop="interrupted"), Stop("interrupted")),
        (
            turn(call_state(), failure=FAILURE, failure_stop="interrupted", stop="tool_calls"),
            Stop("interrupted"),
        ),
        (turn(failure=FAILURE, deadline=SOON, iteration=3), Stop("error")),
        (turn(failure=TOO_LARGE, compaction_tried=True), Stop("error")),
    ],
    "the model declined": [
        (turn(stop="refusal"), Stop("refusal")),
        (turn(call_state(), stop="refusal"), Stop("refusal")),
        (turn(stop="refusal", iteration=3), Stop("refusal")),
        (turn(call_state(), stop="refusal", iteration=3), Stop("refusal")),
    ],
    "calls are owed, but the iteration limit leaves no reply to read their results": [
        (turn(call_state(), stop="tool_calls", iteration=3), Stop("max_iterations")),
        (turn(call_state(), stop="tool_calls", iteration=3, recoveries=4), Stop("max_iterations")),
        (turn(asking(), asks={"ask_0": None}, stop="tool_calls", iteration=3), Stop("max_iterations")),
    ],
    "it was cut off too often without progress, and is parked": [
        (turn(recoveries=4), Wait()),
        (turn(recoveries=4, deadline=SOON), Wait(until=SOON)),
        (turn(call_state(), stop="tool_calls", recoveries=4), Wait()),
        (turn(recoveries=4, exceeded=over()), Wait()),
    ],
    "a budget is used up": [
        (turn(exceeded=over()), Stop("budget")),
        (turn(call_state(), stop="tool_calls", exceeded=over()), Stop("budget")),
    ],
    "a budget is used up, and its next window or somebody who raises it is waited for": [
        (turn(exceeded=over(waits=True)), Wait(deferred=True)),
        (turn(exceeded=over(waits=True), deadline=SOON), Wait(until=SOON, deferred=True)),
        (turn(call_state(), stop="tool_calls", exceeded=over(waits=True)), Wait(deferred=True)),
        (circling(turn(iteration=2, exceeded=over(waits=True, until=SOON))), Wait(until=SOON, deferred=True)),
    ],
    "the model makes the same call again and again, and learns nothing from it": [
        (circling(turn(iteration=2)), Stop("loop")),
        (circling(turn(iteration=2, exceeded=over(waits=True, until=NOW))), Stop("loop")),
    ],
    "calls are owed and some can go on": [
        (turn(call_state(), stop="tool_calls"), Act((Owed("call_0", "run"),))),
        (turn(call_state(), stop="max_tokens"), Act((Owed("call_0", "run"),))),
        (turn(done(0), call_state(1), stop="tool_calls"), Act((Owed("call_1", "run"),))),
        (
            turn(asking(0), call_state(1), asks={"ask_0": None}, stop="tool_calls"),
            Act((Owed("call_1", "run"),)),
        ),
        (
            turn(call_state(0), call_state(1), stop="tool_calls", deadline=SOON),
            Act((Owed("call_0", "run"), Owed("call_1", "run"))),
        ),
    ],
    "every call that is owed waits for an answer, or was put off by a policy": [
        (turn(asking(), asks={"ask_0": None}, stop="tool_calls"), Wait(("ask_0",), None)),
        (turn(asking(), asks={"ask_0": SOON}, stop="tool_calls"), Wait(("ask_0",), SOON)),
        (turn(asking(), asks={"ask_0": SOON}, stop="max_tokens"), Wait(("ask_0",), SOON)),
        (
            turn(asking(), asks={"ask_0": SOON + timedelta(days=1)}, stop="tool_calls", deadline=SOON),
            Wait(("ask_0",), SOON),
        ),
        (
            turn(asking(0), done(1), asking(2), asks={"ask_0": None, "ask_2": SOON}, stop="tool_calls"),
            Wait(("ask_0", "ask_2"), SOON),
        ),
        (
            turn(call_state(deferred_until=SOON, deferrals=1), stop="tool_calls"),
            Wait((), SOON, deferred=True),
        ),
        (
            turn(
                asking(0),
                call_state(1, deferred_until=SOON, deferrals=1),
                asks={"ask_0": None},
                stop="tool_calls",
            ),
            Wait(("ask_0",), SOON, deferred=True),
        ),
    ],
    "a policy put the model call off": [
        (turn(deferred_until=SOON, deferrals=1), Wait(until=SOON, deferred=True)),
        (
            turn(deferred_until=SOON, deferrals=1, deadline=NOW + timedelta(seconds=1)),
            Wait(until=NOW + timedelta(seconds=1), deferred=True),
        ),
        (
            turn(deferred_until=SOON, deferrals=1, retry_at=NOW + timedelta(seconds=1), attempt=1),
            Wait(until=SOON, deferred=True),
        ),
        (turn(done(), deferred_until=SOON, deferrals=1, steering=[STEERED]), Wait(until=SOON, deferred=True)),
    ],
    "a failed model call may be tried again later": [
        (turn(retry_at=SOON, attempt=1), Wait(until=SOON)),
        (
            turn(retry_at=SOON, attempt=1, deadline=NOW + timedelta(seconds=1)),
            Wait(until=NOW + timedelta(seconds=1)),
        ),
        (turn(done(), retry_at=SOON, attempt=1), Wait(until=SOON)),
        (turn(retry_at=SOON, attempt=1, steering=[STEERED]), Wait(until=SOON)),
        (turn(retry_at=SOON, failure=TOO_LARGE, compaction_attempt=1), Wait(until=SOON)),
    ],
    "the request was too large, and its transcript can be summarised": [
        (turn(failure=TOO_LARGE), Compact("too_large")),
        (turn(failure=TOO_LARGE, iteration=0, steering=[STEERED]), Compact("too_large")),
        (turn(failure=TOO_LARGE, compaction_off=True), Compact("too_large")),
        (long(turn(failure=TOO_LARGE)), Compact("too_large")),
        (turn(retry_at=AGO, failure=TOO_LARGE, compaction_attempt=1), Compact("too_large")),
    ],
    "no answer had the shape that was asked for, as often as it was repaired": [
        (turn(stop="end_turn", contract=CONTRACT, rejections=2), Stop("invalid_output")),
        (long(turn(done(), contract=CONTRACT, rejections=2)), Stop("invalid_output")),
        (
            turn(stop="end_turn", contract=CONTRACT, rejections=2, steering=[STEERED]),
            Stop("invalid_output"),
        ),
    ],
    "the transcript has grown too long for the next request, or somebody wants it summarised": [
        (long(turn()), Compact("threshold")),
        (long(turn(iteration=0)), Compact("threshold")),
        (long(turn(stop="end_turn", steering=[STEERED])), Compact("threshold")),
        (wanted(turn()), Compact("asked")),
        (wanted(long(turn(compaction_off=True))), Compact("asked")),
        (long(turn(done(), retry_at=AGO)), Compact("threshold")),
    ],
    "somebody steered before the model answered": [
        (turn(stop="end_turn", steering=[STEERED]), Reason()),
        (turn(stop="max_tokens", steering=[STEERED]), Reason()),
        (turn(done(), steering=[STEERED], iteration=2), Reason()),
        (turn(steering=[STEERED], route=1), Reason()),
    ],
    "the reply was cut short": [
        (turn(stop="max_tokens"), Stop("max_tokens")),
        (turn(stop="max_tokens", iteration=3), Stop("max_tokens")),
    ],
    "the model answered": [
        (turn(stop="end_turn"), Stop("end_turn")),
        (turn(stop="tool_calls"), Stop("end_turn")),
        (turn(stop="end_turn", iteration=3), Stop("end_turn")),
        (turn(done(), contract=CONTRACT, rejections=1, fits=True), Stop("end_turn")),
        (wanted(long(turn(stop="end_turn"))), Stop("end_turn")),
    ],
    "the iteration limit is reached": [
        (turn(iteration=3), Stop("max_iterations")),
        (turn(done(), iteration=4), Stop("max_iterations")),
        (wanted(long(turn(iteration=3))), Stop("max_iterations")),
    ],
    "a reply is owed": [
        (turn(iteration=0), Reason()),
        (turn(done(), iteration=2), Reason()),
        (wanted(long(turn(compaction_tried=True))), Reason()),
        (long(turn(compaction_off=True)), Reason()),
        (turn(retry_at=NOW, attempt=1), Reason()),
        (turn(retry_at=AGO, attempt=2, deadline=SOON), Reason()),
    ],
}
ROWS = [(name, state, step) for name, rows in TABLE.items() for state, step in rows]


@pytest.mark.parametrize(
    ("rule", "state", "step"), ROWS, ids=[f"{name}-{index}" for index, (name, _, _) in enumerate(ROWS)]
)
def test_the_first_rule_that_holds_gives_the_step(rule: str, state: State, step: object) -> None:
    assert state.turn is not None
    holding = [it for it in RULES if it.when(state, state.turn, Three(), NOW)]
    assert holding[0].name == rule
    assert decide(state, Three(), NOW) == step
    assert isinstance(step, holding[0].step)


def test_every_rule_has_an_example() -> None:
    assert list(TABLE) == [rule.name for rule in RULES]


NEVER_TOGETHER = (
    (
        "a budget is used up",
        "a budget is used up, and its next window or somebody who raises it is waited for",
    ),
    (
        "the model makes the same call again and again, and learns nothing from it",
        "calls are owed and some can go on",
    ),
    ("the model call failed for good, or a policy interrupted", "the model declined"),
    (
        "the request was too large, and its transcript can be summarised",
        "no answer had the shape that was asked for, as often as it was repaired",
    ),
    (
        "every call that is owed waits for an answer, or was put off by a policy",
        "a policy put the model call off",
    ),
)
"""Neighbours whose order does not matter: a reply, which the second is about, ends the failed attempts before it."""


@pytest.mark.parametrize(("upper", "lower"), list(pairwise(RULES)), ids=lambda rule: rule.name)
def test_two_rules_in_the_other_order_would_decide_otherwise(upper: Rule, lower: Rule) -> None:
    both = [
        state
        for _, state, _ in ROWS
        if state.turn is not None and all(it.when(state, state.turn, Three(), NOW) for it in (upper, lower))
    ]
    assert bool(both) != ((upper.name, lower.name) in NEVER_TOGETHER)


def test_without_a_turn_the_oldest_input_begins() -> None:
    first, second = (Queued(turn_id=f"turn_{it}", message=user_message(it)) for it in "ab")
    assert decide(State(session_id="session_a", queue=[first, second]), Three(), NOW) == Begin((first,))
    assert decide(State(session_id="session_a"), Three(), NOW) == Wait()


@pytest.mark.parametrize(
    ("call", "how"),
    [
        (call_state(), "run"),
        (call_state(dispatched=True, effect="pure", attempt=1), "run"),
        (call_state(dispatched=True, effect="idempotent", attempt=1), "run"),
        (call_state(dispatched=True, effect="reconcile", attempt=1), "reconcile"),
        (call_state(dispatched=True, effect="once", attempt=1), "doubt"),
        (call_state(dispatched=False, effect="once", attempt=1), "run"),
        (call_state(ask_id="ask_0", verdict="approved"), "run"),
        (call_state(ask_id="ask_0", verdict="denied"), "deny"),
        (call_state(ask_id="ask_0", verdict="approved", dispatched=True, effect="once", attempt=1), "doubt"),
    ],
)
def test_what_a_call_needs_follows_from_how_far_it_came(call: CallState, how: str) -> None:
    assert decide(turn(call, stop="tool_calls"), Three(), NOW) == Act((Owed("call_0", how),))  # type: ignore[arg-type]


@pytest.mark.parametrize("expires", [AGO, NOW])
def test_an_ask_that_nobody_answered_in_time_expires(expires: datetime) -> None:
    state = turn(asking(), asks={"ask_0": expires}, stop="tool_calls")
    assert decide(state, Three(), NOW) == Act((Owed("call_0", "expire"),))


@pytest.mark.parametrize("state", [state for _, state, _ in ROWS])
def test_deciding_changes_nothing_and_can_be_repeated(state: State) -> None:
    before = copy.deepcopy(state)
    once, again = decide(state, Three(), NOW), decide(state, Three(), NOW)
    assert once == again
    assert state == before
    assert decide(decode_state(encode_state(state)), Three(), NOW) == once


FACTS: dict[str, st.SearchStrategy[Any]] = {
    "deadline": st.sampled_from([None, AGO, SOON]),
    "failure": st.sampled_from([None, Failure(code="too_large", message=""), Failure(code="x", message="")]),
    "stop": st.sampled_from([None, "end_turn", "tool_calls", "max_tokens", "refusal"]),
    "recoveries": st.integers(0, 5),
    "retry_at": st.sampled_from([None, AGO, SOON]),
    "deferred_until": st.sampled_from([None, AGO, SOON]),
    "contract": st.sampled_from([None, CONTRACT]),
    "rejections": st.integers(0, 2),
    "fits": st.booleans(),
    "iteration": st.integers(0, 4),
    "compaction_tried": st.booleans(),
    "compaction_off": st.booleans(),
    "exceeded": st.sampled_from(
        [
            None,
            *(
                BudgetExceeded(
                    budget="b",
                    scope="turn",
                    quantity="usd",
                    limit=Decimal(1),
                    used=Decimal(1),
                    asked=Decimal(1),
                    waits=waits,
                )
                for waits in (False, True)
            ),
        ]
    ),
    "steering": st.sampled_from([[], [Queued(turn_id="turn_a", message=user_message("More."))]]),
}
any_turn = st.builds(
    lambda calls, facts: turn(*calls, asks={"ask_0": None}, **facts),
    st.lists(st.sampled_from([call_state(), asking(), done()]), max_size=1),
    st.fixed_dictionaries({}, optional=FACTS),
)


@given(any_turn, st.booleans(), st.booleans())
def test_rules_that_an_ordinary_turn_is_not_asked_about_do_not_hold_of_it(
    state: State, grown: bool, asked: bool
) -> None:
    state = long(state) if grown else state
    state = structs.replace(state, compaction_by="ann") if asked else state
    assert state.turn is not None
    first = next(it for it in RULES if it.when(state, state.turn, Three(), NOW))
    assert decide(state, Three(), NOW) == first.make(state, state.turn, NOW)


# --- real turns, taken apart between any two facts ---------------------------------------------------------------


@tool(effect="pure")
async def look(place: str) -> str:
    """Look."""
    return f"nothing at {place}"


@tool(effect="once")
async def pay(place: str) -> str:
    """Pay."""
    return f"paid at {place}"


@tool(effect="idempotent")
async def book(place: str) -> str:
    """Book."""
    raise ToolError("fully booked")


@tool(ask=True)
async def sign(place: str) -> str:
    """Sign."""
    return f"signed at {place}"


@tool(effect="pure")
async def stop(place: str) -> str:
    """Stop."""
    return "unreachable"


async def house_rules(action: Action) -> Decision:
    if action.name == "stop":
        return Interrupt("enough")
    return Deny("not today") if action.arguments == '{"place":"denied"}' else Allow()


wanted = st.tuples(
    st.sampled_from(["look", "pay", "book", "sign", "stop", "unknown"]),
    st.sampled_from([{"place": "home"}, {"place": "denied"}, {"spot": 1}, "{not json"]),
)
replies = st.one_of(
    st.lists(wanted, min_size=1, max_size=4).map(lambda them: calls(*them, text="let me see")),
    st.sampled_from(
        [
            say("done"),
            say("declined", stop="refusal"),
            say("cut sho", stop="max_tokens"),
            fail("overloaded", retry_after=5.0),
            fail("rate_limit", error_after=2, text="half a sentence"),
            fail("invalid_request"),
        ]
    ),
)
stories = st.lists(replies, min_size=1, max_size=6)


async def play(story: list[Step], verdicts: list[bool], inputs: int) -> tuple[list[Event], State, Manifest]:
    """Run turns to their end, answering every ask, and return the log and the state the session came to."""
    left = list(story)

    def choose(request: Request) -> Step:
        return left.pop(0) if left else say("and that is all")

    agent = Agent(
        model=Sim.rule(choose),
        tools=[look, pay, book, sign, stop],
        limits=Limits(max_iterations=4, turn_timeout=600),
        config=Config(policies=(Policy(name="house", decide=house_rules),)),
    )
    answers = list(verdicts)
    async with Runtime(clock=VirtualClock(), drain=0) as runtime:
        session = await runtime.session(agent)
        turns = [await session.send(f"input {number}", key=f"key {number}") for number in range(inputs)]
        for handle in turns:
            while (result := await handle).status in ("waiting", "queued"):
                ask = result.asks[0]
                if answers.pop(0) if answers else True:
                    await session.approve(ask.ask_id, by="ann")
                else:
                    await session.deny(ask.ask_id, by="ann", reason="no")
        manifest = (await session.inspect()).manifest
        return await session.events(limit=10_000), session.state, manifest


@settings(max_examples=60)
@given(stories, st.lists(st.booleans(), max_size=4), st.integers(1, 2))
def test_a_state_rebuilt_between_any_two_facts_gives_the_same_next_step(
    story: list[Step], verdicts: list[bool], inputs: int
) -> None:
    events, live, manifest = run_virtual(play(story, verdicts, inputs))
    assert_sound(events)
    rebuilt = State(session_id=live.session_id)
    for known in range(len(events) + 1):
        folded = fold(live.session_id, events[:known])
        assert rebuilt == folded
        for now in _instants(events, known):
            assert decide(rebuilt, manifest, now) == decide(folded, manifest, now)
        rebuilt = decode_state(encode_state(rebuilt))
        assert encode_state(rebuilt) == encode_state(folded)
        if known < len(events):
            apply(rebuilt, events[known])
    assert encode_state(rebuilt) == encode_state(live)


def _instants(events: list[Event], known: int) -> list[datetime]:
    upcoming = events[min(known, len(events) - 1)].ts
    return [upcoming, upcoming + timedelta(seconds=30), upcoming + timedelta(days=1)]


FROM_OUTSIDE = {"session.created", "input.message", "ask.answered"}


@settings(max_examples=60)
@given(stories, st.lists(st.booleans(), max_size=4))
def test_a_step_records_only_what_the_table_says(story: list[Step], verdicts: list[bool]) -> None:
    events, live, manifest = run_virtual(play(story, verdicts, 1))
    state = State(session_id=live.session_id)
    for event in events:
        step = decide(state, manifest, event.ts)
        assert event.type in FROM_OUTSIDE or event.type in RECORDS[type(step)], (step, event)
        apply(state, event)
