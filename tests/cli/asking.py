"""A program whose tool needs a person's agreement: `python asking.py DATABASE`. Run again, it goes on."""

import asyncio
import sys

from holdfast import Agent, Runtime, tool
from holdfast.drivers.sim import Sim, call, say


@tool(effect="once", ask=True)
async def pay(cents: int) -> str:
    """Pay."""
    return f"paid {cents}"


agent = Agent("Pay.", name="payer", model=Sim.storyboard(call("pay", cents=5), say("Over.")), tools=[pay])


async def main() -> None:
    async with Runtime(sys.argv[1]) as runtime:
        known = await runtime.sessions()
        session = await (runtime.open(known[0].session_id, agent) if known else runtime.session(agent))
        turn = session.turn or await session.send("Pay the bill.")
        result = await turn
        sys.stdout.write(f"{result.status} {[message.text for message in await session.messages()]}\n")


asyncio.run(main())
