"""What is played, and killed: small, and each another way through the runtime."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from holdfast import NOT_DONE, Agent, Context, Limits, Request, Tool, tool
from holdfast.drivers.sim import Sim, Step, call, calls, fail, say
from holdfast.testing import ScriptedApprover, approve, deny
from tests.crash.world import Line, World

PACE = 0.001
"""Seconds that a tool takes before and after its effect, so that it can be hit in between."""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What a client wants, what the model does about it, and how it may end."""

    name: str
    steps: tuple[Step | str, ...]
    """By how many replies the transcript holds; after the last the model only says that it noted it."""
    inputs: tuple[str, ...] = ("Do the work.",)
    sessions: int = 1
    approver: Callable[[], ScriptedApprover] | None = None
    capabilities: tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict)
    """What the workspace holds in the end."""
    steer: str = ""
    """What the client says while the first turn is at work."""
    cancel: bool = False
    """Whether the client then loses its patience."""
    fails_first: bool = False
    """Whether the first model call ever fails."""
    shared: Literal["", "workers", "rivals"] = ""
    """Who else is at the same database: workers that do everything for the client, or a client that does the same."""
    ends: frozenset[str] = frozenset({"turn.completed"})
    calls: int = 0
    """How many calls the model asks for in each session; -1 when that depends on chance."""


def tools_on(world: World) -> list[Tool]:
    """One of each effect class and some special ones, all acting on this world."""
    return [*_of_each_class(world), *_special(world)]


def _of_each_class(world: World) -> tuple[Tool, ...]:
    @tool(effect="pure")
    async def look(ctx: Context, at: str = "") -> str:
        """Look."""
        world.run(ctx)
        await asyncio.sleep(PACE)
        return f"seen {at}"

    @tool(effect="idempotent")
    async def book(ctx: Context, seat: int = 1) -> str:
        """Book a seat at a service that knows keys."""
        world.run(ctx)
        await asyncio.sleep(PACE)
        if not world.has(ctx.call.key):
            world.effect(ctx, f"booked {seat}")
        await asyncio.sleep(PACE)
        return f"booked {seat}"

    async def charged(ctx: Context) -> Any:
        return "charged" if world.has(ctx.call.key) else NOT_DONE

    @tool(effect="reconcile", reconcile=charged)
    async def charge(ctx: Context, cents: int = 5) -> str:
        """Charge at a service that can be asked."""
        world.run(ctx)
        await asyncio.sleep(PACE)
        world.effect(ctx, f"charged {cents}")
        await asyncio.sleep(PACE)
        return "charged"

    @tool(effect="once")
    async def pay(ctx: Context, cents: int) -> str:
        """Pay, once."""
        world.run(ctx)
        await asyncio.sleep(PACE)
        world.effect(ctx, f"paid {cents}")
        await asyncio.sleep(PACE)
        return f"paid {cents}"

    return look, book, charge, pay


def _special(world: World) -> tuple[Tool, ...]:
    @tool(effect="once")
    async def break_down(ctx: Context) -> str:
        """Act, and fail."""
        world.run(ctx)
        world.effect(ctx, "broken")
        raise RuntimeError("out of order")

    @tool(effect="once", ask=True)
    async def refund(ctx: Context, cents: int) -> str:
        """Refund, when a person agrees."""
        world.run(ctx)
        world.effect(ctx, f"refunded {cents}")
        return "refunded"

    @tool(effect="idempotent")
    def compute(ctx: Context) -> str:
        """Compute, in a thread."""
        world.run(ctx)
        if not world.has(ctx.call.key):
            world.effect(ctx, "computed")
        return "42"

    @tool(effect="once")
    async def dawdle(ctx: Context) -> str:
        """Take a long time over it."""
        world.run(ctx)
        world.effect(ctx, "dawdled")
        await asyncio.sleep(0.02)
        return "at last"

    return break_down, refund, compute, dawdle


def agent_of(scenario: Scenario, world: World) -> Agent:
    """The agent that plays this scenario. It goes on the same in any process."""

    def choose(request: Request) -> Step | str:
        world.fuse.passes("asking the model")
        if scenario.fails_first and not world.lines("asked"):
            world.note(Line(what="asked"))
            return fail("overloaded")
        place = sum(message.role == "assistant" for message in request.messages)
        return scenario.steps[place] if place < len(scenario.steps) else "Noted."

    return Agent(
        "Work.",
        name=scenario.name,
        model=Sim.rule(choose),
        tools=tools_on(world),
        capabilities=scenario.capabilities,
        limits=Limits(model_retries=6),
    )


