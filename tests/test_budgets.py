"""Budgets: something is set aside before it is used, settled after, and refused before it is done."""

import asyncio
import itertools
import sys
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import asyncpg
import pytest

from holdfast import (
    Agent,
    Config,
    ConfigError,
    Limits,
    MemoryStore,
    Registry,
    Runtime,
    Session,
    Settings,
    SQLiteStore,
    Store,
    TurnResult,
    Usage,
    UsageError,
    tool,
)
from holdfast.budget import Budget, Rate
from holdfast.catalogue import ModelInfo, Prices
from holdfast.driver import Request
from holdfast.drivers.sim import Sim, Step, call, calls, fail, say
from holdfast.errors import AccountsUnsupported, UnknownBudget
from holdfast.events import OutputMessageCompleted
from holdfast.facts.budgets import BudgetSettled, BudgetWarned, Spent
from holdfast.store import Account, accounting_of
from holdfast.stores.postgres import PostgresStore
from holdfast.testing import (
    Crash,
    CrashingStore,
    Simulation,
    VirtualClock,
    crashtest,
    problems_in,
    run_virtual,
)
from tests import spending_process

PRICES = {"sim/x": ModelInfo(name="x", prices=(Prices(input=Decimal(1), output=Decimal(10)),))}
"""A thousand tokens in and a hundred out cost 0.002."""
USAGE = Usage(input_tokens=1_000, output_tokens=100)
EACH = Decimal("0.002")


@tool(effect="pure")
async def look(where: int) -> int:
    """Look."""
    return where


def busy(request: Request) -> Step:
    """A model that always wants to look somewhere else."""
    return calls(("look", {"where": len(request.messages)}), usage=USAGE)


def spender(*budgets: Budget, rates: tuple[Rate, ...] = (), limits: Limits | None = None) -> Agent:
    config = Config(budgets=budgets, rates=rates, settings=Settings(max_tokens=100), limits=limits)
    return Agent("You look around.", name="spender", model="sim/x", tools=[look], config=config)


def registry(model: Sim | None = None) -> Registry:
    return Registry(drivers={"sim": model or Sim.rule(busy)}, models=PRICES)


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    if request.param == "memory":
        yield MemoryStore()
    elif request.param == "sqlite":
        yield SQLiteStore(tmp_path / "log.db")
    else:
        url, name = request.getfixturevalue("postgres_url"), f"test_{uuid4().hex}"
        yield PostgresStore(url, schema=name)
        connection = await asyncpg.connect(url)
        await connection.execute(f"SET client_min_messages = error; DROP SCHEMA IF EXISTS {name} CASCADE")
        await connection.close()


async def kinds(session: Session) -> list[str]:
    return [event.type for event in await session.events()]


async def stands(runtime: Runtime, name: str, so: Callable[[Account], bool]) -> Account:
    """Wait until the account stands so."""
    async with asyncio.timeout(60):
        while True:
            if so(account := await runtime.accounts.get(name)):
                return account
            await asyncio.sleep(0.01)


async def test_a_turn_ends_at_its_budget_and_says_which_and_how_much(store: Store) -> None:
    async with Runtime(store, registry=registry()) as runtime:
        session = await runtime.session(spender(Budget(scope="turn", quantity="model_calls", hard=3)))
        result = await session.run("Look around.")
        assert (result.status, result.stop, result.iterations) == ("completed", "budget", 3)
        over = result.exceeded
        assert over is not None
        assert over.budget == "turn model_calls"
        assert [over.limit, over.used, over.asked] == [3, 3, 1]
        assert "3 of 3 model calls" in result.reason
        assert (await session.run("And again.")).iterations == 3


async def test_money_is_refused_before_it_is_spent(store: Store) -> None:
    async with Runtime(store, registry=registry()) as runtime:
        agent = spender(Budget(scope="session", quantity="usd", hard=Decimal("0.0050")))
        session = await runtime.session(agent)
        result = await session.run("Look around.")
        assert (result.stop, result.cost) == ("budget", 2 * EACH)
        (standing,) = await session.budgets()
        assert (standing.used, standing.reserved, standing.hard) == (2 * EACH, Decimal(0), Decimal("0.0050"))
        assert standing.left == Decimal("0.0010")
        assert (await session.run("More.")).iterations == 0


@pytest.mark.parametrize(
    ("quantity", "hard", "iterations"),
    [("tokens", 3_300, 2), ("tool_calls", 2, 3), ("usd", Decimal("0.0064"), 3)],
)
async def test_each_quantity_is_counted(
    quantity: Literal["tokens", "usd", "tool_calls"], hard: Decimal | int, iterations: int
) -> None:
    async with Runtime(registry=registry()) as runtime:
        session = await runtime.session(spender(Budget(scope="session", quantity=quantity, hard=hard)))
        result = await session.run("Look around.")
        assert (result.stop, result.iterations) == ("budget", iterations)


