"""An approver of the application is asked first, within its time, and its answer counts like anybody's."""

import asyncio
from typing import Any

import pytest

from holdfast import Agent, Allow, AskFor, AskOpened, Deny, MemoryStore, Modify, Runtime, tool
from holdfast.approver import Approver
from holdfast.config import Config
from holdfast.drivers.sim import Sim, call, calls, say
from holdfast.errors import AskClosed, ConfigError
from holdfast.events import HookDecided
from holdfast.facts.asks import AskAnswered
from holdfast.testing import VirtualClock, problems_in
from tests.turn.scenes import kinds, results

PAID: list[int] = []


@pytest.fixture(autouse=True)
def _nothing_paid() -> None:
    PAID.clear()


@tool(ask=True)
async def pay(cents: int) -> str:
    """Pay."""
    PAID.append(cents)
    return f"paid {cents}"


def payer(*cents: int, **config: Any) -> Agent:
    board = Sim.storyboard(calls(*[("pay", {"cents": it}) for it in cents or (5,)]), say("Done."))
    return Agent("Pay.", name="payer", model=board, tools=[pay], config=Config(**config))


def clerk(decision: Any, **options: Any) -> Approver:
    async def decide(ask: AskOpened) -> Any:
        if isinstance(decision, BaseException):
            raise decision
        if isinstance(decision, float):
            await asyncio.sleep(decision)
            return Allow()
        return decision

    return Approver(name="clerk@desk", decide=decide, **options)


async def run(approver: Any, agent: Agent | None = None) -> tuple[Any, list[Any]]:
    async with Runtime(clock=VirtualClock(), drain=0, approver=approver) as runtime:
        session = await runtime.session(agent or payer())
        result = await session.run("Pay.")
        events = await session.events()
        assert problems_in(events) == []
        return result, events


def answers(events: list[Any]) -> list[AskAnswered]:
    return [it.data for it in events if isinstance(it.data, AskAnswered)]


async def test_what_the_approver_allows_runs_under_its_name() -> None:
    result, events = await run(clerk(Allow()))
    assert (result.text, PAID) == ("Done.", [5])
    (answer,) = answers(events)
    assert (answer.verdict, answer.by) == ("approved", "clerk@desk")


async def test_what_it_denies_does_not_run_and_the_model_reads_why() -> None:
    result, events = await run(clerk(Deny("too dear")))
    assert (result.text, PAID) == ("Done.", [])
    assert results(events)[0].text == "Denied: too dear. Nothing was run."


async def test_it_may_change_the_arguments() -> None:
    await run(clerk(Modify(arguments='{"cents":3}')))
    assert PAID == [3]


async def test_what_it_leaves_open_waits_for_others() -> None:
    result, _ = await run(clerk(None))
    assert (result.status, len(result.asks), PAID) == ("waiting", 1, [])


@pytest.mark.parametrize(
    ("decision", "said"),
    [
        (RuntimeError("no network"), "RuntimeError: no network"),
        (SystemExit(3), "SystemExit: 3"),
        (BaseExceptionGroup("b", [SystemExit(3)]), "BaseExceptionGroup: b"),
        (60.0, "no answer within 30 s"),
        ("yes", "'yes' is no answer"),
        (Modify(arguments='{"cents":"x"}'), "cannot be taken"),
        (Modify(result="5"), "is no answer"),
    ],
    ids=["raises", "ends the program", "panics", "too slow", "nonsense", "unfit", "a result"],
)
@pytest.mark.parametrize("on_failure", ["open", "deny"])
async def test_one_that_fails_leaves_the_ask_open_or_denies(
    decision: Any, said: str, on_failure: Any
) -> None:
    result, events = await run(clerk(decision, on_failure=on_failure))
    assert PAID == []
    if on_failure == "deny":
        assert (result.status, said in answers(events)[0].reason) == ("completed", True)
    else:
        assert (result.status, len(result.asks)) == ("waiting", 1)
        (passed,) = [it.data for it in events if isinstance(it.data, HookDecided)]
        assert (passed.hook, passed.point, said in passed.reason) == ("clerk@desk", "ask", True)


async def test_a_person_may_be_faster_than_the_approver() -> None:
    async with Runtime(clock=VirtualClock(), drain=0, approver=clerk(20.0)) as runtime:
        session = await runtime.session(payer())
        turn = await session.send("Pay.")
        await asyncio.sleep(1)
        await session.deny(turn.asks[0].ask_id, by="ann")
        started = asyncio.get_running_loop().time()
        assert (await turn).text == "Done."
        assert asyncio.get_running_loop().time() - started < 5
        assert [it.by for it in answers(await session.events())] == ["ann"]
        assert runtime.stragglers == ()
    assert PAID == []


