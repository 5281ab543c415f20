"""Events for tests: somebody said something in a session."""

from __future__ import annotations

from datetime import UTC, datetime

from holdfast.events import Event, EventContext, InputMessage, UnknownFact
from holdfast.ids import new_id
from holdfast.messages import user_message

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
