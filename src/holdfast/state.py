"""What follows from a log: messages, turn status, claims, asks, files.

`holdfast.fold` is the only code that changes a state; whoever reads one treats it as read-only. A state can be written
as JSON and read back at any point, and the planner then decides the same.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal

import msgspec
from msgspec import Struct, field

from holdfast.events import AskOpened, Effect, Failure, FileWritten, TurnStop
from holdfast.messages import Message, StopReason, ToolCall, ToolResult, Usage

TurnStatus = Literal["queued", "running", "waiting", "completed", "failed", "cancelled"]


MAX_RECOVERIES = 3
"""How often a turn that makes no progress is gone on with before it parks."""


class Queued(Struct, frozen=True, kw_only=True):
    """An accepted input that is not in the transcript yet."""

    turn_id: str
    message: Message
    place: int = 0
    """The event that holds it."""


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
    verdict: Literal["", "approved", "denied"] = ""
    verdict_reason: str = ""
    asked: str = ""
    """The arguments that were asked about: what an approval is for."""
    result: ToolResult | None = None
    settled_at: int = 0
    """The event that holds its result."""
    place: int | None = None
    """Which message of the transcript its result is, for a call in doubt."""
    doubtful: bool = False
    """It ran before and may have had its effect; a person wants it run again all the same."""


class Rerun(Struct, frozen=True, kw_only=True):
    """A call in doubt that a person wants run again, in this turn."""

    turn_id: str
    call: CallState


class TurnState(Struct, kw_only=True, omit_defaults=True):
    """The turn under way."""

    id: str
    manifest: str
    started_at: datetime
    inputs: tuple[str, ...] = ()
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

    @property
    def parked(self) -> bool:
        """Whether it was cut off so often without progress that only a person may let it go on."""
        return self.recoveries > MAX_RECOVERIES

    @property
    def acting(self) -> bool:
        """Whether any call has no outcome yet."""
        return any(call.result is None for call in self.calls.values())

    @property
    def owed(self) -> list[CallState]:
        """Calls without an outcome."""
        return [call for call in self.calls.values() if call.result is None]


class Outcome(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a turn ended."""

    turn_id: str
    status: TurnStatus
    stop: TurnStop
    iterations: int
    usage: Usage
    cost: Decimal | None = None
    """Of its replies, in US dollars; None where that of any is not known."""
    text: str = ""
    error: Failure | None = None
    in_doubt: tuple[ToolResult, ...] = ()


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
    `unread` ones, which a state that was read from a snapshot has on the log only."""
    unread: int = 0
    places: list[int] = field(default_factory=list)
    """For each message of the whole transcript, the event that holds it."""
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
    files: dict[str, FileWritten] = field(default_factory=dict)
    """Session files by path."""
    usage: Usage = Usage()
    cost: Decimal | None = Decimal(0)
    """Of all replies, in US dollars; None once that of any is not known."""

    @property
    def last_message(self) -> Message | None:
        """The newest message of the transcript, if it is at hand."""
        return self.messages[-1] if self.messages else None

    def due(self) -> datetime | None:
        """From when on something is owed that any worker may take up; None when it takes an input or an answer."""
        turn = self.turn
        if turn is None:
            return _at_once(self.accepted_at) if self.queue or self.reruns else None
        if turn.parked:
            return turn.deadline
        if turn.retry_at is not None:
            return turn.retry_at if turn.deadline is None else min(turn.retry_at, turn.deadline)
        if self.asks and (asking := self._asking(turn)):
            ends = [turn.deadline, *(self.asks[call.ask_id].expires_at for call in asking)]
            return min((end for end in ends if end is not None), default=None)
        return _at_once(turn.started_at)

    def _asking(self, turn: TurnState) -> list[CallState]:
        """The calls that are owed, when every one of them waits for an answer."""
        owed = turn.owed if self.asks else []
        return owed if all(call.ask_id in self.asks for call in owed) else []

    def cut_off(self, now: datetime) -> bool:
        """Whether a turn is under way that its writer would have gone on with by now, had he been there."""
        turn = self.turn
        if turn is None or turn.parked or self._asking(turn):
            return False
        return turn.retry_at is None or turn.retry_at <= now

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
    return _state_decoder.decode(body)


_state_decoder = msgspec.json.Decoder(State)