def slowly(text: str) -> Step:
    """An answer that streams for a moment."""
    return say(text, delay=PACE, pace=PACE / 2)


def each(name: str, arguments: Sequence[dict[str, Any]]) -> Step:
    """Several calls of one tool at once."""
    return calls(*[(name, given) for given in arguments])


ONE_OF_EACH = calls(
    ("look", {"at": "it"}), ("book", {"seat": 1}), ("charge", {"cents": 5}), ("pay", {"cents": 5})
)

SCENARIOS: tuple[Scenario, ...] = (
    Scenario(name="plain answer", steps=(slowly("All is done now."),)),
    Scenario(name="one tool", steps=(call("pay", cents=5), slowly("Paid.")), calls=1),
    Scenario(
        name="parallel tools",
        steps=(each("pay", [{"cents": cents} for cents in (1, 2, 3)]), "All paid."),
        calls=3,
    ),
    Scenario(name="model failure", steps=("Here again.",), fails_first=True),
    Scenario(name="tool failure", steps=(call("break_down"), "It is out of order."), calls=1),
    Scenario(name="pure", steps=(call("look", at="it"), "Seen."), calls=1),
    Scenario(name="idempotent", steps=(call("book", seat=1), "Booked."), calls=1),
    Scenario(name="reconcile", steps=(call("charge", cents=5), "Charged."), calls=1),
    Scenario(name="one of each class", steps=(ONE_OF_EACH, "Done."), calls=4),
    Scenario(name="thread", steps=(calls(("compute", {}), ("look", {})), "42."), calls=2),
    Scenario(
        name="ask approved",
        steps=(calls(("refund", {"cents": 5}), ("look", {})), "Refunded."),
        approver=lambda: ScriptedApprover(approve("refund", cents=5)),
        calls=2,
    ),
    Scenario(
        name="ask denied",
        steps=(call("refund", cents=5), "Denied."),
        approver=lambda: ScriptedApprover(deny("refund", reason="no")),
        calls=1,
    ),
    Scenario(
        name="several inputs",
        steps=(call("pay", cents=1), "One.", call("book", seat=2), "Two.", "Three."),
        inputs=("First.", "Second.", "Third."),
        calls=2,
    ),
    Scenario(
        name="several sessions",
        steps=(calls(("pay", {"cents": 5}), ("book", {"seat": 1})), "Done."),
        sessions=4,
        calls=2,
    ),
    Scenario(
        name="files",
        steps=(
            call("write_file", path="/a.txt", content="one two"),
            calls(
                ("write_file", {"path": "/b.txt", "content": "b" * 9_000}),
                ("pay", {"cents": 5}),
            ),
            "Written.",
        ),
        capabilities=("files",),
        files={"/a.txt": "one two", "/b.txt": "b" * 9_000},
        calls=3,
    ),
    Scenario(
        name="steered",
        steps=(call("dawdle"), "Done.", "You are welcome."),
        steer="Hurry.",
        calls=1,
    ),
    Scenario(
        name="cancelled",
        steps=(calls(("dawdle", {}), ("look", {})), "Never said, mostly."),
        cancel=True,
        ends=frozenset({"turn.completed", "turn.cancelled"}),
        calls=-1,
    ),
    Scenario(
        name="shared with workers",
        steps=(ONE_OF_EACH, slowly("Done.")),
        sessions=3,
        shared="workers",
        calls=4,
    ),
    Scenario(
        name="shared with a rival",
        steps=(ONE_OF_EACH, slowly("One."), call("book", seat=7), "Two."),
        inputs=("First.", "Second."),
        sessions=2,
        shared="rivals",
        calls=5,
    ),
)
"""Everything that is played."""

NAMED = {scenario.name: scenario for scenario in SCENARIOS}
ALONE = tuple(scenario for scenario in SCENARIOS if not scenario.shared)
"""Those in which one process at a time is at the database: they can be killed at every boundary, one by one."""
