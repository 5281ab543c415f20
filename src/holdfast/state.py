"""What follows from a log: messages, turn status, claims, asks, files.

`holdfast.fold` is the only code that changes a state; whoever reads one treats it as read-only. A state can be written
as JSON and read back at any point, and the planner then decides the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Literal

import msgspec
from msgspec import Struct, field

from holdfast.events import Effect, Failure, FileWritten, TurnStop
from holdfast.facts.answers import OutputContract
from holdfast.facts.asks import AskOpened, Closed, Grant
from holdfast.facts.budgets import BudgetExceeded, BudgetReserved, Spent
from holdfast.facts.deliveries import Owed
from holdfast.facts.guards import Withheld
from holdfast.facts.hooks import Aftermath, Retold, as_told
from holdfast.messages import Message, StopReason, ToolCall, ToolResult, Usage
from holdfast.outcome import Answer, Outcome, TurnStatus

MAX_RECOVERIES = 3
"""How often a turn that makes no progress is gone on with before it parks."""


class Queued(Struct, frozen=True, kw_only=True):
    """An accepted input that is not in the transcript yet."""

    turn_id: str
    message: Message
    place: int = 0
    """The event that holds it."""
    contract: OutputContract | None = None


class CallState(Struct, kw_only=True, omit_defaults=True):
    """One call of the batch that is being carried out."""

    call: ToolCall
    attempt: int = 0
    """How often it was claimed."""
    effect: Effect | None = None
    """As claimed; None before the first claim."""
    arguments_digest: str = ""
    dispatched: bool = False
    ask_id: str = ""
    """The ask that stands before it, open or answered."""
    verdict: Literal["", "approved", "denied", "answered"] = ""
    verdict_reason: str = ""
    asked: str = ""
    """The arguments that were asked about, or approved instead: what an approval is for."""
    bound: str = ""
    """Digest of the tool and its hooks and policies when it was asked about."""
    edited: bool = False
    """Whether whoever approved it changed the arguments."""
    answer: ToolResult | None = None
    """Its result, as it was given from outside."""
    result: ToolResult | None = None
    settled_at: int = 0
    """The event that holds its result."""
    place: int | None = None
    """Which message of the transcript its result is, for a call in doubt."""
    doubtful: bool = False
    """It ran before and may have had its effect; a person wants it run again all the same."""
    paid: bool = False
    """Budgets and rates let it run."""
    deferred_until: datetime | None = None
    """A policy does not want it to run before."""
    deferrals: int = 0
    """How often it was put off."""


class Rerun(Struct, frozen=True, kw_only=True):
    """A call in doubt that a person wants run again, in this turn."""

    turn_id: str
    call: CallState


class Continuation(Struct, frozen=True, kw_only=True):
    """The last reply, for a provider that still knows it and all that led to it."""

    response_id: str
    message_id: str
    manifest: str
    route: int


class TurnState(Struct, kw_only=True, omit_defaults=True):
    """The turn under way."""

    id: str
    manifest: str
    started_at: datetime
    inputs: tuple[str, ...] = ()
    heard: int = 0
    """How many of them the model has answered."""
    deadline: datetime | None = None
    iteration: int = 0
    """Model replies so far."""
    attempt: int = 0
    """Failed attempts at the reply that is owed now."""
    failing_since: datetime | None = None
    """When the first of them failed."""
    retry_at: datetime | None = None
    route: int = 0
    """How many of its models have failed for good: which one is asked."""
    failure: Failure | None = None
    """Set when the model call failed for good, or somebody interrupted the turn."""
    failure_stop: TurnStop = "error"
    stop: StopReason | None = None
    """Of the last reply; None while a reply is owed."""
    calls: dict[str, CallState] = field(default_factory=dict)
    """The last reply's calls by id, in the model's order."""
    output_id: str = ""
    shown_id: str = ""
    """The message that is being written, or was when the model was cut off, once some of it was shown."""
    shown: str = ""
    """Its words so far."""
    usage: Usage = Usage()
    cost: Decimal | None = Decimal(0)
    """Of its replies so far, in US dollars; None once that of any is not known."""
    in_doubt: list[ToolResult] = field(default_factory=list)
    steering: list[Queued] = field(default_factory=list)
    """Inputs that wait to enter before the next model call."""
    recoveries: int = 0
    """How often it was cut off since its last progress."""
    deferred_until: datetime | None = None
    """A policy does not want the model to be asked before."""
    deferrals: int = 0
    """How often the reply that is owed was put off."""
    contract: OutputContract | None = None
    """What its answer must look like."""
    candidate: str = ""
    """The last answer that was held against it."""
    fits: bool = False
    """Whether that one does."""
    problems: tuple[str, ...] = ()
    rejections: int = 0
    """How many answers did not."""
    drifted: str = ""
    """The manifest that its layers made when it was last gone on with, where it stayed with its own."""
    began: int = 0
    """How many messages the transcript had before it."""
    compaction_attempt: int = 0
    """Failed attempts at the summary that is wanted now."""
    compaction_tried: bool = False
    """Whether the transcript was summarised, or could not be, for the reply that is owed now."""
    compaction_off: bool = False
    """Whether a summary failed in this turn: none is tried again before a request is refused as too large."""
    spent: Spent = Spent()
    """What budgets counted in it."""
    tool_calls: int = 0
    """Calls that were run."""
    exceeded: BudgetExceeded | None = None
    """The budget that it ends or waits at."""
    warned: tuple[str, ...] = ()
    """Its budgets whose soft limits were passed."""
    counted: bool = False
    """Whether budgets counted something already for the reply that is owed."""
    lost: bool = False
    """Whether it was cut off while its model was asked, and budgets have not counted that."""
    withheld: Withheld = Withheld()

    @property
    def answer(self) -> Answer | None:
        """Its last answer, where it has an output contract."""
        held = self.contract
        if held is None:
            return None
        return Answer(contract=held.name, text=self.candidate, fits=self.fits, wrapped=held.wrapped)

    @property
    def unfit(self) -> bool:
        """Whether its answer was rejected once more than it may be repaired."""
        return not self.fits and self.contract is not None and self.rejections > self.contract.repairs

    @property
    def held_back(self) -> bool:
        """Whether it waits at a budget."""
        return self.exceeded is not None and self.exceeded.waits

    @property
    def parked(self) -> bool:
        """Whether it was cut off so often without progress that only a person may let it go on."""
        return self.recoveries > MAX_RECOVERIES

    @property
    def put_off(self) -> bool:
        """Whether a policy put off a call, or the reply, that is owed."""
        return self.deferrals > 0 or any(
            call.result is None and call.deferrals for call in self.calls.values()
        )

    @property
    def acting(self) -> bool:
        """Whether any call has no outcome yet."""
        return None in [
            call.result for call in self.calls.values()
        ]  # asked all the time: a generator costs more

    @property
    def owed(self) -> list[CallState]:
        """Calls without an outcome."""
        return [call for call in self.calls.values() if call.result is None]


class State(Struct, kw_only=True, omit_defaults=True):
    """A session as its log tells it, up to `sequence`."""

    session_id: str
    sequence: int = 0
    agent: str = ""
    harness: str = ""
    layers: str = ""
    title: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    created_at: datetime | None = None
    accepted_at: datetime | None = None
    """When the last input was accepted."""
    opening: str = ""
    """The first words that were said, in short."""
    messages: list[Message] = field(default_factory=list)
    """The transcript: inputs when their turn began, replies, and results in the model's order. Without the first
    `unread` ones, which are on the log only: those that were summarised, and all that a snapshot was made of."""
    unread: int = 0
    places: list[int] = field(default_factory=list)
    """For each message of the whole transcript, the event that holds it."""
    compacted: int = 0
    """How many messages, from the first on, the model is told the summary in place of."""
    summary: Message | None = None
    compaction_by: str = ""
    """Who wants the transcript summarised before the next model call."""
    continuation: Continuation | None = None
    """Set as long as what the model would be told begins with what led to its last reply."""
    queue: list[Queued] = field(default_factory=list)
    reruns: list[Rerun] = field(default_factory=list)
    turn: TurnState | None = None
    outcome: Outcome | None = None
    """Of the last turn that ended."""
    keys: dict[str, str] = field(default_factory=dict)
    """Turn ids by the idempotency keys of accepted inputs."""
    doubts: dict[str, CallState] = field(default_factory=dict)
    """Calls in doubt by id, of which nobody has said yet what became of them."""
    retold: int = 0
    """How many results in the transcript were replaced by what a person said became of the call."""
    asks: dict[str, AskOpened] = field(default_factory=dict)
    """Open asks by id."""
    asking: tuple[int, int] = (0, 0)
    """The minute since 1970 in which people were last asked something, and how often in it."""
    closed: dict[str, Closed] = field(default_factory=dict)
    """How the last asks ended, by id."""
    grants: dict[str, Grant] = field(default_factory=dict)
    """Answers that hold for further asks, by id; also those whose time is over."""
    files: dict[str, FileWritten] = field(default_factory=dict)
    """Session files by path."""
    labels: list[str] = field(default_factory=list)
    """What has entered the session, for the taint rule."""
    usage: Usage = Usage()
    cost: Decimal | None = Decimal(0)
    """Of all replies, in US dollars; None once that of any is not known."""
    principal: str = ""
    organisation: str = ""
    context: int = 0
    """Tokens that the last reply took and gave."""
    spent: Spent = Spent()
    """What budgets counted."""
    tool_calls: int = 0
    """Calls that were run in turns that ended."""
    seconds: float = 0.0
    """Of wall time in turns that ended."""
    reserved: dict[str, BudgetReserved] = field(default_factory=dict)
    """What is set aside for what is under way, by key."""
    raised: dict[str, Decimal] = field(default_factory=dict)
    """What was added to budgets, by their names."""
    warned: tuple[str, ...] = ()
    """Budgets whose soft limits were passed."""

    deliveries: dict[str, Owed] = field(default_factory=dict)
    """Output that has not been delivered, by key: owed, in doubt, failed for good or denied."""
    aftermath: dict[str, Aftermath] = field(default_factory=dict)
    """Hooks that are owed after a turn, by its id."""
    views: dict[str, Retold] = field(default_factory=dict)
    """What hooks have the model told in place of inputs, by the ids of their messages."""

    @property
    def last_message(self) -> Message | None:
        """The newest message of the transcript, if it is at hand."""
        return self.messages[-1] if self.messages else None

    def as_told(self, messages: Sequence[Message]) -> Sequence[Message]:
        """These messages of the transcript, with hooks' words in place of those they were given for."""
        return as_told(messages, self.views) if self.views else messages

    def due(self) -> datetime | None:
        """From when on something is owed that any worker may take up; None when it takes an input or an answer."""
        turn = self.turn
        if turn is None:
            return _at_once(self.accepted_at) if self.queue or self.reruns else self._left_over()
        if turn.parked:
            return turn.deadline
        if turn.exceeded is not None and turn.exceeded.waits:
            ends = [it for it in (turn.exceeded.until, turn.deadline) if it is not None]
            return min(ends, default=None)
        if turn.retry_at is not None:
            return turn.retry_at if turn.deadline is None else min(turn.retry_at, turn.deadline)
        if turn.deferrals and turn.deferred_until is not None:
            return turn.deferred_until if turn.deadline is None else min(turn.deferred_until, turn.deadline)
        if waiting := self._waiting(turn):
            wakes = [turn.deadline, *[self.wakes(call) for call in waiting]]
            return min((it for it in wakes if it is not None), default=None)
        return _at_once(turn.started_at)

    def _left_over(self) -> datetime | None:
        """From when on output is to be delivered, or hooks are to run."""
        if not (self.deliveries or self.aftermath):
            return None
        waits = [it.retry_at or _at_once(it.since) for it in self.deliveries.values() if it.status == "owed"]
        waits += [_at_once(it.since) for it in self.aftermath.values()]
        return min([it for it in waits if it is not None], default=None)

    def wakes(self, call: CallState) -> datetime | None:
        """When a call that waits can be gone on with, without anybody answering."""
        ask = self.asks.get(call.ask_id)
        return ask.expires_at if ask is not None else call.deferred_until

    def _waiting(self, turn: TurnState) -> list[CallState]:
        """The calls that are owed, when every one of them waits for an answer, or was put off."""
        owed: list[CallState] = []
        for call in turn.calls.values():
            if call.result is None:
                if call.deferred_until is None and call.ask_id not in self.asks:
                    return []
                owed.append(call)
        return owed

    def cut_off(self, now: datetime) -> bool:
        """Whether a turn is under way that its writer would have gone on with by now, had he been there."""
        turn = self.turn
        if turn is None or turn.parked:
            return False
        if waiting := self._waiting(turn):
            put_off = [call.deferred_until for call in waiting if call.ask_id not in self.asks]
            return any(until is not None and until <= now for until in put_off)
        if turn.deferred_until is not None and turn.deferred_until > now:
            return False
        if turn.exceeded is not None and turn.exceeded.waits:
            return turn.exceeded.until is not None and turn.exceeded.until <= now
        return turn.retry_at is None or turn.retry_at <= now

    @property
    def next_turn(self) -> str:
        """The turn that is under way, or that would begin now; empty when there is none."""
        if self.turn is not None:
            return self.turn.id
        if self.reruns:
            return self.reruns[0].turn_id
        return self.queue[0].turn_id if self.queue else ""

    def status_of(self, turn_id: str) -> TurnStatus | None:
        """Where a turn stands; None for one that this state no longer (or never) knew."""
        if self.turn is not None and self.turn.id == turn_id:
            return "running"
        if self.outcome is not None and self.outcome.turn_id == turn_id:
            return self.outcome.status
        if any(entry.turn_id == turn_id for entry in self.queue):
            return "queued"
        return "queued" if any(rerun.turn_id == turn_id for rerun in self.reruns) else None


def _at_once(since: datetime | None) -> datetime | None:
    """When what is owed since then is due, on any machine's clock: even on one that is set back, or behind."""
    return since - _A_DAY if since is not None else None


_A_DAY = timedelta(days=1)


def encode_state(state: State) -> bytes:
    """The state as JSON."""
    return msgspec.json.encode(state)


def decode_state(body: bytes) -> State:
    """The state in this JSON."""
    return _state_decoder().decode(body)


@cache
def _state_decoder() -> msgspec.json.Decoder[State]:
    return msgspec.json.Decoder(State)
