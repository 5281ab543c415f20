"""Canonical turns: every kind of thing that can happen in one, each small enough to be killed at every boundary.

A turn is played by an agent that any process can make anew. Its tools act on a ledger, which stands for the world
outside: `book` as a service that knows idempotency keys, `pay` as one that can be asked about a key, `tell` as one
that knows nothing.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from msgspec import Struct

from holdfast import (
    NOT_DONE,
    Agent,
    Allow,
    AskFor,
    Config,
    Context,
    Decision,
    Deny,
    Driver,
    Hook,
    HookEvent,
    Interrupt,
    Limits,
    Modify,
    Policy,
    Request,
    Session,
    Tool,
    ToolError,
    tool,
)
from holdfast.driver import Settings
from holdfast.drivers.sim import Sim, Step, call, calls, fail, say
from holdfast.policy import Action
from holdfast.testing import Ledger, ScriptedApprover, VirtualClock, approve, deny, ignore
from holdfast.testing.client import Script

COMPLETED = frozenset({"turn.completed"})
FAILED = frozenset({"turn.failed"})


def world(ledger: Ledger) -> list[Tool]:
    """Every tool, acting on this ledger."""
    return [*one_of_each_class(ledger), *troublesome(ledger), *special(ledger)]


def one_of_each_class(ledger: Ledger) -> tuple[Tool, ...]:
    """A tool of each effect class."""

    @tool(effect="pure")
    async def look(at: str = "") -> str:
        """Look."""
        return f"seen {at}"

    @tool(effect="idempotent")
    async def book(ctx: Context, seat: int = 1) -> str:
        """Book a seat."""
        ledger.add(f"booked {seat}", key=ctx.call.key)
        return f"booked {seat}"

    async def paid(ctx: Context) -> Any:
        return "paid" if ledger.has(ctx.call.key) else NOT_DONE

    @tool(effect="reconcile", reconcile=paid)
    async def pay(ctx: Context, cents: int = 5) -> str:
        """Pay."""
        ledger.add(f"paid {cents}", key=ctx.call.key)
        return "paid"

    @tool(effect="once")
    async def tell(ctx: Context, whom: str = "all") -> str:
        """Tell somebody."""
        ledger.add(f"told {whom}")
        return f"told {whom}"

    return look, book, pay, tell


def special(ledger: Ledger) -> tuple[Tool, ...]:
    """Tools with a lane, a long answer, a thread, a question."""

    @tool(effect="once", lane="printer")
    async def print_page(page: int) -> str:
        """Print a page."""
        ledger.add(f"printed {page}")
        await asyncio.sleep(1)
        return f"page {page}"

    @tool(effect="pure")
    async def dump() -> str:
        """Show everything."""
        return "spam " * 1_000

    @tool(effect="idempotent")
    def compute(ctx: Context) -> str:
        """Compute, in a thread."""
        ledger.add("computed", key=ctx.call.key)
        return "42"

    @tool(effect="once", ask=True)
    async def refund(cents: int) -> str:
        """Refund."""
        ledger.add(f"refunded {cents}")
        return "refunded"

    return print_page, dump, compute, refund


def troublesome(ledger: Ledger) -> tuple[Tool, ...]:
    """Tools that fail, each in its way."""

    @tool(effect="once")
    async def break_down() -> str:
        """Act, and break down."""
        ledger.add("broken")
        raise RuntimeError("out of order")

    @tool(effect="idempotent")
    async def decline(ctx: Context) -> str:
        """Say no."""
        ledger.add("declined", key=ctx.call.key)
        raise ToolError("not today")

    @tool(effect="once", timeout=5)
    async def dawdle() -> str:
        """Take too long."""
        ledger.add("dawdled")
        await asyncio.sleep(60)
        return "at last"

    return break_down, decline, dawdle


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One canonical turn."""

    name: str
    model: Callable[[], Driver]
    inputs: str | Sequence[str] | Script = "Do it."
    approver: Callable[[], ScriptedApprover] | None = None
    limits: Limits | None = None
    config: Config = field(default_factory=Config)
    capabilities: tuple[str, ...] = ()
    ends: frozenset[str] = COMPLETED
    """How its turns may end."""
    lost: frozenset[str] = frozenset()
    """Tools of which a crash leaves some calls in doubt."""

    def agents(self, ledger: Ledger) -> Callable[[], Agent]:
        """What makes the agent, in any process."""
        tools = world(ledger)
        return lambda: Agent(
            "You help.",
            name=self.name,
            model=self.model(),
            tools=tools,
            capabilities=self.capabilities,
            limits=self.limits,
            config=self.config,
        )


