"""Agents for workers in processes of their own: their tool writes into `$LEDGER` when it begins and when it ends."""

import asyncio
import os
from pathlib import Path

from holdfast import Agent, Context, tool
from holdfast.drivers.sim import Sim, call, say


@tool(effect="idempotent")
async def toil(ctx: Context) -> str:
    """Toil for as long as `$TOIL` says."""
    _note(f"begin {ctx.session.id}")
    await asyncio.sleep(float(os.environ.get("TOIL", "0.3")))
    _note(f"end {ctx.session.id}")
    return "toiled"


def _note(line: str) -> None:
    with Path(os.environ["LEDGER"]).open("a") as ledger:
        ledger.write(line + "\n")


agents = [
    Agent(
        "Toil.",
        name="toiler",
        model=Sim.rule(lambda request: say("Done.") if request.messages[-1].role == "tool" else call("toil")),
        tools=[toil],
    )
]
nobody = "not an agent"
