"""One writer at a time: claims, leases, zombies, clocks that jump, and workers that come and go."""

import asyncio
from datetime import timedelta

import pytest

from holdfast import Agent, Context, Runtime, tool
from holdfast.drivers.sim import call, calls
from holdfast.errors import SessionHeld, StaleEpoch
from holdfast.events import ToolStarted
from holdfast.testing import problems_in
from tests.failure_model.agents import agent_of, gated, toil
from tests.failure_model.world import LaterClock, World, point, rest


def working(world: World, gate: asyncio.Event, begun: asyncio.Event) -> Agent:
    """An agent whose tool waits for the gate."""

    @tool(effect="once")
    async def work(ctx: Context) -> str:
        """Work until somebody says stop."""
        world.act(ctx.call.key)
        begun.set()
        await gate.wait()
        return "worked"

    return agent_of(call("work"), "Done.", tools=[work])


async def owing(world: World, agent: Agent) -> str:
    """A session with a turn that nobody is at work on."""
    await world.kill("after turn.started", agent)
    return (await world.log())[0].session_id


async def let_go(runtime: Runtime) -> None:
    """Its lease runs out: nobody hears from it any more."""
    await runtime.store.renew(runtime._writer.name, 0.0)


async def test_cp10_of_two_workers_at_one_turn_one_wins_and_the_other_writes_nothing(world: World) -> None:
    agent = agent_of(call("toil"), "Done.", tools=[toil(world)])
    session_id = await owing(world, agent)
    async with world.runtime(agent) as one, world.runtime(agent) as other:
        ends = await asyncio.gather(one.drive(session_id), other.drive(session_id), return_exceptions=True)
    events = await world.log()
    assert problems_in(events) == []
    assert "completed" in ends
    assert all(end in ("completed", None) or isinstance(end, SessionHeld) for end in ends), ends
    assert len(world.ledger) == 1
    assert len({event.data.epoch for event in events if isinstance(event.data, ToolStarted)}) == 1


async def test_cp28_of_many_claims_at_once_one_gets_the_epoch_and_a_take_over_gets_a_fresh_one(
    world: World,
) -> None:
    session_id = await owing(world, agent_of("Done."))
    store = await world.watcher()
    before = (await store.head(session_id)).epoch  # type: ignore[union-attr]
    claims = await asyncio.gather(
        *[store.claim(session_id, owner=f"worker {n}", hold=60) for n in range(8)], return_exceptions=True
    )
    won = [claim for claim in claims if isinstance(claim, int)]
    assert won == [before + 1]
    assert [type(claim) for claim in claims].count(SessionHeld) == 7
    holder = next(claim.owner for claim in claims if isinstance(claim, SessionHeld))
    await store.renew(holder, 0.0)
    assert await store.claim(session_id, owner="the next") == before + 2


async def test_cp32_a_zombies_late_outcome_is_refused_by_its_epoch(world: World) -> None:
    gate, begun = asyncio.Event(), asyncio.Event()
    agent = working(world, gate, begun)
    async with world.runtime(agent) as zombie, world.runtime(agent) as heir:
        session = await zombie.session(agent)
        turn = await session.send("Go.")
        await begun.wait()
        await let_go(zombie)
        theirs = await heir.open(session.id)
        await rest(theirs)
        after = await world.look_at(theirs)
        assert [result.status for result in after.results] == ["in_doubt"]
        gate.set()
        with pytest.raises(StaleEpoch, match="took over"):
            await turn
    assert await world.log() == after.events
    assert len(world.ledger) == 1


async def test_cp56_a_wall_clock_that_jumps_moves_no_lease(world: World) -> None:
    gate, begun = asyncio.Event(), asyncio.Event()
    agent, clock = working(world, gate, begun), LaterClock()
    async with world.runtime(agent, clock=clock) as one, world.runtime(agent, clock=clock) as other:
        turn = await (await one.session(agent)).send("Go.")
        await begun.wait()
        (head,) = await other.sessions()
        for hours in (1, -1, 24, -24):
            clock.ahead = timedelta(hours=hours)
            with pytest.raises(SessionHeld):
                await other.store.claim(head.session_id, owner="other", hold=1)
            assert await other.store.due(clock.now()) == []
        gate.set()
        assert (await turn).status == "completed"
    assert problems_in(await world.log()) == []


