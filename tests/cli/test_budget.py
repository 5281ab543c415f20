"""`holdfast budget`: where budgets and accounts stand, and raising them from another terminal."""

import asyncio
from decimal import Decimal

from holdfast import Agent, Config, Registry, Runtime, Usage, tool
from holdfast.budget import Budget
from holdfast.catalogue import ModelInfo, Prices
from holdfast.drivers.sim import Sim, calls, say
from tests.cli.kit import Cli

PRICES = {"sim/x": ModelInfo(name="x", prices=(Prices(input=Decimal(1), output=Decimal(10)),))}
BUDGETS = (
    Budget(scope="session", quantity="model_calls", hard=1, on_exceeded="wait"),
    Budget(scope="principal", quantity="usd", hard=2, soft=1, per="day"),
)


@tool(effect="pure")
async def look() -> str:
    """Look."""
    return "nothing"


def spend(cli: Cli) -> str:
    """A session of Ann's that waits at its budget; its id."""

    async def spending() -> str:
        usage = Usage(input_tokens=1_000, output_tokens=100)
        model = Sim.storyboard(calls(("look", {}), usage=usage), say("Done.", usage=usage))
        registry = Registry(drivers={"sim": model}, models=PRICES)
        async with Runtime(cli.db, registry=registry) as runtime:
            agent = Agent("Look.", model="sim/x", tools=[look], config=Config(budgets=BUDGETS))
            session = await runtime.session(agent, principal="ann")
            assert (await session.run("Look.")).status == "waiting"
            return session.id

    return asyncio.run(spending())


def test_accounts_and_the_budgets_of_a_session_are_shown(cli: Cli) -> None:
    session_id = spend(cli)
    assert "principal:ann:usd:" in cli.ok("budget")
    assert "0.002" in cli.ok("budget")
    (account,) = cli.json("budget")
    assert (account["used"], account["reserved"]) == ("0.002000", "0")
    shown = cli.ok("budget", session_id)
    assert "session model_calls  1 of 1 used" in shown
    assert "principal usd  0.002000 of 2 used, warned above 1, until" in shown
    assert [it["name"] for it in cli.json("budget", session_id)] == ["session model_calls", "principal usd"]


def test_a_budget_and_an_account_are_raised(cli: Cli) -> None:
    session_id = spend(cli)
    cli.ok("budget", session_id, "--raise", "session model_calls", "--amount", "4")
    assert cli.json("budget", session_id)[0]["hard"] == "5"
    name = cli.json("budget")[0]["name"]
    cli.ok("budget", "--raise", name, "--amount", "0.5")
    assert "raised by 0.5" in cli.ok("budget")


def test_what_makes_no_sense_is_refused(cli: Cli) -> None:
    session_id = spend(cli)
    for wrong in (
        ("budget", "--raise", "nobody", "--amount", "1"),
        ("budget", "--raise", "nobody"),
        ("budget", session_id, "--raise", "nobody", "--amount", "1"),
        ("budget", session_id, "--raise", "session model_calls", "--amount", "much"),
    ):
        assert cli(*wrong).exit_code == 2, wrong


def test_the_budget_of_a_session_whose_model_and_tools_only_its_program_has_is_shown_and_raised(
    cli: Cli,
) -> None:
    async def spending() -> str:
        async with Runtime(cli.db) as runtime:
            agent = Agent("Look.", model=Sim.always("Hi."), tools=[look], config=Config(budgets=BUDGETS[:1]))
            session = await runtime.session(agent)
            await session.run("Look.")
            return session.id

    session_id = asyncio.run(spending())
    assert "1 of 1 used" in cli.ok("budget", session_id)
    cli.ok("budget", session_id, "--raise", "session model_calls", "--amount", "4")
    assert cli.json("budget", session_id)[0]["hard"] == "5"
