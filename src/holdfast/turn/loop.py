"""The loop: ask the planner what is owed, do it, until it says wait or stop.

A fresh turn, a resumed one and a recovered one all come through here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from holdfast.journal import Journal
from holdfast.manifest import Manifest
from holdfast.roster import blocker_in
from holdfast.turn.act import act
from holdfast.turn.compact import compact
from holdfast.turn.consult import unconsulted
from holdfast.turn.decide import decide
from holdfast.turn.document import keep_begun
from holdfast.turn.finish import finish
from holdfast.turn.input import begin
from holdfast.turn.reason import reason
from holdfast.turn.step import Act, Begin, Compact, Reason, Rest, Step, Stop, Wait, Waiting, settling


def _never() -> bool:
    return False


_BEGINNING = (Reason, Act, Compact)
"""Steps that begin something."""


def _owed(journal: Journal, manifest: Manifest) -> Step:
    """What the planner says; nothing that begins anything, once the agent or its harness is out of use."""
    step = decide(journal.state, manifest, journal.present())
    if not isinstance(step, _BEGINNING) or blocker_in(journal.scope) is None:
        return step
    calls = settling(step)
    return Act(calls) if calls else Stop("error")


async def run_turn(journal: Journal, manifest: Manifest, interrupted: Callable[[], bool] = _never) -> Rest:
    """Bring the session's turn to rest. Raises `StoreError` when the log cannot be written.

    `interrupted` is asked between steps whether this task was cancelled: a tool may have kept that to itself.
    """
    while True:
        if interrupted():
            raise asyncio.CancelledError
        match _owed(journal, manifest):
            case Reason():
                await reason(journal, manifest)
            case Act(owed):
                await act(owed, journal, manifest)
            case Stop(stop):
                return await finish(stop, journal, manifest)
            case Begin() as first:
                await keep_begun(first, journal, manifest)
                begin(first, journal, manifest)
            case Compact(why):
                await compact(why, journal, manifest)
            case Wait(asks) if asks and unconsulted(journal, manifest):
                await act((), journal, manifest)
            case Wait() as wait:
                await journal.flush()
                return Waiting(wait)