@pytest.mark.parametrize("scope", ["turn", "session", "principal", "organisation"])
@pytest.mark.parametrize(
    ("quantity", "limit"),
    [("model_calls", 2), ("tokens", 2_500), ("usd", Decimal("0.0045")), ("tool_calls", 2), ("seconds", 7)],
)
@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_whatever_is_counted_can_be_bounded_for_everybody(
    scope: Literal["turn", "session", "principal", "organisation"],
    quantity: Literal["model_calls", "tokens", "usd", "tool_calls", "seconds"],
    limit: Decimal | int,
    kind: str,
) -> None:
    steps = [calls(("look", {"where": n}), usage=USAGE, delay=3.0) for n in range(4)]
    budget = Budget(scope=scope, quantity=quantity, **{kind: limit})  # type: ignore[arg-type]

    async def main() -> None:
        clock = VirtualClock()
        async with Runtime(
            registry=registry(Sim.storyboard(*steps, "Done.", "Done.")), clock=clock
        ) as runtime:
            session = await runtime.session(spender(budget), principal="ann", organisation="acme")
            first = await session.run("Look.")
            second = await session.run("Look.")
            warned = [it.data for it in await session.events() if isinstance(it.data, BudgetWarned)]
        ended = "budget" if kind == "hard" else "end_turn"
        if quantity == "seconds" and scope in ("principal", "organisation"):  # a turn counts when it ends
            assert (first.stop, second.stop) == ("end_turn", ended)
        else:
            assert first.stop == ended
            assert first.iterations == (
                5 if kind == "soft" else 3 if quantity in ("tool_calls", "seconds") else 2
            )
        assert [(it.scope, it.quantity, it.limit) for it in warned[:1]] == (
            [(scope, quantity, limit)] if kind == "soft" else []
        )
        assert len(warned) <= (2 if scope == "turn" else 1)

    run_virtual(main())


async def test_calls_of_a_batch_that_fit_are_run_and_the_others_have_results(store: Store) -> None:
    model = Sim.script(calls(*[("look", {"where": n}) for n in range(5)]))
    async with Runtime(store, registry=registry(model)) as runtime:
        session = await runtime.session(spender(Budget(scope="session", quantity="tool_calls", hard=3)))
        result = await session.run("Look around.")
        assert result.stop == "budget"
        results = [message.content[0] for message in await session.messages() if message.role == "tool"]
        assert [getattr(it, "status", "") for it in results] == ["ok", "ok", "ok", "cancelled", "cancelled"]


def test_wall_time_is_counted() -> None:
    model = Sim.rule(lambda request: calls(("look", {"where": len(request.messages)}), delay=4.0))

    async def main() -> None:
        async with Runtime(registry=registry(model), clock=VirtualClock()) as runtime:
            agent = spender(
                Budget(scope="turn", quantity="seconds", hard=10),
                Budget(scope="principal", quantity="seconds", hard=15),
            )
            session = await runtime.session(agent, principal="ann")
            result = await session.run("Look around.")
            assert (result.stop, result.iterations) == ("budget", 3)
            result = await session.run("More.")
            assert (result.stop, result.iterations) == ("budget", 3)
            assert (await runtime.accounts.standing("principal", "ann", "seconds")).used == 24
            result = await session.run("More.")
            assert (result.stop, result.iterations) == ("budget", 0)
            assert result.exceeded is not None
            assert result.exceeded.scope == "principal"

    run_virtual(main())


async def test_a_soft_limit_is_told_once_and_stops_nothing(store: Store) -> None:
    steps = [calls(("look", {"where": n}), usage=USAGE) for n in range(3)]
    model = Sim.script(*steps, "Done.", say("Yes.", usage=USAGE))
    async with Runtime(store, registry=registry(model)) as runtime:
        agent = spender(
            Budget(scope="session", quantity="usd", soft=Decimal("0.003")),
            Budget(scope="organisation", quantity="tokens", soft=1_500),
        )
        session = await runtime.session(agent, organisation="acme")
        assert (await session.run("Look around.")).stop == "end_turn"
        assert (await session.run("Go on.")).stop == "end_turn"
        warned = [event.data for event in await session.events() if event.type == "budget.warned"]
        assert [(getattr(it, "scope", ""), getattr(it, "used", 0)) for it in warned] == [
            ("session", 2 * EACH),
            ("organisation", 2_200),
        ]


async def test_principals_and_organisations_share_their_account_and_nobody_elses(store: Store) -> None:
    async with Runtime(store, registry=registry()) as runtime:
        agent = spender(
            Budget(scope="principal", quantity="model_calls", hard=4),
            Budget(scope="organisation", quantity="model_calls", hard=6),
        )
        one, two, bob = [
            await runtime.session(agent, principal=name, organisation="acme")
            for name in ("ann", "ann", "bob")
        ]
        assert (await one.run("Look.")).iterations == 4
        assert (await two.run("Look.")).iterations == 0
        result = await bob.run("Look.")
        assert (result.iterations, result.exceeded and result.exceeded.scope) == (2, "organisation")
        other = await runtime.session(agent, principal="ann", organisation="others")
        assert (await other.run("Look.")).iterations == 0
        account = await runtime.accounts.standing("organisation", "acme", "model_calls")
        assert (account.used, account.reserved) == (Decimal(6), Decimal(0))
        assert [it.name for it in await runtime.accounts.all("principal:")] == [
            "principal:ann:model_calls",
            "principal:bob:model_calls",
        ]


