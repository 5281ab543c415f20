"""Approvals, client-side tools and questions: one mechanism, and what is bad input to it."""

import asyncio
from datetime import timedelta
from functools import partial
from typing import Any

import msgspec
import pytest

from holdfast import (
    Agent,
    AskFor,
    CapabilityRef,
    Deny,
    Hook,
    HookEvent,
    Image,
    MemoryStore,
    Modify,
    Policy,
    Runtime,
    Session,
    Store,
    Text,
    Tool,
    tool,
)
from holdfast.config import Config
from holdfast.drivers.sim import Sim, call, calls, say
from holdfast.errors import (
    AnswerForbidden,
    AnswerRejected,
    AskClosed,
    ConfigError,
    InputRejected,
    ToolSignatureError,
    UnknownAsk,
    UsageError,
)
from holdfast.facts.asks import AskAnswered, AskExpired, AskVoided
from holdfast.hook import Allow
from holdfast.policy import Action
from holdfast.testing import VirtualClock, problems_in
from tests.turn import scenes
from tests.turn.scenes import opened, results

PAID: list[int] = []


@pytest.fixture(autouse=True)
def _nothing_paid() -> None:
    PAID.clear()


class Place(msgspec.Struct):
    latitude: float
    longitude: float


@tool(client=True)
async def locate(precise: bool = False) -> Place:
    """Where the user is."""
    raise AssertionError("it is carried out in the browser")


def pay_of(doc: str = "Pay.", **options: Any) -> Tool:
    async def pay(cents: int) -> str:
        PAID.append(cents)
        return f"paid {cents}"

    pay.__doc__ = doc
    return tool(**{"ask": True, **options})(pay)


agent_of = partial(scenes.agent_of, name="clerk")


async def rest(session: Session) -> list[str]:
    """Bring the turn to its end; what the model read."""
    assert session.turn is not None
    result = await session.turn
    assert result.stop is not None, result
    events = await session.events()
    assert problems_in(events) == []
    return [it.text for it in results(events)]


async def test_a_client_side_tool_waits_for_its_result_and_takes_one_that_fits(store: Store) -> None:
    agent = agent_of(call("locate", precise=True), say("There."), tools=(locate,))
    async with opened(agent, store) as session:
        (ask,) = (await session.run("Where am I?")).asks
        assert (ask.wants, ask.tool, ask.arguments) == ("result", "locate", '{"precise":true}')
        assert ask.schema is not None
        assert set(ask.schema["properties"]) == {"latitude", "longitude"}
    async with opened(agent, store, session.id) as again:
        with pytest.raises(AnswerRejected, match="longitude"):
            await again.submit(ask.ask_id, {"latitude": "north"}, by="browser")
        with pytest.raises(AnswerRejected, match=r"submit\(...\) or deny"):
            await again.approve(ask.ask_id, by="ann")
        await again.submit(ask.ask_id, Place(47.5, 19.0), by="browser", key="k")
        await again.submit(ask.ask_id, Place(47.5, 19.0), by="browser", key="k")
        assert await rest(again) == ['{"latitude":47.5,"longitude":19.0}']
        with pytest.raises(AskClosed, match="answered by browser"):
            await again.submit(ask.ask_id, Place(1, 2), by="browser", key="k")


async def test_a_client_may_say_that_it_could_not() -> None:
    async with opened(agent_of(call("locate"), say("Pity."), tools=(locate,))) as session:
        (ask,) = (await session.run("Where am I?")).asks
        await session.submit(ask.ask_id, by="browser", error="the user switched it off")
        assert await rest(session) == ["Error: the user switched it off"]
        assert results(await session.events())[0].status == "error"


async def test_a_client_side_tool_may_need_approval_first() -> None:
    guarded = tool(client=True, ask=True, name="locate")(locate_function)
    async with opened(agent_of(call("locate"), say("There."), tools=(guarded,))) as session:
        (first,) = (await session.run("Where am I?")).asks
        assert first.wants == "approval"
        await session.approve(first.ask_id, by="ann")
        assert session.turn is not None
        (second,) = (await session.turn).asks
        assert second.wants == "result"
        await session.submit(second.ask_id, "home", by="browser")
        assert await rest(session) == ["home"]


async def locate_function() -> str:
    """Where the user is."""
    raise AssertionError


