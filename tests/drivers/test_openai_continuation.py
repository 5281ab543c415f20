"""A provider that keeps its answers is sent what is new, as long as it knows what came before."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from holdfast import (
    Agent,
    Config,
    MemoryStore,
    Message,
    Registry,
    Runtime,
    Session,
    Settings,
    ToolError,
    tool,
)
from holdfast.capability import CapabilityRef
from holdfast.driver import Driver, Previous, Request, Transcript
from holdfast.drivers.openai import OpenAI
from holdfast.drivers.sim import Step, call, calls, fail, say
from holdfast.errors import DriverError
from holdfast.events import ReasonFailed
from holdfast.fold import fold
from holdfast.messages import user_message
from holdfast.state import encode_state
from holdfast.testing.providers import FakeProvider, Play, Received
from tests.drivers.grammar_openai import problems
from tests.turn.scenes import cut_off, first

ON = Settings(continue_responses=True)
Talk = Callable[[Received], Play]


@tool(effect="pure")
async def look(place: str) -> str:
    """Look."""
    return f"nothing at {place}"


def echo(received: Received) -> Step:
    """Says how many items it was sent."""
    return say(f"{len(received.json['input'])} items")


def agent(settings: Settings = ON, **options: Any) -> Agent:
    config = Config(settings=settings)
    return Agent("You help.", name="helper", model="openai/gpt-5.4", tools=[look], config=config, **options)


def registry(fake: FakeProvider) -> Registry:
    def made() -> Driver:
        return OpenAI(base_url=fake.base_url, api_key="any")

    return Registry(drivers={"openai": made})


def bodies(fake: FakeProvider) -> list[dict[str, Any]]:
    sent = [received.json for received in fake.requests]
    assert [problems(body) for body in sent] == [[]] * len(sent)
    return sent


def asked(fake: FakeProvider) -> list[tuple[str | None, int]]:
    """What each request went on from, and how many items it brought."""
    return [(body.get("previous_response_id"), len(body["input"])) for body in bodies(fake)]


def in_turn(*steps: Play) -> Talk:
    answers: Iterator[Play] = iter(steps)
    return lambda received: next(answers)


async def test_only_what_is_new_is_sent_and_the_provider_keeps_its_answers() -> None:
    async with FakeProvider("openai", echo) as fake, Runtime(registry=registry(fake)) as runtime:
        session = await runtime.session(agent())
        for words in ("one", "two", "three"):
            assert (await session.run(words)).text == "1 items"
        assert len(await session.messages()) == 6
    assert asked(fake) == [(None, 1), ("resp_1", 1), ("resp_2", 1)]
    assert [body["store"] for body in bodies(fake)] == [True] * 3
    assert {body["instructions"] for body in bodies(fake)} == {"You help."}, (
        "they do not carry over by themselves"
    )
    assert all(body["tools"] for body in bodies(fake))


async def test_without_the_setting_everything_is_sent() -> None:
    async with FakeProvider("openai", echo) as fake, Runtime(registry=registry(fake)) as runtime:
        session = await runtime.session(agent(Settings()))
        await session.run("one")
        await session.run("two")
    assert asked(fake) == [(None, 1), (None, 3)]
    assert [body["store"] for body in bodies(fake)] == [False] * 2


async def test_results_go_on_from_the_answer_that_wanted_them() -> None:
    wanted = calls(("look", {"place": "home"}), ("look", {"place": "work"}))
    async with (
        FakeProvider("openai", in_turn(wanted, say("Nothing."), say("Bye."))) as fake,
        Runtime(registry=registry(fake)) as runtime,
    ):
        session = await runtime.session(agent())
        await session.run("where?")
        await session.run("thanks")
    assert asked(fake) == [(None, 1), ("resp_1", 2), ("resp_2", 1)]
    assert [item["type"] for item in bodies(fake)[1]["input"]] == ["function_call_output"] * 2


@pytest.mark.parametrize("status", [400, 404])
async def test_an_answer_that_the_provider_no_longer_knows_costs_nobody_anything(status: int) -> None:
    def forgetful(received: Received) -> Play:
        if received.json.get("previous_response_id") == "resp_1":
            return fail("invalid_request", "Previous response with id 'resp_1' not found.", status=status)
        return echo(received)

    async with FakeProvider("openai", forgetful) as fake, Runtime(registry=registry(fake)) as runtime:
        session = await runtime.session(agent())
        for words in ("one", "two", "three"):
            assert (await session.run(words)).status == "completed"
        events = await session.events()
    assert not [event for event in events if isinstance(event.data, ReasonFailed)]
    assert asked(fake) == [(None, 1), ("resp_1", 1), (None, 3), ("resp_3", 1)]


async def test_a_request_that_is_wrong_anyway_fails_with_what_is_wrong() -> None:
    async with FakeProvider("openai", [fail("invalid_request", "no such tool", status=400)]) as fake:
        driver = OpenAI(base_url=fake.base_url, api_key="any")
        messages = Transcript(
            [user_message("a"), Message(id="m", role="assistant", content=()), user_message("b")]
        )
        request = Request(model="gpt-5.4", messages=messages, previous=Previous(response_id="r", covers=2))
        with pytest.raises(DriverError, match="no such tool"):
            await driver.reply(request, lambda *piece: None)
        await driver.close()
    assert [it[0] for it in asked(fake)] == ["r", None]


@pytest.mark.parametrize(
    "error", [fail("overloaded", status=503), fail("too_large", "prompt is too long", status=400)]
)
async def test_other_failures_are_not_blamed_on_the_answer_before(error: Step) -> None:
    async with FakeProvider("openai", [error]) as fake:
        driver = OpenAI(base_url=fake.base_url, api_key="any")
        request = Request(
            model="gpt-5.4",
            messages=Transcript([user_message("a"), user_message("b")]),
            previous=Previous(response_id="r", covers=1),
        )
        with pytest.raises(DriverError):
            await driver.reply(request, lambda *piece: None)
        await driver.close()
    assert len(fake.requests) == 1


async def test_it_goes_on_after_a_restart() -> None:
    store = MemoryStore()
    async with FakeProvider("openai", echo) as fake:
        async with Runtime(store, registry=registry(fake)) as runtime:
            session = await runtime.session(agent())
            await session.run("one")
        async with Runtime(store, registry=registry(fake)) as runtime:
            again = await runtime.open(session.id, agent())
            shown = (await again.inspect("two")).request
            assert shown.previous == Previous(response_id="resp_1", covers=2)
            await again.run("two")
            events = await again.events()
            assert encode_state(again.state) == encode_state(fold(session.id, events))
    assert asked(fake) == [(None, 1), ("resp_1", 1)]


async def test_another_manifest_begins_anew() -> None:
    store = MemoryStore()
    async with FakeProvider("openai", echo) as fake:
        async with Runtime(store, registry=registry(fake)) as runtime:
            session = await runtime.session(agent())
            await session.run("one")
        async with Runtime(store, registry=registry(fake)) as runtime:
            other = Agent("You help less.", model="openai/gpt-5.4", config=Config(settings=ON))
            await (await runtime.open(session.id, other)).run("two")
    assert asked(fake) == [(None, 1), (None, 3)]


async def test_another_model_begins_anew() -> None:
    def broken(received: Received) -> Play:
        if received.json["model"] == "gpt-5.4" and len(fake.requests) > 1:
            return fail("quota", "no more", status=429)
        return echo(received)

    routes = ["openai/gpt-5.4", "openai/gpt-5-mini"]
    async with FakeProvider("openai", broken) as fake, Runtime(registry=registry(fake)) as runtime:
        session = await runtime.session(Agent(model=routes, config=Config(settings=ON)))
        await session.run("one")
        assert (await session.run("two")).status == "completed"
    assert [(it["model"], it.get("previous_response_id")) for it in bodies(fake)] == [
        ("gpt-5.4", None),
        ("gpt-5.4", "resp_1"),
        ("gpt-5-mini", None),
    ]


async def test_a_summary_begins_anew() -> None:
    async with FakeProvider("openai", echo) as fake, Runtime(registry=registry(fake)) as runtime:
        session = await runtime.session(agent(capabilities=[CapabilityRef(name="compaction")]))
        await session.run("one " * 100)
        await session.run("two " * 100)
        await session.compact(by="ana")
        await session.run("three")
        await session.run("four")
    assert [it[0] for it in asked(fake)] == [None, "resp_1", None, None, "resp_4"]
    assert "summary" in str(bodies(fake)[3]["input"][0])


async def test_what_a_person_says_of_a_call_in_doubt_begins_anew() -> None:
    @tool
    async def pay() -> str:
        """Pay."""
        raise ToolError("unreachable")

    def answer(received: Received) -> Play:
        return call("pay") if len(fake.requests) == 1 else echo(received)

    payer = Agent("You pay.", name="payer", model="openai/gpt-5.4", tools=[pay], config=Config(settings=ON))
    async with FakeProvider("openai", answer) as fake:
        async with Runtime(registry=registry(fake)) as runtime:
            session: Session = await runtime.session(payer)
            await session.run("pay")
            events = await session.events()
        left = await cut_off(events, first(events, "tool.started"))
        async with Runtime(left, registry=registry(fake)) as runtime:
            again = await runtime.open(session.id, payer)
            if again.turn is not None:
                await again.turn
            (doubt,) = again.in_doubt
            before = len(fake.requests)
            assert asked(fake)[-1][0] == "resp_1"
            await again.resolve(doubt.call_id, result="it was paid", by="ada")
            await again.run("so?")
    assert asked(fake)[before][0] is None
    assert "it was paid" in str(bodies(fake)[before]["input"])


async def test_the_setting_is_part_of_what_a_turn_runs_under() -> None:
    async with FakeProvider("openai", echo) as fake, Runtime(registry=registry(fake)) as runtime:
        on = (await (await runtime.session(agent())).inspect("x")).manifest
        off = (await (await runtime.session(agent(Settings()))).inspect("x")).manifest
    assert on.digest != off.digest