async def test_many_sessions_at_once_never_go_beyond_what_they_share(store: Store) -> None:
    agent = spender(Budget(scope="principal", quantity="usd", hard=Decimal("0.02")))
    async with Runtime(store, registry=registry()) as runtime:
        sessions = [await runtime.session(agent, principal="ann") for _ in range(8)]
        results = await asyncio.gather(*[session.run("Look.") for session in sessions])
        account = await runtime.accounts.standing("principal", "ann", "usd")
        assert {result.stop for result in results} == {"budget"}
        assert account.reserved == 0
        assert account.used == sum(result.cost or 0 for result in results) <= Decimal("0.02")
        for session in sessions:
            assert problems_in(await session.events()) == []


async def test_a_waiting_turn_goes_on_when_somebody_raises_the_session_budget(store: Store) -> None:
    agent = spender(Budget(scope="session", quantity="model_calls", hard=2, on_exceeded="wait"))
    async with Runtime(store, registry=registry()) as runtime:
        session = await runtime.session(agent)
        turn = await session.send("Look around.")
        waiting = await turn
        assert (waiting.status, waiting.stop, waiting.iterations) == ("waiting", None, 2)
        assert waiting.exceeded is not None
        assert turn.status == "waiting"
        with pytest.raises(UnknownBudget, match="'session model_calls'"):
            await session.raise_budget("other", 1, by="boss")
        with pytest.raises(UsageError):
            await session.raise_budget("session model_calls", 1.5, by="boss")  # type: ignore[arg-type]
        await session.raise_budget("session model_calls", 1, by="boss")
        assert (await turn).iterations == 3
        assert (await turn.cancel()).status == "cancelled"


@pytest.mark.parametrize("by", ["", "  ", "a\ud800", None, 5])
@pytest.mark.parametrize("scope", ["session", "principal"])
async def test_nobody_raises_no_budget_and_spoils_no_log(scope: Any, by: Any, store: Store) -> None:
    agent = spender(Budget(scope=scope, quantity="model_calls", hard=2, on_exceeded="wait"))
    async with Runtime(store, registry=registry()) as runtime:
        session = await runtime.session(agent, principal="ann")
        assert (await session.run("Look around.")).status == "waiting"
        with pytest.raises(UsageError, match="say who allows it"):
            await session.raise_budget(f"{scope} model_calls", 1, by=by)
        with pytest.raises(UsageError, match="say who allows it"):
            await runtime.accounts.raise_limit("principal:ann:model_calls", 1, by=by)
        assert (await runtime.accounts.get("principal:ann:model_calls")).raised == 0
        assert (await session.budgets())[0].hard == 2
    async with Runtime(store, registry=registry(), agents=[agent]) as runtime:
        assert [it.type for it in await (await runtime.open(session.id)).events()].count("budget.raised") == 0


async def test_a_waiting_turn_survives_its_process_and_goes_on_when_the_account_is_raised(
    store: Store,
) -> None:
    agent = spender(Budget(scope="principal", quantity="model_calls", hard=2, on_exceeded="wait"))
    async with Runtime(store, registry=registry()) as runtime:
        session = await runtime.session(agent, principal="ann")
        turn = await session.send("Look around.")
        assert (await turn).status == "waiting"
    model = Sim.always("Seen enough.")
    async with Runtime(store, registry=registry(model), agents=[agent]) as runtime:
        assert await runtime.recover() == []
        account = await runtime.accounts.standing("principal", "ann", "model_calls")
        assert [key.split(":")[1] for key in account.keys] == [session.id]
        await runtime.accounts.raise_limit(account.name, 5, by="boss")
        (again,) = await runtime.recover()
        result = await again.handle(turn.id)
        assert (result.status, result.text) == ("completed", "Seen enough.")
        account = await runtime.accounts.get(account.name)
        assert account.used == 3
        assert account.keys == ()


async def test_a_worker_goes_on_with_who_waits_where_there_is_room_and_nobody_said_so(store: Store) -> None:
    agent = spender(Budget(scope="principal", quantity="model_calls", hard=2, on_exceeded="wait"))
    async with Runtime(store, registry=registry(), agents=[agent]) as runtime:
        one, two, bob = [await runtime.session(agent, principal=name) for name in ("ann", "ann", "bob")]
        for session in (one, two, bob):
            assert (await session.run("Look around.")).status == "waiting"
        assert await runtime.accounts.unblocked() == []
        name = (await runtime.accounts.standing("principal", "ann", "model_calls")).name
        await accounting_of(store).raise_account(name, Decimal(1))  # and then its process dies
        assert set(await runtime.accounts.unblocked()) == {one.id, two.id}
    stop = asyncio.Event()
    async with Runtime(store, registry=registry(), agents=[agent]) as runtime:
        work = asyncio.create_task(runtime.work(stop=stop))
        await stands(runtime, name, lambda account: account.used == 3 and len(account.keys) == 2)
        stop.set()
        await work
        assert await runtime.accounts.unblocked() == []
        assert await runtime.recover() == []
        assert (await (await runtime.open(bob.id)).handle(bob.state.turn.id)).iterations == 2  # type: ignore[union-attr]


