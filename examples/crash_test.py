"""Kill an agent everywhere and see what it did twice. One hands the call's key on, the other only says that it does.

Prints:

    the honest one
    … boundaries, … kills in … runs: no problem
    tool    effect      calls  ran again  in doubt
    notify  once …
    refund  idempotent …
    turns: … turn.completed

    the careless one
    … boundaries, … kills in … runs: 1 problem
    tool    effect      calls  ran again  in doubt
    notify  once …
    refund  idempotent …
    turns: … turn.completed

    refund (call 1.1 of turn 1) [idempotent] doubled its effect: 'refunded 20.00 of A7' …
        killed right after refund ran (attempt 1), and recovered
"""

from collections.abc import Callable

from holdfast import Agent, Context, Tool, tool
from holdfast.drivers.sim import Sim, call, say
from holdfast.testing import CrashReport, Ledger, crashtest

BANK = Ledger()
"""Stands for the bank. In your tests, a fake of the system that your tools act on writes into one."""


@tool(effect="idempotent")
async def refund(ctx: Context, order_id: str, cents: int) -> str:
    """Refund an order. The bank knows the key of a refund that it has made already."""
    BANK.add(f"refunded {cents / 100:.2f} of {order_id}", key=ctx.call.key)
    return "refunded"


@tool(effect="idempotent", name="refund")
async def careless_refund(order_id: str, cents: int) -> str:
    """Refund an order. The bank is not told the key, so it cannot know."""
    BANK.add(f"refunded {cents / 100:.2f} of {order_id}")
    return "refunded"


@tool(effect="once")
async def notify(customer: str) -> str:
    """Write to a customer."""
    return f"wrote to {customer}"


def clerk(refunding: Tool) -> Callable[[], Agent]:
    """What makes the agent, anew for every process that is started."""
    return lambda: Agent(
        "You refund orders.",
        name="clerk",
        model=Sim.storyboard(
            call("refund", order_id="A7", cents=2_000), call("notify", customer="Ana"), say("Refunded.")
        ),
        tools=[refunding, notify],
    )


def survive(refunding: Tool, *, again: bool = True) -> CrashReport:
    """The whole test. In a test file it ends with `.check()`, which fails with the same text."""
    return crashtest(clerk(refunding), "Refund order A7 and tell Ana.", ledger=BANK, again=again)


if __name__ == "__main__":
    print("the honest one")
    print(survive(refund))
    print()
    print("the careless one")
    print(survive(careless_refund, again=False))