async def test_a_hook_sees_the_result_of_a_client_as_any_other() -> None:
    async def hide(event: HookEvent) -> Modify:
        assert event.result is not None
        return Modify(result="somewhere")

    hook = Hook(id="house:hide", point="after_tool", run=hide)
    async with opened(agent_of(call("locate"), say("So."), tools=(locate,), hooks=(hook,))) as session:
        (ask,) = (await session.run("Where am I?")).asks
        await session.submit(ask.ask_id, Place(1, 2), by="browser")
        await rest(session)
        assert [it.text for it in await session.messages() if it.role == "tool"] == ["somewhere"]


async def test_a_question_is_answered_in_words_or_with_one_of_its_options(store: Store) -> None:
    steps = (
        calls(
            ("ask_user", {"question": "Which one?", "options": ["red", "blue"], "free_text": False}),
            ("ask_user", {"question": "Why?"}),
        ),
        say("I see."),
    )
    agent = agent_of(*steps, capabilities=(CapabilityRef(name="questions"),))
    async with opened(agent, store) as session:
        which, why = (await session.run("Choose.")).asks
        assert (which.wants, which.reason, which.options, which.free_text) == (
            "answer",
            "Which one?",
            ("red", "blue"),
            False,
        )
        with pytest.raises(AnswerRejected, match="'green' is none of the options"):
            await session.answer(which.ask_id, "green", by="ann")
        with pytest.raises(AnswerRejected, match="empty"):
            await session.answer(why.ask_id, "  ", by="ann")
        with pytest.raises(AnswerRejected, match="is text, not int"):
            await session.submit(why.ask_id, 5, by="ann")
        await session.answer(why.ask_id, "It calms.", by="ann")
        await session.answer(which.ask_id, "blue", by="ann")
        assert sorted(await rest(session)) == ["It calms.", "blue"]


async def test_a_question_may_be_refused() -> None:
    agent = agent_of(
        call("ask_user", question="Password?"), say("Fine."), capabilities=(CapabilityRef(name="questions"),)
    )
    async with opened(agent) as session:
        (ask,) = (await session.run("Hello")).asks
        await session.deny(ask.ask_id, by="ann", reason="none of your business")
        assert await rest(session) == ["Denied: none of your business. Nothing was run."]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"expires_in": -1}, "above 0"),
        ({"expires_in": 1e15}, "at most"),
        ({"whom": ["a"]}, "whom"),
        ({"who": [""]}, "pattern"),
    ],
)
async def test_a_configuration_of_questions_that_does_not_fit_is_refused(
    given: dict[str, Any], said: str
) -> None:
    agent = agent_of(say("Hi."), capabilities=(CapabilityRef(name="questions", config=given),))
    with pytest.raises(ConfigError, match=said):
        async with opened(agent):
            pass


async def test_an_unanswered_question_takes_its_default() -> None:
    config = {"expires_in": 60, "default": "Decide yourself."}
    agent = agent_of(
        call("ask_user", question="Red?"),
        say("Red."),
        capabilities=(CapabilityRef(name="questions", config=config),),
    )
    async with opened(agent) as session:
        turn = await session.send("Choose.")
        await turn
        await asyncio.sleep(61)
        assert (await turn).text == "Red."
        assert await session.messages()
        (expired,) = [it.data for it in await session.events() if isinstance(it.data, AskExpired)]
        assert expired.result is not None
        text = "Nobody answered in time. Take this as the answer: Decide yourself."
        assert [it.text for it in results(await session.events())] == [text]


async def test_an_ask_may_fail_the_turn_when_nobody_answers() -> None:
    pay = pay_of(ask=AskFor(reason="big", expires_in=60, on_expiry="fail"))
    async with opened(agent_of(call("pay", cents=5), say("Done."), tools=(pay,))) as session:
        turn = await session.send("Pay.")
        await turn
        await asyncio.sleep(61)
        result = await turn
        assert (result.status, result.error.code if result.error else "") == ("failed", "ask_expired")
        assert problems_in(await session.events()) == []
    assert PAID == []


def test_terms_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="needs default="):
        AskFor(reason="", on_expiry="default")
    with pytest.raises(TypeError, match="tuple"):
        AskFor(reason="", who="ann")  # type: ignore[arg-type]
    with pytest.raises(ToolSignatureError, match="the default is no result"):
        tool(client=AskFor(reason="", expires_in=5, on_expiry="default", default="x"))(number)