async def test_who_waits_for_time_is_found_when_there_is_some(store: Store) -> None:
    agent = spender(
        Budget(scope="principal", quantity="seconds", hard=Decimal("0.000001"), on_exceeded="wait")
    )
    async with Runtime(store, registry=registry(Sim.always("Done."))) as runtime:
        session = await runtime.session(agent, principal="ann")
        account = (await runtime.accounts.standing("principal", "ann", "seconds")).name
        assert (await session.run("Look.")).status == "completed"
        while not (await runtime.accounts.get(account)).used:
            await session.run("Look.")
        assert (await session.run("Look.")).status == "waiting"
        assert await runtime.accounts.unblocked() == []
        await accounting_of(store).raise_account(account, Decimal(1))
        assert await runtime.accounts.unblocked() == [session.id]


async def test_budgets_that_count_on_one_account_count_there_once(store: Store) -> None:
    agent = spender(
        Budget(name="house", scope="principal", quantity="model_calls", hard=5),
        Budget(name="desk", scope="principal", quantity="model_calls", hard=2),
        Budget(name="hint", scope="principal", quantity="model_calls", soft=1),
        Budget(name="calls", scope="principal", quantity="tool_calls", hard=50),
        Budget(name="more calls", scope="principal", quantity="tool_calls", hard=60),
    )
    async with Runtime(store, registry=registry()) as runtime:
        session = await runtime.session(agent, principal="ann")
        result = await session.run("Look around.")
        assert (result.iterations, result.exceeded and result.exceeded.budget) == (2, "desk")
        spent = await runtime.accounts.standing("principal", "ann", "model_calls")
        assert (spent.used, spent.reserved) == (2, 0)
        assert (await runtime.accounts.standing("principal", "ann", "tool_calls")).used == 2


def test_seconds_that_two_budgets_bound_are_counted_once() -> None:
    async def main() -> None:
        model = Sim.always(say("Done.", delay=8))
        async with Runtime(registry=registry(model), clock=VirtualClock()) as runtime:
            agent = spender(
                Budget(name="house", scope="principal", quantity="seconds", hard=50),
                Budget(name="desk", scope="principal", quantity="seconds", hard=20),
            )
            session = await runtime.session(agent, principal="ann")
            assert (await session.run("Look.")).stop == "end_turn"
            assert (await runtime.accounts.standing("principal", "ann", "seconds")).used == 8

    run_virtual(main())


async def test_a_turn_that_goes_on_waiting_elsewhere_leaves_the_first_account(store: Store) -> None:
    agent = spender(
        Budget(scope="principal", quantity="model_calls", hard=1, on_exceeded="wait"),
        Budget(scope="organisation", quantity="model_calls", hard=1, on_exceeded="wait"),
    )
    async with Runtime(store, registry=registry()) as runtime:
        session = await runtime.session(agent, principal="ann", organisation="acme")
        turn = await session.send("Look around.")
        assert (await turn).exceeded is not None
        accounts = runtime.accounts
        mine = await accounts.standing("principal", "ann", "model_calls")
        assert len(mine.keys) == 1
        await accounts.raise_limit(mine.name, 9, by="boss")
        ours = await stands(runtime, "organisation:acme:model_calls", lambda account: bool(account.keys))
        assert (await accounts.get(mine.name)).keys == ()
        assert len(ours.keys) == 1
        assert (await turn).iterations == 1


def test_a_waiting_turn_goes_on_by_itself_in_the_next_window() -> None:
    agent = spender(Budget(scope="principal", quantity="model_calls", hard=2, per="hour", on_exceeded="wait"))

    async def main() -> TurnResult:
        clock = VirtualClock()
        async with Runtime(MemoryStore(), registry=registry(), clock=clock) as runtime:
            session = await runtime.session(agent, principal="ann")
            turn = await session.send("Look around.")
            first = await turn
            assert first.exceeded is not None
            assert first.exceeded.until is not None
            began = clock.now()
            for _ in range(200):
                if session.state.turn is not None and session.state.turn.iteration > 2:
                    break
                await asyncio.sleep(60)
            assert timedelta(0) < clock.now() - began <= timedelta(hours=1, minutes=1)
            assert len(await runtime.accounts.all("principal:ann")) == 2
            return first

    first = run_virtual(main())
    assert first.status == "waiting"


