"""Money and other things that run out: what a log and an account say of it when processes die over it."""

import asyncio
from decimal import Decimal
from functools import partial
from typing import Any, Literal

import pytest

from holdfast import Agent, Budget, Limits, Request, Runtime, Session, Settings, Usage, tool
from holdfast.drivers.sim import Step, call, calls, say
from holdfast.events import TURN_ENDS, OutputMessageCompleted
from holdfast.facts.budgets import BudgetReserved, BudgetSettled
from holdfast.store import Account, accounting_of
from holdfast.testing import problems_in
from tests.failure_model.agents import agent_of, agent_with, toil
from tests.failure_model.world import INPUT, Aftermath, Model, World, rest, serve, until

USAGE = Usage(input_tokens=10, output_tokens=40)
MINE = "principal:ann:tokens"


def spender(world: World, *budgets: Budget) -> Agent:
    """An agent that toils once and says so, and uses less than what is set aside for it."""
    return agent_of(
        call("toil"),
        say("Done.", usage=USAGE),
        tools=[toil(world, "idempotent")],
        budgets=budgets,
        settings=Settings(max_tokens=100),
    )


def shared(hard: int = 100_000, **options: Any) -> Budget:
    return Budget(scope="principal", quantity="tokens", hard=hard, **options)


async def ann(runtime: Runtime, agent: Agent) -> Session:
    """What her application does after every start: its session, its input, its rest."""
    heads = await runtime.sessions()
    session = (
        await runtime.open(heads[0].session_id, agent)
        if heads
        else await runtime.session(agent, principal="ann")
    )
    await session.send(INPUT, key=INPUT)
    await rest(session)
    return session


async def account(world: World, name: str = MINE) -> Account:
    return await accounting_of(await world.watcher()).account(name)


def settled(after: Aftermath) -> list[BudgetSettled]:
    return [event.data for event in after.events if isinstance(event.data, BudgetSettled)]


@pytest.mark.parametrize("side", ["before", "after"])
async def test_cp58_a_reply_and_its_debit_are_on_log_and_account_together_or_not_at_all(
    world: World, side: Literal["before", "after"]
) -> None:
    agent = spender(world, shared())
    await world.kill(f"{side} output.message.completed", agent, lambda runtime: ann(runtime, agent))
    events = await world.log()
    replies = [event.data for event in events if isinstance(event.data, OutputMessageCompleted)]
    debits = [event.data for event in events if isinstance(event.data, BudgetSettled)]
    found = await account(world)
    assert len(replies) == len(debits) == (side == "after")
    assert found.used == sum(it.amount.tokens for it in debits)
    assert (found.reserved == 0) == (found.keys == ()) == (side == "after")
    after = await world.go_on(agent)
    found = await account(world)
    assert (found.reserved, found.keys) == (Decimal(0), ())
    assert found.used == sum(it.amount.tokens for it in settled(after))
    lost = [it for it in settled(after) if it.how == "assumed"]
    assert len(lost) == (side == "before"), "what nobody knows counts in full, once"
    assert len(settled(after)) == len(lost) + 2


@pytest.mark.parametrize("side", ["before", "after"])
async def test_cp58_what_only_a_session_spends_is_counted_with_its_reply(
    world: World, side: Literal["before", "after"]
) -> None:
    agent = spender(world, Budget(scope="session", quantity="model_calls", hard=100))
    await world.kill(f"{side} output.message.completed", agent)
    after = await world.go_on(agent)
    assert after.kinds.count("output.message.completed") == 2
    async with world.runtime(agent) as runtime:
        (head,) = await runtime.sessions()
        (standing,) = await (await runtime.open(head.session_id)).budgets()
    assert standing.used == (3 if side == "before" else 2), "the reply that was lost was asked for, too"


async def test_cp58_wherever_a_process_dies_the_account_is_what_the_log_says(world: World) -> None:
    agent = spender(world, shared())
    work = partial(ann, agent=agent)
    for number in await world.places(agent, work):
        await world.disk.wipe()
        world.ledger.clear()
        if not await world.kill_at(number, agent, work):
            continue
        async with world.runtime(agent) as runtime:
            after = await world.look_at(await ann(runtime, agent))
        found = await account(world)
        assert after.text == "Done."
        assert (found.reserved, found.keys) == (Decimal(0), ()), number
        assert found.used == sum(it.amount.tokens for it in settled(after)), number
        assert 2 <= len(settled(after)) <= 3, number


def never_enough(**options: Any) -> Agent:
    """An agent that goes on until its budget is used up."""

    @tool(effect="pure")
    async def look(where: int) -> int:
        """Look."""
        return where

    def busy(request: Request) -> Step:
        return calls(("look", {"where": len(request.messages)}), usage=USAGE)

    return agent_with(
        Model.rule(busy),
        tools=[look],
        budgets=(shared(1_500, **options),),
        settings=Settings(max_tokens=100),
        limits=Limits(max_iterations=100),
    )


async def test_cp59_turns_side_by_side_in_two_processes_never_use_more_than_they_share(world: World) -> None:
    agent = never_enough()
    async with world.runtime(agent) as one, world.runtime(agent) as other:
        sessions = [await runtime.session(agent, principal="ann") for runtime in (one, other, one, other)]
        results = await asyncio.gather(*[session.run(INPUT) for session in sessions])
        spent = sum([session.state.spent.tokens for session in sessions])
        for session in sessions:
            assert problems_in(await session.events()) == []
    assert {result.stop for result in results} == {"budget"}
    found = await account(world)
    assert (found.reserved, found.keys) == (Decimal(0), ())
    assert found.used == spent <= 1_500


