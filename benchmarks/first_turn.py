"""The program that W7 starts: one turn in a fresh process (or several), and what that took.

    python benchmarks/first_turn.py [FILE [TURNS]]

Prints, as JSON, the seconds since `BENCH_BEGAN` (a Unix time in the environment), the resident bytes and the modules.
It imports what a program like it would, and nothing to measure with.
"""

import asyncio
import os
import sys
import time

import msgspec

from benchmarks import process
from benchmarks.calculator import Calculator, calculator, one_turn
from holdfast import Runtime


async def main(path: str | None = None, turns: str = "1") -> float:
    """The Unix time at the end of the last turn."""
    agent = calculator(Calculator())
    async with Runtime(path) as runtime:
        for _ in range(int(turns)):
            await one_turn(runtime, agent)
        return time.time()


if __name__ == "__main__":
    seconds = asyncio.run(main(*sys.argv[1:])) - float(os.environ["BENCH_BEGAN"])
    found = {"seconds": seconds, "resident": process.resident(), "modules": len(sys.modules)}
    sys.stdout.buffer.write(msgspec.json.encode(found))