async def test_what_a_failed_call_used_counts(store: Store) -> None:
    failing = itertools.cycle([fail("rate_limit"), fail("broken_stream", text="Half a", error_after=1)])
    limits = Limits(model_retries=0)
    async with Runtime(store, registry=registry(Sim.rule(lambda request: next(failing)))) as runtime:
        agent = spender(Budget(scope="session", quantity="tokens", hard=100_000), limits=limits)
        session = await runtime.session(agent)
        for _ in range(2):
            assert (await session.run("Look.")).status == "failed"
        settled = [it.data for it in await session.events() if isinstance(it.data, BudgetSettled)]
        assert [(it.amount.model_calls, it.amount.tokens > 100, it.how) for it in settled] == [
            (1, False, "assumed"),
            (1, True, "assumed"),
        ]


@pytest.mark.parametrize("scope", ["session", "principal"])
@pytest.mark.parametrize(("hard", "stop", "used"), [(4, "end_turn", 4), (3, "budget", 3), (1, "budget", 1)])
def test_tries_and_other_models_count_like_any_call(
    scope: Literal["session", "principal"], hard: int, stop: str, used: int
) -> None:
    broken = fail("broken_stream", text="Half a", error_after=1)
    first = Sim.script(fail("overloaded"), broken, fail("authentication"))
    second = Sim.always(say("Here.", usage=USAGE))

    async def main() -> None:
        config = Config(budgets=(Budget(scope=scope, quantity="model_calls", hard=hard),))
        async with Runtime(clock=VirtualClock()) as runtime:
            session = await runtime.session(Agent(model=[first, second], config=config), principal="ann")
            result = await session.run("Look.")
            assert (result.stop, len(first.requests) + len(second.requests)) == (stop, used)
            (standing,) = await session.budgets()
            assert (standing.used, standing.reserved) == (used, 0)

    run_virtual(main())


async def test_a_cancelled_stream_counts_in_full(store: Store) -> None:
    model = Sim.always(say("One two three four.", delay=30.0, usage=USAGE))
    async with Runtime(store, registry=registry(model)) as runtime:
        agent = spender(Budget(scope="principal", quantity="tokens", hard=100_000))
        session = await runtime.session(agent, principal="ann")
        turn = await session.send("Tell.")
        async for event in session.follow():
            if event.type == "budget.reserved":
                break
        assert (await turn.cancel()).status == "cancelled"
        account = await runtime.accounts.standing("principal", "ann", "tokens")
        assert account.reserved == 0
        assert account.used > 100
        (standing,) = await session.budgets()
        assert standing.used == account.used


async def test_a_provider_that_reports_nothing_or_less_is_not_believed() -> None:
    said = iter([Usage(), Usage(input_tokens=-50_000, output_tokens=-5)])
    model = Sim.rule(lambda request: say("x" * 400, usage=next(said)))
    async with Runtime(registry=registry(model)) as runtime:
        session = await runtime.session(spender(Budget(scope="session", quantity="tokens", hard=100_000)))
        used = Decimal(0)
        for _ in range(2):
            await session.run("Tell.")
            (standing,) = await session.budgets()
            assert standing.used > used + 100
            used = standing.used


@pytest.mark.parametrize(
    ("usage", "how", "usd"),
    [
        (Usage(input_tokens=2_600, output_tokens=2), "reported", "0.00262"),
        (Usage(input_tokens=2_600, output_tokens=2, cache_read_tokens=2_600), "reported", "0.00028"),
        (Usage(input_tokens=2_600, output_tokens=2, cache_write_tokens=2_600), "estimated", "0.00028"),
        (Usage(input_tokens=1, output_tokens=2), "estimated", "0.00252"),
        (Usage(input_tokens=1, output_tokens=2, cache_read_tokens=1), "estimated", "0.0025191"),
    ],
)
async def test_it_is_known_whose_word_counts(usage: Usage, how: str, usd: str) -> None:
    prices = Prices(input=Decimal(1), output=Decimal(10), cache_read=Decimal("0.1"), cache_write=Decimal(0))
    registry = Registry(
        drivers={"sim": Sim.always(say("Hi.", usage=usage))}, models={"sim/x": ModelInfo(prices=(prices,))}
    )
    budget = Budget(scope="principal", quantity="usd", hard=1)
    async with Runtime(registry=registry) as runtime:
        session = await runtime.session(
            Agent(model="sim/x", config=Config(budgets=(budget,))), principal="ann"
        )
        await session.run("word " * 10_000)
        (settled,) = [it.data for it in await session.events() if isinstance(it.data, BudgetSettled)]
    assert (settled.how, settled.amount.usd) == (how, Decimal(usd))


async def test_a_model_without_a_price_is_not_asked_when_money_is_bounded() -> None:
    asked: list[Request] = []

    def answer(request: Request) -> str:
        asked.append(request)
        return "Hello."

    async with Runtime(registry=Registry(drivers={"sim": Sim.rule(answer)})) as runtime:
        session = await runtime.session(spender(Budget(scope="session", quantity="usd", hard=1)))
        result = await session.run("Hi.")
        assert (result.status, asked) == ("failed", [])
        assert result.error is not None
        assert "unknown_price='free'" in result.error.message
        free = Budget(scope="session", quantity="usd", hard=1, unknown_price="free")
        session = await runtime.session(spender(free))
        assert (await session.run("Hi.")).status == "completed"