@pytest.mark.parametrize("seconds", [float("inf"), 1e15, 3_650 * 86_400 + 1])
async def test_an_expiry_that_no_calendar_holds_is_refused_where_it_is_said(seconds: float) -> None:
    with pytest.raises(ValueError, match="at most 315,360,000"):
        AskFor(reason="big", expires_in=seconds)

    async def decide(action: Action) -> Allow | AskFor:
        return AskFor(reason="big", expires_in=seconds) if action.kind == "tool" else Allow()

    late = (Policy(name="late", decide=decide),)
    agent = agent_of(call("pay", cents=5), say("Done."), tools=(pay_of(ask=False),), policies=late)
    async with opened(agent) as session:
        await session.run("Pay.")
        (denied,) = results(await session.events())
        assert "the policy late failed: ValueError: expires_in" in denied.text
    assert PAID == []


async def test_an_author_s_expiry_without_a_time_zone_is_a_check_that_failed() -> None:
    naive = VirtualClock().now().replace(tzinfo=None)
    pay = pay_of(ask=AskFor(reason="big", expires_at=naive))
    async with opened(agent_of(call("pay", cents=5), say("Done."), tools=(pay,))) as session:
        (ask,) = (await session.run("Pay.")).asks
        assert (ask.expires_at, "no time zone" in ask.reason) == (None, True)
    with pytest.raises(ToolSignatureError, match="no time zone"):
        tool(client=AskFor(reason="", expires_at=naive))(number)


async def number() -> int:
    """A number."""
    return 1


@pytest.mark.parametrize(
    "by",
    [
        *("clerk", "CLERK", "cl\u200berk", "\uff43lerk", "pay", "agent", "agent:clerk", " Agent: other"),
        *("model:x", "assistant", "tool:pay", "storyboard", "", "\t"),
    ],
)
async def test_the_agent_does_not_answer_for_itself(by: str) -> None:
    agent = agent_of(call("pay", cents=5), say("Done."), tools=(pay_of(),))
    async with opened(agent) as session:
        (ask,) = (await session.run("Pay.")).asks
        names = {by} if by != "storyboard" else {it.model for it in (await session._runner.manifest()).routes}
        for name in names:
            with pytest.raises(AnswerForbidden, match=r"by=|a person or another program must"):
                await session.approve(ask.ask_id, by=name)
            with pytest.raises(AnswerForbidden):
                await session.deny(ask.ask_id, by=name)
        assert [it.ask_id for it in session.asks] == [ask.ask_id]
    assert PAID == []


async def test_only_those_who_may_answer_do() -> None:
    pay = pay_of(ask=AskFor(reason="big", who=("*@finance.example.com", "bob")))
    async with opened(agent_of(call("pay", cents=5), say("Done."), tools=(pay,))) as session:
        (ask,) = (await session.run("Pay.")).asks
        assert ask.who == ("*@finance.example.com", "bob")
        for by in ("ann@example.com", "bobby", "x@finance.example.com.evil.org"):
            with pytest.raises(AnswerForbidden, match=r"those who may: \*@finance.example.com, bob"):
                await session.approve(ask.ask_id, by=by)
        await session.approve(ask.ask_id, by="eve@finance.example.com")
        assert await rest(session) == ["paid 5"]


async def test_whoever_answers_must_be_among_those_whom_each_who_asks_names() -> None:
    async def finance(action: Action) -> Allow | AskFor:
        return AskFor(reason="it costs", who=("*@finance",)) if action.kind == "tool" else Allow()

    pay = pay_of(ask=AskFor(reason="big", who=("ann@finance", "bob")))
    agent = Agent(
        model=Sim.storyboard(call("pay", cents=5), say("Done.")),
        tools=[pay],
        config=Config(policies=(Policy(name="finance", decide=finance),)),
    )
    async with Runtime() as runtime:
        session = await runtime.session(agent)
        (ask,) = (await session.run("Pay.")).asks
        for by in ("bob", "eve@finance"):
            with pytest.raises(AnswerForbidden, match="those who may"):
                await session.approve(ask.ask_id, by=by)
        await session.approve(ask.ask_id, by="ann@finance")
        assert await rest(session) == ["paid 5"]


