"""Programs that `resumed.py` starts, and the agent that the worker there is given.

python -m benchmarks.left open FILE SESSION    opens a session, says as JSON how long that took, and runs a turn there
python -m benchmarks.left cut FILE NUMBER      begins as many turns, half of them in the model and half in the tool, and
                                               kills itself when all are under way
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time

import msgspec
from msgspec import Struct

from benchmarks.calculator import INSTRUCTIONS, QUESTION, Calculator, calculator
from holdfast import Agent, Reply, Request, Runtime, tool
from holdfast.driver import Emit

LEASE = 0.5
"""Seconds that the sessions stay held by the process that killed itself."""

AGENT = calculator(Calculator())


class Opened(Struct, frozen=True, kw_only=True):
    """What `open` says."""

    seconds: float
    """For `runtime.open()`."""
    turn: float
    """Seconds for the first turn after it."""
    sequence: int
    """Of the session's last event when it was opened."""


async def open_session(path: str, session_id: str) -> Opened:
    """Open it, and run a turn."""
    async with Runtime(path, agents=[AGENT]) as runtime:
        began = time.perf_counter()
        session = await runtime.open(session_id)
        opened = time.perf_counter()
        sequence = session.state.sequence
        await session.run(QUESTION)
        return Opened(seconds=opened - began, turn=time.perf_counter() - opened, sequence=sequence)


class Cut:
    """Keeps whoever comes, and ends the process when `number` have come."""

    def __init__(self, number: int) -> None:
        self._missing = number

    async def stay(self) -> None:
        """For ever, which is not long."""
        self._missing -= 1
        if not self._missing:
            os.kill(os.getpid(), signal.SIGKILL)
        await asyncio.Event().wait()


class Half(Calculator):
    """Every second session is kept in its first model call."""

    def __init__(self, cut: Cut) -> None:
        super().__init__()
        self._cut = cut
        self._asked = 0

    async def reply(self, request: Request, emit: Emit) -> Reply:
        """Stay, or ask for the tool."""
        self._asked += 1
        if self._asked % 2:
            await self._cut.stay()
        return await super().reply(request, emit)


async def cut_off(path: str, number: int) -> None:
    """Does not return."""
    cut = Cut(number)

    @tool(name="add")
    async def add(a: int, b: int) -> int:
        """Add two integers."""
        await cut.stay()
        return a + b

    agent = Agent(INSTRUCTIONS, model=Half(cut), tools=[add])
    async with Runtime(path, lease=LEASE) as runtime:
        sessions = [await runtime.session(agent) for _ in range(number)]
        await asyncio.gather(*(session.send(QUESTION) for session in sessions))
        await asyncio.Event().wait()


if __name__ == "__main__":
    what, place, name = sys.argv[1:]
    if what == "cut":
        asyncio.run(cut_off(place, int(name)))
    sys.stdout.buffer.write(msgspec.json.encode(asyncio.run(open_session(place, name))))