async def test_a_rate_of_a_tool_is_a_result_and_one_of_a_model_a_wait(store: Store) -> None:
    wants = calls(*[("look", {"where": n}) for n in range(3)])
    async with Runtime(store, registry=registry(Sim.storyboard(wants, "Done."))) as runtime:
        rates = (Rate(tool="look", calls=2, per=10_000.0, scope="organisation"),)
        session = await runtime.session(spender(rates=rates), organisation="acme")
        assert (await session.run("Look.")).text == "Done."
        told = [message.content[0] for message in await session.messages() if message.role == "tool"]
        assert [getattr(it, "status", "") for it in told] == ["ok", "ok", "error"]
        assert "2 times in 10000 s" in getattr(told[-1], "text", "")
        rates = (Rate(model="*", calls=1, per=10_000.0, scope="session"),)
        session = await runtime.session(spender(rates=rates))
        waiting = await session.run("Look.")
        assert (waiting.status, waiting.iterations) == ("waiting", 1)
        assert waiting.exceeded is not None
        assert waiting.exceeded.until is not None


async def test_a_model_that_goes_round_in_circles_is_stopped(store: Store) -> None:
    async with Runtime(store, registry=registry(Sim.always(call("look", where=1)))) as runtime:
        session = await runtime.session(spender())
        result = await session.run("Look.")
        assert (result.status, result.stop, result.iterations) == ("completed", "loop", 5)
        assert "called look 5 times with the same arguments" in result.reason
        session = await runtime.session(spender(limits=Limits(repeated_calls=2)))
        assert (await session.run("Look.")).iterations == 2
        session = await runtime.session(spender(limits=Limits(repeated_calls=0, max_iterations=9)))
        assert (await session.run("Look.")).stop == "max_iterations"


