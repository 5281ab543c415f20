"""How turns end: completed, cancelled, out of room; each once, and with nothing left behind."""

import asyncio

import pytest

from holdfast import Agent, Hook, HookEvent, Runtime, Session, tool
from holdfast.drivers.sim import call, calls, say
from holdfast.errors import StoreFull, UnknownAsk
from holdfast.events import TURN_ENDS, Effect
from holdfast.fold import fold
from holdfast.testing import FailingStore, problems_in
from tests.failure_model.agents import agent_of, toil
from tests.failure_model.world import INPUT, PATIENCE, Aftermath, World, until


def ends(after: Aftermath) -> list[str]:
    return [kind for kind in after.kinds if kind in TURN_ENDS]


async def reopened(runtime: Runtime) -> Session:
    (head,) = await runtime.sessions()
    return await runtime.open(head.session_id)


def sleeping(world: World, effect: Effect = "once") -> Agent:
    """An agent with two calls side by side that sleep until somebody ends it."""

    @tool(effect=effect)
    async def sleep(what: str) -> str:
        """Sleep."""
        world.act(f"{what} begins")
        try:
            await asyncio.Event().wait()
        finally:
            world.act(f"{what} ends")
        return what

    return agent_of(
        calls(("sleep", {"what": "a"}), ("sleep", {"what": "b"})), "Never said.", "Next.", tools=[sleep]
    )


async def begun(world: World, number: int) -> None:
    await until(lambda: len(world.ledger) >= number)


async def test_cp72_a_cancel_that_races_with_the_completion_leaves_one_end(world: World) -> None:
    for delay in (0.0, 0.005, 0.01, 0.015, 0.02):
        await world.disk.wipe()
        agent = agent_of(say("Hello.", delay=0.01))
        async with world.runtime(agent) as runtime:
            session = await runtime.session(agent)
            turn = await session.send(INPUT)
            await asyncio.sleep(delay)
            result = await turn.cancel("too slow")
            after = await world.look_at(session)
        assert ends(after) == [f"turn.{result.status}"]
        assert result.status in ("cancelled", "completed")


@pytest.mark.parametrize("place", ["before turn.cancelled", "after turn.cancelled"])
async def test_cp72_a_cancel_whose_process_died_leaves_one_end(world: World, place: str) -> None:
    agent = agent_of(call("toil"), "Done.", tools=[toil(world, "idempotent")])
    slow = agent_of(call("toil"), say("Done.", delay=60), tools=[toil(world, "idempotent")])

    async def cancel(runtime: Runtime) -> None:
        session = await runtime.session(slow)
        await (await session.send(INPUT, key=INPUT)).cancel("never mind")

    await world.kill(place, slow, cancel)
    after = await world.go_on(agent)
    assert ends(after) == ["turn.cancelled" if place.startswith("after") else "turn.completed"]


async def test_cp73_a_cancel_while_tools_run_stops_them_and_says_that_they_may_have_had_their_effect(
    world: World,
) -> None:
    agent = sleeping(world)
    async with world.runtime(agent) as runtime:
        session = await runtime.session(agent)
        turn = await session.send(INPUT)
        await begun(world, 2)
        async with asyncio.timeout(PATIENCE):
            result = await turn.cancel("enough")
        assert result.status == "cancelled"
        assert sorted(world.ledger) == ["a begins", "a ends", "b begins", "b ends"], "no orphan runs on"
        after = await world.look_at(session)
        assert [it.status for it in after.results] == ["in_doubt", "in_doubt"]
        assert ends(after) == ["turn.cancelled"]
        assert after.kinds[-1] == "turn.cancelled", "nothing comes late"
        assert (await session.run("And now?")).status == "completed"


async def test_cp73_a_cancel_from_another_process_stops_the_tools_as_well(world: World) -> None:
    agent = sleeping(world)
    async with world.runtime(agent) as one, world.runtime(agent) as other:
        turn = await (await one.session(agent)).send(INPUT)
        await begun(world, 2)
        theirs = (await reopened(other)).turn
        assert theirs is not None
        async with asyncio.timeout(PATIENCE):
            result = await theirs.cancel("enough")
        assert result.status == (await turn).status == "cancelled"
        assert sorted(world.ledger) == ["a begins", "a ends", "b begins", "b ends"], "no orphan runs on"
        events = await world.log()
    assert problems_in(events) == []
    assert [event.type for event in events if event.type in TURN_ENDS] == ["turn.cancelled"]


