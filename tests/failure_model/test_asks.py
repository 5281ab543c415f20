"""Asks: a question to a person, its answer, and what happens to both when processes come and go."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from holdfast import Agent, Allow, AskFor, Decision, Hook, HookEvent, Modify, Policy, Runtime, Session, tool
from holdfast.drivers.sim import call, calls
from holdfast.errors import StoreError, UnknownAsk
from holdfast.events import AskAnswered, ToolStarted
from holdfast.policy import Action
from holdfast.store import digest_of
from tests.failure_model.agents import agent_of, toil
from tests.failure_model.world import LaterClock, World, point, rest, serve, until


def asking(world: World, **options: Any) -> Agent:
    """An agent whose one call needs a person's word."""
    return agent_of(call("toil", what="pay 5"), "Done.", tools=[toil(world, ask=True)], **options)


async def the_ask(session: Session) -> str:
    (ask_id,) = session.state.asks
    return ask_id


async def reopened(runtime: Runtime) -> Session:
    (head,) = await runtime.sessions()
    return await runtime.open(head.session_id)


async def approving(runtime: Runtime, agent: Agent) -> None:
    """An application that says yes to whatever is asked."""
    session = await serve(runtime, agent)
    for ask_id in session.state.asks:
        await session.approve(ask_id, by="mia")
    await rest(session)


async def test_cp40_a_turn_that_waits_for_a_person_survives_a_restart_and_holds_nothing(world: World) -> None:
    agent = asking(world)
    await world.kill("after ask.opened", agent, held=True)
    async with world.runtime(agent) as runtime:
        session = await reopened(runtime)
        assert session.turn is not None
        assert (await session.turn).status == "waiting"
        assert await runtime.store.due(runtime.clock.now()) == []
    async with world.runtime(agent) as runtime:
        session = await reopened(runtime)
        await session.approve(await the_ask(session), by="mia")
        await rest(session)
        assert (await world.look_at(session)).text == "Done."
    assert len(world.ledger) == 1


async def test_cp40_whoever_waits_for_a_person_keeps_nobody_else_from_the_session(world: World) -> None:
    agent = asking(world)
    await world.kill("after ask.opened", agent, held=True)
    async with world.runtime(agent) as runtime:
        session = await reopened(runtime)
        assert await runtime.store.claim(session.id, owner="somebody else", hold=60) > 1
        await runtime.store.renew("somebody else", 0)
        assert session.turn is not None
        assert (await session.turn).status == "waiting"
        assert await runtime.store.claim(session.id, owner="somebody else", hold=60) > 2
        await runtime.store.renew("somebody else", 0)


@pytest.mark.parametrize("second", ["approve", "deny"])
async def test_cp41_of_two_answers_at_once_from_two_processes_the_first_counts(
    world: World, second: str
) -> None:
    agent = asking(world)
    async with world.runtime(agent) as one, world.runtime(agent) as other:
        mine = await serve(one, agent)
        theirs = await reopened(other)
        ask_id = await the_ask(mine)
        answers = await asyncio.gather(
            mine.approve(ask_id, by="mia"),
            getattr(theirs, second)(ask_id, by="bob"),
            return_exceptions=True,
        )
        assert None in answers, "one of them counts"
        assert all(answer is None or isinstance(answer, UnknownAsk | StoreError) for answer in answers)
        await until(lambda: None in (mine.state.turn, theirs.state.turn))
    (answered,) = [event.data for event in await world.log() if isinstance(event.data, AskAnswered)]
    assert len(world.ledger) == (answered.verdict == "approved")


async def test_cp41_a_second_answer_is_refused_and_says_so(world: World) -> None:
    agent = asking(world)
    async with world.runtime(agent) as runtime:
        session = await serve(runtime, agent)
        ask_id = await the_ask(session)
        await session.deny(ask_id, by="mia", reason="no")
        with pytest.raises(UnknownAsk, match=f"no open ask {ask_id}"):
            await session.approve(ask_id, by="bob")
        await rest(session)
        assert [result.status for result in (await world.look_at(session)).results] == ["denied"]
    assert world.ledger == []


def changing(what: str) -> Hook:
    """A hook that changes what is paid."""

    async def change(event: HookEvent) -> Modify:
        return Modify(arguments=f'{{"what":"{what}"}}')

    return Hook(id="change", point="before_tool", run=change)


async def test_cp42_an_approval_is_for_the_arguments_that_were_asked_about_and_for_no_others(
    world: World,
) -> None:
    await world.kill("after ask.opened", asking(world, hooks=(changing("pay 4"),)))
    tampered = asking(world, hooks=(changing("pay 5000"),))
    async with world.runtime(tampered) as runtime:
        session = await reopened(runtime)
        (ask,) = session.state.asks.values()
        assert ask.arguments == '{"what":"pay 4"}'
        assert ask.digest == digest_of(f"{ask.bound}\n{ask.arguments}\n{ask.reason}".encode())
        await session.approve(ask.ask_id, by="mia")
        await rest(session)
        after = await world.look_at(session)
    assert [effect.partition(" as ")[0] for effect in world.ledger] == ["pay 4"]
    (claim,) = [event.data for event in after.events if isinstance(event.data, ToolStarted)]
    assert claim.arguments_digest == digest_of(ask.arguments.encode())


async def test_cp43_a_call_that_was_approved_and_not_claimed_runs_once_after_a_restart(world: World) -> None:
    agent = asking(world)
    await world.kill("after ask.answered", agent, lambda runtime: approving(runtime, agent))
    assert world.ledger == []
    after = await world.go_on(agent)
    assert [result.status for result in after.results] == ["ok"]
    assert len(world.ledger) == 1


