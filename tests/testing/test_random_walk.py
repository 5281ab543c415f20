"""Random walks: clients do what comes to their minds, processes die when it comes to theirs, and nothing is lost.

Every seed is a world of its own, and the same one again. A seed that fails is a regression test.
"""

import asyncio
import random
from collections.abc import Sequence

import pytest

from holdfast import Agent, Event, Limits, MemoryStore, Message, Request, Runtime, Session
from holdfast.drivers.sim import Sim, Step, calls, fail, say
from holdfast.errors import SessionHeld, Superseded, UnknownTurn
from holdfast.events import InputMessage
from holdfast.testing import (
    Crash,
    Ledger,
    ScriptedApprover,
    Simulation,
    SlowStore,
    VirtualClock,
    approve,
    crash,
    deny,
    ignore,
    problems_in,
)
from holdfast.testing.client import session_of
from holdfast.testing.faults import Boundaries, BoundedStore
from tests.testing.canonical import world

TOOLS = ("look", "book", "pay", "tell", "print_page", "break_down", "decline", "dawdle", "dump", "refund")
ARGUMENTS = {"print_page": {"page": 1}, "refund": {"cents": 5}}
LIMITS = Limits(max_iterations=4, turn_timeout=200, tool_concurrency=3, model_retries=3)


