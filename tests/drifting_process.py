"""A process of one version of a program, which begins a turn, or goes on with it, and may kill itself on the way.

    python -m tests.drifting_process DATABASE VERSION begin|drive [DIE]

Version 2 has other instructions; version 3 has another tool of the same name; 4 has none. DIE says after which recorded
event the process ends at once, as by `kill -9`. What it says at the end is the turn's status, or the error's name.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path

from holdfast import Agent, HoldfastError, Runtime, Session, tool
from holdfast.drift import OnDrift
from holdfast.drivers.sim import Sim, call, say


def program(version: int) -> Agent:
    """One version of the agent."""

    @tool(effect="idempotent")
    async def look(place: str) -> str:
        """Look there."""
        return f"nothing at {place}"

    @tool(name="look", effect="idempotent")
    async def look_longer(place: str, seconds: int = 1) -> str:
        """Look there for some time."""
        return f"nothing at {place} for {seconds} s"

    said = "You look around." if version == 1 else "You look around, and say what you saw."
    tools = {1: [look], 2: [look], 3: [look_longer], 4: []}[version]
    return Agent(
        said,
        name="looker",
        model=Sim.storyboard(call("look", place="home"), call("look", place="work"), say("Nothing.")),
        tools=tools,
    )


async def killed_after(session: Session, last: str) -> None:
    """Die as soon as an event of this type is recorded."""
    async for event in session.follow():
        if event.type == last:
            os.kill(os.getpid(), signal.SIGKILL)


async def main(database: Path, version: int, what: str, die: str, on_drift: OnDrift) -> None:
    """Begin a turn, or go on with it."""
    agent = program(version)
    async with Runtime(database, agents=[agent], lease=2.0, on_drift=on_drift) as runtime:
        heads = await runtime.sessions()
        session = await (runtime.open(heads[0].session_id) if heads else runtime.session(agent))
        dying = asyncio.ensure_future(killed_after(session, die)) if die else None
        try:
            turn = session.turn if what == "drive" else await session.send("Look.", key="once")
            assert turn is not None
            said = str((await turn).status)
        except HoldfastError as error:
            said = type(error).__name__
        if dying is not None:
            dying.cancel()
        sys.stdout.write(said)


if __name__ == "__main__":
    _, database, version, what, die, on_drift = sys.argv
    asyncio.run(main(Path(database), int(version), what, die, on_drift))  # type: ignore[arg-type]