async def test_bad_input_about_asks_says_what_to_do() -> None:
    async with opened(agent_of(call("pay", cents=5), say("Done."), tools=(pay_of(),))) as session:
        with pytest.raises(UnknownAsk, match="open: none"):
            await session.approve("ask_1", by="ann")
        (ask,) = (await session.run("Pay.")).asks
        with pytest.raises(UnknownAsk, match=f"open: {ask.ask_id}"):
            await session.approve("ask_1", by="ann")
        with pytest.raises(InputRejected, match="must be text"):
            await session.approve(ask.ask_id, by=None)  # type: ignore[arg-type]
        with pytest.raises(AnswerRejected, match="cents"):
            await session.approve(ask.ask_id, by="ann", arguments={"cents": "five"})
        for wrong in ('{"cents"', "[5]", {"cents": 5, "more": 1}, {"cents": float("nan")}):
            with pytest.raises(AnswerRejected):
                await session.approve(ask.ask_id, by="ann", arguments=wrong)
        naive = VirtualClock().now().replace(tzinfo=None)
        with pytest.raises(UsageError, match="time zone"):
            await session.approve(ask.ask_id, by="ann", scope="tool", until=naive)
        with pytest.raises(UsageError, match="is no time"):
            await session.approve(ask.ask_id, by="ann", scope="tool", until="tomorrow")  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="scope="):
            await session.approve(ask.ask_id, by="ann", until=VirtualClock().now())
        for scope in ("all", {}, {"cents": ""}, {"cents": "re:("}):
            with pytest.raises(UsageError):
                await session.approve(ask.ask_id, by="ann", scope=scope)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="its call only"):
            await session.approve(ask.ask_id, by="ann", arguments={"cents": 1}, scope="tool")
        with pytest.raises(AnswerRejected, match="approve"):
            await session.answer(ask.ask_id, "yes", by="ann")
        assert session.asks == (ask,)
        await session.approve(ask.ask_id, by="ann")
        assert await rest(session) == ["paid 5"]
        with pytest.raises(AskClosed, match="approved by ann; open: none"):
            await session.deny(ask.ask_id, by="ann")


async def test_the_same_answer_under_the_same_key_is_harmless() -> None:
    async with opened(agent_of(call("pay", cents=5), say("Done."), tools=(pay_of(),))) as session:
        (ask,) = (await session.run("Pay.")).asks
        for _ in range(3):
            await session.approve(ask.ask_id, by="ann", arguments={"cents": 4}, key="k1")
        for other in ({"by": "bob"}, {"key": "k2"}, {"arguments": {"cents": 3}}):
            with pytest.raises(AskClosed):
                await session.approve(
                    ask.ask_id, **{"by": "ann", "arguments": {"cents": 4}, "key": "k1", **other}
                )
        with pytest.raises(AskClosed):
            await session.deny(ask.ask_id, by="ann", key="k1")
        await rest(session)
    assert PAID == [4]


PIXEL = Image(url="data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEAAAAALAAAAAABAAEAAAIBAAA7")


@pytest.mark.parametrize("result", ["a\x00b", PIXEL, [PIXEL, Text(text="a pixel")], {"a": 1.0}], ids=str)
async def test_the_same_result_under_the_same_key_is_harmless_whatever_it_is(result: Any) -> None:
    @tool(client=True)
    async def shot() -> Any:
        """Look."""

    async with opened(agent_of(call("shot"), say("Done."), tools=(shot,))) as session:
        (ask,) = (await session.run("Look.")).asks
        await session.submit(ask.ask_id, result, by="browser", key="k")
        await session.submit(ask.ask_id, result, by="browser", key="k")
        await rest(session)
        await session.submit(ask.ask_id, result, by="browser", key="k")
        for other in ("another", object()):
            with pytest.raises(AskClosed, match="answered by browser"):
                await session.submit(ask.ask_id, other, by="browser", key="k")


async def test_changed_arguments_are_what_runs_and_the_model_is_told(store: Store) -> None:
    agent = agent_of(call("pay", cents=5_000), say("Done."), tools=(pay_of(),))
    async with opened(agent, store) as session:
        (ask,) = (await session.run("Pay.")).asks
        await session.approve(ask.ask_id, by="ann", arguments={"cents": 50})
        (text,) = await rest(session)
        assert text.startswith('[A person changed the arguments of this call. What ran: {"cents":50}]')
        assert text.endswith("paid 50")
        (answer,) = [it.data for it in await session.events() if isinstance(it.data, AskAnswered)]
        assert answer.arguments == '{"cents":50}'
        assert answer.digest not in ("", ask.digest)
    assert PAID == [50]


async def test_changed_arguments_pass_the_policies_again() -> None:
    async def decide(action: Action) -> Allow | AskFor | Deny:
        if action.kind != "tool":
            return Allow()
        cents = msgspec.json.decode(action.arguments)["cents"]
        return Deny("too much") if cents > 100 else AskFor(reason=f"{cents} cents")

    policy = Policy(name="house", decide=decide)
    agent = agent_of(call("pay", cents=5), say("Done."), tools=(pay_of(ask=False),), policies=(policy,))
    async with opened(agent) as session:
        (ask,) = (await session.run("Pay.")).asks
        await session.approve(ask.ask_id, by="ann", arguments={"cents": 5_000})
        assert await rest(session) == ["Denied: too much. Nothing was run."]
    async with opened(agent) as session:
        (ask,) = (await session.run("Pay.")).asks
        await session.approve(ask.ask_id, by="ann", arguments={"cents": 50})
        assert (await rest(session))[0].endswith("paid 50")
    assert PAID == [50]


