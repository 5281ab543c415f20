"""The loop: ask the planner what is owed, do it, until it says wait or stop.

A fresh turn, a resumed one and a recovered one all come through here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from msgspec import Struct

from holdfast.journal import Journal
from holdfast.manifest import Manifest
from holdfast.state import Outcome
from holdfast.turn.act import act
from holdfast.turn.decide import Act, Begin, Reason, Stop, Wait, decide
from holdfast.turn.finish import finish
from holdfast.turn.input import begin
from holdfast.turn.reason import reason


class Waiting(Struct, frozen=True):
    """Nothing in memory is worth keeping: the log says what is waited for."""

    wait: Wait


Rest = Waiting | Outcome
"""How a turn rests: for a while, or for good."""


def _never() -> bool:
    return False


async def run_turn(journal: Journal, manifest: Manifest, interrupted: Callable[[], bool] = _never) -> Rest:
    """Bring the session's turn to rest. Raises `StoreError` when the log cannot be written.

    `interrupted` is asked between steps whether this task was cancelled: a tool may have kept that to itself.
    """
    while True:
        if interrupted():
            raise asyncio.CancelledError
        match decide(journal.state, manifest, journal.present()):
            case Begin() as first:
                begin(first, journal, manifest)
            case Reason():
                await reason(journal, manifest)
            case Act(owed):
                await act(owed, journal, manifest)
            case Wait() as wait:
                await journal.flush()
                return Waiting(wait)
            case Stop(stop):
                return await finish(stop, journal, manifest)
