"""Logs of real turns: a simulated model, real tools, a store in memory, virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import cache

from holdfast.agent import Agent
from holdfast.config import Config, Limits
from holdfast.drivers.sim import Sim, Step, call, calls, fail, say
from holdfast.errors import ToolError
from holdfast.events import Event
from holdfast.hook import Allow, AskFor, Deny, Hook, HookEvent, Interrupt, Modify
from holdfast.messages import Usage
from holdfast.policy import Action, Policy
from holdfast.runtime import Runtime
from holdfast.services import FILES
from holdfast.session import Session
from holdfast.testing.clock import START, VirtualClock, run_virtual
from holdfast.tool import Context, tool

Play = Callable[[Session], Awaitable[object]]
USED = Usage(input_tokens=100, output_tokens=20)


@tool(effect="pure")
async def add(a: int, b: int) -> int:
    """Add two integers."""
    return a + b


@tool(effect="idempotent")
async def nap(seconds: float) -> str:
    """Sleep."""
    await asyncio.sleep(seconds)
    return f"slept {seconds:g} s"


@tool
async def break_it(what: str) -> str:
    """Fail."""
    raise ToolError(f"{what} is broken")


@tool(ask=True)
async def send_mail(to: str) -> str:
    """Send a mail, when somebody agrees."""
    return f"sent to {to}"


@tool(needs=(FILES,))
async def note(ctx: Context, text: str) -> str:
    """Write a note."""
    await ctx.scope[FILES].write("/note.txt", text.encode())
    return "noted"


TOOLS = (add, nap, break_it, send_mail, note)


async def one_turn(session: Session) -> None:
    await session.run("Please do it.")


async def two_inputs_at_once(session: Session) -> None:
    first, second = await session.send("First.", key="a"), await session.send("Second.", key="b")
    await session.send("Second, again.", key="b")
    await first
    await second
    await session.update(title="Two", metadata={"done": "yes"})


async def _answer(session: Session, *, agree: bool) -> None:
    turn = await session.send("Please do it.")
    for ask in (await turn).asks:
        await (session.approve if agree else session.deny)(ask.ask_id, by="mia", reason="because")
    await turn


async def agree(session: Session) -> None:
    await _answer(session, agree=True)


async def refuse(session: Session) -> None:
    await _answer(session, agree=False)


async def say_nothing(session: Session) -> None:
    turn = await session.send("Please do it.")
    assert (await turn).status == "waiting"
    await asyncio.sleep(3_600)
    assert turn.status == "completed"


async def stop_half_way(session: Session) -> None:
    turn = await session.send("Please do it.")
    await asyncio.sleep(1)
    queued = await session.send("And now?")
    await queued.cancel("never mind")
    await turn.cancel("the user left")


async def _nobody_answers(action: Action) -> AskFor | Allow:
    until = START + timedelta(minutes=1)
    return AskFor(reason="policy", owner="ops", expires_at=until) if action.kind == "tool" else Allow()


async def _interrupt(event: HookEvent) -> Interrupt:
    return Interrupt("enough")


async def _double(event: HookEvent) -> Modify | Deny:
    return Modify(arguments='{"a": 4, "b": 6}') if event.tool == "add" else Deny("only sums")


def _hook(run: Callable[[HookEvent], Awaitable[Interrupt | Modify | Deny]]) -> Config:
    return Config(hooks=(Hook(id="test:before_tool", point="before_tool", run=run),))


SUM_AND_NAP = calls(("add", {"a": 1, "b": 1}), ("nap", {"seconds": 1}))

SCENES: dict[str, tuple[tuple[Step | str, ...], Play, Config | None]] = {
    "a plain answer": ((say("Hello.", usage=USED),), one_turn, None),
    "a tool": ((call("add", a=2, b=2), say("It is 4.", usage=USED)), one_turn, None),
    "two rounds of tools": ((call("add", a=1, b=1), call("note", text="2"), "Noted."), one_turn, None),
    "parallel tools": (
        (calls(("nap", {"seconds": 3}), ("add", {"a": 1, "b": 2}), ("nap", {"seconds": 1})), "Done."),
        one_turn,
        None,
    ),
    "calls that go wrong": (
        (calls(("break_it", {"what": "it"}), ("add", {"a": "x"}), ("no_such", {}), ("add", "{")), "Sorry."),
        one_turn,
        None,
    ),
    "a failure, then a retry": (
        (fail("overloaded"), fail("rate_limit", retry_after=20.0), say("There.", usage=USED)),
        one_turn,
        None,
    ),
    "a failure for good": ((fail("authentication", "no key"),), one_turn, None),
    "too many failures": ((fail("overloaded"),) * 3, one_turn, None),
    "an ask that is approved": ((call("send_mail", to="a@b.c"), "Sent."), agree, None),
    "an ask that is denied": (
        (calls(("send_mail", {"to": "a@b.c"}), ("add", {"a": 1, "b": 1})), "Not sent."),
        refuse,
        None,
    ),
    "an ask that expires": (
        (call("add", a=1, b=1), "Nobody answered."),
        say_nothing,
        Config(policies=(Policy(name="ops", decide=_nobody_answers),)),
    ),
    "inputs that wait": ((say("One."), say("Two.")), two_inputs_at_once, None),
    "a turn that is cancelled": (
        (calls(("nap", {"seconds": 60}), ("note", {"text": "x"})),),
        stop_half_way,
        None,
    ),
    "a refusal": ((say("I must not.", stop="refusal"),), one_turn, None),
    "a reply cut short": ((say("It is", stop="max_tokens"),), one_turn, None),
    "too many rounds": (
        (call("add", a=1, b=1),) * 2,
        one_turn,
        Config(limits=Limits(max_iterations=2)),
    ),
    "a deadline": (
        (calls(("nap", {"seconds": 60}), ("nap", {"seconds": 1})),),
        one_turn,
        Config(limits=Limits(turn_timeout=10.0)),
    ),
    "an interruption": ((SUM_AND_NAP,), one_turn, _hook(_interrupt)),
    "a hook that changes a call": ((SUM_AND_NAP, "10"), one_turn, _hook(_double)),
}


@cache
def log(scene: str) -> tuple[Event, ...]:
    """The log of this scene, from `session.created` on."""
    steps, play, config = SCENES[scene]

    async def record() -> tuple[Event, ...]:
        sim = Sim.script(*steps)
        agent = Agent("You are a test.", name="tester", model=sim, tools=TOOLS)
        async with Runtime(clock=VirtualClock()) as runtime:
            session = await runtime.session(agent, config=config, title="Recorded", metadata={"scene": scene})
            await play(session)
            await session.messages()
            events = await session.events(limit=10_000)
        sim.verify()
        return tuple(events)

    return run_virtual(record())
