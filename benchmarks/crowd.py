"""Turns that stream at once in a process that does nothing else: `wire.py` starts it.

python -m benchmarks.crowd PROTOCOL NUMBER DELTAS

As many turns, each with a session and a connection of its own, on the server that the environment names. What they took
is said as JSON.
"""

from __future__ import annotations

import asyncio
import gc
import sys

import msgspec
from msgspec import Struct

from benchmarks import process
from benchmarks.calculator import DELTA, INSTRUCTIONS, QUESTION
from benchmarks.timing import timed
from holdfast import Agent, Runtime, TextDelta

MODEL = "speaker"


class Streamed(Struct, frozen=True, kw_only=True):
    """What it says."""

    before: int
    """Bytes that the process held when it was ready."""
    peak: int
    """The most that it held then."""
    wall: float
    """Seconds until all were done."""
    cpu: float


async def stream(runtime: Runtime, agent: Agent, number: int) -> None:
    """One turn whose answer has so many deltas, read as it happens."""
    turn = await (await runtime.session(agent)).send(QUESTION)
    seen = 0
    async for item in turn:
        if isinstance(item, TextDelta):
            seen += 1
    result = await turn
    if (result.status, seen, result.text) != ("completed", number, DELTA * number):
        raise AssertionError(
            f"{seen} of {number} deltas came, and the turn is {result.status}: {result.error}"
        )


async def _main(protocol: str, number: int, deltas: int) -> Streamed:
    agent = Agent(INSTRUCTIONS, model=f"{protocol}/{MODEL}")
    async with Runtime() as runtime:

        async def all_of_them() -> None:
            await asyncio.gather(*(stream(runtime, agent, deltas) for _ in range(number)))

        gc.collect()
        before = process.resident()
        process.forget_peak()
        took = await timed(all_of_them)
        return Streamed(before=before, peak=process.peak(), wall=took.wall, cpu=took.cpu)


if __name__ == "__main__":
    _protocol, _number, _deltas = sys.argv[1:]
    sys.stdout.buffer.write(msgspec.json.encode(asyncio.run(_main(_protocol, int(_number), int(_deltas)))))