async def test_two_calls_in_turns_are_a_loop_and_other_results_are_none() -> None:
    places = itertools.count()

    @tool(effect="pure")
    async def wander() -> int:
        """Go somewhere else."""
        return next(places)

    def choose(request: Request) -> Step:
        return call("look", where=len(request.messages) // 2 % 2)

    async with Runtime(registry=registry(Sim.rule(choose))) as runtime:
        session = await runtime.session(spender())
        result = await session.run("Look.")
        assert (result.stop, result.iterations) == ("loop", 9)
    async with Runtime(registry=registry(Sim.always(call("wander")))) as runtime:
        agent = Agent("Go.", model="sim/x", tools=[wander], limits=Limits(max_iterations=12))
        session = await runtime.session(agent)
        assert (await session.run("Go.")).stop == "max_iterations"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"hard": 0}, "allows nothing at all"),
        ({"hard": -1}, "allows nothing at all"),
        ({"hard": 2.5}, "exact number"),
        ({"hard": True}, "exact number"),
        ({"hard": Decimal("NaN")}, "exact number"),
        ({}, "has no limit"),
        ({"hard": 1, "scope": "planet"}, "it is one of turn, session"),
        ({"hard": 1, "quantity": "love"}, "it is one of model_calls"),
        ({"hard": 1, "per": "day"}, "a session has no budget per day"),
        ({"hard": Decimal("1.5"), "quantity": "tokens"}, "a whole number"),
    ],
)
def test_a_budget_that_makes_no_sense_is_refused(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Budget(**{"scope": "session", "quantity": "usd", **wrong})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"calls": 0, "tool": "a"}, "allows nothing at all"),
        ({"calls": 1, "tool": "a", "per": 0.0}, "seconds above 0"),
        ({"calls": 1, "tool": "a", "per": float("nan")}, "seconds above 0"),
        ({"calls": 1}, "either tool= or model="),
        ({"calls": 1, "tool": "a", "model": "b"}, "either tool= or model="),
        ({"calls": 1, "tool": "a", "scope": "planet"}, "one of session"),
    ],
)
def test_a_rate_that_makes_no_sense_is_refused(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Rate(**{"per": 60.0, **wrong})  # type: ignore[arg-type]


async def test_a_shared_budget_needs_somebody_and_a_store_with_accounts() -> None:
    agent = spender(Budget(scope="principal", quantity="usd", hard=1))
    async with Runtime(registry=registry()) as runtime:
        with pytest.raises(ConfigError, match=r"runtime\.session\(principal="):
            await runtime.session(agent)
    async with Runtime(WithoutAccounts(), registry=registry()) as runtime:
        with pytest.raises(AccountsUnsupported, match="WithoutAccounts keeps no accounts"):
            await runtime.session(agent, principal="ann")
        session = await runtime.session(spender(Budget(scope="session", quantity="model_calls", hard=1)))
        assert (await session.run("Look.")).stop == "budget"


class WithoutAccounts(MemoryStore):
    """Somebody's store that keeps none."""

    account = None  # type: ignore[assignment]


@pytest.mark.parametrize("who", ["a\0b", "x" * 801, "ü" * 401])
async def test_whoever_no_account_can_be_named_after_gets_no_session_instead_of_one_that_never_runs(
    who: str, store: Store
) -> None:
    bounds = Budget(scope="principal", quantity="model_calls", hard=2, per="day")
    shared = Config(rates=(Rate(model="*", calls=9, per=60.0, scope="organisation"),))
    async with Runtime(store, registry=registry()) as runtime:
        with pytest.raises(
            ConfigError, match=r"'principal model_calls' bounds principals, and .* cannot name an account"
        ):
            await runtime.session(spender(bounds), principal=who)
        with pytest.raises(ConfigError, match=r"bounds organisations, and .* cannot name an account"):
            await runtime.session(spender(), config=shared, organisation=who)
        assert (
            await (await runtime.session(spender(bounds), principal="ü" * 400)).run("Look.")
        ).iterations == 2


async def test_budgets_are_part_of_the_manifest_its_digest_and_its_explanation() -> None:
    async with Runtime(registry=registry()) as runtime:
        plain = (await (await runtime.session(spender())).inspect("Hi.")).manifest
        budget = Budget(scope="session", quantity="usd", hard=Decimal("2.50"))
        bound = (await (await runtime.session(spender(budget))).inspect("Hi.")).manifest
        assert bound.digest != plain.digest
        (origin,) = [it for it in bound.explain() if it.field == "budgets.session usd"]
        assert origin.layers == ("agent spender",)
        assert "2.50" in origin.value


async def test_a_session_keeps_its_budgets_without_its_program(tmp_path: Path) -> None:
    config = Config(budgets=(Budget(scope="session", quantity="model_calls", hard=1),))
    async with Runtime(tmp_path / "log.db", registry=registry(Sim.always("Hello."))) as runtime:
        session = await runtime.session(Agent("Hi.", model="sim/x", config=config))
        await session.run("Hi.")
    async with Runtime(tmp_path / "log.db", registry=registry(Sim.always("Hello."))) as runtime:
        again = await runtime.open(session.id)
        assert (await again.run("Hi.")).stop == "budget"


def agents(**options: object) -> Callable[[], Agent]:
    model = Sim.storyboard(
        calls(("look", {"where": 1}), usage=USAGE),
        calls(("look", {"where": 2}), usage=USAGE),
        say("Done.", usage=USAGE),
    )
    return lambda: Agent("You look.", name="spender", model=model, tools=[look], config=Config(**options))  # type: ignore[arg-type]


@pytest.mark.parametrize("hard", [2, 100])
def test_a_budget_survives_every_crash(hard: int) -> None:
    budgets = (
        Budget(scope="session", quantity="model_calls", hard=hard),
        Budget(scope="session", quantity="tool_calls", hard=100, soft=1),
    )
    rates = (Rate(model="*", calls=100, per=1e6), Rate(tool="look", calls=100, per=1e6))
    crashtest(agents(budgets=budgets, rates=rates), "Look.", again=hard == 2).check()


@pytest.mark.parametrize("side", ["before", "after"])
def test_whatever_append_a_process_dies_at_the_account_is_what_the_log_says(
    side: Literal["before", "after"],
) -> None:
    agent = agents(budgets=(Budget(scope="principal", quantity="tokens", hard=100_000),))()
    died = set()
    for number in range(2, 30):
        disk, world = MemoryStore(), Simulation()

        async def first(disk: MemoryStore = disk, number: int = number) -> None:
            store = CrashingStore(disk, append=number, side=side)
            async with Runtime(store, clock=VirtualClock()) as runtime:
                session = await runtime.session(agent, principal="ann")
                await session.run("Look.", key="one")

        async def second(disk: MemoryStore = disk) -> None:
            async with Runtime(disk, agents=[agent], clock=VirtualClock()) as runtime:
                for head in await runtime.sessions():
                    session = await runtime.open(head.session_id)
                    assert (await session.run("Look.", key="one")).text == "Done."
                    account = await runtime.accounts.standing("principal", "ann", "tokens")
                    assert account.reserved == 0
                    assert account.keys == ()
                    settled = [it.data for it in await session.events() if isinstance(it.data, BudgetSettled)]
                    assert account.used == sum(it.amount.tokens for it in settled)
                    replies = (await kinds(session)).count("output.message.completed")
                    assert replies == 3 <= len(settled) <= 4

        try:
            world.run(first())
        except Crash as crash:
            died.add(crash.where.partition("(")[2])
            world.run(second())
        else:
            break
    assert any("budget.reserved" in where for where in died)
    assert any("budget.settled" in where for where in died)


async def test_what_only_a_session_spends_is_counted_with_its_replies(store: Store) -> None:
    async with Runtime(store, registry=registry()) as runtime:
        agent = spender(Budget(scope="session", quantity="model_calls", hard=2, soft=1))
        session = await runtime.session(agent)
        await session.run("Look around.")
        told = await session.events()
        counted = [it.data.counted for it in told if isinstance(it.data, OutputMessageCompleted)]
        assert counted == [Spent(model_calls=1, tokens=1_100)] * 2
        assert [it.type for it in told if it.type.startswith("budget.")] == [
            "budget.warned",
            "budget.exceeded",
        ]
        (standing,) = await session.budgets()
        assert (standing.used, standing.reserved) == (2, 0)


async def test_a_cancelled_call_counts_in_full_also_where_nothing_was_set_aside_on_the_log(
    store: Store,
) -> None:
    started = asyncio.Event()

    def answer(request: Request) -> Step:
        started.set()
        return say("One two three four.", delay=30.0, usage=USAGE)

    async with Runtime(store, registry=registry(Sim.rule(answer))) as runtime:
        session = await runtime.session(spender(Budget(scope="session", quantity="tokens", hard=100_000)))
        turn = await session.send("Tell.")
        await started.wait()
        assert (await turn.cancel()).status == "cancelled"
        (standing,) = await session.budgets()
        assert standing.used > 100
        assert session.state.spent.model_calls == 1


async def test_a_reply_that_cannot_be_kept_counts_all_the_same() -> None:
    async with Runtime(registry=registry(Sim.always(say("\ud800", usage=USAGE)))) as runtime:
        budget = Budget(scope="turn", quantity="tokens", hard=100_000)
        session = await runtime.session(spender(budget, limits=Limits(model_retries=0)))
        assert (await session.run("Tell.")).status == "failed"
        assert session.state.spent == Spent(model_calls=1, tokens=1_100)


@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("cancelled", [False, True])
def test_whatever_append_a_process_dies_at_no_call_is_missing_from_a_session_budget(
    side: Literal["before", "after"], cancelled: bool
) -> None:
    asked: list[Request] = []
    slow = say("Done with all of it.", pace=0.8, usage=USAGE)

    def answer(request: Request) -> Step:
        asked.append(request)
        return calls(("look", {"where": 1}), usage=USAGE) if len(request.messages) < 3 else slow

    budgets = (Budget(scope="session", quantity="model_calls", hard=100),)
    config = Config(budgets=budgets)
    agent = Agent("You look.", name="spender", model=Sim.rule(answer), tools=[look], config=config)
    died: dict[str, int] = {}
    for number in range(2, 30):
        asked.clear()
        disk, world = MemoryStore(), Simulation()

        async def first(disk: MemoryStore = disk, number: int = number) -> None:
            store = CrashingStore(disk, append=number, side=side)
            async with Runtime(store, clock=VirtualClock()) as runtime:
                await (await runtime.session(agent)).run("Look.", key="one")

        async def second(disk: MemoryStore = disk) -> Decimal:
            async with Runtime(disk, agents=[agent], clock=VirtualClock()) as runtime:
                (head,) = await runtime.sessions()
                session = await runtime.open(head.session_id)
                if cancelled and session.turn is not None:
                    await session.turn.cancel()
                else:
                    await session.run("Look.", key="one")
                (standing,) = await session.budgets()
                return standing.used

        try:
            world.run(first())
        except Crash as crash:
            used = world.run(second())
            assert len(asked) <= used <= len(asked) + 1
            died[crash.where.partition("(")[2]] = int(used) - len(asked)
        else:
            break
    assert [extra for where, extra in died.items() if "output.message.shown" in where] == [0]


async def test_two_processes_never_have_the_last_token_both_also_when_they_are_killed(tmp_path: Path) -> None:
    path = str(tmp_path / "log.db")
    async with Runtime(path):
        pass
    command = [sys.executable, "-m", "tests.spending_process", path]

    async def run(*numbers: int) -> list[int | None]:
        processes = [await asyncio.create_subprocess_exec(*command, str(number)) for number in numbers]
        return [await process.wait() for process in processes]

    assert await run(9, 7) == [-9, -9]
    assert await run(0, 0) == [0, 0]
    async with Runtime(path, agents=[spending_process.spender()], lease=0.5) as runtime:
        before = await runtime.accounts.standing("organisation", "acme", "tokens")
        assert before.used + before.reserved <= spending_process.LIMIT
        assert len(before.keys) >= 2
        for head in await runtime.sessions():
            session = await runtime.open(head.session_id)
            if session.turn is not None:
                assert (await session.turn).stop == "budget"
        after = await runtime.accounts.standing("organisation", "acme", "tokens")
        assert after.reserved == 0
        assert after.keys == ()
        settled = [
            fact.amount.tokens
            for head in await runtime.sessions()
            for fact in [it.data for it in await (await runtime.open(head.session_id)).events(limit=10_000)]
            if isinstance(fact, BudgetSettled)
        ]
        assert after.used == sum(settled) <= spending_process.LIMIT
