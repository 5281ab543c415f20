"""Killed at every boundary of every park and answer: what was approved runs at most once, what was denied never."""

from typing import Any

import pytest

from holdfast import Agent, AskFor, AskOpened, Session, tool
from holdfast.approver import Approver
from holdfast.config import Config
from holdfast.drivers.sim import Sim, calls, say
from holdfast.errors import UnknownAsk
from holdfast.hook import Allow
from holdfast.testing import ScriptedApprover, crashtest
from holdfast.testing.approver import approve, deny, ignore


@tool(effect="once", ask=True)
async def pay(cents: int) -> str:
    """Pay."""
    return f"paid {cents}"


@tool(effect="idempotent")
async def look(page: int) -> str:
    """Look."""
    return f"page {page}"


@tool(client=True)
async def locate() -> str:
    """Where the user is."""
    raise AssertionError("it is carried out in the browser")


@tool(effect="idempotent", name="wipe", ask=AskFor(reason="big", expires_in=60))
async def wipe(disk: str) -> str:
    """Wipe."""
    WIPED.append(disk)
    return "wiped"


WIPED: list[str] = []
BATCH = (("pay", {"cents": 1}), ("look", {"page": 1}), ("pay", {"cents": 2}))


def payer(**config: Any) -> Agent:
    return Agent(
        "Pay.",
        name="payer",
        model=Sim.storyboard(calls(*BATCH), calls(("pay", {"cents": 3})), say("Done.")),
        tools=[pay, look],
        config=Config(**config),
    )


def test_approvals_and_denials_in_a_batch_survive_a_crash_anywhere() -> None:
    ann = ScriptedApprover(approve("pay", cents=1), deny("pay", cents=2), approve("pay", cents=3), by="ann")
    report = crashtest(payer, "Pay.", approver=ann, limit=150)
    report.check()
    assert report.kills


async def _say(session: Session, how: dict[str, Any]) -> None:
    """Answer whatever is open; an answer that was lost with its process is given again under its key."""
    turn = session.turn or (None if session.state.outcome else await session.send("go", key="go"))
    while turn is not None and (await turn).status == "waiting":
        for ask in session.asks:
            try:
                await _answer(session, ask, how)
            except UnknownAsk:
                continue


async def _answer(session: Session, ask: AskOpened, how: dict[str, Any]) -> None:
    if ask.wants == "result":
        await session.submit(ask.ask_id, "home", by="browser", key=ask.ask_id)
    elif ask.wants == "answer":
        await session.answer(ask.ask_id, "blue", by="ann", key=ask.ask_id)
    else:
        await session.approve(ask.ask_id, by="ann", key=ask.ask_id, **how)


@pytest.mark.parametrize(
    "how", [{"scope": "tool"}, {"arguments": {"cents": 9}}, {}], ids=["sticky", "edited", "plain"]
)
def test_sticky_and_edited_answers_survive_a_crash_anywhere(how: dict[str, Any]) -> None:
    async def script(session: Session) -> None:
        await _say(session, how)

    crashtest(payer, script, limit=120).check()


def test_client_side_calls_and_questions_survive_a_crash_anywhere() -> None:
    def helper() -> Agent:
        board = Sim.storyboard(
            calls(("locate", {}), ("ask_user", {"question": "Which?"}), ("look", {"page": 1})), say("Done.")
        )
        return Agent("Help.", name="helper", model=board, tools=[locate, look], capabilities=["questions"])

    async def script(session: Session) -> None:
        await _say(session, {})

    crashtest(helper, script, limit=150).check()


@pytest.mark.parametrize("on_failure", ["open", "deny"])
def test_an_approver_survives_a_crash_anywhere(on_failure: Any) -> None:
    async def decide(ask: AskOpened) -> Allow:
        return Allow()

    def agent() -> Agent:
        return payer(approver=Approver(name="desk", decide=decide, on_failure=on_failure))

    crashtest(agent, "Pay.", limit=120).check()


def test_an_ask_that_nobody_answers_survives_a_crash_anywhere() -> None:
    def agent() -> Agent:
        board = Sim.storyboard(calls(("wipe", {"disk": "a"}), ("look", {"page": 1})), say("Done."))
        return Agent("Wipe.", name="wiper", model=board, tools=[wipe, look])

    from_nobody = ScriptedApprover.rule(lambda ask: ignore())
    crashtest(agent, "Go.", approver=from_nobody, limit=150).check()
    assert WIPED == []