class World:
    """One session, and those who work with it."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.simulation = Simulation(seed)
        self.disk = MemoryStore()
        self.tools = [tool for tool in world(Ledger()) if tool.name in TOOLS]
        self.accepted: dict[str, str] = {}

    def live(self, *, doomed: bool) -> bool:
        """One process, which may die when it is doomed, and else sees everything to its end; whether it died."""
        try:
            self.simulation.run(self._process(doomed=doomed))
        except Crash:
            return True
        return False

    async def _process(self, *, doomed: bool) -> None:
        store = BoundedStore(self.disk, Boundaries())  # which ends what goes round in circles
        async with Runtime(
            random.choice([store, SlowStore(store, 0.01)]),
            clock=VirtualClock(),
            drain=random.choice([0, 100]),
        ) as runtime:
            session = await session_of(runtime, self._agent())
            async with asyncio.timeout(50_000), asyncio.TaskGroup() as group:
                end = group.create_task(die_some_time()) if doomed else None
                await asyncio.wait([group.create_task(self._act(session, number)) for number in range(3)])
                if end is not None:
                    end.cancel()
            if not doomed:
                await see_to_rest(session)

    def _agent(self) -> Agent:
        """Its model does the same for the same transcript, but for when it fails."""

        def choose(request: Request) -> Step:
            if random.random() < 0.1:
                return fail(random.choice(["overloaded", "rate_limit", "authentication"]))
            return planned(request.messages, self.seed)

        return Agent(name="walker", model=Sim.rule(choose), tools=self.tools, limits=LIMITS)

    async def _act(self, session: Session, number: int) -> None:
        for step in range(4):
            await asyncio.sleep(random.choice([0, 0, 0.2, 1, 3]))
            try:
                await self._do_something(session, f"{number}.{step}.{random.randint(0, 1)}")
            except SessionHeld as held:
                await asyncio.sleep(held.seconds)
            except (Superseded, UnknownTurn):  # a rival took over, and what was not durable never was
                await asyncio.sleep(0.1)

    async def _do_something(self, session: Session, key: str) -> None:
        match random.choice(["send", "send", "steer", "cancel", "answer", "update", "write"]):
            case "send" | "steer" as how:
                say_it = session.send if how == "send" else session.steer
                turn = await say_it("Do something.", key=key)
                assert self.accepted.setdefault(key, turn.id) == turn.id
                if random.random() < 0.5:
                    await turn
            case "cancel" if session.turn is not None:
                await session.turn.cancel("a whim")
            case "answer":
                await ScriptedApprover.rule(lambda ask: random.choice([approve, deny, ignore])()).answer(
                    session
                )
            case "update":
                await session.update(title=key)
            case "write":
                await session.files.write("/note.txt", key.encode())

    def check(self) -> None:
        """Everything that was accepted is there, and came to one end."""
        for log in self.simulation.run(self._logs()):
            assert problems_in(log) == []
            inputs = [event.data for event in log if isinstance(event.data, InputMessage)]
            assert self.accepted.items() <= {it.key: it.turn_id for it in inputs}.items()

    async def _logs(self) -> list[list[Event]]:
        await self.disk.open()
        return [
            await self.disk.read(head.session_id, limit=head.sequence) for head in await self.disk.sessions()
        ]


class Rivals(World):
    """The same session in two runtimes at once, with leases so short that they take it from each other."""

    async def _process(self, *, doomed: bool) -> None:
        lease = random.choice([0.5, 5, 30])
        async with Runtime(Lasting(self.disk, 0), clock=VirtualClock()) as runtime:
            await (await session_of(runtime, self._agent())).update(title="There is one.")
        async with asyncio.timeout(50_000), asyncio.TaskGroup() as group:
            end = group.create_task(die_some_time()) if doomed else None
            await asyncio.wait([group.create_task(self._rival(number, lease)) for number in (0, 10)])
            if end is not None:
                end.cancel()
        if not doomed:
            async with Runtime(self.disk, clock=VirtualClock()) as runtime:
                await see_to_rest(await session_of(runtime, self._agent()))

    async def _rival(self, number: int, lease: float) -> None:
        store = Lasting(self.disk, random.choice([0, 0.01]))
        async with Runtime(store, clock=VirtualClock(), drain=100, lease=lease) as runtime:
            session = await session_of(runtime, self._agent())
            await asyncio.gather(*[self._act(session, number + actor) for actor in range(2)])


class Lasting(SlowStore):
    """A slow store whose disk stays open when one of its runtimes closes."""

    async def close(self) -> None:
        await asyncio.sleep(1)


def planned(messages: Sequence[Message], seed: int) -> Step:
    """What the model does at this point of the transcript."""
    chance = random.Random(f"{seed} {sum(message.role == 'assistant' for message in messages)}")
    if chance.random() < 0.4:
        return say("Done.", delay=chance.choice([0, 1]))
    wanted = chance.choices(TOOLS, k=chance.randint(1, 4))
    return calls(*[(name, ARGUMENTS.get(name, {})) for name in wanted], delay=chance.choice([0, 0.3]))


async def die_some_time() -> None:
    """Let the process die sooner or later."""
    await asyncio.sleep(random.choice([0, 0.5, 1, 2, 5, 20, 60]) * random.random())
    for _ in range(random.randint(0, 30)):
        await asyncio.sleep(0)
    await crash("at a random moment")


async def see_to_rest(session: Session) -> None:
    """Approve of everything until nothing is owed, also of going on with a turn that was cut off too often."""
    while session.state.due() is not None or session.state.turn is not None:
        if session.turn is None:
            await asyncio.sleep(0.01)
        elif (await session.turn).status == "waiting" and not await ScriptedApprover(approve()).answer(
            session
        ):
            await session.resume(by="the walker")


@pytest.mark.parametrize("kind", [World, Rivals])
@pytest.mark.parametrize("seeds", [range(start, start + 10) for start in range(0, 100, 10)], ids=str)
def test_whatever_happens_nothing_is_lost(kind: type[World], seeds: range) -> None:
    deaths = 0
    for seed in seeds:
        one = kind(seed)
        deaths += sum(one.live(doomed=True) for _ in range(1 + seed % 4))
        one.live(doomed=False)
        one.check()
    assert deaths > 0, "nobody died: this proves nothing"


@pytest.mark.parametrize("seed", [166, 424, 437, 727, 984, 1092, 1097, 2551, 2725, 2863, 3810, 4324])
def test_rivals_that_once_wrote_behind_each_other_do_not(seed: int) -> None:
    one = Rivals(seed)
    for _ in range(1 + seed % 4):
        one.live(doomed=True)
    one.live(doomed=False)
    one.check()
