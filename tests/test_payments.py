"""Payments: a tool asks the host's authority, budgets count it, and the model sees neither credentials nor payloads."""

import asyncio
from decimal import Decimal
from pathlib import Path

import pytest

from holdfast import Agent, Config, Context, Runtime, ToolResult, tool
from holdfast.budget import Budget
from holdfast.drivers.sim import Sim, call
from holdfast.errors import PaymentRefused
from holdfast.facts.budgets import PaymentMade
from holdfast.services import PAYMENTS, PaymentRequest, Receipt
from holdfast.testing import Ledger, Purse, crashtest


@tool(effect="idempotent", needs=(PAYMENTS,))
async def buy(ctx: Context, what: str, cents: int) -> str:
    """Buy something."""
    request = PaymentRequest(amount=Decimal(cents) / 100, payee="the shop", purpose=what)
    receipt = await ctx.scope[PAYMENTS].pay(request)
    return f"bought with {receipt.id}"


def buyer(*budgets: Budget, cents: int = 250) -> Agent:
    model = Sim.storyboard(call("buy", what="a book", cents=cents), "Done.")
    return Agent("You buy.", name="buyer", model=model, tools=[buy], config=Config(budgets=budgets))


MONEY = Budget(scope="session", quantity="usd", hard=3, unknown_price="free")
SHARED = Budget(scope="principal", quantity="usd", hard=3, unknown_price="free")


async def result_of(runtime: Runtime, agent: Agent, **options: str) -> tuple[ToolResult, list[PaymentMade]]:
    session = await runtime.session(agent, **options)  # type: ignore[arg-type]
    await session.run("Buy a book.")
    (result,) = [it.content[0] for it in await session.messages() if it.role == "tool"]
    assert isinstance(result, ToolResult)
    return result, [it.data for it in await session.events() if isinstance(it.data, PaymentMade)]


async def test_without_an_authority_every_payment_is_refused() -> None:
    async with Runtime() as runtime:
        result, made = await result_of(runtime, buyer())
        assert "this application makes no payments" in result.text
        assert made == []


@pytest.mark.parametrize("where", ["memory", "sqlite"])
async def test_a_payment_is_made_counted_and_known_to_the_model_by_its_receipt_only(
    where: str, tmp_path: Path
) -> None:
    purse = Purse("20")
    place = tmp_path / "log.db" if where == "sqlite" else None
    async with Runtime(place, services={PAYMENTS: purse}) as runtime:
        session = await runtime.session(buyer(MONEY, SHARED), principal="ann")
        assert (await session.run("Buy a book.")).text == "Done."
        assert purse.left == Decimal("17.5")
        standing = {it.scope: (it.used, it.reserved) for it in await session.budgets()}
        assert standing == {
            "session": (Decimal("2.5"), Decimal(0)),
            "principal": (Decimal("2.5"), Decimal(0)),
        }
        (made,) = [it.data for it in await session.events() if isinstance(it.data, PaymentMade)]
        assert (made.receipt, made.amount, made.payee) == ("receipt-1", Decimal("2.5"), "the shop")
        assert made.key in purse.paid
        results = [it.content[0] for it in await session.messages() if it.role == "tool"]
        assert [getattr(it, "text", "") for it in results] == ["bought with receipt-1"]


@pytest.mark.parametrize("budget", [MONEY, SHARED])
async def test_a_payment_beyond_a_budget_is_refused_before_the_authority_is_asked(budget: Budget) -> None:
    purse = Purse("20")
    async with Runtime(services={PAYMENTS: purse}) as runtime:
        result, made = await result_of(runtime, buyer(budget, cents=301), principal="ann")
        assert "is used up" in result.text
        assert (purse.asked, made) == (0, [])
        assert (await runtime.accounts.standing("principal", "ann", "usd")).reserved == 0


async def test_what_an_authority_refuses_is_not_counted() -> None:
    async with Runtime(services={PAYMENTS: Purse("1")}) as runtime:
        session = await runtime.session(buyer(SHARED), principal="ann")
        await session.run("Buy a book.")
        (standing,) = await session.budgets()
        assert standing.used == standing.reserved == 0


async def test_amounts_that_are_none_are_refused() -> None:
    purse = Purse("20")
    async with Runtime(services={PAYMENTS: purse}) as runtime:
        for cents in (0, -100):
            result, _ = await result_of(runtime, buyer(cents=cents))
            assert "cannot be made" in result.text
    assert purse.asked == 0


class Greedy:
    """An authority that charges more than was agreed."""

    async def pay(self, request: PaymentRequest) -> Receipt:
        return Receipt(id="r", amount=request.amount * 2)


async def test_an_authority_that_charges_more_is_counted_and_told() -> None:
    async with Runtime(services={PAYMENTS: Greedy()}) as runtime:
        session = await runtime.session(buyer(MONEY))
        await session.run("Buy a book.")
        (standing,) = await session.budgets()
        assert standing.used == 5
        (result,) = [it.content[0] for it in await session.messages() if it.role == "tool"]
        assert "more than was asked for" in getattr(result, "text", "")


