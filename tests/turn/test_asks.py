"""A call that a person must agree to waits, in any process, and runs at most once."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from msgspec import structs

from holdfast import (
    Agent,
    Allow,
    AskFor,
    Context,
    Deny,
    HookEvent,
    Modify,
    Runtime,
    Session,
    Tool,
    TurnResult,
    tool,
)
from holdfast.config import Limits
from holdfast.drivers.sim import call, calls, say
from holdfast.errors import AskClosed, InputRejected, UnknownAsk
from holdfast.events import AskOpened
from holdfast.hook import Hook
from holdfast.policy import Action, Policy
from holdfast.store import digest_of
from holdfast.stores.memory import MemoryStore
from holdfast.testing import VirtualClock
from holdfast.testing.clock import START
from tests.turn.scenes import agent_of, assert_sound, claims, kinds, reopened, results, session_with

PAID: list[int] = []


@pytest.fixture(autouse=True)
def _nothing_paid() -> None:
    PAID.clear()


async def pay_cents(ctx: Context, cents: int) -> str:
    """Pay."""
    PAID.append(cents)
    return f"paid {cents}"


def pay(**options: Any) -> Tool:
    return tool(name="pay", **options)(pay_cents)


def asking(**options: Any) -> Agent:
    return agent_of(call("pay", cents=5), say("done"), tools=[pay(ask=True)], **options)


async def outcome(session: Session) -> tuple[str, str]:
    events = await session.events()
    assert_sound(events)
    (result,) = results(events)
    return result.status, result.text


async def test_a_call_that_needs_approval_waits_and_runs_nothing() -> None:
    async with session_with(asking()) as session:
        result = await session.run("go")
        assert (result.status, result.stop) == ("waiting", None)
        (ask,) = result.asks
        assert (ask.tool, ask.arguments, ask.reason) == ("pay", '{"cents":5}', "pay needs approval")
        assert ask.digest == digest_of(f'{ask.bound}\n{{"cents":5}}\npay needs approval'.encode())
        assert (ask.raised_by, ask.wants, ask.schema) == ("author", "approval", pay().parameters.schema)
        assert session.state.asks == {ask.ask_id: ask}
        assert (await session.events())[-1].type == "ask.opened"
        assert session.turn is not None
        assert session.turn.asks == (ask,)
        assert session.turn.status == "waiting"
    assert PAID == []


async def test_an_approved_call_runs_once() -> None:
    async with session_with(asking()) as session:
        (ask,) = (await session.run("go")).asks
        turn = session.turn
        assert turn is not None
        await session.approve(ask.ask_id, by="ann", reason="fine")
        result = await turn
        assert (result.status, result.text) == ("completed", "done")
        assert await outcome(session) == ("ok", "paid 5")
        answered = next(event.data for event in await session.events() if event.type == "ask.answered")
        assert (answered.verdict, answered.by, answered.reason) == ("approved", "ann", "fine")  # type: ignore[attr-defined]
    assert PAID == [5]


async def test_a_denied_call_is_a_result_with_the_reason() -> None:
    async with session_with(asking()) as session:
        (ask,) = (await session.run("go")).asks
        turn = session.turn
        assert turn is not None
        await session.deny(ask.ask_id, by="ann", reason="too expensive")
        assert (await turn).status == "completed"
        assert await outcome(session) == ("denied", "Denied: too expensive. Nothing was run.")
        assert claims(await session.events()) == []
    assert PAID == []


async def test_a_denial_without_a_reason_says_that_a_person_denied() -> None:
    async with session_with(asking()) as session:
        (ask,) = (await session.run("go")).asks
        await session.deny(ask.ask_id, by="ann")
        assert session.turn is not None
        await session.turn
        assert await outcome(session) == ("denied", "Denied: a person denied it. Nothing was run.")


@pytest.mark.parametrize("verdict", ["approve", "deny"])
async def test_an_ask_is_answered_at_most_once(verdict: str) -> None:
    async with session_with(asking()) as session:
        (ask,) = (await session.run("go")).asks
        await getattr(session, verdict)(ask.ask_id, by="ann")
        for again in (session.approve, session.deny):
            with pytest.raises(UnknownAsk, match=f"no open ask {ask.ask_id}"):
                await again(ask.ask_id, by="bob")
        assert session.turn is not None
        await session.turn
        assert kinds(await session.events()).count("ask.answered") == 1


async def test_two_answers_at_once_are_one() -> None:
    async with session_with(asking()) as session:
        turn = await session.send("go")
        (ask,) = (await turn).asks
        answers = await asyncio.gather(
            session.approve(ask.ask_id, by="ann"), session.deny(ask.ask_id, by="bob"), return_exceptions=True
        )
        assert [type(answer) for answer in answers] == [type(None), AskClosed]
        await turn
        assert await outcome(session) == ("ok", "paid 5")


async def test_an_unknown_ask_is_refused_and_names_the_open_ones() -> None:
    async with session_with(asking()) as session:
        (ask,) = (await session.run("go")).asks
        before = session.state.sequence
        with pytest.raises(UnknownAsk, match=ask.ask_id):
            await session.approve("ask_unknown", by="ann")
        assert session.state.sequence == before


async def test_an_answer_that_no_log_can_hold_is_refused() -> None:
    async with session_with(asking()) as session:
        (ask,) = (await session.run("go")).asks
        with pytest.raises(InputRejected, match="lone surrogate"):
            await session.approve(ask.ask_id, by="\ud800")
        with pytest.raises(InputRejected, match="must be text"):
            await session.deny(ask.ask_id, by="ann", reason=5)  # type: ignore[arg-type]
        await session.approve(ask.ask_id, by="ann")
        assert session.turn is not None
        assert (await session.turn).status == "completed"


@pytest.mark.parametrize("verdict", ["approve", "deny"])
async def test_an_ask_can_be_answered_after_a_restart(verdict: str) -> None:
    store, agent = MemoryStore(), asking()
    async with session_with(agent, store) as session:
        (ask,) = (await session.run("go")).asks
    async with reopened(store, agent, session.id) as again:
        assert again.state.asks == {ask.ask_id: ask}
        turn = again.turn
        assert turn is not None
        assert (await turn).asks == (ask,)
        await getattr(again, verdict)(ask.ask_id, by="ann")
        assert (await turn).status == "completed"
        assert_sound(await again.events())
    assert len(PAID) == (verdict == "approve")


async def test_an_answer_that_was_recorded_just_before_a_crash_counts() -> None:
    store, agent = MemoryStore(), asking()
    async with session_with(agent, store) as session:
        (ask,) = (await session.run("go")).asks
    async with Runtime(store, clock=VirtualClock(), drain=0) as runtime:
        watching = await runtime.open(session.id, agent)
        await watching.approve(ask.ask_id, by="ann")
        # closed before the call runs
    assert PAID == []
    async with reopened(store, agent, session.id) as again:
        assert again.turn is not None
        assert (await again.turn).text == "done"
    assert PAID == [5]


async def test_awaiting_before_the_answer_says_waiting_every_time() -> None:
    agent = agent_of(
        call("pay", cents=5), say("done"), tools=[pay(ask=True)], limits=Limits(turn_timeout=3_600)
    )
    async with session_with(agent) as session:
        turn = await session.send("go")
        for _ in range(3):
            assert (await turn).status == "waiting"
        await asyncio.sleep(60)
        assert (await turn).status == "waiting"
        await session.approve((await turn).asks[0].ask_id, by="ann")
        assert (await turn).status == "completed"


async def test_other_calls_of_the_reply_do_not_wait() -> None:
    @tool(effect="pure")
    async def look() -> str:
        """Look."""
        return "nothing"

    steps = (calls(("pay", {"cents": 5}), ("look", {}), ("pay", {"cents": 7})), say("done"))
    async with session_with(agent_of(*steps, tools=[pay(ask=True), look])) as session:
        result = await session.run("go")
        assert len(result.asks) == 2
        assert [it.name for it in results(await session.events())] == ["look"]
        first, second = result.asks
        turn = session.turn
        assert turn is not None
        await session.deny(second.ask_id, by="ann")
        still = await turn
        assert (still.status, still.asks) == ("waiting", (first,))
        await session.approve(first.ask_id, by="ann")
        assert (await turn).status == "completed"
        messages = await session.messages()
        assert_sound(await session.events())
    assert [it.content[0].status for it in messages if it.role == "tool"] == ["ok", "ok", "denied"]  # type: ignore[union-attr]
    assert PAID == [5]


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        (lambda a: a.cents > 4, "pay needs approval"),
        (lambda a: f"{a.cents} cents is a lot", "5 cents is a lot"),
        (
            lambda a: 1 / 0,
            "whether pay needs approval could not be told: ZeroDivisionError: division by zero",
        ),
    ],
)
async def test_the_author_decides_from_the_arguments(wanted: Any, reason: str) -> None:
    async with session_with(agent_of(call("pay", cents=5), say("done"), tools=[pay(ask=wanted)])) as session:
        (ask,) = (await session.run("go")).asks
    assert ask.reason == reason


@pytest.mark.parametrize(
    "wanted",
    [False, lambda a: False, lambda a: "", lambda a: a.cents > 5],
    ids=["never", "not this", "no reason", "cheap"],
)
async def test_a_call_that_needs_no_approval_runs_at_once(wanted: Any) -> None:
    async with session_with(agent_of(call("pay", cents=5), say("done"), tools=[pay(ask=wanted)])) as session:
        assert (await session.run("go")).status == "completed"
    assert PAID == [5]


def policy_that(decision: Any, name: str = "house") -> Policy:
    async def decide(action: Action) -> Any:
        return decision if action.kind == "tool" else Allow()

    return Policy(name=name, decide=decide)


def hook_that(decision: Any, name: str = "house:before") -> Hook:
    async def run(event: HookEvent) -> Any:
        return decision

    return Hook(id=name, point="before_tool", run=run)


ASK = AskFor(reason="over the limit", owner="finance", expires_at=START + timedelta(hours=1))


@pytest.mark.parametrize("where", ["policy", "hook"])
async def test_a_policy_or_hook_may_ask(where: str) -> None:
    options: dict[str, Any] = (
        {"policies": (policy_that(ASK),)} if where == "policy" else {"hooks": (hook_that(ASK),)}
    )
    async with session_with(agent_of(call("pay", cents=5), say("done"), tools=[pay()], **options)) as session:
        (ask,) = (await session.run("go")).asks
        assert (ask.reason, ask.owner, ask.expires_at) == ("over the limit", "finance", ASK.expires_at)
        await session.approve(ask.ask_id, by="ann")
        assert session.turn is not None
        await session.turn
        assert await outcome(session) == ("ok", "paid 5")


async def expired(agent: Agent) -> TurnResult:
    async with session_with(agent) as session:
        turn = await session.send("go")
        (ask,) = (await turn).asks
        await asyncio.sleep(3_599)
        assert (await turn).status == "waiting"
        await asyncio.sleep(2)
        result = await turn
        assert await outcome(session) == ("denied", "Denied: nobody answered in time. Nothing was run.")
        events = await session.events()
        assert kinds(events).count("ask.expired") == 1
        expiry = next(event for event in events if event.type == "ask.expired")
        assert expiry.ts == START + timedelta(hours=1)
        with pytest.raises(UnknownAsk):
            await session.approve(ask.ask_id, by="ann")
    return result


async def test_an_ask_that_nobody_answers_in_time_is_denied() -> None:
    result = await expired(
        agent_of(call("pay", cents=5), say("done"), tools=[pay()], policies=(policy_that(ASK),))
    )
    assert result.text == "done"
    assert PAID == []


async def test_an_ask_that_expired_while_nothing_ran_is_denied_on_reopening() -> None:
    store = MemoryStore()
    agent = agent_of(call("pay", cents=5), say("done"), tools=[pay()], policies=(policy_that(ASK),))
    async with session_with(agent, store) as session:
        await session.run("go")
    late = VirtualClock(START + timedelta(days=1))
    async with Runtime(store, clock=late, drain=0) as runtime:
        again = await runtime.open(session.id, agent)
        assert again.turn is not None
        assert (await again.turn).status == "completed"
        assert (await outcome(again))[0] == "denied"


async def test_an_expiry_without_a_time_zone_is_a_policy_that_failed() -> None:
    naive = structs.replace(ASK, expires_at=START.replace(tzinfo=None))
    agent = agent_of(call("pay", cents=5), say("done"), tools=[pay()], policies=(policy_that(naive),))
    async with session_with(agent) as session:
        assert (await session.run("go")).status == "completed"
        status, text = await outcome(session)
    assert status == "denied"
    assert "no time zone" in text


async def test_what_was_approved_is_what_runs() -> None:
    """A hook changed the arguments before the ask: neither the hook's change nor the approval is lost."""
    lowered = hook_that(Modify(arguments='{"cents":3}', reason="half price"))
    agent = agent_of(call("pay", cents=5), say("done"), tools=[pay(ask=True)], hooks=(lowered,))
    async with session_with(agent) as session:
        (ask,) = (await session.run("go")).asks
        assert ask.arguments == '{"cents":3}'
        await session.approve(ask.ask_id, by="ann")
        assert session.turn is not None
        await session.turn
        assert await outcome(session) == ("ok", "paid 3")
        (claim,) = claims(await session.events())
        assert claim.arguments_digest == digest_of(ask.arguments.encode())
    assert PAID == [3]


