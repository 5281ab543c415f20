"""An agent whose tools are watched: each run of a call is noted, and may be the last thing its process does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from typing import Any

from msgspec import structs

from holdfast.agent import Agent
from holdfast.capability import Capability, CapabilityRef
from holdfast.config import Layer
from holdfast.events import Effect
from holdfast.registry import Registry
from holdfast.testing.faults import Boundaries
from holdfast.testing.ledger import Doer, Ledger, doing
from holdfast.tool import Call, Context, Tool


@dataclass(kw_only=True, slots=True)
class Run:
    """A tool was run, or its `reconcile` function was asked."""

    call: Call
    effect: Effect
    process: int
    asked: bool = False
    """Whether this was the `reconcile` function."""
    answer: Any = None
    finished: bool = False
    """Whether it returned. One that raised, or was cut off, did not."""


class Watch:
    """Sees what the tools do, in every process of a scenario."""

    def __init__(self, ledger: Ledger | None) -> None:
        self.runs: list[Run] = []
        self.ledger = ledger or Ledger()
        self._process = 0
        self._boundaries = Boundaries()
        self.ledger.clear()

    @contextmanager
    def process(self, number: int, boundaries: Boundaries) -> Iterator[None]:
        """What happens inside is done by this process."""
        self._process, self._boundaries = number, boundaries
        self.ledger.admit(number)
        with doing(Doer(call_id="", tool="", attempt=0, process=number)):
            yield

    def agent(self, agent: Agent) -> Agent:
        """The same agent, watched."""
        watched = copy(agent)
        watched.layers = tuple(self._layer(layer) for layer in agent.layers)
        return watched

    def _layer(self, layer: Layer) -> Layer:
        given = layer.config
        tools = tuple(self._tool(tool) for tool in given.tools)
        capabilities = tuple(
            self.capability(it) if isinstance(it, Capability) else it for it in given.capabilities
        )
        return Layer(name=layer.name, config=structs.replace(given, tools=tools, capabilities=capabilities))

    def capability(self, capability: Capability) -> Capability:
        """The same capability, its tools watched."""
        return structs.replace(capability, tools=tuple(self._tool(tool) for tool in capability.tools))

    def _tool(self, tool: Tool) -> Tool:
        async def run(ctx: Context, arguments: Any) -> Any:
            return await self._run(tool, ctx, arguments)

        async def ask(ctx: Context) -> Any:
            return await self._ask(tool, ctx)

        return structs.replace(tool, run=run, reconcile=ask if tool.reconcile is not None else None)

    async def _run(self, tool: Tool, ctx: Context, arguments: Any) -> Any:
        process, boundaries = self._process, self._boundaries
        what = f"{tool.name} ran (attempt {ctx.call.attempt})"
        await boundaries.cross(f"right before {what}")
        run = Run(call=ctx.call, effect=tool.effect, process=process)
        self.runs.append(run)
        boundaries.change()
        with doing(_doer(ctx.call, process)):
            try:
                value = await tool.run(ctx, arguments)
            except Exception:
                boundaries.change()
                await boundaries.cross(f"right after {what} and failed")
                raise
        run.finished = True
        boundaries.change()
        await boundaries.cross(f"right after {what}")
        return value

    async def _ask(self, tool: Tool, ctx: Context) -> Any:
        assert tool.reconcile is not None
        run = Run(call=ctx.call, effect=tool.effect, process=self._process, asked=True)
        self.runs.append(run)
        with doing(_doer(ctx.call, run.process)):
            run.answer = await tool.reconcile(ctx)
        run.finished = True
        return run.answer


def _doer(call: Call, process: int) -> Doer:
    return Doer(call_id=call.id, tool=call.name, attempt=call.attempt, process=process)


class WatchedRegistry(Registry):
    """The built-in drivers and capabilities, the tools of these watched."""

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self._watch = watch

    def capability(self, ref: CapabilityRef) -> Capability:
        """See `Registry.capability`."""
        return self._watch.capability(super().capability(ref))