def asked_and_at_work(world: World, gate: asyncio.Event, begun: asyncio.Event) -> Agent:
    """An agent with two calls: one needs a person's word, the other is at work until the gate opens."""

    @tool(effect="once")
    async def work() -> str:
        """Work."""
        begun.set()
        await gate.wait()
        return "worked"

    both = calls(("toil", {}), ("work", {}))
    return agent_of(both, "Done.", tools=[toil(world, ask=True), work])


async def test_cp41_a_second_answer_that_is_left_for_the_writer_is_refused_and_says_so(world: World) -> None:
    gate, begun = asyncio.Event(), asyncio.Event()
    agent = asked_and_at_work(world, gate, begun)
    async with world.runtime(agent) as runtime, world.runtime(agent) as one, world.runtime(agent) as other:
        session = await runtime.session(agent)
        await session.send("Go.", key="Go.")
        await begun.wait()
        mine, theirs = await reopened(one), await reopened(other)
        ask_id = await the_ask(mine)
        await mine.approve(ask_id, by="mia")
        with pytest.raises(UnknownAsk):
            await theirs.deny(ask_id, by="bob")
        gate.set()
        await until(lambda: session.state.turn is None)
        after = await world.look_at(session)
    assert [result.status for result in after.results] == ["ok", "ok"]
    assert after.kinds.count("ask.answered") == len(world.ledger) == 1


async def test_cp43_an_answer_that_was_left_for_the_writer_is_heard_though_who_left_it_died(
    world: World,
) -> None:
    gate, begun = asyncio.Event(), asyncio.Event()
    agent = asked_and_at_work(world, gate, begun)

    async def answer(runtime: Runtime) -> None:
        session = await reopened(runtime)
        await session.approve(await the_ask(session), by="mia")

    async with world.runtime(agent) as runtime:
        session = await runtime.session(agent)
        await session.send("Go.", key="Go.")
        await begun.wait()
        await world.kill("after post", agent, answer, beside=True)
        gate.set()
        await until(lambda: session.state.turn is None)
        await rest(session)
        after = await world.look_at(session)
    assert [result.status for result in after.results] == ["ok", "ok"]
    assert after.kinds.count("ask.answered") == len(world.ledger) == 1


async def test_cp43_an_answer_that_was_left_for_a_writer_that_died_is_found_by_a_sweep(world: World) -> None:
    gate, begun = asyncio.Event(), asyncio.Event()
    agent = asked_and_at_work(world, gate, begun)

    async def leave_an_answer(runtime: Runtime) -> None:
        """A writer, and an answer from somebody else right before it dies."""
        await (await runtime.session(agent)).send("Go.", key="Go.")
        await begun.wait()
        async with world.runtime(agent) as other:
            session = await reopened(other)
            await session.approve(await the_ask(session), by="mia")
        await point("left")

    await world.kill("left", agent, leave_an_answer)
    async with world.runtime(agent) as runtime:
        gate.set()
        (session_id,) = await runtime.store.due(runtime.clock.now())
        await runtime.drive(session_id)
        session = await runtime.open(session_id)
        await rest(session)
        after = await world.look_at(session)
    assert after.text == "Done."
    assert after.kinds.count("ask.answered") == len(world.ledger) == 1
    assert [result.status for result in after.results] == ["in_doubt", "ok"]


def asking_for_a_minute(world: World, clock: LaterClock) -> Agent:
    """An agent whose call may be approved within a minute."""

    async def minute(action: Action) -> Decision:
        if action.kind != "tool":
            return Allow()
        return AskFor(reason="really?", expires_at=clock.now() + timedelta(seconds=60))

    return agent_of(
        call("toil"), "Done.", tools=[toil(world)], policies=(Policy(name="minute", decide=minute),)
    )


async def test_cp44_an_ask_that_has_expired_is_never_approved(world: World) -> None:
    clock = LaterClock()
    agent = asking_for_a_minute(world, clock)
    await world.kill("after ask.opened", agent, clock=clock)
    clock.ahead = timedelta(seconds=61)
    await world.kill("after ask.expired", agent, clock=clock)
    async with world.runtime(agent, clock=clock) as runtime:
        session = await reopened(runtime)
        expired = next(event.data.ask_id for event in await session.events() if event.type == "ask.expired")  # type: ignore[attr-defined]
        with pytest.raises(UnknownAsk):
            await session.approve(expired, by="mia")
        await rest(session)
        after = await world.look_at(session)
    assert world.ledger == []
    assert [result.status for result in after.results] == ["denied"]


async def test_cp44_of_an_approval_and_the_expiry_one_transaction_decides(world: World) -> None:
    clock = LaterClock()
    agent = asking_for_a_minute(world, clock)
    await world.kill("after ask.opened", agent, clock=clock)
    clock.ahead = timedelta(seconds=61)
    async with world.runtime(agent, clock=clock) as runtime:
        session = await reopened(runtime)
        for ask_id in list(session.state.asks):
            try:
                await session.approve(ask_id, by="mia")
            except UnknownAsk:
                continue
        await rest(session)
        after = await world.look_at(session)
    closed = [kind for kind in after.kinds if kind in ("ask.answered", "ask.expired")]
    assert len(closed) == 1
    expected = (1, "ok") if closed == ["ask.answered"] else (0, "denied")
    assert (len(world.ledger), after.results[0].status) == expected
