"""Agents that any process can make anew, and the tools they have."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from holdfast import Agent, Context, Driver, Request, Tool, tool
from holdfast.config import Config, Limits
from holdfast.driver import Emit, Reply
from holdfast.drivers.sim import Step, call
from holdfast.events import Effect
from tests.failure_model.world import Model, World, point


def agent_of(
    *steps: Step | str, tools: Sequence[Tool] = (), limits: Limits | None = None, **config: Any
) -> Agent:
    """An agent whose model plays these steps, by their place in the transcript."""
    return agent_with(Model.storyboard(*steps), tools=tools, limits=limits, **config)


def agent_with(
    model: Driver, *, tools: Sequence[Tool] = (), limits: Limits | None = None, **config: Any
) -> Agent:
    """An agent with this model."""
    return Agent("You help.", name="helper", model=model, tools=tools, limits=limits, config=Config(**config))


class Gated(Model):
    """A model that says nothing before its gate opens."""

    def __init__(self, choose: Callable[[Request], Step | str], **options: Any) -> None:
        super().__init__(choose, **options)
        self.gate = asyncio.Event()
        self.asked = asyncio.Event()

    async def reply(self, request: Request, emit: Emit) -> Reply:
        """Play the next step, later."""
        self.asked.set()
        await self.gate.wait()
        return await super().reply(request, emit)


def gated(world: World, *steps: Step | str) -> tuple[Gated, Agent]:
    """An agent whose model waits, then plays these steps (or asks for some toil), and this model."""
    played = steps or (call("toil"), "Done.")
    model = Gated(lambda request: played[sum(message.role == "assistant" for message in request.messages)])
    return model, agent_with(model, tools=[toil(world)])


def toil(world: World, effect: Effect = "once", *, name: str = "toil", **options: Any) -> Tool:
    """A tool that has its effect on the world and then passes the place `toiled`."""

    @tool(name=name, effect=effect, **options)
    async def run(ctx: Context, what: str = "it") -> str:
        """Toil."""
        world.act(f"{what} as {ctx.call.key}")
        await point("toiled")
        return f"toiled at {what}, attempt {ctx.call.attempt}"

    return run
