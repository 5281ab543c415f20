"""History: a log read back: from its newest snapshot on, to the end of one turn, or a page of its transcript.

A snapshot is a state without its messages, kept to save folding. It is never the truth: one that cannot be used is
passed over, with a word to the log of the program, and made anew. A message stands in exactly one event, so a state
that knows where (`State.places`) can have any of them back.
"""

from __future__ import annotations

import hashlib
import logging

import msgspec
from msgspec import structs

from holdfast.errors import StoreCorrupt, StoreError
from holdfast.events import (
    TURN_ENDS,
    CallResolved,
    Event,
    InputMessage,
    OutputMessageCompleted,
    ToolCompleted,
    TurnStarted,
)
from holdfast.facts.answers import OutputChecked
from holdfast.facts.guards import GuardDecided
from holdfast.fold import apply
from holdfast.messages import Message, tool_message
from holdfast.outcome import Outcome
from holdfast.state import State, decode_state, encode_state
from holdfast.store import Snapshot, Store

VERSION = 1
"""Of what a snapshot holds. A change of `State` or of how facts are folded is a new version."""

WORTH = 1_000
"""Events beyond the newest snapshot that make another one worth its commit; for a long log, a part of its length."""
PART = 25

PAGE = 10_000
"""Events read at once."""
BACK = 256
"""The same, where a log is read from its end on."""

_log = logging.getLogger("holdfast.history")


async def catch_up(state: State, store: Store) -> None:
    """Take in what the log has beyond this state; several may do so at the same time."""
    while page := await store.read(state.session_id, after=(known := state.sequence), limit=PAGE):
        for event in page[state.sequence - known :]:
            _take_in(state, event)


async def outcome_of(turn_id: str, session_id: str, store: Store) -> Outcome | None:
    """How a turn ended some time ago, by its log; None when no such turn did."""
    state = State(session_id=session_id)
    while page := await store.read(session_id, after=state.sequence):
        for event in page:
            _take_in(state, event)
            if state.outcome is not None and state.outcome.turn_id == turn_id:
                return state.outcome
    return None


async def end_and_start(
    turn_id: str, session_id: str, store: Store, end: int
) -> tuple[Event | None, Event | None]:
    """Of the first `end` events the one that ended this turn, and the one that began it, or its input while it waits in
    line."""
    terminal: Event | None = None
    waiting: Event | None = None
    while end > 0:
        start = max(end - BACK, 0)
        for event in reversed(await store.read(session_id, after=start, limit=end - start)):
            if event.context.turn_id != turn_id:
                continue
            if event.type in TURN_ENDS:
                terminal = event
            elif isinstance(event.data, TurnStarted):
                return terminal, event
            elif isinstance(event.data, InputMessage) and not event.data.steer:
                waiting = event
        if waiting is not None:
            return terminal, waiting
        end = start
    return terminal, None


def _take_in(state: State, event: Event) -> None:
    if event.sequence != state.sequence + 1 or event.session_id != state.session_id:
        raise StoreCorrupt(
            f"event {state.sequence + 1} of {state.session_id} says that it is number {event.sequence} of "
            f"{event.session_id}; somebody changed it. Restore a backup"
        )
    apply(state, event)


