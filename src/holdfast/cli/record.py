"""Answers recorded without running anything, for sessions whose functions only their own program has."""

from __future__ import annotations

import getpass
from typing import Literal

from holdfast import Runtime
from holdfast.agent import read_layers
from holdfast.events import AskAnswered, EventContext
from holdfast.journal import Journal
from holdfast.state import State, fold

Verdict = Literal["approved", "denied"]


def who() -> str:
    """Whoever answers at this terminal."""
    return f"{getpass.getuser()} (holdfast)"


async def functions(runtime: Runtime, state: State) -> tuple[str, ...]:
    """What the session was made with that only a program can give back."""
    return read_layers(await runtime.store.get_blob(state.layers))[1] if state.layers else ()


async def record(runtime: Runtime, session_id: str, ask_id: str, verdict: Verdict, reason: str) -> None:
    """Record the answer. This takes the session over: a program that holds it must open it again."""
    epoch = await runtime.store.claim(session_id)
    state = fold(session_id, await runtime.store.read(session_id, limit=1_000_000))
    journal = Journal(runtime.store, runtime.clock, state, epoch)
    journal.context = EventContext(turn_id=state.turn.id if state.turn else "")
    await journal.record(AskAnswered(ask_id=ask_id, verdict=verdict, by=who(), reason=reason))