async def test_a_hook_that_changes_changed_arguments_makes_it_asked_again() -> None:
    async def halve(event: HookEvent) -> Modify | None:
        cents = msgspec.json.decode(event.arguments)["cents"]
        return Modify(arguments=f'{{"cents":{cents // 2}}}') if cents > 10 else None

    hook = Hook(id="house:halve", point="before_tool", run=halve)
    agent = agent_of(call("pay", cents=40), say("Done."), tools=(pay_of(),), hooks=(hook,))
    async with opened(agent) as session:
        (ask,) = (await session.run("Pay.")).asks
        assert ask.arguments == '{"cents":20}'
        await session.approve(ask.ask_id, by="ann", arguments={"cents": 30})
        assert session.turn is not None
        (again,) = (await session.turn).asks
        assert again.arguments == '{"cents":15}'
        await session.approve(again.ask_id, by="ann")
        await rest(session)
    assert PAID == [15]


async def test_a_tool_that_changed_voids_its_ask_and_is_asked_about_again(store: Store) -> None:
    steps = (call("pay", cents=5), say("Done."))
    async with opened(agent_of(*steps, tools=(pay_of(),)), store) as session:
        (ask,) = (await session.run("Pay.")).asks
    async with Runtime(store, clock=VirtualClock(), drain=0) as runtime:
        answering = await runtime.open(session.id, drive=False)
        await answering.approve(ask.ask_id, by="ann")
    changed = agent_of(*steps, tools=(pay_of("Pay, and close the account."),))
    async with opened(changed, store, session.id) as again:
        assert again.turn is not None
        (second,) = (await again.turn).asks
        assert second.ask_id != ask.ask_id
        assert PAID == []
        (voided,) = [it.data for it in await again.events() if isinstance(it.data, AskVoided)]
        assert (voided.ask_id, "pay" in voided.reason) == (ask.ask_id, True)
        with pytest.raises(AskClosed, match="has changed"):
            await again.approve(ask.ask_id, by="ann")
        await again.approve(second.ask_id, by="ann")
        assert await rest(again) == ["paid 5"]
    assert PAID == [5]


async def test_a_policy_that_changed_voids_an_ask() -> None:
    store, steps = MemoryStore(), (call("pay", cents=5), say("Done."))

    async def allow(action: Action) -> Allow:
        return Allow()

    async with opened(agent_of(*steps, tools=(pay_of(),)), store) as session:
        (ask,) = (await session.run("Pay.")).asks
    stricter = agent_of(*steps, tools=(pay_of(),), policies=(Policy(name="new", decide=allow),))
    async with opened(stricter, store, session.id) as again:
        await again.approve(ask.ask_id, by="ann")
        assert again.turn is not None
        (second,) = (await again.turn).asks
        assert second.ask_id != ask.ask_id
    assert PAID == []


async def test_a_result_for_a_tool_that_changed_is_asked_for_again() -> None:
    store, steps = MemoryStore(), (call("locate"), say("There."))
    async with opened(agent_of(*steps, tools=(locate,)), store) as session:
        (ask,) = (await session.run("Where?")).asks
    changed = tool(client=True, name="locate")(locate_function)
    async with opened(agent_of(*steps, tools=(changed,)), store, session.id) as again:
        await again.submit(ask.ask_id, Place(1, 2), by="browser")
        assert again.turn is not None
        (second,) = (await again.turn).asks
        await again.submit(second.ask_id, "home", by="browser")
        assert await rest(again) == ["home"]


async def test_an_answer_that_comes_after_the_expiry_and_before_anybody_noticed_is_too_late() -> None:
    store = MemoryStore()
    pay = pay_of(ask=AskFor(reason="big", expires_in=60))
    async with opened(agent_of(call("pay", cents=5), say("Done."), tools=(pay,)), store) as session:
        (ask,) = (await session.run("Pay.")).asks
    assert ask.expires_at is not None
    late = VirtualClock(ask.expires_at + timedelta(seconds=1))
    async with Runtime(store, clock=late, drain=0) as runtime:
        watching = await runtime.open(session.id, drive=False)
        with pytest.raises(AskClosed, match="expired at"):
            await watching.approve(ask.ask_id, by="ann")
    assert PAID == []
