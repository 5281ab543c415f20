"""Tool calls: claimed, run and settled, and cut off everywhere in between."""

import asyncio
import threading
from typing import Any

import pytest

from holdfast import NOT_DONE, Context, Hook, HookEvent, Limits, Modify, ToolResult, tool
from holdfast.drivers.sim import call, calls
from holdfast.errors import DeterminismError
from holdfast.events import Effect, ToolCompleted, ToolStarted
from holdfast.store import digest_of
from tests.failure_model.agents import agent_of, toil
from tests.failure_model.world import Aftermath, World, point, serve, until

THREE = calls(("toil", {"what": "a"}), ("toil", {"what": "b"}), ("toil", {"what": "c"}))


def claims(after: Aftermath) -> list[ToolStarted]:
    return [event.data for event in after.events if isinstance(event.data, ToolStarted)]


async def _pause(event: HookEvent) -> None:
    await point("before the claim")


PAUSE = Hook(id="pause", point="before_tool", run=_pause)
"""What makes the reply durable before any call of it is claimed."""


async def test_cp27_calls_that_were_durable_and_not_claimed_each_run_once_after_recovery(
    world: World,
) -> None:
    async def never(ctx: Context) -> Any:
        raise AssertionError("nothing was begun")

    effects: list[Effect] = ["pure", "idempotent", "reconcile", "once"]
    tools = [
        toil(world, effect, name=effect, **({"reconcile": never} if effect == "reconcile" else {}))
        for effect in effects
    ]
    agent = agent_of(
        calls(*[(it.name, {"what": it.name}) for it in tools]), "Done.", tools=tools, hooks=(PAUSE,)
    )
    await world.kill("before the claim", agent)
    assert [event.type for event in await world.log()][-1] == "output.message.completed"
    after = await world.go_on(agent)
    assert [result.status for result in after.results] == ["ok"] * 4
    assert sorted(effect.partition(" ")[0] for effect in world.ledger) == sorted(effects)


async def test_cp29_a_call_that_was_claimed_without_the_mark_of_its_dispatch_is_safe_to_run(
    world: World,
) -> None:
    agent = agent_of(call("toil"), "Done.", tools=[toil(world)], hooks=(PAUSE,))
    await world.kill("before the claim", agent)
    async with world.runtime(agent) as runtime:
        (head,) = await runtime.sessions()
        journal = (await runtime.open(head.session_id, drive=False))._journal
        await journal.own()
        (owed,) = journal.running.owed
        claim = ToolStarted(
            call_id=owed.call.id,
            name="toil",
            attempt=1,
            arguments_digest=digest_of(b"{}"),
            effect="once",
            epoch=journal.epoch,
            dispatched=False,
        )
        await journal.record(claim)
    after = await world.go_on(agent)
    assert [result.status for result in after.results] == ["ok"]
    assert len(world.ledger) == 1


async def test_cp29_nothing_runs_before_its_claim_and_mark_are_durable_in_one_append(world: World) -> None:
    agent = agent_of(call("toil"), "Done.", tools=[toil(world)])
    await world.kill("before tool.started", agent)
    assert world.ledger == []
    after = await world.go_on(agent)
    assert [result.status for result in after.results] == ["ok"]
    assert len(world.ledger) == 1


async def test_cp30_a_pure_call_that_was_cut_off_runs_again(world: World) -> None:
    agent = agent_of(call("toil"), "Done.", tools=[toil(world, "pure")])
    await world.kill("toiled", agent)
    after = await world.go_on(agent)
    assert len(world.ledger) == 2
    assert (after.text, [result.status for result in after.results]) == ("Done.", ["ok"])


@pytest.mark.parametrize("place", ["after tool.started", "toiled", "before tool.completed"])
async def test_cp30_an_idempotent_call_that_was_cut_off_runs_again_with_the_same_key(
    world: World, place: str
) -> None:
    agent = agent_of(call("toil"), "Done.", tools=[toil(world, "idempotent")])
    await world.kill(place, agent)
    after = await world.go_on(agent)
    assert [result.status for result in after.results] == ["ok"]
    assert [claim.attempt for claim in claims(after)] == [1, 2]
    assert len(set(world.ledger)) == 1
    assert len(world.ledger) == (1 if place == "after tool.started" else 2)


