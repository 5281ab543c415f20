"""`holdfast budget`: what may be used, what was used, and how much more is allowed."""

from __future__ import annotations

import asyncio
from decimal import Decimal, InvalidOperation

import click
import msgspec

from holdfast import Agent, Runtime, UsageError
from holdfast.cli.compose import look
from holdfast.cli.given import agents_options
from holdfast.cli.place import Place, db_option, find, reading, writing
from holdfast.cli.record import who
from holdfast.cli.text import clean
from holdfast.standing import BudgetStanding
from holdfast.store import Account

STAND_IN = "sim/echo"
"""For a model that only the session's program has. It is not asked: nothing is run here."""


@click.command()
@click.argument("session", required=False)
@click.option("--raise", "raised", metavar="NAME", help="Let this budget, or this account, have more.")
@click.option("--amount", metavar="AMOUNT", help="How much more; less than 0 takes it away again.")
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
@agents_options
@db_option
def budget(
    session: str | None, raised: str | None, amount: str | None, as_json: bool, agents: list[Agent], db: Place
) -> None:
    """Show what may be used and what was.

    Those of SESSION, or, without one, the accounts that sessions share.

    With --raise NAME --amount AMOUNT, first allow so much more; turns that wait for it go on.
    """
    if (raised is None) is not (amount is None):
        raise click.UsageError("to raise a budget give both --raise NAME and --amount AMOUNT")
    if raised is not None and amount is not None:
        asyncio.run(_raise(db, session, raised, _amount(amount), agents))
    found = asyncio.run(_session(db, session) if session else _accounts(db))
    if as_json:
        click.echo(msgspec.json.encode(found))
        return
    for it in found:
        click.echo(_line(it))
    if not found:
        click.echo("no budgets" if session else "no accounts", err=True)


def _amount(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        raise click.UsageError(f"{text!r} is no amount; give a number such as 2.50") from None


async def _session(db: Place, name: str) -> list[BudgetStanding | Account]:
    async with reading(db, model=STAND_IN) as runtime:
        return list(await (await look(runtime, await find(runtime, name))).budgets())


async def _accounts(db: Place) -> list[BudgetStanding | Account]:
    async with reading(db) as runtime:
        return list(await runtime.accounts.all())


async def _raise(db: Place, session: str | None, name: str, amount: Decimal, agents: list[Agent]) -> None:
    """Recorded here; what waits for it is gone on with by the program that drives it."""
    async with writing(db, agents=agents, model=STAND_IN) as runtime:
        if session is None:
            await _raise_account(runtime, name, amount)
            return
        opened = await runtime.open(await find(runtime, session), drive=False)
        await opened.raise_budget(name, amount, by=who())


async def _raise_account(runtime: Runtime, name: str, amount: Decimal) -> None:
    if all(it.name != name for it in await runtime.accounts.all(name)):
        raise UsageError(f"there is no account {name!r}; `holdfast budget` lists those there are")
    await runtime.accounts.raise_limit(name, amount, by=who())


def _line(it: BudgetStanding | Account) -> str:
    held = f", {it.reserved:f} set aside" if it.reserved else ""
    if isinstance(it, Account):
        more = f", raised by {it.raised:f}" if it.raised else ""
        return f"{clean(it.name)}  {it.used:f} used{held}{more}"
    most = f" of {it.hard:f}" if it.hard is not None else ""
    soft = f", warned above {it.soft:f}" if it.soft is not None else ""
    until = f", until {it.until:%Y-%m-%d %H:%M} UTC" if it.until is not None else ""
    return f"{clean(it.name)}  {it.used:f}{most} used{held}{soft}{until}"
