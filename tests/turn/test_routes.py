"""Another model instead: asked when one failed for good, known after a crash, charged at its own prices."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from holdfast import Agent, Event, Limits, Registry, Reply, Request, Runtime, Session, Thinking, Usage, tool
from holdfast.catalogue import ModelInfo, Prices
from holdfast.driver import Emit
from holdfast.drivers.anthropic import Anthropic
from holdfast.drivers.openai_chat import OpenAIChat
from holdfast.drivers.sim import Sim, Step, call, fail, say
from holdfast.errors import ELSEWHERE, DriverError, DriverErrorKind
from holdfast.events import OutputMessageCompleted, OutputMessageReplaced, ReasonFailed
from holdfast.fold import fold
from holdfast.stores.memory import MemoryStore
from holdfast.testing import VirtualClock
from holdfast.testing.clock import START
from tests.turn.scenes import assert_sound, cut_off, first, kinds, session_with

ONCE = Limits(model_retries=0)


def failures(events: list[Event]) -> list[ReasonFailed]:
    return [event.data for event in events if isinstance(event.data, ReasonFailed)]


def replies(events: list[Event]) -> list[OutputMessageCompleted]:
    return [event.data for event in events if isinstance(event.data, OutputMessageCompleted)]


async def sound(session: Session) -> list[Event]:
    events = await session.events()
    assert_sound(events)
    assert fold(session.id, events) == session.state
    return events


@pytest.mark.parametrize("kind", sorted(ELSEWHERE))
async def test_the_next_model_answers_when_one_failed_for_good(kind: DriverErrorKind) -> None:
    agent = Agent(model=[Sim.script(fail(kind, "no")), Sim.always("Here.")], limits=ONCE)
    async with session_with(agent) as session:
        result = await session.run("go")
        (failure,) = failures(await sound(session))
    assert (result.status, result.text) == ("completed", "Here.")
    assert (failure.reason, failure.model, failure.next_model, failure.retry_at) == (
        kind,
        "sim/",
        "sim/",
        None,
    )


@pytest.mark.parametrize("kind", ["invalid_request", "content_policy"])
async def test_what_the_request_itself_is_to_blame_for_is_asked_of_nobody_else(kind: DriverErrorKind) -> None:
    other = Sim.always("Here.")
    async with session_with(Agent(model=[Sim.always(fail(kind, "no")), other])) as session:
        result = await session.run("go")
        (failure,) = failures(await sound(session))
    assert result.error is not None
    assert (result.status, result.error.code, failure.next_model) == ("failed", kind, "")
    assert other.requests == []


async def test_a_model_that_the_provider_does_not_have_is_asked_for_elsewhere() -> None:
    unknown = Sim.always(fail("invalid_request", "no such model", status=404))
    async with session_with(Agent(model=[unknown, Sim.always("Here.")])) as session:
        assert (await session.run("go")).text == "Here."


async def test_a_failure_that_may_pass_is_tried_again_before_another_is_asked() -> None:
    one = Sim.script(*[fail("overloaded", f"no {number}") for number in range(3)])
    two = Sim.script(fail("rate_limit", "slow"), say("Here."))
    with one, two:
        async with session_with(Agent(model=(one, two))) as session:
            assert (await session.run("go")).text == "Here."
            events = await sound(session)
    found = [(it.attempt, it.retry_at is None, bool(it.next_model)) for it in failures(events)]
    assert found == [(1, False, False), (2, False, False), (3, True, True), (1, False, False)]
    assert replies(events)[0].attempt == 2, "attempts are counted for each model"


async def test_the_turn_fails_with_what_the_last_model_said() -> None:
    models = [Sim.always(fail("quota", "no money")), Sim.always(fail("authentication", "no key"))]
    async with session_with(Agent(model=models)) as session:
        result = await session.run("go")
        events = await sound(session)
    assert result.error is not None
    assert (result.status, result.error.message) == ("failed", "no key")
    assert [bool(it.next_model) for it in failures(events)] == [True, False]
    assert kinds(events)[-1] == "turn.failed"


async def test_the_turn_stays_with_the_model_that_answers_and_the_next_begins_anew() -> None:
    @tool(effect="pure")
    async def look() -> str:
        """Look."""
        return "nothing"

    one, two = Sim.script(fail("quota"), say("Back.")), Sim.script(call("look"), say("Done."))
    with one, two:
        async with session_with(Agent(model=[one, two], tools=[look])) as session:
            assert (await session.run("go")).text == "Done."
            assert (await session.run("again")).text == "Back."
            await sound(session)


async def test_which_model_is_next_survives_a_crash() -> None:
    store = MemoryStore()
    one, two = Sim.always(fail("quota")), Sim.always("Here.")
    async with session_with(Agent(model=[one, two], name="pair"), store) as session:
        await session.run("go")
        events = await session.events()
    rest = await cut_off(events, first(events, "reason.failed"))
    again = Sim.always("I am back, and nobody asks me.")
    async with Runtime(rest, clock=VirtualClock()) as runtime:
        opened = await runtime.open(session.id, Agent(model=[again, two], name="pair"))
        assert opened.state.turn is not None
        result = await opened._runner.result(opened.state.turn.id)
        assert result.text == "Here."
        assert again.requests == []


async def test_words_of_a_model_that_failed_are_replaced() -> None:
    one = Sim.script(fail("connection", "cut", text="Half an ans", error_after=2))
    async with session_with(Agent(model=[one, Sim.always("A whole one.")], limits=ONCE)) as session:
        assert (await session.run("go")).text == "A whole one."
        events = await sound(session)
        assert [message.text for message in await session.messages()] == ["go", "A whole one."]
    assert sum(isinstance(event.data, OutputMessageReplaced) for event in events) == 1


async def test_each_reply_is_charged_at_the_prices_of_who_gave_it() -> None:
    usage = Usage(input_tokens=1_000_000, output_tokens=1)
    prices = {
        "one/a": ModelInfo(prices=(Prices(input=Decimal(7), output=Decimal(0)),)),
        "two/b": ModelInfo(prices=(Prices(input=Decimal(2), output=Decimal(0)),)),
    }
    drivers: dict[str, Any] = {
        "one": Sim.script(fail("quota"), say("a", usage=usage)),
        "two": Sim.always(say("b", usage=usage)),
    }
    async with Runtime(registry=Registry(drivers=drivers, models=prices)) as runtime:
        session = await runtime.session(Agent(model=["one/a", "two/b"]))
        assert (await session.run("go")).cost == 2
        assert (await session.run("go")).cost == 7


class Thinker(Sim):
    """A model of the vendor `anthropic` that thinks once, and then has no money."""

    async def reply(self, request: Request, emit: Emit) -> Reply:
        reply = await super().reply(request, emit)
        content = (Thinking(text="A secret.", signature="c2ln", provider="anthropic"), *reply.message.content)
        return Reply(message=type(reply.message)(id="", role="assistant", content=content), stop=reply.stop)


async def test_thoughts_do_not_go_to_another_vendor() -> None:
    @tool(effect="pure")
    async def look() -> str:
        """Look."""
        return "nothing"

    answers: list[Step] = [call("look"), fail("quota")]
    other = Sim.always("Done.")
    one = Thinker(lambda request: answers.pop(0))
    async with session_with(Agent(model=[one, other], tools=[look])) as session:
        assert (await session.run("go")).text == "Done."
        (request,) = other.requests
    assert b"A secret." not in OpenAIChat(api_key="").encode(request)
    assert b"A secret." in Anthropic(api_key="").encode(request)


async def test_the_layers_in_the_log_name_all_models() -> None:
    store = MemoryStore()
    drivers: dict[str, Any] = {"one": Sim.always(fail("quota")), "two": Sim.always("Here.")}
    async with Runtime(store, registry=Registry(drivers=drivers)) as runtime:
        session = await runtime.session(Agent(model=["one/a", "two/b"], name="pair"))
        await session.run("go")
    async with Runtime(store, registry=Registry(drivers=drivers)) as runtime:
        again = await runtime.open(session.id)
        assert [route.model for route in (await again.inspect()).manifest.routes] == ["one/a", "two/b"]
        assert (await again.run("and now?")).text == "Here."


async def test_attempts_end_when_their_time_is_over() -> None:
    steps = [fail("rate_limit", retry_after=40.0)] * 3
    agent = Agent(model=Sim.script(*steps, say("never")), limits=Limits(model_retries=9, retry_timeout=90.0))
    async with session_with(agent) as session:
        result = await session.run("go")
        events = await sound(session)
    assert result.status == "failed"
    instants = [START + timedelta(seconds=40), START + timedelta(seconds=80), None]
    assert [it.retry_at for it in failures(events)] == instants


async def test_the_time_for_attempts_begins_anew_with_each_reply() -> None:
    @tool(effect="pure")
    async def look() -> str:
        """Look."""
        return "nothing"

    slow = fail("rate_limit", retry_after=40.0)
    model = Sim.script(slow, slow, call("look"), slow, slow, say("Done."))
    agent = Agent(model=model, tools=[look], limits=Limits(retry_timeout=90.0))
    async with session_with(agent) as session:
        assert (await session.run("go")).text == "Done."


def test_what_may_pass_with_another_model_is_said_by_the_error() -> None:
    assert DriverError("quota", "x").elsewhere
    assert not DriverError("invalid_request", "x", status=400).elsewhere
    assert DriverError("invalid_request", "x", status=404).elsewhere
