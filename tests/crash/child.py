"""A process that runs one scenario and kills itself with SIGKILL at one append boundary.

    python child.py DATABASE LEDGER SCENARIO NUMBER before|after

`before`: the NUMBER-th append is never handed to the store. `after`: it is durable, and nobody has been told. A run
that has fewer appends ends by itself.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio import Future
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from holdfast import Event, Runtime, SQLiteStore
from holdfast.turn import retry
from tests.crash.scenarios import PROMPT, scenario


class DyingStore(SQLiteStore):
    """A real store whose process dies at one of its appends."""

    def __init__(self, path: str, number: int, side: str) -> None:
        super().__init__(path)
        self._left = number
        self._side = side

    def append(self, session_id: str, events: Sequence[Event], **options: Any) -> Future[None]:
        """Append, unless this is where the process dies."""
        self._left -= 1
        if self._left == 0 and self._side == "before":
            _die()
        write = super().append(session_id, events, **options)
        if self._left == 0:
            write.add_done_callback(lambda _: _die())
        return write


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def main(database: str, ledger: str, name: str, number: str, side: str) -> None:
    """Run the scenario up to the boundary."""
    async with Runtime(DyingStore(database, int(number), side)) as runtime:
        session = await runtime.session(scenario(name, Path(ledger)))
        await session.run(PROMPT, key="the one input")


retry.FIRST_WAIT = 0.02
asyncio.run(main(*sys.argv[1:]))
