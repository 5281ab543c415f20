"""A model asked directly: whole or in pieces, tried again as in a turn, with nothing left open behind it."""

import asyncio
import base64
from decimal import Decimal
from typing import Any

import pytest

from holdfast import (
    ConfigError,
    DriverError,
    Image,
    InputRejected,
    Limits,
    Message,
    Model,
    Registry,
    Request,
    Settings,
    Text,
    ToolSpec,
    UnknownModel,
    Usage,
    UsageError,
    tool,
    user_message,
)
from holdfast.catalogue import ModelInfo, Prices
from holdfast.driver import OutputSpec
from holdfast.drivers.sim import Sim, call, fail, say
from holdfast.model import Piece
from holdfast.testing import run_virtual
from tests.test_media import png

USAGE = Usage(input_tokens=1_000_000, output_tokens=2)


class Closing(Sim):
    """Knows whether it was closed."""

    closed = 0

    async def close(self) -> None:
        self.closed += 1


async def test_a_question_has_an_answer_with_what_it_cost() -> None:
    sim = Sim.always(say("Hello.", usage=USAGE))
    info = ModelInfo(prices=(Prices(input=Decimal(3), output=Decimal(0)),))
    model = Model("house/large", registry=Registry(drivers={"house": sim}, models={"house/large": info}))
    found = await model.complete("Say hello.", instructions="Be brief.", settings=Settings(temperature=0.0))
    assert (found.text, found.stop, found.usage, found.cost) == ("Hello.", "end_turn", USAGE, 3)
    assert (found.model, found.attempts) == ("sim", 1)
    assert found.message.id.startswith("message_")
    (request,) = sim.requests
    assert (request.model, request.instructions, request.settings) == (
        "large",
        "Be brief.",
        Settings(temperature=0.0),
    )
    assert [message.text for message in request.messages] == ["Say hello."]


async def test_settings_of_a_call_come_on_top_of_those_of_the_model() -> None:
    sim = Sim.always("ok")
    model = Model(sim, settings=Settings(temperature=0.5, max_tokens=9))
    output = OutputSpec(name="it", schema={"type": "object"})
    spec = ToolSpec(name="look", description="Look.", parameters={"type": "object"})
    await model.complete("go", settings=Settings(max_tokens=5), tools=[spec], output=output)
    (request,) = sim.requests
    assert request.settings == Settings(temperature=0.5, max_tokens=5)
    assert (request.tools, request.output) == ((spec,), output)


async def test_calls_are_asked_for_and_run_by_nobody() -> None:
    found = await Model(Sim.always(call("look", x=1))).complete("go")
    assert (found.stop, [it.name for it in found.message.calls]) == ("tool_calls", ["look"])


async def test_a_transcript_can_be_gone_on_with() -> None:
    sim = Sim.rule(lambda request: say(f"{len(request.messages)} messages"))
    before = [
        user_message("One."),
        Message(id="", role="assistant", content=(Text(text="Two."),)),
        user_message("3?"),
    ]
    assert (await Model(sim).complete(before)).text == "3 messages"


async def test_pictures_reach_the_model_and_broken_ones_are_refused() -> None:
    sim = Sim.always("A cat.")
    url = f"data:image/png;base64,{base64.b64encode(png(3, 2)).decode()}"
    await Model(sim).complete((Text(text="What is this?"), Image(url=url)))
    assert list(sim.requests[0].blobs.values()) == [png(3, 2)]
    for wrong in ("", (), [], (Image(url="data:image/png;base64,eHh4"),), 3):
        with pytest.raises(InputRejected):
            await Model(sim).complete(wrong)  # type: ignore[arg-type]
    assert len(sim.requests) == 1


def test_a_failure_that_may_pass_is_tried_again_and_waited_for() -> None:
    async def main() -> tuple[str, int, float]:
        started = asyncio.get_running_loop().time()
        model = Model(Sim.script(fail("overloaded"), fail("rate_limit", retry_after=7.0), say("At last.")))
        found = await model.complete("go")
        return found.text, found.attempts, asyncio.get_running_loop().time() - started

    text, attempts, waited = run_virtual(main())
    assert (text, attempts) == ("At last.", 3)
    assert 7.75 <= waited <= 8.25


@pytest.mark.parametrize(
    ("steps", "limits", "asked"),
    [
        ([fail("quota", "no money")], None, 1),
        ([fail("overloaded", "full")] * 3, None, 3),
        ([fail("overloaded", "full")], Limits(model_retries=0), 1),
        ([fail("rate_limit", "slow", retry_after=50.0)] * 2, Limits(model_retries=9, retry_timeout=60.0), 2),
    ],
)
def test_the_last_failure_is_raised(steps: list[Any], limits: Limits | None, asked: int) -> None:
    sim = Sim.script(*steps)
    with sim, pytest.raises(DriverError) as failure:
        run_virtual(Model(sim, limits=limits).complete("go"))
    assert failure.value.kind == steps[-1].error.kind
    assert len(sim.requests) == asked


