"""An agent with one tool, kept in one file. Set OPENAI_API_KEY to run it with a real model.

Prints:

    simulated model; set OPENAI_API_KEY for a real one
    completed: 2 + 2 is 4.
    user: What is 2 + 2?
    assistant asks for add({"a":2,"b":2})
    tool: 4
    assistant: 2 + 2 is 4.
"""

import asyncio
import os

from holdfast import Agent, Driver, Message, Runtime, tool
from holdfast.drivers.sim import Sim, call, say


@tool(effect="pure")
async def add(a: int, b: int) -> int:
    """Add two integers."""
    return a + b


def choose_model() -> str | Driver:
    """The real model where there is a key for it, else a simulation of this one conversation."""
    if os.environ.get("OPENAI_API_KEY"):
        return "openai-chat/gpt-5-mini"
    print("simulated model; set OPENAI_API_KEY for a real one")
    return Sim.storyboard(call("add", a=2, b=2), say("2 + 2 is 4."))


def show(message: Message) -> None:
    """One line for what was said, one for each call."""
    if message.text:
        print(f"{message.role}: {message.text}")
    for wanted in message.calls:
        print(f"{message.role} asks for {wanted.name}({wanted.arguments})")


async def main() -> None:
    """One turn, and the transcript it left."""
    agent = Agent("You are a calculator.", model=choose_model(), tools=[add])
    async with Runtime("calc.db") as runtime:  # Runtime() keeps everything in memory
        session = await runtime.session(agent)
        result = await session.run("What is 2 + 2?")
        print(f"{result.status}: {result.text}")
        for message in await session.messages():
            show(message)


if __name__ == "__main__":
    asyncio.run(main())
