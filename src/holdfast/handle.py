"""The handle of a turn: await it, iterate it, cancel it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Generic, Protocol, cast

import msgspec
from msgspec import Struct, structs

from holdfast.control import TurnSnapshot, snapshot, terminal_of
from holdfast.errors import NoOutput, RuntimeClosed, UnknownTurn, UsageError
from holdfast.events import TURN_ENDS, AskOpened, Event, Failure, TurnStop
from holdfast.facts.budgets import BudgetExceeded, in_words
from holdfast.follow import Signal, TextDelta
from holdfast.history import outcome_of
from holdfast.journal import Journal
from holdfast.messages import ToolResult, Usage
from holdfast.outcome import Answer, Outcome, TurnStatus
from holdfast.partial import Partial
from holdfast.shape import InvalidAnswer, Shape
from holdfast.state import State, TurnState

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    T = TypeVar("T", default=str)
else:
    from typing import TypeVar

    T = TypeVar("T")
from holdfast.watching.filters import Filter


class TurnResult(Struct, Generic[T], frozen=True, kw_only=True):
    """Where a turn came to rest: at its end, or waiting for somebody."""

    turn_id: str
    status: TurnStatus
    """`completed`, `failed`, `cancelled`, `waiting` for an answer to `asks`, or `queued` behind a turn that waits
    for them. `running` only where the session was opened read-only and somebody else drives it."""
    stop: TurnStop | None
    """Why it ended; None while it waits."""
    text: str
    """The model's last words; empty when the turn did not end on a reply."""
    usage: Usage
    iterations: int
    """Model replies."""
    error: Failure | None = None
    asks: tuple[AskOpened, ...] = ()
    in_doubt: tuple[ToolResult, ...] = ()
    """Calls that were cut off and of which nobody knows whether they had their effect."""
    cost: Decimal | None = None
    """Of its replies, in US dollars, exact; None where that of any is not known."""
    answer: Answer | None = None
    """What the model answered, where the caller asked for an answer of a certain type."""
    value: T | None = None
    """The same as a value, once it fits."""

    reason: str = ""
    """Why, in words, where `stop` alone does not say it."""
    exceeded: BudgetExceeded | None = None
    """The budget or rate that it ended or waits at: which, its limit, what was used of it, and what was asked for."""

    @property
    def output(self) -> T:
        """What the turn was for: the answer of the type that was asked for, else its text.

        Raises `NoOutput`, which holds the last candidate, when the turn gave no answer of that type (yet).
        """
        if self.answer is None:
            return cast("T", self.text)
        if self.answer.fits and self.status == "completed":
            return cast("T", self.value)
        why = (
            self.error.message
            if self.error is not None
            else f"it is {self.status} ({self.stop or 'not ended'})"
        )
        raise NoOutput(
            f"turn {self.turn_id} gave no answer that fits {self.answer.contract}: {why}",
            candidate=self.answer.text,
        )


def ended(outcome: Outcome) -> TurnResult:
    """The result of a turn that ended."""
    return TurnResult(
        turn_id=outcome.turn_id,
        status=outcome.status,
        stop=outcome.stop,
        text=outcome.text,
        usage=outcome.usage,
        cost=outcome.cost,
        iterations=outcome.iterations,
        error=outcome.error,
        answer=outcome.answer,
        reason=outcome.reason,
        exceeded=outcome.exceeded,
        in_doubt=outcome.in_doubt,
    )


async def from_log(turn_id: str, journal: Journal) -> TurnResult:
    """The result of a turn that ended some time ago. Raises `UnknownTurn` when none with this id did."""
    state = journal.state
    outcome = await outcome_of(turn_id, state.session_id, journal.store)
    if outcome is None:
        raise UnknownTurn(
            f"session {state.session_id} has no turn {turn_id} that ended; its log has {state.sequence} events"
        )
    return ended(outcome)


PARKED = (
    "This turn was cut off {} times in a row without getting any further, so it waits for a person. Find out what ends "
    "the process, then go on with session.resume(by=...), or stop it with turn.cancel()."
)


def _value(answer: Answer, shape: Shape | None) -> Any:
    """The answer as a value: of its type where that is known, else as plain data."""
    if shape is not None:
        return shape.read(answer.text)
    value = msgspec.json.decode(answer.text)
    return value["value"] if answer.wrapped else value


def resting(state: State, turn_id: str) -> TurnResult:
    """Where a turn stands that has not ended: waiting for answers, or in the queue behind one that does."""
    asks, turn = tuple(state.asks.values()), state.turn
    if turn is None or turn.id != turn_id:
        return TurnResult(
            turn_id=turn_id, status="queued", stop=None, text="", usage=Usage(), iterations=0, asks=asks
        )
    return TurnResult(
        turn_id=turn_id,
        status="waiting" if asks or turn.retry_at or _waits(turn) else "running",
        error=Failure(code="parked", message=PARKED.format(turn.recoveries)) if turn.parked else None,
        stop=None,
        text="",
        usage=turn.usage,
        cost=turn.cost,
        iterations=turn.iteration,
        answer=turn.answer,
        reason=in_words(turn.exceeded) if turn.exceeded is not None else "",
        exceeded=turn.exceeded,
        asks=asks,
        in_doubt=tuple(turn.in_doubt),
    )


def _waits(turn: TurnState) -> bool:
    """Whether it waits for somebody, or for a time that a policy or a budget sets."""
    return turn.parked or turn.put_off or turn.held_back


Item = Event | Signal
"""What iterating a turn gives."""


LOOK = 0.1
"""Seconds between looks at the log of a turn that another process drives."""


