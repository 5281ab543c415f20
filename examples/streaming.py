"""Watch a turn live; fall behind; catch up from the log; come back later with a number.

Prints:

    -- live
    Once upon a time there was a pear.
    -- a reader that stood still
    it missed something
    caught up with 4 output.message.completed
    caught up with 5 turn.completed
    the whole text again: 2,000 words
    -- another reader, who had seen everything up to 3
    4 output.message.completed
    5 turn.completed
"""

import asyncio

from holdfast import Agent, Event, Lagged, Runtime, TextDelta
from holdfast.drivers.sim import Sim, say

STORY = say("Once upon a time there was a pear.", pace=0.01)
NOVEL = say("pear " * 2_000)


async def watch(runtime: Runtime) -> None:
    """Words as they come."""
    session = await runtime.session(Agent("You tell stories.", model=Sim.always(STORY)))
    async for item in await session.send("A story, please."):
        if isinstance(item, TextDelta):
            print(item.text, end="", flush=True)
    print()


async def fall_behind(runtime: Runtime) -> str:
    """A reader that is too slow holds nobody up: it is told what it missed, and reads that from the log."""
    session = await runtime.session(Agent("You tell long stories.", model=Sim.always(NOVEL)))
    turn = await session.send("A novel, please.")
    async for item in turn:
        if isinstance(item, Event) and item.type == "turn.started":
            await turn  # stands still while the whole novel goes by
        if isinstance(item, Lagged):
            print("it missed something")
            for event in await session.events(after=item.after):
                print(f"caught up with {event.sequence} {event.type}")
    print(f"the whole text again: {len((await turn).text.split()):,} words")
    return session.id


async def come_back(runtime: Runtime, session_id: str) -> None:
    """A browser that reconnects asks for everything after the last number it saw."""
    session = await runtime.open(session_id)
    for event in await session.events(after=3):
        print(event.sequence, event.type)


async def main() -> None:
    """All three, one after another."""
    async with Runtime() as runtime:
        print("-- live")
        await watch(runtime)
        print("-- a reader that stood still")
        session_id = await fall_behind(runtime)
        print("-- another reader, who had seen everything up to 3")
        await come_back(runtime, session_id)


if __name__ == "__main__":
    asyncio.run(main())