@pytest.mark.parametrize("refusal", ["hook", "policy"])
async def test_a_refusal_counts_more_than_an_ask_that_came_before_it(refusal: str) -> None:
    hooks = [hook_that(ASK, "a:asks")]
    policies = [policy_that(Allow())]
    if refusal == "hook":
        hooks.append(hook_that(Deny("never"), "b:denies"))
    else:
        policies.append(policy_that(Deny("never"), "strict"))
    agent = agent_of(
        call("pay", cents=5), say("done"), tools=[pay()], hooks=tuple(hooks), policies=tuple(policies)
    )
    async with session_with(agent) as session:
        assert (await session.run("go")).status == "completed"
        assert await outcome(session) == ("denied", "Denied: never. Nothing was run.")
    assert PAID == []


async def test_several_who_ask_are_one_ask() -> None:
    agent = agent_of(
        call("pay", cents=5),
        say("done"),
        tools=[pay(ask=True)],
        hooks=(hook_that(AskFor(reason="first")),),
        policies=(policy_that(AskFor(reason="second")),),
    )
    async with session_with(agent) as session:
        (ask,) = (await session.run("go")).asks
        assert ask.reason == "first"
        await session.approve(ask.ask_id, by="ann")
        assert session.turn is not None
        assert (await session.turn).status == "completed"
        assert [event for event in kinds(await session.events()) if event == "ask.opened"] == ["ask.opened"]
    assert PAID == [5]


async def test_a_turn_that_ends_closes_its_asks() -> None:
    agent = agent_of(
        call("pay", cents=5), say("done"), tools=[pay(ask=True)], limits=Limits(turn_timeout=100)
    )
    async with session_with(agent) as session:
        turn = await session.send("go")
        (ask,) = (await turn).asks
        await asyncio.sleep(101)
        assert (await turn).stop == "deadline"
        assert session.state.asks == {}
        with pytest.raises(UnknownAsk):
            await session.approve(ask.ask_id, by="ann")
        assert (await outcome(session))[0] == "cancelled"
    assert PAID == []


async def test_an_input_behind_a_waiting_turn_says_what_holds_it_up() -> None:
    agent = agent_of(call("pay", cents=5), say("done"), say("second"), tools=[pay(ask=True)])
    async with session_with(agent) as session:
        turn, behind = await session.send("go"), await session.send("and this")
        held_up = await behind
        assert (held_up.status, held_up.turn_id) == ("queued", behind.id)
        (ask,) = held_up.asks
        assert isinstance(ask, AskOpened)
        assert (await turn).asks == (ask,)
        await session.approve(ask.ask_id, by="ann")
        assert (await behind).text == "second"
        assert (await turn).text == "done"
        assert_sound(await session.events())