class Driving(Protocol):
    """What a handle needs of the one who drives the turn."""

    journal: Journal
    drives: bool
    """Whether turns are driven here, and not by whoever else has the session open."""

    async def result(self, turn_id: str) -> TurnResult: ...

    async def cancel(self, turn_id: str, reason: str) -> TurnResult: ...


class Turn(Generic[T]):
    """One input brought to rest.

    `await turn` gives its `TurnResult` when it ends or waits for an answer; awaiting again after the answer goes on.
    `async for item in turn` gives its events from the first on, and signals as they happen, to its end. A reader that
    falls more than 1,024 signals behind gets `Lagged` in place of what it missed; it misses no event.
    Letting go of the handle does not stop the turn.
    """

    __slots__ = ("_driving", "_shape", "_since", "id")

    def __init__(self, turn_id: str, driving: Driving, since: int = 0, shape: Shape | None = None) -> None:
        self.id = turn_id
        self._driving = driving
        self._since = since
        self._shape = shape

    def __repr__(self) -> str:
        return f"Turn({self.id!r}, {self.status})"

    @property
    def session_id(self) -> str:
        """Of the session that it is in."""
        return self._driving.journal.state.session_id

    def as_filter(self) -> Filter:
        """What a subscription to it is given."""
        return Filter(sessions=(self.session_id,), turns=(self.id,))

    @property
    def status(self) -> TurnStatus:
        """Where the turn stands now. Of a turn before the session's last one only awaiting tells how it ended."""
        state = self._driving.journal.state
        status = state.status_of(self.id)
        if status == "running" and (state.asks or (state.turn and _waits(state.turn))):
            return "waiting"
        if status is None and self.id in self._driving.journal.posted:
            return "queued"
        return status or "completed"

    @property
    def asks(self) -> tuple[AskOpened, ...]:
        """Questions that somebody must answer before the turn can go on."""
        state = self._driving.journal.state
        return tuple(state.asks.values()) if state.turn is not None and state.turn.id == self.id else ()

    def __await__(self) -> Generator[Any, None, TurnResult[T]]:
        return self._result().__await__()

    async def _result(self) -> TurnResult[T]:
        result = await self._driving.result(self.id)
        return self._typed(result)

    def _typed(self, result: TurnResult) -> TurnResult[T]:
        """With the answer as a value: of the type that was asked for here, else as plain data."""
        answer, shape = result.answer, self._shape
        if shape is not None and answer is None:  # nothing was held against it yet
            answer = Answer(contract=shape.contract.name, wrapped=shape.contract.wrapped)
            result = structs.replace(result, answer=answer)
        if answer is not None and answer.fits:
            try:
                result = structs.replace(result, value=_value(answer, shape))
            except (
                InvalidAnswer
            ) as error:  # it was held against the schema by a process that had not the type
                wrong = Failure(
                    code="invalid_output", message=f"it fits the schema, and not the type: {error}"
                )
                result = structs.replace(result, answer=structs.replace(answer, fits=False), error=wrong)
        return cast("TurnResult[T]", result)

    async def __aiter__(self) -> AsyncIterator[Item]:
        if not (self._driving.journal.ours and self._driving.drives):
            async for event in self._from_elsewhere():
                yield event
            return
        with self._driving.journal.follow(self.id, after=self._since) as follower:
            async for item in follower:
                yield item

    async def partials(self) -> AsyncIterator[Any]:
        """What is complete and valid of a typed answer, while the model writes it: of an object a dict of the
        properties that are there, each of its type; of a list the items that are there.

        An answer that is given by a tool, or written by another process, comes whole, as the turn's result. Raises
        `UsageError` for a turn that was not sent with `output` here.
        """
        if self._shape is None:
            raise UsageError(
                f"turn {self.id} was not sent with output=... here, so there is nothing to read its text as"
            )
        writing, partial = "", Partial(self._shape)
        async for item in self:
            if not isinstance(item, TextDelta):
                continue
            if item.message_id != writing:
                writing, partial = item.message_id, Partial(self._shape)
            if (value := partial.feed(item.text)) is not None:
                yield value

    async def _from_elsewhere(self) -> AsyncIterator[Event]:
        """The events of a turn that another process drives, as they come onto the log. Taken over when it is gone."""
        journal, after = self._driving.journal, 0
        resting = asyncio.ensure_future(self._driving.result(self.id))
        try:
            while True:
                if isinstance(journal.broken, RuntimeClosed):
                    raise journal.broken
                page = await journal.store.read(journal.state.session_id, after=after)
                for event in page:
                    if event.context.turn_id == self.id:
                        yield event
                    if event.context.turn_id == self.id and event.type in TURN_ENDS:
                        return
                if page:
                    after = page[-1].sequence
                elif resting.done() and resting.exception():
                    await resting
                else:
                    await asyncio.sleep(LOOK)
        finally:
            resting.cancel()
            await asyncio.wait([resting])

    async def snapshot(self) -> TurnSnapshot:
        """All that is known of the turn now, by its log, whoever drives it. Raises `UnknownTurn`, `StoreError`."""
        return await snapshot(self.id, self._driving.journal, self)

    async def terminal(self) -> Event | None:
        """The one event that ended the turn; None while it has not. Raises `UnknownTurn`, `StoreError`."""
        return await terminal_of(self.id, self.session_id, self._driving.journal.store)

    async def cancel(self, reason: str = "") -> TurnResult[T]:
        """Stop the turn: it ends in one `turn.cancelled`, and every call it started has an outcome.

        A turn that has already ended stays as it ended.
        """
        result = await self._driving.cancel(self.id, reason.encode(errors="replace").decode())
        return self._typed(result)
