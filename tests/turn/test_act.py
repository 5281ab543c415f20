"""What becomes of a call that was cut off follows from its effect class, and from nothing else."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from msgspec import structs

from holdfast import NOT_DONE, Agent, Allow, Context, Deny, Event, Modify, Tool, ToolResult, tool
from holdfast.drivers.sim import Sim, Step, call, calls, say
from holdfast.errors import DeterminismError, UsageError
from holdfast.events import Effect
from holdfast.policy import Action, Policy
from holdfast.turn.call import CUT_OFF
from tests.turn.scenes import (
    agent_of,
    assert_sound,
    claims,
    cut_off,
    first,
    kinds,
    reopened,
    results,
    session_with,
)


class Ledger:
    """What happened in the world, across restarts: the attempt and the key of each time the effect took place."""

    def __init__(self, effect: Effect = "once", answer: Any = None) -> None:
        self.entries: list[tuple[int, str]] = []
        self.asked: list[str] = []
        self._answer = answer
        options: dict[str, Any] = {"reconcile": self._reconcile} if effect == "reconcile" else {}
        self.tool = tool(name="pay", effect=effect, **options)(self.pay)

    async def pay(self, ctx: Context, cents: int) -> str:
        """Pay."""
        self.entries.append((ctx.call.attempt, ctx.call.key))
        return f"paid {cents}"

    async def _reconcile(self, ctx: Context) -> Any:
        self.asked.append(ctx.call.key)
        if isinstance(self._answer, BaseException):
            raise self._answer
        return self._answer


PAY: tuple[Step, ...] = (call("pay", cents=5), say("done"))


async def after_a_cut_off(
    ledger: Ledger, *steps: Step, agent: Agent | None = None
) -> tuple[Any, list[Event]]:
    """Run a turn, go back to just after the first claim with the effect done, and resume it."""
    agent = agent or agent_of(*(steps or PAY), tools=[ledger.tool])
    async with session_with(agent) as session:
        await session.run("go")
        events = await session.events()
    crash = await cut_off(events, first(events, "tool.started"))
    async with reopened(crash, agent, session.id) as again:
        assert again.turn is not None
        result = await again.turn
        resumed = await again.events()
    assert_sound(resumed)
    return result, resumed


async def test_a_pure_call_is_run_again() -> None:
    ledger = Ledger("pure")
    result, events = await after_a_cut_off(ledger)
    assert [attempt for attempt, _ in ledger.entries] == [1, 2]
    assert [claim.attempt for claim in claims(events)] == [1, 2]
    assert (result.text, result.in_doubt) == ("done", ())


async def test_an_idempotent_call_is_run_again_with_the_same_key() -> None:
    ledger = Ledger("idempotent")
    result, events = await after_a_cut_off(ledger)
    (one, key), (two, same_key) = ledger.entries
    assert (one, two) == (1, 2)
    assert key == same_key == results(events)[0].call_id
    assert result.in_doubt == ()


async def test_a_call_of_no_declared_class_is_never_run_again() -> None:
    ledger = Ledger()
    result, events = await after_a_cut_off(ledger)
    assert len(ledger.entries) == 1
    (outcome,) = results(events)
    assert (outcome.status, outcome.text) == ("in_doubt", CUT_OFF)
    assert result.in_doubt == (outcome,)
    assert result.status == "completed"
    assert [claim.attempt for claim in claims(events)] == [1]


async def test_the_model_reads_that_a_call_is_in_doubt() -> None:
    ledger = Ledger()

    def choose(request: Any) -> Step | str:
        return PAY[0] if request.messages[-1].role == "user" else f"I read: {request.messages[-1].text}"

    agent = Agent(model=Sim.rule(choose), tools=[ledger.tool])
    result, _ = await after_a_cut_off(ledger, agent=agent)
    assert result.text == f"I read: {CUT_OFF}"


async def test_a_reconcile_call_that_took_place_is_settled_by_what_its_author_says() -> None:
    ledger = Ledger("reconcile", answer={"receipt": 7})
    result, events = await after_a_cut_off(ledger)
    assert len(ledger.entries) == 1
    (outcome,) = results(events)
    assert ledger.asked == [outcome.call_id]
    assert (outcome.status, outcome.text) == ("ok", '{"receipt":7}')
    assert result.in_doubt == ()


async def test_a_reconcile_call_that_did_not_take_place_is_run() -> None:
    ledger = Ledger("reconcile", answer=NOT_DONE)
    _, events = await after_a_cut_off(ledger)
    assert [attempt for attempt, _ in ledger.entries] == [1, 2]
    assert len(ledger.asked) == 1
    assert results(events)[0].text == "paid 5"


@pytest.mark.parametrize("error", [OSError("their service is down"), asyncio.CancelledError("it gave up")])
async def test_a_reconcile_call_whose_author_cannot_say_is_in_doubt(error: BaseException) -> None:
    ledger = Ledger("reconcile", answer=error)
    result, events = await after_a_cut_off(ledger)
    assert len(ledger.entries) == 1
    (outcome,) = results(events)
    assert outcome.status == "in_doubt"
    assert f"{type(error).__name__}: {error}" in outcome.text
    assert result.in_doubt == (outcome,)


async def test_a_first_run_is_not_reconciled() -> None:
    ledger = Ledger("reconcile", answer={"receipt": 7})
    async with session_with(agent_of(*PAY, tools=[ledger.tool])) as session:
        await session.run("go")
    assert ledger.asked == []
    assert len(ledger.entries) == 1


async def test_a_reconcile_tool_needs_its_function() -> None:
    async def pay() -> None:
        """Pay."""

    with pytest.raises(UsageError, match="needs reconcile="):
        tool(effect="reconcile")(pay)


async def test_a_call_that_was_not_claimed_runs_for_the_first_time() -> None:
    ledger = Ledger()
    agent = agent_of(*PAY, tools=[ledger.tool])
    async with session_with(agent) as session:
        await session.run("go")
        events = await session.events()
    ledger.entries.clear()
    crash = await cut_off(events, first(events, "output.message.completed"))
    async with reopened(crash, agent, session.id) as again:
        assert again.turn is not None
        await again.turn
    assert [attempt for attempt, _ in ledger.entries] == [1]


async def test_calls_of_every_class_are_told_apart_in_one_batch() -> None:
    ledgers: dict[Effect, Ledger] = {effect: Ledger(effect) for effect in ("pure", "idempotent", "once")}
    tools = [Tool(**{**_fields(ledger.tool), "name": effect}) for effect, ledger in ledgers.items()]
    steps = (calls(*[(effect, {"cents": 1}) for effect in ledgers]), say("done"))
    agent = agent_of(*steps, tools=tools)
    async with session_with(agent) as session:
        await session.run("go")
        events = await session.events()
    crash = await cut_off(events, first(events, "tool.completed") - 1)
    async with reopened(crash, agent, session.id) as again:
        assert again.turn is not None
        result = await again.turn
        messages = await again.messages()
    assert {effect: len(ledger.entries) for effect, ledger in ledgers.items()} == {
        "pure": 2,
        "idempotent": 2,
        "once": 1,
    }
    assert [it.content[0].status for it in messages if it.role == "tool"] == ["ok", "ok", "in_doubt"]  # type: ignore[union-attr]
    assert [it.name for it in result.in_doubt] == ["once"]


def _fields(tool: Tool) -> dict[str, Any]:
    return {name: getattr(tool, name) for name in ("description", "parameters", "run", "effect")}


async def resumed_with(agent: Agent, events: Sequence[Event]) -> tuple[ToolResult, list[Event]]:
    crash = await cut_off(events, first(events, "tool.started"))
    async with reopened(crash, agent, events[0].session_id) as again:
        assert again.turn is not None
        await again.turn
        resumed = await again.events()
    assert_sound(resumed)
    return results(resumed)[0], resumed


async def first_run(agent: Agent) -> list[Event]:
    async with session_with(agent) as session:
        await session.run("go")
        return await session.events()


@pytest.mark.parametrize(
    ("effect", "status"),
    [("pure", "error"), ("idempotent", "in_doubt"), ("reconcile", "in_doubt"), ("once", "in_doubt")],
)
async def test_a_tool_that_is_gone_after_a_restart_leaves_no_false_certainty(
    effect: Effect, status: str
) -> None:
    ledger = Ledger(effect)
    events = await first_run(agent_of(*PAY, tools=[ledger.tool]))
    outcome, _ = await resumed_with(agent_of(*PAY), events)
    assert outcome.status == status
    if status == "in_doubt":
        assert outcome.text.startswith(CUT_OFF)


async def test_a_call_that_policy_would_deny_now_is_in_doubt_when_it_ran_before() -> None:
    async def closed(action: Action) -> Allow | Deny:
        return Deny("closed since yesterday") if action.kind == "tool" else Allow()

    ledger = Ledger("idempotent")
    events = await first_run(agent_of(*PAY, tools=[ledger.tool]))
    agent = agent_of(*PAY, tools=[ledger.tool], policies=(Policy(name="hours", decide=closed),))
    outcome, _ = await resumed_with(agent, events)
    assert outcome.status == "in_doubt"
    assert "closed since yesterday" in outcome.text
    assert len(ledger.entries) == 1


def changing(values: list[int]) -> Policy:
    """A policy that changes the arguments, differently every time it is asked."""

    async def decide(action: Action) -> Allow | Modify:
        return Modify(arguments=f'{{"cents":{values.pop(0)}}}') if action.kind == "tool" else Allow()

    return Policy(name="rounding", decide=decide)


async def test_a_replayed_call_with_other_arguments_is_refused_before_any_effect() -> None:
    ledger = Ledger("idempotent")
    agent = agent_of(*PAY, tools=[ledger.tool], policies=(changing([5, 6, 5]),))
    events = await first_run(agent)
    assert len(ledger.entries) == 1
    crash = await cut_off(events, first(events, "tool.started"))
    async with reopened(crash, agent, events[0].session_id) as again:
        turn = again.turn
        assert turn is not None
        with pytest.raises(DeterminismError, match="other arguments"):
            await turn
        assert len(ledger.entries) == 1
        assert turn.status == "running", "the turn is still owed"
        await again.resume()
        assert (await turn).status == "completed", "it goes on once the policy decides as before"
    assert [attempt for attempt, _ in ledger.entries] == [1, 2]


async def test_every_replayed_call_is_checked_before_any_runs() -> None:
    ledger = Ledger("idempotent")
    desk = Tool(**{**_fields(ledger.tool), "name": "pay", "lane": "desk"})
    steps = (calls(("pay", {"cents": 1}), ("pay", {"cents": 2})), say("done"))
    agent = agent_of(*steps, tools=[desk], policies=(changing([1, 2, 1, 3]),))
    events = await first_run(agent)
    assert len(ledger.entries) == 2
    second_claim = [event.sequence for event in events if event.type == "tool.started"][1]
    before_outcomes = [event for event in events[:second_claim] if event.type != "tool.completed"]
    renumbered = [_at(event, number) for number, event in enumerate(before_outcomes, 1)]
    crash = await cut_off(renumbered, len(renumbered))
    async with reopened(crash, agent, events[0].session_id) as again:
        assert again.turn is not None
        with pytest.raises(DeterminismError):
            await again.turn
    assert len(ledger.entries) == 2, "the first call was not run again either"


def _at(event: Event, sequence: int) -> Event:
    return structs.replace(event, sequence=sequence)


async def test_a_crash_while_resuming_is_resumed_like_any_other() -> None:
    ledger = Ledger("idempotent")
    agent = agent_of(*PAY, tools=[ledger.tool])
    events = await first_run(agent)
    for attempt in (2, 3, 4):
        crash = await cut_off(events, [e.sequence for e in events if e.type == "tool.started"][-1])
        async with reopened(crash, agent, events[0].session_id) as again:
            assert again.turn is not None
            await again.turn
            events = await again.events()
        assert ledger.entries[-1][0] == attempt
    assert len({key for _, key in ledger.entries}) == 1
    assert kinds(events).count("tool.started") == 4
