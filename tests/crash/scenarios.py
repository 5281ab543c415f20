"""Five canonical turns, and the outside world they act on: a ledger that keeps one fsynced line for each effect."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from holdfast import Agent, Context, Request, tool
from holdfast.drivers.sim import Sim, Step, call, calls, fail, say

PROMPT = "Do the work."


def write_line(path: Path, text: str) -> None:
    """Append a line, so that it is there whatever happens next."""
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(handle, f"{text}\n".encode())
        os.fsync(handle)
    finally:
        os.close(handle)


def lines(path: Path) -> list[str]:
    """What stands in the file, if it is there."""
    return path.read_text().splitlines() if path.exists() else []


def scenario(name: str, ledger: Path) -> Agent:
    """The agent of this scenario, acting on this ledger. It goes on the same in any process."""

    @tool(effect="once")
    async def pay(ctx: Context, cents: int) -> str:
        """Pay, once."""
        write_line(ledger, ctx.call.key)
        return f"paid {cents}"

    @tool(effect="once")
    async def break_down(ctx: Context) -> str:
        """Act, and fail."""
        write_line(ledger, ctx.call.key)
        raise RuntimeError("out of order")

    return Agent("Work.", name=name, model=_model(name, ledger), tools=[pay, break_down])


def _model(name: str, ledger: Path) -> Sim:
    boards: dict[str, tuple[Step, ...]] = {
        "plain answer": (say("Done."),),
        "one tool": (call("pay", cents=5), say("Paid.")),
        "parallel tools": (calls(*[("pay", {"cents": cents}) for cents in (1, 2, 3)]), say("All paid.")),
        "tool failure": (call("break_down"), say("It is out of order.")),
    }
    return Sim.rule(_failing_first(ledger)) if name == "model failure" else Sim.storyboard(*boards[name])


def _failing_first(ledger: Path) -> Callable[[Request], Step]:
    """A model whose first request ever fails, also across processes."""
    asked = ledger.with_suffix(".asked")

    def choose(request: Request) -> Step:
        first = not asked.exists()
        write_line(asked, "asked")
        return fail("overloaded") if first else say("Here again.")

    return choose


NAMES = ("plain answer", "one tool", "parallel tools", "model failure", "tool failure")
