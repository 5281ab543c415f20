"""Prices and sizes of models: found by the names we use, computed exactly, and never guessed."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, localcontext
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast import Agent, ConfigError, Model, Registry, Runtime, Text, TurnResult, UnknownModel, Usage
from holdfast.catalogue import ModelInfo, Prices, cost, find, pricing, total
from holdfast.driver import Cost, Reply
from holdfast.drivers.openai_chat import OpenAIChat
from holdfast.drivers.sim import Sim, Step, calls, fail, say
from holdfast.events import OutputMessageCompleted
from holdfast.messages import Message, Native, Part
from holdfast.state import decode_state, encode_state
from holdfast.tool import tool
from tests.conftest import ROOT

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
CHEAP = ModelInfo(
    prices=(Prices(input=Decimal("0.1"), output=Decimal("0.7"), cache_read=Decimal("0.03")),),
    price_date=date(2026, 11, 1),
)


def amount(usage: Usage, info: ModelInfo, at: datetime = NOW) -> Decimal | None:
    found = cost(usage, info, at)
    return found.amount if found else None


def used(*counts: int) -> Usage:
    names = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")
    return Usage(**dict(zip(names, counts, strict=False)))


def reply(usage: Usage, *parts: Part, model: str = "") -> Reply:
    content = parts or (Text(text="Hello."),)
    message = Message(id="", role="assistant", content=content)
    return Reply(message=message, stop="end_turn", usage=usage, model=model)


def file() -> dict[str, Any]:
    text = (ROOT / "src" / "holdfast" / "catalogue.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


# Names


@pytest.mark.parametrize(
    ("model", "name", "window"),
    [
        ("anthropic/claude-3-5-sonnet-20241022", "claude-3-5-sonnet", 200_000),
        ("openai/gpt-4o", "gpt-4o", 128_000),
        ("openai-chat/gpt-4o", "gpt-4o", 128_000),
        ("gemini/gemini-2.5-flash", "gemini-2.5-flash", 1_048_576),
        ("openrouter/anthropic/claude-sonnet-5", "anthropic/claude-sonnet-5", 1_000_000),
        ("claude-3-5-sonnet-20241022", "claude-3-5-sonnet", 200_000),
        ("OPENAI/gpt-4o", None, None),
        ("openai/GPT-4o", "gpt-4o", 128_000),
    ],
)
def test_a_model_is_found_by_the_name_we_use(model: str, name: str | None, window: int | None) -> None:
    found = find(model)
    assert (found and found.name, found and found.context_window) == (name, window)


@pytest.mark.parametrize(
    "model",
    [
        "",
        "/",
        "openai/",
        "openai/no-such-model",
        "local/gpt-4o",
        "sim/",
        "gpt-4o/",
        "groq/gpt-4o",
        "anthropic/claude-3-5-sonnet" + "x" * 1_000,
    ],
)
def test_an_unknown_model_is_not_found_even_when_part_of_its_name_is_known(model: str) -> None:
    assert find(model) is None


def test_what_has_answered_counts_before_what_was_asked_for() -> None:
    asked, answered = find("openai/gpt-4o"), find("openai/gpt-4o-mini")
    assert asked is not None
    assert answered is not None
    assert asked.prices != answered.prices
    assert find("openai/gpt-4o", "gpt-4o-mini-2024-07-18") == answered
    assert find("openai/gpt-4o", "sim") == asked
    assert find("openrouter/openrouter/auto", "anthropic/claude-sonnet-5") == find(
        "openrouter/anthropic/claude-sonnet-5"
    )


def test_the_host_says_whose_prices_count() -> None:
    assert find("mine/gpt-4o", host="api.openai.com") == find("openai/gpt-4o")
    assert find("mine/anthropic/claude-sonnet-5", host="OpenRouter.ai") is not None
    assert find("openai-chat/gpt-4o", host="localhost") is None
    assert find("openai/gpt-4o", "gpt-4o", host="gateway.example.com") is None


def test_the_chat_driver_says_where_it_goes() -> None:
    names = Registry(drivers={"mine": OpenAIChat(base_url="http://localhost:1/v1")})
    usage = used(1_000, 10)
    away, _ = names.driver("mine/gpt-4o")
    assert names.pricing("mine/gpt-4o", away)(reply(usage), NOW) is None
    there = OpenAIChat(base_url="https://api.openai.com/v1", vendor="mine")
    assert names.pricing("mine/gpt-4o", there)(reply(usage), NOW) == pricing("openai/gpt-4o")(
        reply(usage), NOW
    )


# Sums


def test_cached_tokens_are_charged_once_at_their_own_price_and_reasoning_as_output() -> None:
    info = ModelInfo(prices=(Prices(*(Decimal(it) for it in ("3", "15", "0.3", "3.75"))),))
    usage = used(10_000, 500, 8_000, 1_500, 400)
    by_hand = 500 * Decimal(3) + 8_000 * Decimal("0.3") + 1_500 * Decimal("3.75") + 500 * Decimal(15)
    assert amount(usage, info) == by_hand / 1_000_000 == Decimal("0.017025")


def test_a_million_of_each_costs_what_the_list_says() -> None:
    found = find("anthropic/claude-3-5-sonnet-20241022")
    assert found is not None
    assert amount(used(1_000_000, 1_000_000), found) == Decimal(18)
    assert cost(used(1), found, NOW) == Cost(
        amount=Decimal("0.000003"), price_date=date.fromisoformat(file()["date"])
    )


@pytest.mark.parametrize(
    ("usage", "info"),
    [
        (Usage(), CHEAP),
        (used(10, 1, 0, 5), CHEAP),
        (used(10, 1), ModelInfo(context_window=8_000)),
        (used(10, 1), ModelInfo(prices=(Prices(input=Decimal(1)),))),
        (used(10, 1, 11), CHEAP),
        (used(10, -1), CHEAP),
    ],
    ids=[
        "nothing reported",
        "no price to write",
        "no prices",
        "no output price",
        "more cached than in",
        "below",
    ],
)
def test_what_is_not_known_is_not_guessed(usage: Usage, info: ModelInfo) -> None:
    assert cost(usage, info, NOW) is None


def test_a_missing_price_does_not_matter_where_nothing_was_used() -> None:
    assert amount(used(10, 0), ModelInfo(prices=(Prices(input=Decimal(1)),))) == Decimal("0.00001")


def test_a_free_model_costs_nothing_which_is_known() -> None:
    assert amount(used(10, 10), ModelInfo(prices=(Prices(input=Decimal(0), output=Decimal(0)),))) == 0


@given(st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 10**9)), max_size=50))
def test_many_replies_cost_exactly_the_sum_whatever_the_context(counts: list[tuple[int, int]]) -> None:
    with localcontext() as context:
        context.prec = 3
        spent: Decimal | None = Decimal(0)
        for each in counts:
            if any(each):
                spent = total(spent, amount(used(*each), CHEAP))
    assert spent is not None
    assert spent * 10**7 == sum(1 * taken + 7 * given for taken, given in counts)


def test_one_unknown_makes_the_sum_unknown() -> None:
    assert total(Decimal(1), None) is None
    assert total(None, Decimal(1)) is None


# Which prices


def test_long_requests_have_the_prices_of_long_requests_for_all_their_tokens() -> None:
    info = ModelInfo(
        prices=(
            Prices(input=Decimal(1), output=Decimal(2)),
            Prices(input=Decimal(3), output=Decimal(4), above=200_000),
            Prices(input=Decimal(5), output=Decimal(6), above=400_000),
        )
    )
    costs = [amount(used(count, 100_000), info) for count in (200_000, 200_001, 400_000, 400_001)]
    assert costs == [Decimal(it) for it in ("0.4", "1.000003", "1.6", "2.600005")]


def test_a_new_price_counts_from_its_day_on_in_utc() -> None:
    info = ModelInfo(
        prices=(
            Prices(input=Decimal(1)),
            Prices(input=Decimal(9), above=100),
            Prices(input=Decimal(2), since=date(2026, 12, 1)),
        )
    )
    first = datetime(2026, 12, 1, tzinfo=UTC)
    here = datetime.fromisoformat("2026-12-01T01:30:00+02:00")  # still November in UTC
    usage, million = used(1_000_000), Decimal(1_000_000)
    costs = [amount(usage, info, at) for at in (first - timedelta(seconds=1), first, here)]
    assert costs == [9, 2, 9]
    assert amount(used(100), info, first - timedelta(days=1)) == 100 / million


def test_a_price_that_is_not_yet_is_not_known() -> None:
    assert amount(used(1), ModelInfo(prices=(Prices(input=Decimal(1), since=date(2027, 1, 1)),))) is None


def test_a_price_for_some_hours_counts_in_them_only_also_over_midnight() -> None:
    day = Prices(input=Decimal(1))
    evening = Prices(input=Decimal(2), hours=(time(16, 30), time(18)))
    night = Prices(input=Decimal(3), hours=(time(23, tzinfo=UTC), time(1, tzinfo=UTC)))
    info = ModelInfo(prices=(day, evening, night))
    hours = [time(16, 29, 59), time(16, 30), time(18), time(23), time(0), time(1)]
    costs = [amount(used(1_000_000), info, datetime.combine(NOW, it, UTC)) for it in hours]
    assert costs == [1, 2, 1, 3, 3, 1]


@pytest.mark.parametrize("price", [0.1, "one", Decimal(-1), Decimal("NaN"), Decimal("Infinity"), -1])
def test_a_price_that_is_not_exact_is_refused_when_it_is_given(price: Any) -> None:
    with pytest.raises(ConfigError, match="Decimal"):
        Prices(input=Decimal(1), output=price)


def test_what_is_known_of_a_model_survives_json() -> None:
    info = ModelInfo(
        name="mine",
        context_window=8_000,
        output_limit=1_000,
        prices=(Prices(input=Decimal("0.10")), Prices(output=Decimal(1), hours=(time(1), time(2)))),
        price_date=date(2026, 11, 1),
    )
    assert msgspec.json.decode(msgspec.json.encode(info), type=ModelInfo) == info


# What models can do

CAN = ("images", "documents", "tools", "structured_output", "reasoning")


@pytest.mark.parametrize(
    ("name", "window", "limit", "can"),
    [
        ("anthropic/claude-opus-5", 1_000_000, 128_000, (True,) * 5),
        ("anthropic/claude-haiku-4-5-20251001", 200_000, 64_000, (True,) * 5),
        ("anthropic/claude-sonnet-4-6", 1_000_000, 128_000, (True,) * 5),
        ("anthropic/claude-sonnet-5", 1_000_000, 128_000, (True, True, True, None, True)),
        ("anthropic/claude-3-5-haiku-latest", 200_000, 8_192, (True, True, True, None, False)),
        ("anthropic/claude-3-5-sonnet-20240620", 200_000, 8_192, (True, None, True, None, False)),
        ("anthropic/claude-opus-5-5", 1_000_000, 128_000, (True, None, True, True, True)),
        ("openai/gpt-5.4", 1_050_000, 128_000, (True,) * 5),
        ("openai-chat/gpt-4o-2024-08-06", 128_000, 16_384, (True, True, True, True, False)),
        ("openai/gpt-4o-2024-05-13", 128_000, 4_096, (True, None, True, None, False)),
        ("openai/o3-mini", 200_000, 100_000, (False, None, True, True, True)),
        ("gemini/gemini-3-pro-preview", 1_048_576, 65_536, (True,) * 5),
        ("gemini/gemini-2.5-flash", 1_048_576, 65_536, (True,) * 5),
        ("openai/gpt-5-chat-latest", 400_000, None, (None,) * 5),  # priced like gpt-5, and not the same
        ("gemini/gemini-2.5-flash-image", 1_000_000, None, (None,) * 5),
        ("groq/llama-3.3-70b-versatile", None, None, (None,) * 5),
    ],
)
def test_what_a_model_takes_gives_and_can_do_is_known_or_unknown_and_never_guessed(
    name: str, window: int | None, limit: int | None, can: tuple[bool | None, ...]
) -> None:
    info = find(name)
    assert info is not None
    assert (info.context_window, info.output_limit) == (window, limit)
    assert tuple(getattr(info, it) for it in CAN) == can


def test_every_fact_of_the_file_is_one_of_a_model_that_has_a_price() -> None:
    for provider, entries in file()["facts"].items():
        for names, *_ in entries:
            plain = [it for it in (name for at, name in NAMES if at == provider) if re.fullmatch(names, it)]
            assert plain, f"{provider}: {names} is nobody"


async def test_what_is_known_of_a_model_is_asked_of_the_registry_or_of_the_model() -> None:
    mine = ModelInfo(context_window=8_000, tools=True)
    better = ModelInfo(output_limit=1_000)
    registry = Registry(
        drivers={"mine": Sim.always("hi"), "local": lambda: OpenAIChat(base_url="http://localhost:1/v1")},
        models={"mine/a": mine, "openai/gpt-4o": better},
    )
    assert registry.info("mine/a") == mine
    assert registry.info("mine/b") is None
    assert registry.info("local/gpt-4o") is None  # whoever answers there, it is not known to be OpenAI
    known = registry.info("openai/gpt-4o")
    assert known is not None
    assert (known.output_limit, known.context_window, known.images) == (1_000, 128_000, True)
    assert known.prices
    with pytest.raises(UnknownModel):
        registry.info("nobody/a")
    assert Model("openai/gpt-4o", registry=registry).info == known
    assert Model("anthropic/claude-opus-5").info == find("anthropic/claude-opus-5")
    assert Model(Sim.always("hi")).info is None
    await registry.close()


# Turns


@tool(effect="pure")
async def add(a: int, b: int) -> int:
    """Add two integers."""
    return a + b


async def turn_of(*steps: Step, model: str = "anthropic/claude-3-5-sonnet-20241022") -> TurnResult:
    vendor = model.partition("/")[0]
    registry = Registry(drivers={vendor: Sim.script(*steps)}, models={"mine/cheap": CHEAP})
    async with Runtime(registry=registry) as runtime:
        session = await runtime.session(Agent(model=model, tools=[add]))
        result = await session.run("2 + 2?")
        facts = [it.data for it in await session.events() if isinstance(it.data, OutputMessageCompleted)]
        costs = [fact.cost for fact in facts]
        assert result.cost == (sum(it for it in costs if it is not None) if None not in costs else None)
        assert session.state.cost == result.cost
        assert {fact.price_date is None for fact in facts if fact.cost is None} <= {True}
        reopened = await session.handle(result.turn_id)
        assert reopened.cost == result.cost
        return result


async def test_a_turn_costs_the_sum_of_its_replies() -> None:
    result = await turn_of(
        calls(("add", {"a": 2, "b": 2}), usage=used(1_000, 10)), say("4", usage=used(1_100, 5, 1_000, 100))
    )
    # by hand: 1000 x 3 + 10 x 15, and 1000 x 0.30 + 100 x 3.75 + 5 x 15, of a millionth of a dollar
    assert result.cost == Decimal("0.003150") + Decimal("0.000750") == Decimal("0.0039")


async def test_a_failed_attempt_has_no_usage_and_adds_nothing() -> None:
    result = await turn_of(fail("invalid_request"))
    assert (result.status, result.cost) == ("failed", 0)


async def test_a_turn_with_one_reply_of_unknown_cost_is_of_unknown_cost() -> None:
    result = await turn_of(calls(("add", {"a": 2, "b": 2}), usage=used(1_000, 10)), say("4"))
    assert result.usage == used(1_000, 10)
    assert result.cost is None


async def test_the_cost_of_an_unknown_model_is_unknown() -> None:
    assert (await turn_of(say("4", usage=used(10, 10)), model="anthropic/no-such-model")).cost is None


def test_who_says_something_else_of_a_model_still_pays_the_prices_of_the_catalogue() -> None:
    usage = used(1_000, 10)
    plain = pricing("openai/gpt-4o")(reply(usage), NOW)
    assert plain is not None
    assert pricing("openai/gpt-4o", own=ModelInfo(output_limit=1_000))(reply(usage), NOW) == plain


async def test_prices_of_ones_own_count_before_the_catalogue() -> None:
    assert (await turn_of(say("4", usage=used(10, 10)), model="mine/cheap")).cost == Decimal("0.000008")
    own = pricing("openai/gpt-4o", "localhost", CHEAP)
    assert own(reply(used(10, 10)), NOW) == Cost(amount=Decimal("0.000008"), price_date=CHEAP.price_date)


def test_a_reply_in_which_the_provider_ran_tools_is_of_unknown_cost() -> None:
    ran = Native(provider="anthropic", data='{"type":"server_tool_use"}')
    price = pricing("anthropic/claude-sonnet-5")
    assert price(reply(used(10, 10), Text(text="It rains.")), NOW) is not None
    assert price(reply(used(10, 10), ran, Text(text="It rains.")), NOW) is None


async def test_a_snapshot_of_a_session_keeps_what_it_cost() -> None:
    async with Runtime(registry=Registry(drivers={"mine": Sim.always("x")})) as runtime:
        session = await runtime.session(Agent(model="mine/cheap"))
        assert decode_state(encode_state(session.state)).cost == 0
        await session.run("Hello?")
        assert decode_state(encode_state(session.state)).cost is None


# The file


def names() -> Iterator[tuple[str, str]]:
    """Providers, and names that the file may have for them."""
    for provider, entries in file()["providers"].items():
        for name, match, *_ in entries:
            yield provider, name
            for test in [it for group in match for it in (group if isinstance(group, list) else [group])]:
                if test[0] != "/" and test[1:]:
                    yield provider, test[1:]
                    yield provider, f"{test[1:]}-20260101"


NAMES = sorted(set(names()))


def test_importing_the_package_does_not_read_the_file() -> None:
    code = "import holdfast, holdfast.catalogue as c; print(c._book.cache_info().currsize)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0"


def test_the_file_is_small_and_every_entry_of_it_can_be_read() -> None:
    assert (ROOT / "src" / "holdfast" / "catalogue.json").stat().st_size < 150_000
    book = file()
    assert set(book["hosts"].values()) <= book["providers"].keys()
    assert set(book["vendors"].values()) <= book["providers"].keys()
    for provider in book["providers"]:
        assert any(find(f"{provider}/{name}") for at, name in NAMES if at == provider)


def require_the_list() -> Any:
    """The package that the file is made of, which is in the extra `release`."""
    return pytest.importorskip("genai_prices", reason='no genai-prices here: pip install -e ".[release]"')


def test_the_file_is_what_the_installed_price_list_gives() -> None:
    require_the_list()
    script = ROOT / "scripts" / "make_catalogue.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


INSTANTS = [datetime(2026, 11, 20, hour, 45, tzinfo=UTC) for hour in (0, 2, 8, 17)] + [
    datetime(2024, 6, 1, tzinfo=UTC),
    datetime(2025, 9, 1, 2, tzinfo=UTC),
    datetime(2026, 8, 20, tzinfo=UTC),
    datetime(2027, 6, 1, tzinfo=UTC),
]
COUNTED = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
USAGES = [
    used(1_000, 20),
    used(250_000, 3_333, 240_001, 0, 17),
    used(300_001, 1, 0, 7),
    used(90_000, 0, 1, 2),
]


def test_every_model_costs_what_the_price_list_computes_itself() -> None:
    theirs = require_the_list()
    known = {provider.id: provider for provider in importlib.import_module("genai_prices.data").providers}
    compared = 0
    for provider, name in NAMES:
        info, listed = find(f"{provider}/{name}"), known[provider]._match_model(name.lower())
        if provider == "openrouter" and listed is not None and not listed.context_window:
            listed = None  # it is gone
        assert (info and info.name) == (listed and listed.id), (provider, name)
        if info is None or not info.prices:
            continue
        assert listed.context_window in (None, info.context_window)
        for at in INSTANTS if len(info.prices) > 1 else INSTANTS[:1]:
            prices = listed.get_prices(at)
            for usage in USAGES:
                if (ours := amount(usage, info, at)) is not None:
                    kept = {key: getattr(usage, key) for key in COUNTED}
                    assert ours == prices.calc_price(theirs.Usage(**kept))["total_price"], (name, usage, at)
                    compared += 1
    assert compared > 10_000
