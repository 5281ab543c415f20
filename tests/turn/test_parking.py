"""A turn that ends its process each time is gone on with three times, and then waits for a person."""

import asyncio
from pathlib import Path

from holdfast import Agent, Context, Runtime, tool
from holdfast.drivers.sim import Sim, call, say
from holdfast.stores.memory import MemoryStore
from holdfast.testing import VirtualClock


def deadly(runs: list[int], *, mended: bool = False) -> Agent:
    """An agent whose idempotent tool never comes back, as one does that ends its process; unless it is mended."""

    @tool(effect="idempotent")
    async def crunch(ctx: Context) -> str:
        """Crunch."""
        runs.append(ctx.call.attempt)
        if not mended:
            await asyncio.Event().wait()
        return "crunched"

    return Agent(
        "Crunch.", name="cruncher", model=Sim.storyboard(call("crunch"), say("Over.")), tools=[crunch]
    )


async def crash_again(store: MemoryStore, session_id: str, agent: Agent) -> None:
    """Open the session, let the tool run, and end the runtime in the middle of it."""
    async with Runtime(store, clock=VirtualClock(), drain=0) as runtime:
        await runtime.open(session_id, agent)
        await asyncio.sleep(1)


async def test_a_turn_that_never_gets_further_is_parked_with_a_readable_reason_until_a_person_says_go() -> (
    None
):
    store, runs = MemoryStore(), list[int]()
    async with Runtime(store, clock=VirtualClock(), drain=0) as runtime:
        session = await runtime.session(deadly(runs))
        await session.send("Begin.")
        await asyncio.sleep(1)
        session_id = session.id
    for _ in range(5):
        await crash_again(store, session_id, deadly(runs))
    assert runs == [1, 2, 3, 4], "once, and three recoveries"
    async with Runtime(store, clock=VirtualClock(), drain=0) as runtime:
        assert await runtime.store.due(runtime.clock.now()) == [], "no worker takes it up"
        session = await runtime.open(session_id, deadly(runs, mended=True))
        assert session.turn is not None
        result = await session.turn
        assert result.status == "waiting"
        assert result.error is not None
        assert result.error.code == "parked"
        assert session.turn.status == "waiting"
        assert "cut off 4 times" in result.error.message
        turn = await session.resume(by="mia")
        assert turn is not None
        assert (await turn).text == "Over."
    assert runs == [1, 2, 3, 4, 5]


async def test_a_parked_turn_can_be_cancelled(tmp_path: Path) -> None:
    store, runs = MemoryStore(), list[int]()
    async with Runtime(store, clock=VirtualClock(), drain=0) as runtime:
        session = await runtime.session(deadly(runs))
        await session.send("Begin.")
        await asyncio.sleep(1)
        session_id = session.id
    for _ in range(4):
        await crash_again(store, session_id, deadly(runs))
    async with Runtime(store, clock=VirtualClock(), drain=0) as runtime:
        session = await runtime.open(session_id, deadly(runs))
        assert session.turn is not None
        result = await session.turn.cancel("hopeless")
        assert (result.status, len(result.in_doubt)) == ("cancelled", 1)


async def test_progress_makes_the_count_begin_anew() -> None:
    store = MemoryStore()
    steps = [call("step", number=number) for number in range(6)]
    gate = asyncio.Event()

    @tool(effect="idempotent")
    async def step(ctx: Context, number: int) -> str:
        """Go a step; the first attempt of each never comes back."""
        if ctx.call.attempt == 1:
            await gate.wait()
        return f"{number}"

    agent = Agent("Go.", name="walker", model=Sim.storyboard(*steps, say("There.")), tools=[step])
    async with Runtime(store, clock=VirtualClock(), drain=0) as runtime:
        session = await runtime.session(agent)
        await session.send("Begin.")
        await asyncio.sleep(1)
        session_id = session.id
    for _ in range(6):
        await crash_again(store, session_id, agent)
    async with Runtime(store, clock=VirtualClock(), drain=0) as runtime:
        session = await runtime.open(session_id, agent, read_only=True)
        assert session.state.outcome is not None
        assert session.state.outcome.text == "There."
