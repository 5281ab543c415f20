"""Every canonical turn survives a kill at every boundary, and again at every boundary of its recovery.

Then the test of the test: what is broken on purpose is found, and named.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from holdfast import NOT_DONE, Agent, Context, Key, MemoryStore, Session, Tool, tool
from holdfast.drivers.sim import Sim, calls
from holdfast.errors import UnknownModel, UsageError
from holdfast.state import CallState, State
from holdfast.testing import (
    CrashReport,
    Ledger,
    ScriptedApprover,
    approve,
    crash_scene,
    crashtest,
    ignore,
)
from holdfast.turn import call as one_call
from holdfast.turn import decide, finish, lanes
from tests.testing.canonical import TURNS, Turn


@pytest.mark.parametrize("turn", TURNS, ids=lambda turn: turn.name)
def test_a_canonical_turn_survives_every_crash(turn: Turn) -> None:
    ledger = Ledger()
    approver = turn.approver() if turn.approver else None
    report = crashtest(turn.agents(ledger), turn.inputs, approver=approver, ledger=ledger)
    report.check()
    assert report.skipped == 0
    assert report.kills > report.boundaries >= 5
    assert set(report.ends) <= turn.ends
    assert {tally.tool for tally in report.tools if tally.in_doubt} == turn.lost
    assert all(not tally.again for tally in report.tools if tally.effect in ("once", "reconcile"))
    if approver is not None:
        approver.verify()


def test_there_are_enough_canonical_turns() -> None:
    assert len(TURNS) >= 25
    assert len({turn.name for turn in TURNS}) == len(TURNS)


@pytest.mark.parametrize("seed", range(1, 6))
def test_another_order_of_steps_survives_as_well(seed: int) -> None:
    turn = next(turn for turn in TURNS if turn.name == "one call of each class")
    ledger = Ledger()
    crashtest(turn.agents(ledger), turn.inputs, ledger=ledger, again=False, seed=seed).check()


def agent_with(*tools: Tool, **options: Any) -> Callable[[], Agent]:
    """An agent that calls all of these at once."""
    model = Sim.storyboard(calls(*[(it.name, {}) for it in tools]), "Done.")
    return lambda: Agent("You help.", name="helper", model=model, tools=tools, **options)


def found_in(report: CrashReport) -> str:
    """The one thing that was found, which `check` says."""
    with pytest.raises(AssertionError) as caught:
        report.check()
    assert str(report) == str(caught.value)
    (what,) = {problem.what for problem in report.problems}
    return what


def pay_with(ledger: Ledger, **options: Any) -> Tool:
    """A tool that pays, whatever is said of it."""

    @tool(**options)
    async def pay() -> str:
        """Pay."""
        ledger.add("paid 5")
        return "paid"

    return pay


@pytest.mark.parametrize("effect", ["idempotent", "pure"])
def test_a_tool_that_lies_about_its_effect_is_found(effect: str) -> None:
    ledger = Ledger()
    report = crashtest(agent_with(pay_with(ledger, effect=effect)), "Pay.", ledger=ledger, again=False)
    assert found_in(report).startswith(
        f"pay (call 1.1 of turn 1) [{effect}] doubled its effect: 'paid 5' in attempt 1 and again in attempt "
    )
    assert [problem.killed for problem in report.problems] == [("right after pay ran (attempt 1)",)]
    assert "killed right after pay ran (attempt 1), and recovered" in str(report)


def test_two_kills_are_both_named() -> None:
    ledger = Ledger()
    report = crashtest(agent_with(pay_with(ledger, effect="idempotent")), "Pay.", ledger=ledger)
    (worst,) = [problem for problem in report.problems if problem.what.count("again") == 2]
    assert str(worst).splitlines() == [
        "pay (call 1.1 of turn 1) [idempotent] doubled its effect: "
        "'paid 5' in attempt 1 and again in attempt 2 and again in attempt 3",
        "    killed right after pay ran (attempt 1), recovered, killed again right after pay ran (attempt 2), "
        "and recovered",
    ]


def test_a_reconcile_function_that_lies_is_found() -> None:
    ledger = Ledger()

    async def never(ctx: Context) -> Any:
        return NOT_DONE

    report = crashtest(
        agent_with(pay_with(ledger, effect="reconcile", reconcile=never)), "Pay.", ledger=ledger, again=False
    )
    assert {problem.what.partition("[reconcile] ")[2] for problem in report.problems} == {
        "had run to its end, and its reconcile function says NOT_DONE",
        "doubled its effect: 'paid 5' in attempt 1 and again in attempt 2",
    }


@tool(effect="once")
async def tell() -> str:
    """Tell."""
    return "told"


@tool(effect="reconcile", reconcile=lambda ctx: asyncio.sleep(0, NOT_DONE))
async def book() -> str:
    """Book."""
    return "booked"


def test_a_planner_that_runs_everything_again_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_it(call: CallState, state: State, now: datetime) -> str:
        return "run"

    monkeypatch.setattr(decide, "how", run_it)
    assert found_in(crashtest(agent_with(tell), "Tell.", again=False)) == (
        "tell (call 1.1 of turn 1) [once] ran 2 times: attempt 1, then attempt 2"
    )


def test_a_call_that_is_not_reconciled_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    async def forget(*_: object) -> None:
        return None

    monkeypatch.setattr(lanes, "reconciled", forget)
    assert found_in(crashtest(agent_with(book), "Book.", again=False)) == (
        "book (call 1.1 of turn 1) [reconcile] ran again without being reconciled (attempt 2)"
    )


def test_a_claim_that_is_not_durable_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "all", lambda effects: True, raising=False)  # as if every call were pure
    assert found_in(crashtest(agent_with(tell), "Tell.", again=False)) == (
        "tell (call 1.1 of turn 1) [once] ran 2 times: attempt 1, then attempt 1"
    )


def test_a_call_in_doubt_that_is_told_as_cancelled_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def cancelled(call: CallState, *_: object) -> Any:
        return one_call.result_of(call.call, "Cancelled.", "cancelled")

    async def cancel(session: Session) -> None:
        turn = await session.send("Tell.", key="the one input")
        await asyncio.sleep(0.5)
        await turn.cancel()

    @tool(effect="once")
    async def dawdle() -> str:
        """Dawdle."""
        await asyncio.sleep(1)
        return "done"

    monkeypatch.setattr(finish, "_settled", cancelled)
    assert found_in(crashtest(agent_with(dawdle), cancel, again=False)) == (
        "dawdle (call 1.1 of turn 1) [once] ran, and is recorded as cancelled"
    )


def test_an_outcome_of_a_call_that_never_ran_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    async def pretend(ready: one_call.Ready, *_: object) -> Any:
        return one_call.result_of(ready.call, "told", "ok")

    monkeypatch.setattr(lanes, "dispatch", pretend)
    assert found_in(crashtest(agent_with(tell), "Tell.", again=False)) == (
        "tell (call 1.1 of turn 1) is recorded as ok, and never ran to its end"
    )


def test_calls_that_share_a_key_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def same(*arguments: object, **fields: Any) -> Any:
        return real(*arguments, **{**fields, "key": "always the same"})

    real = one_call.Call
    monkeypatch.setattr(one_call, "Call", same)
    assert found_in(crashtest(agent_with(tell, pay_with(Ledger())), "Do it.", again=False)) == (
        "tell (call 1.1 of turn 1) and pay (call 1.2 of turn 1) share a key"
    )


def test_an_input_that_is_accepted_twice_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    class Forgetful(dict[str, str]):
        def get(self, key: str, default: object = None) -> object:  # type: ignore[override]
            return default

    monkeypatch.setattr(
        State, "keys", property(lambda self: Forgetful(), lambda self, value: None), raising=True
    )
    problems = {problem.what for problem in crashtest(agent_with(tell), "Tell.", again=False).problems}
    assert "the input with key 'input 1' was accepted 2 times" in problems
    assert "turn 1 ended 2 times" in problems


class LosesTheLast(MemoryStore):
    """A disk that acknowledges what it has not yet kept: opened again, it lacks the last event."""

    async def open(self) -> None:
        await super().open()
        for log in self._logs.values():
            if len(log.events) > 3:
                log.events.pop()


def test_a_disk_that_forgets_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crash_scene, "MemoryStore", LosesTheLast)
    assert crashtest(agent_with(tell), "Tell.", again=False).problems


def test_a_state_that_is_not_the_fold_is_found() -> None:
    async def meddle(session: Session) -> None:
        turn = await session.send("Tell.", key="the one input")
        await turn
        session.state.title = "Meddled"

    assert found_in(crashtest(agent_with(tell), meddle, again=False)) == (
        "the state of the session is not what follows from its log"
    )


def test_a_session_that_never_rests_is_found() -> None:
    async def wait_for_ever(session: Session) -> None:
        await session.send("Tell.", key="the one input")
        await asyncio.Event().wait()

    assert found_in(crashtest(agent_with(tell), wait_for_ever, again=False)) == (
        "the session did not come to rest within 86,400 virtual seconds"
    )


def test_a_recovery_that_fails_is_found() -> None:
    made = 0

    def only_once() -> Agent:
        nonlocal made
        made += 1
        if made > 2:
            raise LookupError("no more agents")
        return agent_with(tell)()

    report = crashtest(only_once, "Tell.", again=False, limit=2)
    assert found_in(report) == "it could not be recovered: LookupError: no more agents"


def test_a_scenario_that_fails_without_a_crash_raises_what_it_raises() -> None:
    with pytest.raises(UnknownModel, match="no layer names a model"):
        crashtest(lambda: Agent("You help."), "Hello?")


def test_it_refuses_to_run_inside_of_a_coroutine() -> None:
    async def main() -> None:
        crashtest(agent_with(tell), "Tell.")

    with pytest.raises(UsageError, match="in a plain function"):
        asyncio.run(main())


def test_a_limit_leaves_scenarios_out_and_says_so() -> None:
    whole = crashtest(agent_with(tell), "Tell.")
    part = crashtest(agent_with(tell), "Tell.", limit=20)
    assert part.scenarios == 20
    assert part.scenarios + part.skipped == whole.scenarios
    assert part.ends == {"turn.completed": 20}
    assert f"{part.skipped} more runs were left out" in str(part)
    least = crashtest(agent_with(tell), "Tell.", limit=1)
    assert (least.scenarios, least.kills) == (1, 0)


def test_without_again_nothing_is_killed_twice() -> None:
    report = crashtest(agent_with(tell), "Tell.", again=False)
    assert report.kills == report.boundaries == report.scenarios - 1


def test_the_report_is_a_table() -> None:
    ledger = Ledger()

    @tool(effect="idempotent")
    async def pay(ctx: Context) -> str:
        """Pay."""
        ledger.add("paid", key=ctx.call.key)
        return "paid"

    report = crashtest(agent_with(pay, tell), "Do it.", ledger=ledger, again=False)
    pay_tally, tell_tally = report.tools
    assert (pay_tally.again, pay_tally.in_doubt, tell_tally.again) == (pay_tally.again, 0, 0)
    assert pay_tally.again > 0
    assert tell_tally.in_doubt > 0
    assert str(report).splitlines() == [
        f"{report.boundaries} boundaries, {report.kills} kills in {report.scenarios} runs: no problem",
        "tool  effect      calls  ran again  in doubt",
        f"pay   idempotent  {report.scenarios:5}  {pay_tally.again:9}         0",
        f"tell  once        {report.scenarios:5}          0  {tell_tally.in_doubt:8}",
        f"turns: {report.scenarios} turn.completed",
    ]
    report.check()


def test_tools_that_need_services_get_them() -> None:
    class Shop:
        price = 300

    key: Key[Shop] = Key("shop")

    @tool(effect="pure", needs=(key,))
    async def price(ctx: Context) -> int:
        """The price."""
        return ctx.scope[key].price

    crashtest(agent_with(price), "What is it?", services={key: Shop()}).check()


def test_an_approver_answers_after_every_crash() -> None:
    @tool(effect="once", ask=True)
    async def refund() -> str:
        """Refund."""
        return "refunded"

    approver = ScriptedApprover(approve("refund"))
    report = crashtest(agent_with(refund), "Refund.", approver=approver)
    report.check()
    approver.verify()
    assert set(report.ends) == {"turn.completed"}


def test_a_question_that_nobody_answers_is_a_visible_wait() -> None:
    @tool(effect="once", ask=True)
    async def refund() -> str:
        """Refund."""
        return "refunded"

    for approver in (None, ScriptedApprover(ignore())):
        report = crashtest(agent_with(refund), "Refund.", approver=approver)
        report.check()
        assert set(report.ends) == {"waiting"}


def test_a_plain_function_may_be_a_tool() -> None:
    ledger = Ledger()

    @tool(effect="idempotent")
    def compute(ctx: Context) -> str:
        """Compute."""
        ledger.add("computed", key=ctx.call.key)
        return "42"

    crashtest(agent_with(compute, tell), "Compute.", ledger=ledger, again=False).check()
    assert ledger.has(ledger.entries[0].key)
