"""What may be tried to use things up: rows 129 to 132 of the checklist."""

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import httpx2
import pytest

from holdfast import Agent, Budget, Config, InputRejected, Registry, Runtime, Settings, Usage
from holdfast.catalogue import ModelInfo, Prices
from holdfast.drivers.sim import Sim, say
from holdfast.drivers.webhook import WebhookSink

AGENT = Agent(name="echo", model=Sim.always("Hi."))


@pytest.mark.parametrize(
    "given",
    [
        {"title": "x" * 1_000_000},
        {"principal": "x" * 1_000_000},
        {"organisation": "x" * 1_000_000},
        {"metadata": {str(number): "x" for number in range(100_000)}},
        {"metadata": {"key": "x" * 1_000_000}},
    ],
    ids=["title", "principal", "organisation", "many", "large"],
)
async def test_s129_huge_labels_are_refused_with_the_limit(given: dict[str, Any]) -> None:
    async with Runtime() as runtime:
        with pytest.raises(InputRejected, match="the limit is"):
            await runtime.session(AGENT, **given)
        assert await runtime.sessions() == []


async def test_s129_a_session_that_exists_cannot_be_given_them_either() -> None:
    async with Runtime() as runtime:
        session = await runtime.session(AGENT, title="small")
        await session.run("Hello.")
        with pytest.raises(InputRejected, match="the limit is"):
            await session.update(title="x" * 1_000_000)
        with pytest.raises(InputRejected, match="the limit is"):
            await session.update(metadata={"key": "x" * 1_000_000})
        with pytest.raises(InputRejected, match="the limit is"):
            await session.send("x" * 5_000_000)
        assert session.state.title == "small"


CHEAP = Prices(input=Decimal(1), output=Decimal(10), cache_read=Decimal("0.1"), cache_write=Decimal(0))
PRICES = {"sim/x": ModelInfo(name="x", prices=(CHEAP,))}


async def used(usage: Usage, words: str = "Hello.") -> dict[str, Decimal]:
    """What budgets count for one reply with this usage, by quantity."""
    registry = Registry(drivers={"sim": Sim.always(say("Hi.", usage=usage))}, models=PRICES)
    budgets = tuple(
        Budget(scope="session", quantity=it, hard=10**9) for it in ("usd", "tokens", "model_calls")
    )
    async with Runtime(registry=registry) as runtime:
        config = Config(budgets=budgets, settings=Settings(max_tokens=100))
        session = await runtime.session(Agent(model="sim/x", config=config))
        await session.run(words)
        return {it.quantity: it.used for it in await session.budgets()}


@pytest.mark.parametrize(
    "usage",
    [
        Usage(),
        Usage(input_tokens=-1_000, output_tokens=-1_000),
        Usage(input_tokens=10, output_tokens=-5),
        Usage(input_tokens=10, output_tokens=5, cache_read_tokens=-1_000_000),
        Usage(input_tokens=10, output_tokens=5, cache_read_tokens=1_000_000),
        Usage(input_tokens=10, output_tokens=5, cache_write_tokens=-1_000_000),
        Usage(input_tokens=10, output_tokens=5, reasoning_tokens=-1_000_000),
    ],
)
async def test_s131_a_hostile_count_of_tokens_never_credits(usage: Usage) -> None:
    counted = await used(usage)
    assert counted["usd"] > 0
    assert counted["tokens"] >= 10
    assert counted["model_calls"] == 1


WORDS = "word " * 10_000


@pytest.mark.parametrize(
    "usage",
    [
        Usage(input_tokens=1, output_tokens=1),
        Usage(input_tokens=-5, output_tokens=1),
        Usage(input_tokens=1, output_tokens=1, cache_read_tokens=1),
    ],
)
async def test_s131_a_count_that_is_far_too_low_is_not_believed(usage: Usage) -> None:
    counted = await used(usage, WORDS)
    assert counted["tokens"] > 2_000
    assert counted["usd"] > 2_000 * Decimal("0.000001") / 10


@pytest.mark.parametrize(
    "usage",
    [
        Usage(input_tokens=2_600, output_tokens=1, cache_read_tokens=2_600),
        Usage(input_tokens=2_600, output_tokens=1, cache_write_tokens=2_600),
        Usage(input_tokens=10, output_tokens=1, cache_write_tokens=10),
        Usage(input_tokens=10, output_tokens=1, cache_read_tokens=20),
    ],
)
async def test_s131_what_is_said_to_be_cached_costs_no_less_than_reading_it_from_a_cache(
    usage: Usage,
) -> None:
    assert (await used(usage, WORDS))["usd"] >= 2_500 * Decimal("0.0000001")


async def test_s131_an_endpoint_that_always_says_little_is_stopped_at_the_budget_all_the_same() -> None:
    registry = Registry(drivers={"sim": Sim.always(say(WORDS, usage=Usage(input_tokens=1, output_tokens=1)))})
    config = Config(
        budgets=(Budget(scope="session", quantity="tokens", hard=20_000),), settings=Settings(max_tokens=100)
    )
    async with Runtime(registry=registry) as runtime:
        session = await runtime.session(Agent(model="sim/x", config=config))
        stops = [(await session.run(WORDS)).stop for _ in range(5)]
        assert stops == ["end_turn", "end_turn", "budget", "budget", "budget"]
        (standing,) = await session.budgets()
        assert standing.used == 15_000  # twice 2,500 that the model wrote, 2,500 that it read, and then 7,500


@pytest.fixture
async def redirecting() -> AsyncIterator[tuple[httpx2.AsyncClient, list[str]]]:
    """A client that follows redirects, and a server that sends it into the network behind."""
    seen: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(str(request.url))
        return httpx2.Response(307, headers={"Location": "http://169.254.169.254/latest/meta-data"})

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(answer), follow_redirects=True) as client:
        yield client, seen


async def test_s132_a_webhook_that_redirects_inwards_is_not_followed_whatever_the_client_would_do(
    redirecting: tuple[httpx2.AsyncClient, list[str]],
) -> None:
    client, seen = redirecting
    async with Runtime() as runtime:
        runtime.sink("hook", WebhookSink("https://example.com/hook", http=client))
        session = await runtime.session(AGENT)
        await session.run("Hello.")
        async for event in session.follow():
            if event.type == "sink.delivered":
                break
        assert getattr(event.data, "status", "") == "failed"
    assert seen == ["https://example.com/hook"]
