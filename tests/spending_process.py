"""A process that spends on a shared account until it is used up, and may kill itself with SIGKILL at a model call.

python -m tests.spending_process DATABASE NUMBER
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from holdfast import Agent, Budget, Config, Runtime, Settings, Usage, tool
from holdfast.driver import Request
from holdfast.drivers.sim import Sim, Step, calls

LIMIT = 10_000
USAGE = Usage(input_tokens=10, output_tokens=90)
"""Less than what is set aside for any of its calls."""


@tool(effect="pure")
async def look(where: int) -> int:
    """Look."""
    return where


def spender(die_at: int = 0) -> Agent:
    """An agent that never has enough, whose process dies while the model answers for the n-th time."""
    asked = 0

    def busy(request: Request) -> Step:
        nonlocal asked
        asked += 1
        if asked == die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return calls(("look", {"where": len(request.messages)}), usage=USAGE)

    config = Config(
        budgets=(Budget(scope="organisation", quantity="tokens", hard=LIMIT),),
        settings=Settings(max_tokens=100),
    )
    return Agent("Look.", name="spender", model=Sim.rule(busy), tools=[look], config=config)


async def main(path: str, number: str) -> None:
    agent = spender(int(number))
    async with Runtime(path, agents=[agent]) as runtime:
        sessions = [await runtime.session(agent, organisation="acme") for _ in range(3)]
        await asyncio.gather(*[session.run("Look around.") for session in sessions])


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
