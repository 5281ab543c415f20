"""Events for tests: somebody said something in a session. And what a test says of a store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from holdfast.errors import HoldfastError
from holdfast.events import Event, EventContext, InputMessage, UnknownFact
from holdfast.ids import new_id
from holdfast.messages import user_message
from holdfast.store import Store

START = datetime(2026, 2, 28, 23, 59, 59, 999_999, tzinfo=UTC)


def event(
    session_id: str, sequence: int, fact: InputMessage | UnknownFact, *, kind: str = "", at: datetime = START
) -> Event:
    """A fact in an envelope."""
    return Event(
        id=new_id("event"),
        type=kind or fact.kind or "future.fact",
        ts=at,
        session_id=session_id,
        sequence=sequence,
        context=EventContext(turn_id="turn_a", input_message_id="message_a"),
        data=fact,
    )


def said(session_id: str, first: int, *words: str, at: datetime = START) -> list[Event]:
    """One event for each of the words, numbered on from `first`."""
    return [
        event(session_id, sequence, InputMessage(message=user_message(text), turn_id="turn_a"), at=at)
        for sequence, text in enumerate(words, first)
    ]


def said_in(event: Event) -> str:
    """The words in an event made by `said`."""
    assert isinstance(event.data, InputMessage)
    return event.data.message.text


async def texts(store: Store, session_id: str, *, after: int = 0, limit: int = 1_000) -> list[str]:
    """The words in a session made by `said`."""
    return [said_in(event) for event in await store.read(session_id, after=after, limit=limit)]


@contextmanager
def refused(kind: type[HoldfastError]) -> Iterator[None]:
    """What happens inside must raise this, with a message that says more than its class does."""
    message = None
    try:
        yield
    except kind as error:
        message = str(error)
    assert message is not None, f"{kind.__name__} was not raised"
    assert message not in ("", kind.__doc__)