@pytest.mark.parametrize("place", ["after tool.started", "toiled", "before tool.completed"])
async def test_cp30_a_call_that_can_be_reconciled_is_asked_about_by_its_key(world: World, place: str) -> None:
    async def look(ctx: Context) -> Any:
        return "had toiled" if f"it as {ctx.call.key}" in world.ledger else NOT_DONE

    agent = agent_of(call("toil"), "Done.", tools=[toil(world, "reconcile", reconcile=look)])
    await world.kill(place, agent)
    after = await world.go_on(agent)
    assert len(world.ledger) == 1, "its effect is had once"
    (result,) = after.results
    ran_again = place == "after tool.started"
    assert (result.status, result.text) == ("ok", "toiled at it, attempt 2" if ran_again else "had toiled")


@pytest.mark.parametrize("place", ["after tool.started", "toiled", "before tool.completed"])
async def test_cp30_a_call_of_once_that_was_cut_off_is_told_as_in_doubt_and_never_run_again(
    world: World, place: str
) -> None:
    agent = agent_of(call("toil"), "Done.", tools=[toil(world)])
    await world.kill(place, agent)
    before = list(world.ledger)
    after = await world.go_on(agent)
    assert world.ledger == before
    (result,) = after.results
    assert result.status == "in_doubt"
    assert "may or may not have taken effect" in result.text
    assert after.outcome is not None
    assert after.outcome.in_doubt == (result,)
    assert [message.role for message in after.messages][-2:] == ["tool", "assistant"], "the model was told"


@pytest.mark.parametrize("place", ["before tool.completed", "after tool.completed"])
async def test_cp31_result_event_and_message_are_there_together_or_not_at_all(
    world: World, place: str
) -> None:
    agent = agent_of(call("toil"), "Done.", tools=[toil(world, "idempotent")])
    await world.kill(place, agent)
    settled = [event for event in await world.log() if isinstance(event.data, ToolCompleted)]
    async with world.runtime() as runtime:
        (head,) = await runtime.sessions()
        session = await runtime.open(head.session_id, read_only=True)
        told = [message for message in await session.messages() if message.role == "tool"]
        assert session.state.turn is not None
        owed = session.state.turn.owed
    assert len(settled) == len(told) == 1 - len(owed) == (place == "after tool.completed")
    assert [result.status for result in (await world.go_on(agent)).results] == ["ok"]


async def test_cp34_of_a_parallel_batch_only_the_unsettled_calls_go_on_and_results_keep_their_order(
    world: World,
) -> None:
    @tool(name="toil", effect="idempotent")
    async def run(ctx: Context, what: str) -> str:
        """Toil; only b gets done before the process dies."""
        world.act(what)
        if ctx.call.attempt == 1:
            await until(lambda: what == "b" and len(world.ledger) == 3)
        return what

    agent = agent_of(THREE, "Done.", tools=[run])
    await world.kill("after tool.completed", agent)
    after = await world.go_on(agent)
    assert sorted(world.ledger) == ["a", "a", "b", "c", "c"]
    assert after.results[0].text == "b"
    told = [
        part.text for message in after.messages for part in message.content if isinstance(part, ToolResult)
    ]
    assert told == ["a", "b", "c"]


async def test_cp35_a_tool_beyond_its_deadline_is_stopped_and_leaves_nothing_behind(world: World) -> None:
    @tool(effect="idempotent", timeout=0.05)
    async def hang() -> str:
        """Hang."""
        try:
            await asyncio.Event().wait()
        finally:
            world.act("stopped")
        return "never"

    agent = agent_of(call("hang"), "Done.", tools=[hang])
    await world.watcher()
    before = asyncio.all_tasks()
    after = await world.go_on(agent)
    assert asyncio.all_tasks() <= before
    (result,) = after.results
    assert result.status == "error"
    assert "took longer than 0.05 s" in result.text
    assert world.ledger == ["stopped"]
    assert after.text == "Done."