async def test_an_answer_comes_in_pieces() -> None:
    step = say("Once upon a time", thinking="hm hm")
    async with Model(Sim.always(step)).stream("A story!") as stream:
        pieces = [piece async for piece in stream]
        found = await stream.completion()
    assert [it.text for it in pieces if it.kind == "thinking"] == ["hm ", "hm"]
    assert "".join(it.text for it in pieces if it.kind == "text") == found.text == "Once upon a time"
    assert await stream.completion() == found
    async with Model(Sim.always(call("look"))).stream("go") as stream:
        assert [piece async for piece in stream] == [Piece(kind="arguments", text="{}", index=0)]


def test_a_stream_is_tried_again_only_before_its_first_piece() -> None:
    async def read(*steps: Any) -> str:
        words = ""
        async with Model(Sim.script(*steps)).stream("go") as stream:
            async for piece in stream:
                words += piece.text
        return words

    assert run_virtual(read(fail("overloaded"), say("Here."))) == "Here."
    with pytest.raises(DriverError, match="cut"):
        run_virtual(read(fail("connection", "cut", text="Half an answer", error_after=1), say("never")))


async def test_leaving_a_stream_stops_the_model() -> None:
    sim = Closing.always(say("a b c d e f", pace=60.0))
    async with Model(sim).stream("go") as stream:
        async for piece in stream:
            assert piece.text == "a "
            break
    with pytest.raises(UsageError, match="left before its end"):
        await stream.completion()


async def test_a_stream_is_used_in_its_block_and_once() -> None:
    stream = Model(Sim.always("ok")).stream("go")
    with pytest.raises(UsageError, match="enter the stream first"):
        await stream.completion()
    async with stream:
        pass
    with pytest.raises(UsageError, match="entered once"):
        await stream.__aenter__()


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Closing]:
    found: list[Closing] = []

    def make() -> Closing:
        found.append(Closing(lambda request: say("ok", delay=0.01)))
        return found[-1]

    monkeypatch.setattr("holdfast.registry.DRIVERS", {"house": make})
    return found


async def test_connections_are_closed_behind_each_call_or_behind_the_block(made: list[Closing]) -> None:
    model = Model("house/small")
    await model.complete("one")
    assert [it.closed for it in made] == [1]
    await asyncio.gather(model.complete("two"), model.complete("three"))
    assert [it.closed for it in made] == [1, 1], "those under way share a driver"
    async with model:
        await model.complete("four")
        async with model.stream("five") as stream:
            await stream.completion()
        assert [it.closed for it in made] == [1, 1, 0]
    assert [it.closed for it in made] == [1, 1, 1]


async def test_drivers_of_a_registry_that_is_given_stay_open(made: list[Closing]) -> None:
    registry = Registry()
    async with Model("house/small", registry=registry) as model:
        await model.complete("one")
    assert [it.closed for it in made] == [0]
    await registry.close()


def test_it_can_be_asked_from_blocking_code(made: list[Closing]) -> None:
    model = Model("house/small")
    assert [asyncio.run(model.complete("go")).text for _ in range(2)] == ["ok", "ok"]


async def test_a_wrong_name_or_a_missing_key_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(UnknownModel, match="did you mean 'openai'"):
        await Model("opneai/gpt-5.4").complete("go")
    with pytest.raises(ConfigError, match="OPENAI_API_KEY"):
        await Model("openai/gpt-5.4").complete("go")
    assert repr(Model("openai/gpt-5.4")) == "Model('openai/gpt-5.4')"


async def test_a_tool_is_given_by_its_spec_and_a_shape_by_its_schema() -> None:
    @tool(effect="pure")
    async def look() -> str:
        """Look."""
        return "here"

    sim = Sim.always("ok")
    asked: Any = Model(sim)
    for wrong in (look, len):
        with pytest.raises(UsageError, match="is no ToolSpec; of a tool give its `spec`"):
            await asked.complete("go", tools=[wrong])
    with pytest.raises(UsageError, match="not an OutputSpec; session"):
        await asked.complete("go", output=Usage)
    await asked.complete("go", tools=[look.spec])
    assert [it.name for it in sim.requests[-1].tools] == ["look"]


@pytest.mark.parametrize("model", [None, 7, ["openai/gpt-5.4"], object()])
def test_what_is_neither_a_name_nor_a_driver_is_no_model(model: Any) -> None:
    with pytest.raises(UnknownModel, match=r'a model is "vendor/name" or a driver object, not '):
        Model(model)


async def test_requests_stream_so_that_a_long_answer_is_not_taken_for_silence() -> None:
    sim = Sim.always("ok")
    await Model(sim).complete("go")
    request: Request = sim.requests[0]
    assert request.stream
