"""A large refund waits for a person, and the program ends meanwhile. Another one approves it.

Prints:

    morning: refunded 20.00
    morning: waiting, because 99.00 is more than 50
    evening: asked about refund({"order_id":"A2","cents":9900}): 99.00 is more than 50
    evening: completed: Both are refunded.
    the log says: approved by ana@example.com
"""

import asyncio

from holdfast import Agent, Runtime, tool
from holdfast.drivers.sim import Sim, calls, say
from holdfast.events import AskAnswered, ToolCompleted


@tool(effect="once", ask=lambda it: it.cents > 5_000 and f"{it.cents / 100:.2f} is more than 50")
async def refund(order_id: str, cents: int) -> str:
    """Refund an order."""
    return f"refunded {cents / 100:.2f}"


MODEL = Sim.storyboard(
    calls(("refund", {"order_id": "A1", "cents": 2_000}), ("refund", {"order_id": "A2", "cents": 9_900})),
    say("Both are refunded."),
)
CLERK = Agent("You refund orders.", name="clerk", model=MODEL, tools=[refund])


async def morning() -> str:
    """One refund goes through, the other needs a person. Nothing has to stay in memory for that."""
    async with Runtime("desk.db") as runtime:
        session = await runtime.session(CLERK)
        turn = await session.send("Refund A1 (20 euros) and A2 (99 euros).")
        result = await turn
        for event in await session.events():
            if isinstance(event.data, ToolCompleted):
                print(f"morning: {event.data.result.text}")
        for ask in result.asks:
            print(f"morning: {result.status}, because {ask.reason}")
        return session.id


async def evening(session_id: str) -> None:
    """Another process, hours later: read the question, answer it, and see the turn to its end."""
    async with Runtime("desk.db", agents=[CLERK]) as runtime:
        session = await runtime.open(session_id)
        turn = session.turn
        assert turn is not None
        for ask in turn.asks:
            print(f"evening: asked about {ask.tool}({ask.arguments}): {ask.reason}")
            await session.approve(ask.ask_id, by="ana@example.com")
        result = await turn
        print(f"evening: {result.status}: {result.text}")
        for event in await session.events():
            if isinstance(event.data, AskAnswered):
                print(f"the log says: {event.data.verdict} by {event.data.by}")


if __name__ == "__main__":
    evening_session = asyncio.run(morning())
    asyncio.run(evening(evening_session))