def plays(*steps: Step | str) -> Callable[[], Driver]:
    """A model that plays these steps by their place in the transcript."""
    return lambda: Sim.storyboard(*steps)


def fails_first(failure: Step, *steps: Step | str) -> Callable[[], Driver]:
    """A model whose first request in each process fails."""

    def make() -> Driver:
        failures = [failure]

        def choose(request: Request) -> Step | str:
            if failures:
                return failures.pop()
            return steps[sum(message.role == "assistant" for message in request.messages)]

        return Sim.rule(choose)

    return make


def each(name: str, arguments: Iterable[dict[str, Any]]) -> Step:
    """Several calls of one tool at once."""
    return calls(*[(name, given) for given in arguments])


async def ask_for_a_minute(action: Action) -> Decision:
    """A policy that wants a person to agree to a telling, within a minute."""
    if action.name != "tell":
        return Allow()
    return AskFor(reason="really?", expires_at=VirtualClock().now() + timedelta(seconds=60))


async def louder(event: HookEvent) -> Modify:
    """A hook that changes the arguments, the same way each time."""
    return Modify(arguments='{"whom":"EVERYBODY"}', reason="louder")


async def not_the_boss(event: HookEvent) -> Deny | None:
    """A hook that refuses some calls."""
    return Deny("never the boss") if "boss" in event.arguments else None


async def stop_after(event: HookEvent) -> Interrupt | None:
    """A hook that ends the turn after a telling."""
    return Interrupt("enough") if event.tool == "tell" else None


async def cancel_while_it_works(session: Session) -> None:
    """A client that loses its patience, after every start anew."""
    turn = await session.send("Print.", key="the one input")
    await asyncio.sleep(0.5)
    await turn.cancel("took too long")


async def steer_while_it_works(session: Session) -> None:
    """A client that says something more, before a tool is done and after everything is."""
    await session.send("Print.", key="the one input")
    await asyncio.sleep(0.5)
    await session.steer("Hurry.", key="the second")
    await asyncio.sleep(60)
    await session.steer("Thank you.", key="the third")


async def cancel_at_once(session: Session) -> None:
    """A client that thinks better of it, after every start anew."""
    turn = await session.send("Tell.", key="the one input")
    await turn.cancel("never mind")


async def send_everything_twice(session: Session) -> None:
    """A client that never trusts an answer."""
    first = await session.send("Once.", key="the one input")
    again = await session.send("Once.", key="the one input")
    assert first.id == again.id
    await again


async def update_meanwhile(session: Session) -> None:
    """A client that writes to the log itself."""
    await session.send("Book.", key="the one input")
    await session.update(title="A title")
    await session.files.write("/note.txt", b"from outside")


class Booked(Struct):
    """A typed answer."""

    seat: int


async def ask_for_a_seat(session: Session) -> None:
    """A client that wants a typed answer, after every start anew."""
    result = await (await session.send("Book.", key="the one input", output=Booked))
    assert result.output == Booked(seat=7)


async def ask_for_a_seat_in_vain(session: Session) -> None:
    """A client that wants a typed answer from a model that gives none."""
    result = await (await session.send("Book.", key="the one input", output=Booked, repairs=1))
    assert result.stop == "invalid_output"


