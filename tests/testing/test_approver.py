"""The scripted approver answers what it was told to answer, and complains about the rest."""

import pytest

from holdfast import Agent, AskOpened, Runtime, Session, tool
from holdfast.drivers.sim import Sim, calls
from holdfast.events import AskAnswered
from holdfast.testing import Answer, ScriptedApprover, VirtualClock, approve, deny, ignore


@tool(ask=True)
async def refund(cents: int, order: str = "A1") -> str:
    """Refund."""
    return f"refunded {cents}"


@tool(ask=lambda it: "wipes everything")
async def wipe() -> str:
    """Wipe."""
    return "wiped"


ASKING = Agent(
    "You help.",
    model=Sim.storyboard(
        calls(("refund", {"cents": 5}), ("refund", {"cents": 9_000}), ("wipe", {})), "That is all."
    ),
    tools=[refund, wipe],
)


async def results(approver: ScriptedApprover) -> list[str]:
    """What the calls came to after the approver answered, `open` where it did not."""
    async with Runtime(clock=VirtualClock(), drain=0) as runtime:
        session = await runtime.session(ASKING)
        assert (await session.run("Do it.")).status == "waiting"
        await approver.answer(session)
        assert session.turn is None or session.turn.status in ("running", "waiting")
        turn = session.turn
        if turn is not None:
            await turn
        return told(session)


def told(session: Session) -> list[str]:
    turn = session.state.turn
    if turn is None:
        return [message.text for message in session.state.messages if message.role == "tool"]
    return [call.result.text if call.result else "open" for call in turn.calls.values()]


async def test_each_ask_gets_the_first_answer_that_fits() -> None:
    approver = ScriptedApprover(
        approve("refund", cents=5), deny("refund", reason="too much"), approve("wipe"), deny()
    )
    first, second, third = await results(approver)
    assert (first, third) == ("refunded 5", "wiped")
    assert "too much" in second


async def test_an_ignored_ask_stays_open() -> None:
    assert await results(ScriptedApprover(approve("refund"), ignore("wipe"))) == [
        "refunded 5",
        "refunded 9000",
        "open",
    ]


async def test_a_rule_decides_from_the_ask() -> None:
    def choose(ask: AskOpened) -> Answer:
        return approve() if '"cents":5}' in ask.arguments else deny(reason=f"no {ask.tool}")

    first, second, third = await results(ScriptedApprover.rule(choose))
    assert first == "refunded 5"
    assert "no refund" in second
    assert "no wipe" in third


async def test_who_answered_is_in_the_log() -> None:
    async with Runtime(clock=VirtualClock(), drain=0) as runtime:
        session = await runtime.session(ASKING)
        await session.run("Do it.")
        assert await ScriptedApprover(approve(reason="fine"), by="ana@example.com").answer(session) == 3
        answers = [event.data for event in await session.events() if isinstance(event.data, AskAnswered)]
    assert {(it.by, it.verdict, it.reason) for it in answers} == {("ana@example.com", "approved", "fine")}


async def test_an_ask_without_an_answer_is_a_failed_test() -> None:
    with pytest.raises(AssertionError, match=r"no answer to wipe\(\{\}\) \(wipes everything\)"):
        await results(ScriptedApprover(approve("refund")))


async def test_an_answer_that_was_never_given_is_a_failed_test() -> None:
    approver = ScriptedApprover(approve("refund", cents=5), approve("wipe"), deny(), approve("pay", cents=1))
    await results(approver)
    with pytest.raises(AssertionError, match=r"never asked about: approved pay \{'cents': 1\}"):
        approver.verify()


async def test_a_script_that_was_used_up_is_fine() -> None:
    approver = ScriptedApprover(approve("refund"), ignore("wipe"))
    await results(approver)
    approver.verify()


async def test_answering_twice_does_nothing_the_second_time() -> None:
    async with Runtime(clock=VirtualClock(), drain=0) as runtime:
        session = await runtime.session(ASKING)
        await session.run("Do it.")
        approver = ScriptedApprover(approve())
        assert await approver.answer(session) == 3
        assert await approver.answer(session) == 0
