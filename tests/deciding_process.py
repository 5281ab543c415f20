"""A process that works on a database, or answers what waits in it, and may kill itself on the way.

python -m tests.deciding_process DATABASE LEDGER work|answer [DIE]

`work` runs the turn until it rests; `answer` approves whatever is open. DIE says after which recorded event the process
ends at once, as by `kill -9`. What a tool does is a line in LEDGER.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path

from holdfast import Agent, Context, Runtime, Session, tool
from holdfast.drivers.sim import Sim, calls, say


def agent(ledger: Path) -> Agent:
    """It pays twice, and looks something up meanwhile."""

    def note(line: str) -> None:
        with ledger.open("a") as file:
            file.write(f"{line}\n")

    @tool(effect="once", ask=True)
    async def pay(cents: int) -> str:
        """Pay."""
        note(f"pay {cents}")
        return f"paid {cents}"

    @tool(effect="idempotent")
    async def look(ctx: Context) -> str:
        """Look for a while."""
        await asyncio.sleep(0.5)
        note("look")
        return "looked"

    batch = (("pay", {"cents": 1}), ("look", {}), ("pay", {"cents": 2}))
    return Agent("Pay.", name="payer", model=Sim.storyboard(calls(*batch), say("Done.")), tools=[pay, look])


async def die_after(session: Session, kind: str) -> None:
    """End this process when an event of this type is on the log."""
    async for event in session.follow():
        if event.type == kind:
            os.kill(os.getpid(), signal.SIGKILL)


async def main(database: str, ledger: str, what: str, die: str = "") -> None:
    """Work, or answer."""
    payer = agent(Path(ledger))
    async with Runtime(database, agents=[payer], lease=1.0) as runtime:
        known = await runtime.sessions()
        if what == "answer":
            session = await runtime.open(known[0].session_id, drive=False)
            for ask in session.asks:
                await session.approve(ask.ask_id, by="ann", key=ask.ask_id)
                if die == "first":
                    os.kill(os.getpid(), signal.SIGKILL)
            return
        session = await (runtime.open(known[0].session_id) if known else runtime.session(payer))
        watch = asyncio.ensure_future(die_after(session, die)) if die else None
        turn = session.turn or (None if session.state.outcome else await session.send("Pay.", key="pay"))
        if turn is not None:
            result = await turn
            sys.stdout.write(f"{result.status} {result.text}\n")
        if watch is not None:
            watch.cancel()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