@pytest.mark.parametrize("budget", [MONEY, SHARED])
async def test_a_payment_that_was_cut_off_is_asked_for_again_within_what_was_set_aside_for_it(
    budget: Budget, tmp_path: Path
) -> None:
    purse, agent = Purse("20"), buyer(budget)
    stopped = asyncio.Event()

    class Silent:
        """Pays, and never says so."""

        async def pay(self, request: PaymentRequest) -> Receipt:
            await purse.pay(request)
            stopped.set()
            return await asyncio.Future()

    async with Runtime(tmp_path / "log.db", services={PAYMENTS: Silent()}, drain=0) as runtime:
        session = await runtime.session(agent, principal="ann")
        await session.send("Buy a book.")
        await stopped.wait()
    async with Runtime(tmp_path / "log.db", agents=[agent], services={PAYMENTS: purse}) as runtime:
        session = await runtime.open(session.id)
        assert session.turn is not None
        assert (await session.turn).status == "completed"
        assert [it.text for it in await session.messages() if it.role == "tool"] == ["bought with receipt-1"]
        (standing,) = await session.budgets()
        assert (standing.used, standing.reserved, purse.left) == (Decimal("2.5"), 0, Decimal("17.5"))


@pytest.mark.parametrize("again", ["by itself", "by a person"])
async def test_a_payment_whose_call_was_cut_off_later_is_counted_and_told_once(
    again: str, tmp_path: Path
) -> None:
    purse, paid = Purse("20"), asyncio.Event()

    @tool(effect="idempotent" if again == "by itself" else "once", needs=(PAYMENTS,))
    async def order(ctx: Context) -> str:
        """Order a book."""
        receipt = await ctx.scope[PAYMENTS].pay(PaymentRequest(amount=Decimal("2.50"), payee="the shop"))
        if ctx.call.attempt == 1:
            paid.set()
            await asyncio.Future()
        return f"ordered with {receipt.id}"

    model, config = Sim.storyboard(call("order"), "Done."), Config(budgets=(MONEY,))
    agent = Agent("You buy.", name="buyer", model=model, tools=[order], config=config)
    services = {PAYMENTS: purse}
    async with Runtime(tmp_path / "log.db", services=services, drain=0) as runtime:
        session = await runtime.session(agent)
        await session.send("Buy a book.")
        await paid.wait()
    async with Runtime(tmp_path / "log.db", agents=[agent], services=services) as runtime:
        session = await runtime.open(session.id)
        assert session.turn is not None
        await session.turn
        if again == "by a person":
            (doubt,) = session.in_doubt
            turn = await session.resolve(doubt.call_id, rerun=True, by="mia")
            assert turn is not None
            await turn
        assert [it.text for it in await session.messages() if it.role == "tool"] == ["ordered with receipt-1"]
        (standing,) = await session.budgets()
        assert (standing.used, standing.reserved, purse.left) == (Decimal("2.5"), 0, Decimal("17.5"))
        assert [event.type for event in await session.events()].count("payment.made") == 1


def test_a_payment_survives_every_crash_and_is_made_once() -> None:
    ledger = Ledger()

    class Till:
        """Pays the same key once, as every authority must."""

        async def pay(self, request: PaymentRequest) -> Receipt:
            ledger.add("paid", key=request.key)
            return Receipt(id="r", amount=request.amount)

    def agent() -> Agent:
        return buyer(MONEY)

    report = crashtest(agent, "Buy a book.", services={PAYMENTS: Till()}, ledger=ledger, again=False)
    report.check()
    (tally,) = report.tools
    assert tally.calls > 1
    assert not tally.in_doubt


async def test_a_key_that_a_tool_thinks_of_is_nobody_elses() -> None:
    @tool(effect="idempotent", needs=(PAYMENTS,))
    async def pay(ctx: Context) -> str:
        """Pay."""
        request = PaymentRequest(amount=Decimal(1), payee="ann", key="wait:session_x:1:20:1")
        await ctx.scope[PAYMENTS].pay(request)
        return "paid"

    class Till:
        """Looks at the account while it pays."""

        async def pay(self, request: PaymentRequest) -> Receipt:
            during.extend((await runtime.accounts.get("principal:ann:usd")).keys)
            found.extend(await runtime.accounts.unblocked())
            return Receipt(id="r", amount=request.amount)

    during: list[str] = []
    found: list[str] = []
    budget = Budget(scope="principal", quantity="usd", hard=20, unknown_price="free")
    agent = Agent(model=Sim.script(call("pay"), "Paid."), tools=[pay], config=Config(budgets=(budget,)))
    async with Runtime(services={PAYMENTS: Till()}) as runtime:
        session = await runtime.session(agent, principal="ann")
        await session.run("Pay.")
        assert (await runtime.accounts.get("principal:ann:usd")).used == 1
    assert len(during) == 1
    assert not during[0].startswith("wait:")
    assert found == [], "nobody waits"


def test_a_refusal_is_an_error_that_the_model_reads() -> None:
    assert "payment" in str(PaymentRefused())
