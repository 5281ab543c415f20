"""After: run the hooks that are owed when a turn has ended: at least once, and for most turns exactly once.

That they are owed is in the append that ends the turn, and that they ran in the next. When the process dies in between,
whoever goes on with the session runs them again; they are told that it is not the first time. What breaks the process
each time is given up.
"""

from __future__ import annotations

from holdfast.events import EventContext
from holdfast.facts.hooks import HooksOwed, HooksRun
from holdfast.history import outcome_of
from holdfast.hook import HookEvent
from holdfast.journal import Journal
from holdfast.manifest import Manifest
from holdfast.messages import Message, Text
from holdfast.turn.gate import ask_hooks

ATTEMPTS = 3
"""How often hooks after one turn are begun."""


def overdue(journal: Journal) -> str:
    """The turn whose hooks are owed still, the oldest first; empty when none are, or a turn is under way."""
    state = journal.state
    return next(iter(state.aftermath), "") if state.aftermath and state.turn is None else ""


async def catch_up(turn_id: str, journal: Journal, manifest: Manifest) -> None:
    """Run the hooks after a turn again, whose process died before it could say that they ran. Raises `StoreError`."""
    attempt, context = journal.state.aftermath[turn_id].attempt, EventContext(turn_id=turn_id)
    if attempt >= ATTEMPTS:
        reason = f"they were begun {attempt} times, and cut off each time"
        await journal.record(HooksRun(reason=reason), context=context)
        return
    await journal.record(HooksOwed(attempt=attempt + 1), context=context)
    await follow_up(turn_id, journal, manifest)


async def follow_up(turn_id: str, journal: Journal, manifest: Manifest) -> None:
    """Run the hooks after this turn, and record that they ran. Raises `StoreError`."""
    status, message = await _ended(turn_id, journal)
    event = HookEvent(
        point="after_turn",
        session_id=journal.state.session_id,
        turn_id=turn_id,
        message=message,
        status=status,
        attempt=journal.state.aftermath[turn_id].attempt,
    )
    await ask_hooks(event, journal, manifest)
    await journal.record(HooksRun(), context=EventContext(turn_id=turn_id))


async def _ended(turn_id: str, journal: Journal) -> tuple[str, Message | None]:
    """How the turn ended, and the last thing that was said in it."""
    state = journal.state
    outcome = state.outcome
    if outcome is not None and outcome.turn_id == turn_id and state.last_message is not None:
        return outcome.status, state.last_message
    outcome = await outcome_of(turn_id, state.session_id, journal.store)
    if outcome is None:
        return "", None
    said = Message(id="", role="assistant", content=(Text(text=outcome.text),)) if outcome.text else None
    return outcome.status, said
