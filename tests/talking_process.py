"""A process that opens a database, talks in one session and says so.

python -m tests.talking_process DATABASE SESSION INPUT...

Prints the session's id first (SESSION may be `new`), then one line for each input that was answered. It goes on to the
next input when it reads a line.
"""

import asyncio
import sys

from holdfast import Agent, Runtime
from holdfast.drivers.sim import Sim

AGENT = Agent(
    "You repeat.", name="parrot", model=Sim.rule(lambda request: f"You said: {request.messages[-1].text}")
)


def tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def main(database: str, session_id: str, *inputs: str) -> None:
    """Talk."""
    async with Runtime(database) as runtime:
        new = session_id == "new"
        session = await (runtime.session(AGENT) if new else runtime.open(session_id, AGENT))
        tell(session.id)
        for text in inputs:
            await asyncio.to_thread(sys.stdin.readline)
            tell((await session.run(text)).text)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