async def test_cp59_what_is_set_aside_is_trued_up_with_the_reply(world: World) -> None:
    agent = spender(world, shared())
    await world.kill("answered", agent, lambda runtime: ann(runtime, agent))
    (reserved,) = [event.data for event in await world.log() if isinstance(event.data, BudgetReserved)]
    found = await account(world)
    assert found.reserved == reserved.amount.tokens > 100
    await world.disk.wipe()
    await world.kill("after output.message.completed", agent, lambda runtime: ann(runtime, agent))
    after_call = await account(world)
    assert after_call.reserved == 0


async def test_cp59_what_a_dead_process_set_aside_is_kept_from_others_and_settled_once_by_who_goes_on(
    world: World,
) -> None:
    agent = spender(world, shared(200))
    await world.kill("asking", agent, lambda runtime: ann(runtime, agent))
    held = (await account(world)).reserved
    assert held > 100
    async with world.runtime(agent) as runtime:
        other = await runtime.session(agent, principal="ann")
        result = await other.run(INPUT)
        assert result.stop == "budget", "nobody has it twice"
        assert (await account(world)).reserved == held
        dead = (await runtime.sessions())[-1]
        session = await runtime.open(dead.session_id)
        assert session.turn is not None
        assert (await session.turn.cancel("enough")).status == "cancelled"
    found = await account(world)
    assert (found.used, found.reserved, found.keys) == (held, Decimal(0), ())


THREE = calls(("toil", {"what": "a"}), ("toil", {"what": "b"}), ("toil", {"what": "c"}))


def batch(world: World, **options: Any) -> Agent:
    """An agent with three calls, of which its budget pays one."""
    budget = Budget(scope="session", quantity="tool_calls", hard=1, **options)
    return agent_of(THREE, "Done.", "Next.", tools=[toil(world)], budgets=(budget,))


@pytest.mark.parametrize("place", ["after tool.completed", "before budget.exceeded", "after budget.exceeded"])
async def test_cp60_calls_that_a_budget_does_not_pay_have_results_and_the_session_goes_on_after_a_top_up(
    world: World, place: str
) -> None:
    agent = batch(world)
    await world.kill(place, agent)
    async with world.runtime(agent) as runtime:
        session = await serve(runtime, agent)
        after = await world.look_at(session)
        assert [result.status for result in after.results] == ["ok", "cancelled", "cancelled"]
        assert after.outcome is not None
        assert after.outcome.stop == "budget"
        await session.raise_budget("session tool_calls", 5, by="boss")
        assert (await session.run("And now?")).text == "Done."
        assert [kind for kind in (await world.look_at(session)).kinds if kind in TURN_ENDS] == [
            "turn.completed"
        ] * 2
    assert len(world.ledger) == 1


@pytest.mark.parametrize("place", ["before budget.raised", "after budget.raised"])
async def test_cp60_a_turn_that_waits_for_its_budget_holds_nothing_and_goes_on_after_the_top_up(
    world: World, place: str
) -> None:
    agent = batch(world, on_exceeded="wait")
    await world.kill("after budget.exceeded", agent, held=True)
    async with world.runtime(agent) as runtime:
        (head,) = await runtime.sessions()
        session = await runtime.open(head.session_id)
        assert session.turn is not None
        assert (await session.turn).status == "waiting"
        assert await runtime.store.due(runtime.clock.now()) == []

    async def top_up(runtime: Runtime) -> None:
        session = await serve(runtime, agent)
        await session.raise_budget("session tool_calls", 2, by="boss")
        await until(lambda: session.state.turn is None)
        await rest(session)

    await world.kill(place, agent, top_up)
    async with world.runtime(agent) as runtime:
        due = await runtime.store.due(runtime.clock.now())
        assert bool(due) == place.startswith("after"), "a sweep takes up what was paid"
        if due:
            assert await runtime.drive(due[0]) == "completed"
        else:
            await top_up(runtime)
        after = await world.look_at(await runtime.open(head.session_id))
    assert [result.status for result in after.results] == ["ok"] * 3
    assert (after.text, len(world.ledger)) == ("Done.", 3)


@pytest.mark.parametrize("place", ["before raise_account", "after raise_account", "after post"])
async def test_cp60_a_turn_that_waits_at_an_account_goes_on_after_the_top_up_whoever_dies_over_it(
    world: World, place: str
) -> None:
    agent = spender(world, shared(150, on_exceeded="wait"))

    async with world.runtime(agent) as runtime:
        session = await runtime.session(agent, principal="ann")
        assert (await session.run(INPUT, key=INPUT)).status == "waiting"
    waits = (await account(world)).keys
    assert len(waits) == 1

    async def top_up(runtime: Runtime) -> None:
        await runtime.accounts.raise_limit(MINE, 1_000, by="boss")

    await world.kill(place, agent, top_up)
    raised = (await account(world)).raised
    assert raised == (0 if place.startswith("before") else 1_000)
    async with world.runtime(agent) as runtime:
        if not raised:
            await top_up(runtime)
        due = await runtime.store.due(runtime.clock.now())
        assert bool(due) == (place != "after raise_account"), "it was told"
        (found,) = await runtime.recover()
        assert found.id == session.id, "a sweep takes up who was not told, too"
        assert await runtime.drive(session.id) == "completed"
        after = await world.look_at(await runtime.open(session.id))
    assert (after.text, len(world.ledger)) == ("Done.", 1)
    assert (await account(world)).raised == Decimal(1_000)