async def test_cp74_a_cancel_while_a_person_is_asked_ends_at_once_and_closes_the_calls(world: World) -> None:
    agent = agent_of(call("toil"), "Next.", tools=[toil(world, ask=True)])
    await world.kill("after ask.opened", agent)
    async with world.runtime(agent) as runtime:
        session = await reopened(runtime)
        (ask_id,) = session.state.asks
        assert session.turn is not None
        result = await session.turn.cancel("never mind")
        assert result.status == "cancelled"
        after = await world.look_at(session)
        assert [it.status for it in after.results] == ["cancelled"]
        assert session.state.asks == {}
        with pytest.raises(UnknownAsk):
            await session.approve(ask_id, by="mia")
        assert (await session.run("And now?")).text == "Next."
    assert world.ledger == []


@pytest.mark.parametrize("place", ["before turn.completed", "after turn.completed"])
async def test_cp75_the_end_of_a_turn_and_its_status_are_one_fact(world: World, place: str) -> None:
    agent = agent_of("Hello.")
    await world.kill(place, agent)
    events = await world.log()
    state = fold(events[0].session_id, events)
    there = place.startswith("after")
    assert (state.turn is None, state.outcome is not None, state.due() is None) == (there, there, there)
    assert ends(await world.go_on(agent)) == ["turn.completed"]


async def test_cp76_hooks_whose_process_died_before_they_ran_run_when_somebody_goes_on(world: World) -> None:
    async def note(event: HookEvent) -> None:
        world.act(f"hook {event.attempt}")

    agent = agent_of("Hello.", "Again.", hooks=(Hook(id="note", point="after_turn", run=note),))
    await world.kill("after turn.completed", agent)
    assert world.ledger == []
    async with world.runtime(agent) as runtime:
        session = await reopened(runtime)
        assert session.state.turn is None
        await until(lambda: not session.state.aftermath)
        assert world.ledger == ["hook 2"]
        assert (await session.run("More.")).text == "Again."
        assert ends(await world.look_at(session)) == ["turn.completed", "turn.completed"]
    assert world.ledger == ["hook 2", "hook 1"]


async def test_cp76_hooks_that_ran_before_that_was_recorded_run_again_and_are_told(world: World) -> None:
    async def note(event: HookEvent) -> None:
        world.act(f"hook {event.attempt}")

    agent = agent_of("Hello.", hooks=(Hook(id="note", point="after_turn", run=note),))
    await world.kill("before hooks.run", agent)
    assert world.ledger == ["hook 1"]
    async with world.runtime(agent) as runtime:
        session = await reopened(runtime)
        await until(lambda: not session.state.aftermath)
        assert ends(await world.look_at(session)) == ["turn.completed"]
    assert world.ledger == ["hook 1", "hook 2"]


@pytest.mark.parametrize("at", [2, 3, 4])
async def test_cp81_when_the_disk_fills_nothing_runs_without_its_claim_and_it_goes_on_with_room_again(
    world: World, at: int
) -> None:
    agent = agent_of(call("toil"), "Done.", tools=[toil(world)])
    store = FailingStore(world.disk.store(), StoreFull(), at=at, times=None)
    async with Runtime(store, agents=[agent]) as runtime:
        session = await runtime.session(agent)
        turn = await session.send(INPUT, key=INPUT)
        with pytest.raises(StoreFull):
            await turn
        await runtime.store.renew(runtime._writer.name, 0.0)
    assert store.failed > 0
    claimed = any(event.type == "tool.started" for event in await world.log())
    assert len(world.ledger) == claimed
    after = await world.go_on(agent)
    assert (after.status, after.text) == ("completed", "Done.")
    assert len(world.ledger) == 1


async def test_cp87_nothing_is_left_running_when_a_runtime_is_closed(world: World) -> None:
    agent = sleeping(world, "idempotent")
    await world.watcher()
    before = asyncio.all_tasks()
    async with world.runtime(agent, drain=0) as runtime:
        session = await runtime.session(agent)
        await session.send(INPUT, key=INPUT)
        await begun(world, 2)
        following = asyncio.ensure_future(_follow(session))
        await asyncio.sleep(0.01)
        following.cancel()
        await asyncio.wait([following])
    assert asyncio.all_tasks() == before
    assert sorted(world.ledger) == ["a begins", "a ends", "b begins", "b ends"]


async def _follow(session: Session) -> None:
    async for _ in session.follow():
        pass


async def test_cp87_what_a_task_raised_is_not_swallowed(world: World) -> None:
    agent = agent_of("Hello.")
    store = FailingStore(world.disk.store(), StoreFull(), at=2)
    async with Runtime(store, agents=[agent]) as runtime:
        session = await runtime.session(agent)
        turn = await session.send(INPUT, key=INPUT)
        await until(lambda: not session._runner.busy)
        with pytest.raises(StoreFull):
            await turn
