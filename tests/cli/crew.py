"""Agents for workers in processes of their own: their tools write into `$LEDGER` when they begin and when they end.

A tool lasts `$TOIL` seconds, and, where `$GATE` names a file, until that is there.
"""

import asyncio
import os
import time
from pathlib import Path

from holdfast import Agent, Context, Request, tool
from holdfast.drivers.sim import Sim, Step, call, calls, say


@tool(effect="idempotent")
async def toil(ctx: Context) -> str:
    """Toil."""
    return await _done(ctx, "toiled")


@tool(effect="once")
async def strike(ctx: Context) -> str:
    """Strike."""
    return await _done(ctx, "struck")


@tool(effect="once", ask=True)
async def pay(ctx: Context) -> str:
    """Pay."""
    _note(f"paid {ctx.session.id}")
    return "paid"


async def _done(ctx: Context, what: str) -> str:
    _note(f"begin {ctx.session.id}")
    await asyncio.sleep(float(os.environ.get("TOIL", "0.3")))
    if gate := os.environ.get("GATE"):
        await asyncio.to_thread(_until_there, Path(gate))
    _note(f"end {ctx.session.id}")
    return what


def _until_there(file: Path) -> None:
    while not file.exists():
        time.sleep(0.02)


def _note(line: str) -> None:
    with Path(os.environ["LEDGER"]).open("a") as ledger:
        ledger.write(line + "\n")


def asking(step: Step) -> Sim:
    """A model that asks for this after each input, and then is done."""
    return Sim.rule(lambda request: say("Done.") if _answered(request) else step)


def _answered(request: Request) -> bool:
    return request.messages[-1].role == "tool"


toiler = Agent("Toil.", name="toiler", model=asking(call("toil")), tools=[toil])
smith = Agent("Strike.", name="smith", model=asking(call("strike")), tools=[strike])
clerk = Agent("Pay.", name="clerk", model=asking(calls(("toil", {}), ("pay", {}))), tools=[toil, pay])
agents = [toiler, smith, clerk]
nobody = "not an agent"
