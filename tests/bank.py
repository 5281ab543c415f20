"""Accounts beside a log, in the same database, and a tool that moves money between them."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol

import apsw

from holdfast import Agent, Context, SQLiteStore, Tool, ToolError, tool
from holdfast.config import Config, Limits
from holdfast.drivers.sim import Sim, Step, say
from holdfast.stores.postgres import PostgresStore

ACCOUNTS = (
    "CREATE TABLE IF NOT EXISTS accounts (name TEXT PRIMARY KEY, cents INTEGER CHECK (cents >= 0))",
    "INSERT INTO accounts VALUES ('ana', 100), ('ben', 0) ON CONFLICT DO NOTHING",
)


class Bank(Protocol):
    """A store, and the accounts in its database as somebody else sees them."""

    store: SQLiteStore | PostgresStore

    def sql(self, statement: str) -> str:
        """The statement, its `?` as this database has them."""
        ...

    async def ask(self, statement: str) -> list[tuple[Any, ...]]:
        """Ask on a connection of one's own, and commit."""
        ...

    def another(self) -> SQLiteStore | PostgresStore:
        """The same store, opened by somebody else."""
        ...


class FileBank:
    """In a SQLite file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store = SQLiteStore(path)

    def sql(self, statement: str) -> str:
        return statement

    async def ask(self, statement: str) -> list[tuple[Any, ...]]:
        # Not with sqlite3: two copies of SQLite in one process drop each other's locks.
        connection = apsw.Connection(str(self.path))
        connection.set_busy_timeout(5_000)
        try:
            return list(connection.execute(statement))
        finally:
            connection.close()

    def another(self) -> SQLiteStore:
        return SQLiteStore(self.path)


class ServerBank:
    """In a schema of a Postgres database, which the log has for itself; the accounts are in one beside it."""

    def __init__(self, url: str, schema: str) -> None:
        self.url, self.schema = url, schema
        self.store = PostgresStore(url, schema=schema)

    def sql(self, statement: str) -> str:
        numbers = iter(range(1, 100))
        statement = re.sub(r"\?", lambda _: f"${next(numbers)}", statement)
        return statement.replace("accounts", f"{self.schema}.accounts")

    async def ask(self, statement: str) -> list[tuple[Any, ...]]:
        import asyncpg  # the extra `postgres`, which only these tests need

        connection = await asyncpg.connect(self.url)
        try:
            return [tuple(row) for row in await connection.fetch(self.sql(statement))]
        finally:
            await connection.close()

    def another(self) -> PostgresStore:
        return PostgresStore(self.url, schema=self.schema)


async def balances(bank: Bank) -> dict[str, int]:
    """What everybody has."""
    return dict(await bank.ask("SELECT name, cents FROM accounts"))


async def open_accounts(bank: Bank) -> None:
    """Make the accounts, once the store has made its own tables."""
    for statement in ACCOUNTS:
        await bank.ask(statement)


async def nothing(_ctx: Context) -> None:
    """Do nothing in particular."""


def mover(
    bank: Bank,
    *,
    inside: Callable[[Context], Awaitable[object]] = nothing,
    after: Callable[[Context], Awaitable[object]] = nothing,
    **options: Any,
) -> Tool:
    """The tool. `inside` is called in the middle of the transaction, `after` between its end and the tool's."""

    @tool(**{"effect": "idempotent", "name": "move", **options})
    async def move(ctx: Context, cents: int) -> object:
        """Move money from Ana to Ben."""
        async with ctx.transaction() as db:
            ((balance,),) = await db.execute(bank.sql("SELECT cents FROM accounts WHERE name = ?"), "ana")
            if balance < cents:
                raise ToolError(f"Ana has {balance} only.")
            take = bank.sql("UPDATE accounts SET cents = cents - ? WHERE name = ?")
            await db.execute(take, cents, "ana")
            await inside(ctx)
            await db.execute(take, -cents, "ben")
        return await after(ctx) or f"moved {cents}"

    return move


def teller(*steps: Step, tools: list[Tool], limits: Limits | None = None, **config: Any) -> Agent:
    """Who works at the bank."""
    model = Sim.storyboard(*steps, say("done"))
    return Agent(
        "You move money.", name="teller", model=model, tools=tools, limits=limits, config=Config(**config)
    )