def by_tool(*steps: Step | str) -> Callable[[], Driver]:
    """A model that answers with a tool."""

    def make() -> Driver:
        sim = Sim.storyboard(*steps)
        sim.answers_by = "tool"
        return sim

    return make


TURNS = (
    Turn(
        name="typed answer, repaired",
        model=plays(call("book"), "Seat 7.", '{"seat": "seven"}', '{"seat": 7}'),
        inputs=ask_for_a_seat,
    ),
    Turn(
        name="typed answer by a tool, repaired",
        model=by_tool(
            calls(("book", {}), ("final_answer", {"seat": "7"})),
            calls(("tell", {}), ("final_answer", {"seat": 7})),
        ),
        inputs=ask_for_a_seat,
        lost=frozenset({"tell"}),
    ),
    Turn(
        name="typed answer that never comes",
        model=plays("Seat 7.", "Seven."),
        inputs=ask_for_a_seat_in_vain,
        ends=FAILED,
    ),
    Turn(name="plain answer", model=plays("Hello.")),
    Turn(name="pure call", model=plays(call("look"), "Seen.")),
    Turn(name="idempotent call", model=plays(call("book"), "Booked.")),
    Turn(name="reconcile call", model=plays(call("pay"), "Paid.")),
    Turn(name="once call", model=plays(call("tell"), "Told."), lost=frozenset({"tell"})),
    Turn(
        name="one call of each class",
        model=plays(calls(("look", {}), ("book", {}), ("pay", {}), ("tell", {})), "Done."),
        lost=frozenset({"tell"}),
    ),
    Turn(
        name="three once calls",
        model=plays(each("tell", ({"whom": name} for name in "abc")), "Told."),
        lost=frozenset({"tell"}),
    ),
    Turn(
        name="three calls in one lane",
        model=plays(each("print_page", ({"page": page} for page in (1, 2, 3))), "Printed."),
        lost=frozenset({"print_page"}),
    ),
    Turn(
        name="one after another",
        model=plays(calls(("book", {}), ("tell", {}), ("look", {})), "Done."),
        config=Config(parallel_calls=False),
        lost=frozenset({"tell"}),
    ),
    Turn(
        name="two at a time",
        model=plays(each("book", ({"seat": seat} for seat in range(4))), "Booked."),
        limits=Limits(tool_concurrency=2),
    ),
    Turn(
        name="three rounds",
        model=plays(call("look"), call("tell"), call("book"), "Done."),
        lost=frozenset({"tell"}),
    ),
    Turn(
        name="model fails once",
        model=fails_first(fail("overloaded"), call("book"), "Booked."),
        limits=Limits(model_retries=4),
    ),
    Turn(
        name="stream breaks once",
        model=fails_first(fail("broken_stream", text="Hel lo", error_after=1), "Hello."),
        limits=Limits(model_retries=4),
    ),
    Turn(name="model fails for good", model=plays(fail("authentication")), ends=FAILED),
    Turn(
        name="model fails every time",
        model=plays(call("tell"), fail("overloaded")),
        ends=FAILED,
        lost=frozenset({"tell"}),
    ),
    Turn(name="tool breaks down", model=plays(call("break_down"), "Broken."), lost=frozenset({"break_down"})),
    Turn(name="tool says no", model=plays(call("decline"), "No.")),
    Turn(
        name="nonsense",
        model=plays(
            calls(("book", {"seat": "x"}), ("no_such_tool", {}), ("book", "not json"), ("look", {})), "Oh."
        ),
    ),
    Turn(name="tool takes too long", model=plays(call("dawdle"), "Late."), lost=frozenset({"dawdle"})),
    Turn(
        name="deadline",
        model=plays(calls(("print_page", {"page": 1}), ("dawdle", {})), "Never said."),
        limits=Limits(turn_timeout=3),
        lost=frozenset({"print_page", "dawdle"}),
    ),
    Turn(
        name="iteration limit",
        model=plays(call("tell"), call("book"), "Never said."),
        limits=Limits(max_iterations=2),
        lost=frozenset({"tell"}),
    ),
    Turn(
        name="ask approved",
        model=plays(calls(("refund", {"cents": 5}), ("look", {})), "Refunded."),
        approver=lambda: ScriptedApprover(approve("refund", cents=5)),
        lost=frozenset({"refund"}),
    ),
    Turn(
        name="ask denied",
        model=plays(call("refund", cents=5), "Denied."),
        approver=lambda: ScriptedApprover(deny("refund", reason="no")),
    ),
    Turn(
        name="ask expires",
        model=plays(calls(("tell", {}), ("book", {})), "Nobody said anything."),
        approver=lambda: ScriptedApprover(ignore("tell")),
        config=Config(policies=(Policy(name="minute", decide=ask_for_a_minute),)),
    ),
    Turn(
        name="nobody answers",
        model=plays(call("refund", cents=5), "Never said."),
        approver=lambda: ScriptedApprover(ignore()),
        ends=frozenset({"waiting"}),
    ),
    Turn(
        name="two inputs",
        model=plays(call("tell"), "One.", call("book"), "Two."),
        inputs=("First.", "Second."),
        lost=frozenset({"tell"}),
    ),
    Turn(
        name="sent twice",
        model=plays(call("tell"), "Told."),
        inputs=send_everything_twice,
        lost=frozenset({"tell"}),
    ),
    Turn(
        name="files",
        model=plays(
            call("write_file", path="/a.txt", content="one two"),
            calls(
                ("edit_file", {"path": "/a.txt", "old": "two", "new": "three"}),
                ("write_file", {"path": "/b.txt", "content": "b"}),
            ),
            "Written.",
        ),
        capabilities=("files",),
    ),
    Turn(name="large result", model=plays(call("dump"), "A lot."), limits=Limits(result_bytes=100)),
    Turn(name="thread", model=plays(call("compute"), "42.")),
    Turn(name="refusal", model=plays(say("I will not.", stop="refusal"))),
    Turn(
        name="cut short",
        model=plays(call("book"), say("And so", stop="max_tokens")),
        config=Config(settings=Settings(max_tokens=2)),
    ),
    Turn(
        name="hooks",
        model=plays(calls(("tell", {"whom": "boss"}), ("tell", {"whom": "you"})), "Told."),
        config=Config(
            hooks=(
                Hook(id="deny", point="before_tool", run=not_the_boss),
                Hook(id="modify", point="before_tool", run=louder),
            )
        ),
        lost=frozenset({"tell"}),
    ),
    Turn(
        name="interrupted",
        model=plays(calls(("tell", {}), ("look", {})), "Never said."),
        config=Config(hooks=(Hook(id="stop", point="after_tool", run=stop_after),)),
        ends=FAILED | COMPLETED,
        lost=frozenset({"tell"}),
    ),
    Turn(
        name="cancelled",
        model=plays(calls(("print_page", {"page": 1}), ("print_page", {"page": 2})), "Never said."),
        inputs=cancel_while_it_works,
        ends=frozenset({"turn.cancelled", "turn.completed"}),
        lost=frozenset({"print_page"}),
    ),
    Turn(
        name="cancelled at once",
        model=plays(call("tell"), "Never said."),
        inputs=cancel_at_once,
        ends=frozenset({"turn.cancelled"}),
    ),
    Turn(
        name="steered",
        model=plays(call("print_page", page=1), "Printed.", "In a hurry.", "You are welcome."),
        inputs=steer_while_it_works,
        lost=frozenset({"print_page"}),
    ),
    Turn(name="written from outside", model=plays(call("book"), "Booked."), inputs=update_meanwhile),
)
"""Every canonical turn."""
