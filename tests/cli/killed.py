"""A program that is killed in the middle of a tool call: `python killed.py DATABASE EFFECT`. Run again, it goes on."""

import asyncio
import os
import signal
import sys
from typing import Literal

from holdfast import Agent, Context, Runtime, tool
from holdfast.drivers.sim import Sim, call, say

EFFECT: Literal["once", "pure"] = "once" if sys.argv[2] == "once" else "pure"


@tool(effect=EFFECT)
async def strike(ctx: Context, where: str) -> str:
    """Die in the first attempt, when its claim is durable: that of a pure call may be so a little later."""
    if ctx.call.attempt == 1:
        while "tool.started" not in [event.type for event in await runtime.store.read(ctx.session.id)]:
            await runtime.store.woken(0.1)
        os.kill(os.getpid(), signal.SIGKILL)
    return f"struck {where}"


agent = Agent(
    "Strike.", name="smith", model=Sim.storyboard(call("strike", where="iron"), say("Over.")), tools=[strike]
)
runtime = Runtime(sys.argv[1])


async def main() -> None:
    async with runtime:
        known = await runtime.sessions()
        session = await (runtime.open(known[0].session_id, agent) if known else runtime.session(agent))
        turn = session.turn or await session.send("Strike while it is hot.")
        await turn


asyncio.run(main())