async def test_cp35_a_tool_in_a_thread_that_does_not_stop_is_given_up_and_counted_until_it_ends(
    world: World,
) -> None:
    let_go = threading.Event()

    @tool(effect="pure", timeout=0.05)
    def hang() -> str:
        """Hang."""
        let_go.wait(20)
        return "never"

    agent = agent_of(call("hang"), "Done.", tools=[hang])
    async with world.runtime(agent) as runtime:
        after = await world.look_at(await serve(runtime, agent))
        assert [name.partition(" of ")[0] for name in runtime.stragglers] == ["tool hang"]
        let_go.set()
        await until(lambda: not runtime.stragglers)
    (result,) = after.results
    assert result.status == "error"
    assert after.text == "Done."


async def test_cp36_a_tool_that_kills_its_worker_each_time_is_parked_after_three_recoveries(
    world: World,
) -> None:
    agent = agent_of(call("toil"), "Done.", tools=[toil(world, "idempotent")])
    for _ in range(4):
        await world.kill("toiled", agent)
    started = [event.data.attempt for event in await world.log() if isinstance(event.data, ToolStarted)]
    assert started == [1, 2, 3, 4], "the attempt is durable before the dispatch"
    async with world.runtime(agent) as runtime:
        session = await serve(runtime, agent)
        assert session.turn is not None
        result = await session.turn
        assert result.status == "waiting"
        assert result.error is not None
        assert result.error.code == "parked"
        assert "cut off 4 times" in result.error.message
        assert await runtime.store.due(runtime.clock.now()) == []
    assert len(world.ledger) == 4


async def test_cp37_a_call_that_differs_on_replay_fails_loudly_before_any_effect(world: World) -> None:
    def agent(what: str) -> Any:
        async def change(event: HookEvent) -> Modify:
            return Modify(arguments=f'{{"what":"{what}"}}')

        return agent_of(
            call("toil"),
            "Done.",
            tools=[toil(world, "idempotent")],
            hooks=(Hook(id="change", point="before_tool", run=change),),
        )

    await world.kill("toiled", agent("this"))
    before = list(world.ledger)
    with pytest.raises(DeterminismError, match="other arguments than it would run with now"):
        await world.go_on(agent("that"))
    assert world.ledger == before


async def test_cp38_after_a_deploy_settled_results_stand_and_calls_of_a_tool_that_is_gone_get_an_error(
    world: World,
) -> None:
    both = calls(("toil", {"what": "a"}), ("gone", {}))

    @tool(effect="once")
    async def gone() -> str:
        """Was here once."""
        world.act("gone")
        return "x"

    old = agent_of(both, "Done.", tools=[toil(world), gone], parallel_calls=False)
    await world.kill("after tool.completed", old)
    new = agent_of(both, "Done.", tools=[toil(world, "pure")], parallel_calls=False)
    after = await world.go_on(new)
    first, second = after.results
    assert (first.status, first.text) == ("ok", "toiled at a, attempt 1")
    assert second.status == "error"
    assert "there is no tool 'gone'" in second.text
    assert len(world.ledger) == 1
    assert after.text == "Done."


async def test_cp38_a_call_that_no_longer_fits_its_tool_gets_an_error_and_is_not_run(world: World) -> None:
    old = agent_of(THREE, "Done.", tools=[toil(world)], limits=Limits(tool_concurrency=1))
    await world.kill("after tool.completed", old)

    @tool(name="toil", effect="once")
    async def run(hours: int) -> str:
        """Toil, by the hour."""
        world.act("by the hour")
        return "x"

    after = await world.go_on(agent_of(THREE, "Done.", tools=[run], limits=Limits(tool_concurrency=1)))
    assert [result.status for result in after.results] == ["ok", "error", "error"]
    assert all("invalid arguments for toil" in result.text for result in after.results[1:])
    assert len(world.ledger) == 1
