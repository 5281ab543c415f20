"""A journal on a real store, and facts to record in it."""

from __future__ import annotations

import asyncio

from holdfast.clock import Clock, SystemClock
from holdfast.events import Event, EventContext, SessionUpdated, TurnCompleted, TurnFailed
from holdfast.events import Failure as Fault
from holdfast.fold import fold
from holdfast.follow import Follower, Signal, TextDelta
from holdfast.journal import Journal
from holdfast.state import State
from holdfast.store import Store
from holdfast.writer import Writer

SESSION = "session_" + "0a" * 16
TURN = EventContext(turn_id="turn_a", input_message_id="message_a")
OTHER = EventContext(turn_id="turn_b", input_message_id="message_b")
DONE = TurnCompleted(stop="end_turn", iterations=1)
FAILED = TurnFailed(stop="error", iterations=1, error=Fault(code="x", message="it failed"))


def new_journal(store: Store, clock: Clock | None = None) -> Journal:
    """The journal of a session that does not exist yet."""
    return _journal(store, State(session_id=SESSION), 1, clock or SystemClock())


async def open_journal(store: Store, epoch: int, *, name: str = "w") -> Journal:
    """A further journal of the session, as its log stands now."""
    return _journal(store, fold(SESSION, await store.read(SESSION)), epoch, SystemClock(), name)


def _journal(store: Store, state: State, epoch: int, clock: Clock, name: str = "w") -> Journal:
    return Journal(store, clock.now, state, epoch=epoch, writer=Writer(name=name))


def titled(text: object) -> SessionUpdated:
    """A fact that is told apart by its title."""
    return SessionUpdated(title=str(text))


def delta(text: object, turn_id: str = "turn_a") -> TextDelta:
    """A signal of a turn."""
    return TextDelta(turn_id=turn_id, message_id="message_r", text=str(text))


def shown(item: object) -> str:
    """The words in a fact or signal made here; its kind where it has none."""
    fact = getattr(item, "data", item)
    return str(getattr(fact, "title", None) or getattr(fact, "text", None) or type(fact).__name__)


async def titles(store: Store) -> list[str]:
    """What the log holds."""
    return [shown(event) for event in await store.read(SESSION)]


async def next_of(follower: Follower) -> Event | Signal:
    """The next item. Whoever would wait for ever fails instead."""
    async with asyncio.timeout(10):
        return await anext(follower)