async def test_the_approver_may_be_faster_than_a_person() -> None:
    async with Runtime(clock=VirtualClock(), drain=0, approver=clerk(5.0)) as runtime:
        session = await runtime.session(payer())
        turn = await session.send("Pay.")
        await asyncio.sleep(1)
        (ask,) = turn.asks
        await turn
        with pytest.raises(AskClosed, match="approved by clerk@desk"):
            await session.deny(ask.ask_id, by="ann")


async def test_what_is_approved_starts_while_the_approver_thinks_about_the_rest() -> None:
    async def decide(ask: AskOpened) -> Allow:
        await asyncio.sleep(20 if '"cents":1' in ask.arguments else 1)
        return Allow()

    async with Runtime(clock=VirtualClock(), drain=0, approver=decide) as runtime:
        session = await runtime.session(payer(1, 2))
        turn = await session.send("Pay.")
        await asyncio.sleep(5)
        assert PAID == [2]
        await turn
    assert PAID == [2, 1]


async def test_it_is_not_asked_about_what_it_may_not_answer() -> None:
    @tool(name="pay", ask=AskFor(reason="big", who=("*@finance",)))
    async def guarded(cents: int) -> str:
        """Pay."""
        raise AssertionError

    agent = Agent("Pay.", name="payer", model=Sim.storyboard(call("pay", cents=5)), tools=[guarded])
    result, events = await run(clerk(Allow()), agent)
    assert (result.status, kinds(events)[-1]) == ("waiting", "ask.opened")


async def test_an_approver_that_is_called_like_the_agent_answers_nothing() -> None:
    async def payer_(ask: AskOpened) -> Allow:
        return Allow()

    result, _ = await run(Approver(name="payer", decide=payer_))
    assert (result.status, PAID) == ("waiting", [])


async def test_nothing_is_left_of_an_approver_whose_turn_was_cancelled() -> None:
    async with Runtime(clock=VirtualClock(), drain=0, approver=clerk(1_000.0, timeout=2_000)) as runtime:
        before = asyncio.all_tasks()
        session = await runtime.session(payer())
        turn = await session.send("Pay.")
        await asyncio.sleep(1)
        await turn.cancel()
        assert (await turn).status == "cancelled"
        await asyncio.sleep(1)
        waiting = [str(it.get_coro()) for it in asyncio.all_tasks() - before]
        assert not [it for it in waiting if "Bell" in it], waiting


async def test_the_session_s_approver_goes_before_the_runtime_s() -> None:
    async with Runtime(clock=VirtualClock(), drain=0, approver=clerk(Deny("runtime"))) as runtime:
        session = await runtime.session(payer(), config=Config(approver=clerk(Allow())))
        assert (await session.run("Pay.")).text == "Done."
        other = await runtime.session(payer(approver=clerk(Deny("agent"))))
        await other.run("Pay.")
        assert results(await other.events())[0].text == "Denied: agent. Nothing was run."
    assert PAID == [5]


async def test_whoever_takes_the_turn_over_asks_its_own_approver() -> None:
    store, agent = MemoryStore(), payer()
    async with Runtime(store, clock=VirtualClock(), drain=0) as runtime:
        session = await runtime.session(agent)
        assert (await session.run("Pay.")).status == "waiting"
    async with Runtime(store, clock=VirtualClock(), drain=0, approver=clerk(Allow())) as runtime:
        again = await runtime.open(session.id, agent)
        assert again.turn is not None
        result = await again.turn
        # the approver changed the terms that the ask was opened under: nothing of it is in the tool's own digest
        assert (result.text, PAID) == ("Done.", [5])


async def test_an_approver_may_answer_questions_and_calls_of_a_client() -> None:
    @tool(client=True)
    async def locate() -> list[int]:
        """Where."""
        raise AssertionError

    async def decide(ask: AskOpened) -> Modify:
        return Modify(result="[1,2]" if ask.wants == "result" else "Blue.")

    board = Sim.storyboard(calls(("locate", {}), ("ask_user", {"question": "Which?"})), say("Done."))
    agent = Agent("Help.", model=board, tools=[locate], capabilities=["questions"])
    result, events = await run(Approver(name="desk", decide=decide), agent)
    assert result.text == "Done."
    assert sorted(it.text for it in results(events)) == ["Blue.", "[1,2]"]


def test_an_approver_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ConfigError, match="above 0"):
        clerk(None, timeout=0)
    with pytest.raises(ConfigError, match="needs a name"):
        Approver(name=" ", decide=clerk(None).decide)
    for name in ("agent", "Agent:clerk", "model:x", "\u200b"):
        with pytest.raises(ConfigError, match=r"an approver needs a name.*(side of this session|say who)"):
            Approver(name=name, decide=clerk(None).decide)
    with pytest.raises(ConfigError, match="no approver"):
        Runtime(approver="ann")  # type: ignore[arg-type]