@pytest.mark.parametrize("hours", [1, -1])
async def test_cp56_a_turn_goes_on_with_a_clock_that_jumped_while_it_was_down(
    world: World, hours: int
) -> None:
    clock = LaterClock()
    agent = agent_of(call("toil"), call("toil"), "Done.", tools=[toil(world)])
    await world.kill("after tool.completed", agent, clock=clock)
    clock.ahead = timedelta(hours=hours)
    after = await world.go_on(agent, clock=clock)
    assert [result.status for result in after.results] == ["ok", "ok"]
    assert [event.sequence for event in after.events] == list(range(1, len(after.events) + 1))


async def test_cp77_a_worker_told_to_stop_claims_nothing_more_drains_and_lets_go(world: World) -> None:
    gate, begun = asyncio.Event(), asyncio.Event()
    agent = working(world, gate, begun)
    first = await owing(world, agent)
    async with world.runtime(agent) as runtime:
        stop = asyncio.Event()
        work = asyncio.ensure_future(runtime.work(stop=stop))
        await begun.wait()
        second = await runtime.session(agent)
        await second.update(title="later")
        stop.set()
        await asyncio.sleep(0.02)
        assert not work.done(), "a turn is under way"
        gate.set()
        await work
        assert (await world.log(first))[-1].type == "turn.completed"
    store = await world.watcher()
    assert await store.claim(first, owner="the next", hold=1) > 1


async def test_cp77_a_worker_killed_while_it_drains_has_lost_nothing(world: World) -> None:
    stop = asyncio.Event()

    @tool(effect="idempotent")
    async def last(ctx: Context) -> str:
        """Be at work when the worker is told to stop."""
        world.act(ctx.call.key)
        stop.set()
        await asyncio.sleep(0)
        await point("draining")
        return "worked"

    agent = agent_of(call("last"), "Done.", tools=[last])
    session_id = await owing(world, agent)
    await world.kill("draining", agent, lambda runtime: runtime.work(stop=stop))
    async with world.runtime(agent) as runtime:
        await runtime.drive(session_id)
    events = await world.log()
    assert problems_in(events) == []
    assert events[-1].type == "turn.completed"


async def test_cp78_the_first_write_after_sleeping_beyond_the_lease_is_refused_and_nothing_is_run(
    world: World,
) -> None:
    model, agent = gated(world)
    async with world.runtime(agent) as asleep:
        session = await asleep.session(agent)
        turn = await session.send("Go.")
        await model.asked.wait()
        await let_go(asleep)
        store = await world.watcher()
        await store.claim(session.id, owner="the next", hold=60)
        before = await world.log(session.id)
        model.gate.set()
        with pytest.raises(StaleEpoch, match="took over"):
            await turn
        assert await world.log(session.id) == before
        await store.renew("the next", 0.0)
    assert world.ledger == []


async def test_cp83_a_recovery_may_die_anywhere_and_be_recovered(world: World) -> None:
    agent = agent_of(
        calls(("toil", {"what": "a"}), ("toil", {"what": "b"})), "Done.", tools=[toil(world, "idempotent")]
    )
    await world.kill("after tool.started", agent)
    places = list(await world.places(agent))
    died = 0
    for place in places:
        await world.disk.wipe()
        world.ledger.clear()
        await world.kill("after tool.started", agent)
        died += await world.kill_at(place, agent)
        after = await world.go_on(agent)
        assert [result.status for result in after.results] == ["ok", "ok"]
        assert len(set(world.ledger)) == 2
        assert after.text == "Done."
    assert died > 3, "hardly any recovery was cut off"
