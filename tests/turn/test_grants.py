"""An answer may hold for further asks: for how much, how long, and never for a tool that changed."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from holdfast import (
    Agent,
    AskFor,
    Decision,
    MemoryStore,
    Policy,
    Session,
    Store,
    Tool,
    tool,
)
from holdfast.config import Config
from holdfast.driver import Request
from holdfast.drivers.sim import Sim, Step, call, say
from holdfast.errors import AnswerForbidden, AnswerRejected, AskClosed, UnknownAsk, UnknownGrant
from holdfast.facts.asks import GrantUsed
from holdfast.hook import Allow
from holdfast.policy import Action
from holdfast.testing import VirtualClock, problems_in
from tests.turn.scenes import cut_off, first, opened, results

SENT: list[str] = []


@pytest.fixture(autouse=True)
def _nothing_sent() -> None:
    SENT.clear()


def mail(doc: str = "Send mail.", **options: Any) -> Tool:
    async def send(to: str, text: str = "") -> str:
        SENT.append(to)
        return f"sent to {to}"

    send.__doc__ = doc
    return tool(**{"ask": True, **options})(send)


@tool(ask=True)
async def wipe(disk: str) -> str:
    """Wipe."""
    SENT.append(f"wiped {disk}")
    return "wiped"


def mailer(*tools: Tool, **config: Any) -> Agent:
    """It sends mail to, or wipes, whatever it is told to."""

    def choose(request: Request) -> Step:
        last = request.messages[-1]
        if last.role == "tool":
            return say("So.")
        name, _, value = last.text.partition(" ")
        return call("wipe", disk=value) if name == "wipe" else call("send", to=value)

    return Agent(
        "Mail.", name="mailer", model=Sim.rule(choose), tools=tools or (mail(), wipe), config=Config(**config)
    )


async def approve_once(session: Session, text: str = "send a@b.c", **options: Any) -> None:
    turn = await session.send(text)
    (ask,) = (await turn).asks
    await session.approve(ask.ask_id, by="ann", **options)
    assert (await turn).status == "completed"


async def asks_about(session: Session, text: str) -> bool:
    """Whether somebody is asked; a denial ends what was asked."""
    turn = await session.send(text)
    result = await turn
    for ask in result.asks:
        await session.deny(ask.ask_id, by="test")
        await turn
    return bool(result.asks)


async def test_an_answer_holds_for_its_call_alone_unless_it_says_more() -> None:
    async with opened(mailer()) as session:
        await approve_once(session)
        assert session.grants == ()
        assert await asks_about(session, "send a@b.c")


async def test_an_answer_for_the_tool_holds_across_a_restart_and_says_so(store: Store) -> None:
    agent = mailer()
    async with opened(agent, store) as session:
        await approve_once(session, scope="tool", reason="she may")
    async with opened(agent, store, session.id) as again:
        (grant,) = again.grants
        assert (grant.scope, grant.tool, grant.by, grant.reason) == ("tool", "send", "ann", "she may")
        assert not await asks_about(again, "send x@y.z")
        assert await asks_about(again, "wipe a")
        (used,) = [it.data for it in await again.events() if isinstance(it.data, GrantUsed)]
        assert (used.grant_id, used.by, used.verdict, used.tool) == (grant.id, "ann", "approved", "send")
        assert used.arguments == '{"to":"x@y.z"}'
        assert used.call_id in {it.call_id for it in results(await again.events())}
        assert problems_in(await again.events()) == []
    assert SENT == ["a@b.c", "x@y.z"]


async def test_an_answer_for_arguments_like_these_holds_for_those() -> None:
    async with opened(mailer()) as session:
        await approve_once(session, "send a@ours.org", scope={"to": "*@ours.org"})
        assert not await asks_about(session, "send b@ours.org")
        for other in ("send b@ours.org.evil.com", "send B@OURS.ORG", "wipe x@ours.org"):
            assert await asks_about(session, other)


async def test_an_answer_for_the_session_holds_for_every_tool_in_it() -> None:
    async with opened(mailer()) as session:
        await approve_once(session, scope="session")
        assert not await asks_about(session, "wipe a")
        assert not await asks_about(session, "send b@c.d")
    async with opened(mailer()) as other:
        assert await asks_about(other, "wipe a")


async def test_a_denial_may_hold_as_well_and_counts_more() -> None:
    async with opened(mailer()) as session:
        await approve_once(session, scope="tool")
        await session.revoke(session.grants[0].id, by="ann")
        turn = await session.send("send x@evil.com")
        (ask,) = (await turn).asks
        await session.deny(ask.ask_id, by="bob", reason="never there", scope={"to": "*@evil.com"})
        await turn
        await approve_once(session, scope="tool")
        assert not await asks_about(session, "send y@evil.com")
        assert results(await session.events())[-1].text == "Denied: never there. Nothing was run."
        assert not await asks_about(session, "send y@good.com")
    assert SENT == ["a@b.c", "a@b.c", "y@good.com"]


async def test_a_grant_ends_when_its_time_is_over() -> None:
    async with opened(mailer()) as session:
        await approve_once(session, scope="tool", until=VirtualClock().now() + timedelta(hours=1))
        assert not await asks_about(session, "send b@c.d")
        await asyncio.sleep(3_601)
        assert session.grants == ()
        assert await asks_about(session, "send b@c.d")


async def test_a_grant_is_revoked_by_somebody_who_is_not_the_agent(store: Store) -> None:
    agent = mailer()
    async with opened(agent, store) as session:
        await approve_once(session, scope="tool")
        (grant,) = session.grants
        with pytest.raises(AnswerForbidden):
            await session.revoke(grant.id, by="agent:mailer")
        with pytest.raises(UnknownGrant, match=grant.id):
            await session.revoke("grant_1", by="bob")
        await session.revoke(grant.id, by="bob", reason="enough")
        assert session.grants == ()
        assert await asks_about(session, "send b@c.d")
        with pytest.raises(UnknownGrant, match="it has: none"):
            await session.revoke(grant.id, by="bob")
    async with opened(agent, store, session.id) as again:
        assert again.grants == ()


@pytest.mark.parametrize("scope", ["tool", "session", {"to": "*"}])
async def test_a_grant_is_never_applied_to_a_tool_that_changed(scope: Any) -> None:
    store = MemoryStore()
    async with opened(mailer(), store) as session:
        await approve_once(session, scope=scope)
        assert not await asks_about(session, "send b@c.d")
    async with opened(mailer(mail("Send mail, with everything you know."), wipe), store, session.id) as again:
        assert await asks_about(again, "send b@c.d")
    async with opened(mailer(), store, session.id) as as_before:
        assert not await asks_about(as_before, "send b@c.d")


async def test_a_grant_is_for_who_asked_and_silences_nobody_else() -> None:
    worried: list[bool] = []

    async def decide(action: Action) -> Decision:
        return AskFor(reason="private data leaves") if worried and action.kind == "tool" else Allow()

    taint = Policy(name="taint", decide=decide)
    async with opened(mailer(policies=(taint,))) as session:
        await approve_once(session, scope="tool")
        assert not await asks_about(session, "send b@c.d")
        worried.append(True)
        assert await asks_about(session, "send b@c.d")
        assert await asks_about(session, "wipe a")


@pytest.mark.parametrize("scope", ["tool", "session", {"to": "*"}])
async def test_a_grant_is_no_answer_to_what_whoever_gave_it_may_not_answer(scope: Any) -> None:
    def checked(arguments: Any) -> AskFor:
        abroad = arguments.to.endswith(".evil")
        return AskFor(reason="mail", who=("*@security",) if abroad else ())

    async with opened(mailer(mail(ask=checked), wipe)) as session:
        await approve_once(session, scope=scope)
        assert not await asks_about(session, "send b@c.d")
        turn = await session.send("send b@c.evil")
        (ask,) = (await turn).asks
        with pytest.raises(AnswerForbidden, match="those who may"):
            await session.approve(ask.ask_id, by="ann")
        await session.approve(ask.ask_id, by="eve@security", scope=scope)
        await turn
        assert not await asks_about(session, "send d@e.evil")
    assert SENT == ["a@b.c", "b@c.d", "b@c.evil", "d@e.evil"]


async def test_a_call_that_a_grant_let_through_is_asked_about_where_its_tool_changed_before_it_ran() -> None:
    async with opened(mailer()) as session:
        await approve_once(session, scope="tool")
        assert not await asks_about(session, "send b@c.d")
        events = await session.events()
    store = await cut_off(events, first(events, "grant.used"))
    async with opened(mailer(mail("Send mail, to all."), wipe), store, session.id) as again:
        assert again.turn is not None
        (ask,) = (await again.turn).asks
        assert ask.arguments == '{"to":"b@c.d"}'
        with pytest.raises(UnknownAsk) as unknown:
            await again.approve("", by="ann")
        assert not isinstance(unknown.value, AskClosed)


async def test_a_grant_whose_time_is_over_is_kept_no_longer_than_until_the_next_one() -> None:
    async with opened(mailer()) as session:
        for _ in range(3):
            until = VirtualClock().now() + timedelta(minutes=1)
            await approve_once(session, scope="tool", until=until)
            assert [it.until for it in session.state.grants.values()] == [until]
            await asyncio.sleep(60)


async def test_what_is_no_approval_holds_for_its_call_alone() -> None:
    @tool(client=True, name="send")
    async def send(to: str) -> str:
        """Send."""
        raise AssertionError

    async with opened(mailer(send)) as session:
        (ask,) = (await session.run("send a@b.c")).asks
        with pytest.raises(AnswerRejected, match="no other call"):
            await session.deny(ask.ask_id, by="ann", scope="tool")
