"""Money moved exactly once, though the process is killed with the work half done: effect and outcome are one commit.

Prints:

    killed by signal 9 with the work done and not yet recorded
    ana has 100, ben has 0
    resumed: moved 30 cents, attempt 2
    ana has 70, ben has 30
"""

import asyncio
import os
import signal
import subprocess
import sys

import apsw  # the file is opened with the runtime's own SQLite; Python's sqlite3 is another one

from holdfast import Agent, Context, Runtime, ToolError, tool
from holdfast.drivers.sim import Sim, call, say

FILE = "ledger.db"


@tool(effect="idempotent")
async def move(ctx: Context, giver: str, taker: str, cents: int) -> str:
    """Move money from one account to another."""
    async with ctx.transaction() as db:
        ((balance,),) = await db.execute("SELECT cents FROM accounts WHERE name = ?", giver)
        if balance < cents:
            raise ToolError(f"{giver} has {balance} cents only.")
        change = "UPDATE accounts SET cents = cents + ? WHERE name = ?"
        await db.execute(change, -cents, giver)
        await db.execute(change, cents, taker)
    if ctx.call.attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return f"moved {cents} cents, attempt {ctx.call.attempt}"


teller = Agent(
    "You move money.",
    name="teller",
    model=Sim.storyboard(call("move", giver="ana", taker="ben", cents=30), say("Done.")),
    tools=[move],
)


def ask(sql: str) -> list[tuple[object, ...]]:
    """Ask the database beside the runtime."""
    connection = apsw.Connection(FILE)
    try:
        return list(connection.execute(sql))
    finally:
        connection.close()


def show() -> None:
    """Who has what."""
    print(", ".join(f"{name} has {cents}" for name, cents in ask("SELECT name, cents FROM accounts")))


async def begin() -> None:
    """The first process, which does not live long."""
    async with Runtime(FILE) as runtime:
        ask("CREATE TABLE accounts (name TEXT PRIMARY KEY, cents INTEGER)")
        ask("INSERT INTO accounts VALUES ('ana', 100), ('ben', 0)")
        session = await runtime.session(teller)
        await session.run("Ana owes Ben 30 cents.")


async def resume() -> None:
    """The second process goes on with what the first one left."""
    async with Runtime(FILE, agents=[teller]) as runtime:
        (head,) = await runtime.sessions()
        session = await runtime.open(head.session_id)
        if session.turn is not None:
            await session.turn
        print("resumed:", (await session.messages())[2].text)


if __name__ == "__main__":
    if sys.argv[1:] == ["begin"]:
        asyncio.run(begin())
    else:
        died = subprocess.run([sys.executable, __file__, "begin"], check=False).returncode
        print(f"killed by signal {-died} with the work done and not yet recorded")
        show()
        asyncio.run(resume())
        show()