class History:
    """What one session's journal reads back, and the snapshots it keeps."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept = 0
        """The event up to which there is a snapshot that can be used."""

    def is_worth_keeping(self, state: State) -> bool:
        """Whether another snapshot saves enough: they are so far apart that together they cost less than the log."""
        return state.turn is None and state.sequence - self._kept >= max(WORTH, state.sequence // PART)

    async def load(self, session_id: str) -> State:
        """The session's state: its newest snapshot, and what the log has beyond it. Raises `StoreError`."""
        state = await _from_snapshot(session_id, self._store) or State(session_id=session_id)
        self._kept = state.sequence
        await catch_up(state, self._store)
        return state

    async def keep(self, state: State) -> None:
        """Keep a snapshot of this state, which must be durable, if it saves enough.

        One that cannot be kept costs nothing but time later: the program's log is told, and the session goes on.
        """
        if not self.is_worth_keeping(state):
            return
        self._kept = state.sequence
        body = encode_state(_to_keep(state))
        digest = hashlib.sha256(body).digest()
        snapshot = Snapshot(sequence=state.sequence, version=VERSION, body=digest + body)
        try:
            await self._store.save_snapshot(state.session_id, snapshot)
        except StoreError as error:
            _log.warning("no snapshot of %s could be kept: %s", state.session_id, error)

    async def recall(self, state: State) -> None:
        """Have all messages that the model is told at hand, in the state."""
        while state.unread > state.compacted:
            place = state.compacted, state.unread, state.retold
            found = await self._read(state.places[place[0] : place[1]], state)
            if place == (state.compacted, state.unread, state.retold):  # else somebody else did, meanwhile
                state.messages[:0] = found
                state.unread = state.compacted

    async def page(self, state: State, start: int, stop: int) -> list[Message]:
        """Messages `start` to `stop` (exclusive, from 0) of the transcript, wherever they are."""
        unread = state.unread
        later = state.messages[max(start - unread, 0) : max(stop - unread, 0)]  # before anything is awaited
        return await self._read(state.places[start : min(stop, unread)], state) + later

    async def _read(self, places: list[int], state: State) -> list[Message]:
        if not places:
            return []
        wanted, found = set(places), dict[int, Message]()
        after, last = min(places) - 1, max(places)
        while after < last:
            events = await self._store.read(state.session_id, after=after, limit=min(PAGE, last - after))
            if not events:
                raise StoreCorrupt(
                    f"session {state.session_id} ends at event {after}, and should have {last}"
                )
            found.update({it.sequence: _message_in(it) for it in events if it.sequence in wanted})
            after = events[-1].sequence
        return [found[place] for place in places]


def _message_in(event: Event) -> Message:
    """The message that this event brought into the transcript."""
    match event.data:
        case InputMessage(message=message) | OutputMessageCompleted(message=message):
            return message
        case OutputChecked(repair=Message() as message) | GuardDecided(note=Message() as message):
            return message
        case ToolCompleted(result=result) | CallResolved(result=result) if result is not None:
            return tool_message(result)
    raise StoreCorrupt(f"event {event.sequence} ({event.type}) of {event.session_id} should hold a message")


async def _from_snapshot(session_id: str, store: Store) -> State | None:
    try:
        kept = await store.load_snapshot(session_id)
        if kept is None:
            return None
        state = _read_snapshot(kept, session_id)
        if not await store.read(session_id, after=kept.sequence - 1, limit=1):
            raise ValueError(f"the log ends before event {kept.sequence}")
    except (StoreError, msgspec.MsgspecError, ValueError) as error:
        _log.warning("the snapshot of %s is not used, its log is read whole: %s", session_id, error)
        return None
    return state


def _to_keep(state: State) -> State:
    """The state without its messages, which the log has."""
    return structs.replace(state, messages=[], unread=len(state.places))


def problem_with(kept: Snapshot, state: State) -> str:
    """What is wrong with a snapshot, where the log up to its event says this state; empty when nothing is.

    One of another version is sound: it is passed over.
    """
    if kept.version != VERSION:
        return ""
    try:
        said = _read_snapshot(kept, state.session_id)
    except (msgspec.MsgspecError, ValueError) as error:
        return str(error)
    return "" if said == _to_keep(state) else "it is not what the events up to it say"


def _read_snapshot(kept: Snapshot, session_id: str) -> State:
    """The state in this snapshot. Raises `ValueError` when it is not one of ours, whole and of this session."""
    if kept.version != VERSION:
        raise ValueError(f"it is of version {kept.version}, and this is version {VERSION}")
    digest, body = kept.body[:32], kept.body[32:]
    if hashlib.sha256(body).digest() != digest:
        raise ValueError("its bytes have changed")
    state = decode_state(body)
    if state.session_id != session_id or state.sequence != kept.sequence:
        raise ValueError(f"it is of {state.session_id} at event {state.sequence}")
    return state
