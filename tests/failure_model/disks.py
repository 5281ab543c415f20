"""Where logs sleep while processes come and go: in memory, in a SQLite file, in a Postgres."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Protocol

import apsw
import asyncpg

from holdfast.store import Store
from holdfast.stores.memory import MemoryStore
from holdfast.stores.postgres import PostgresStore
from holdfast.stores.sqlite import SQLiteStore
from holdfast.testing import WrappedStore


class Disk(Protocol):
    """A back end."""

    name: str

    @property
    def place(self) -> object:
        """Where its content is, which changes for one that others go on with a copy of."""
        ...

    def store(self) -> Store:
        """Another process's store on it."""
        ...

    def freeze(self) -> None:
        """A process died: what is there now is what it leaves, whatever its remains do."""
        ...

    async def wipe(self) -> None:
        """Hold nothing."""
        ...

    async def lose_tail(self, session_id: str, sequence: int) -> None:
        """Forget what came after this event, as a fail-over to a replica that lags behind does."""
        ...


class _View(WrappedStore):
    """One process's view of a store in memory, which stays open for the others."""

    async def close(self) -> None:
        return


class MemoryDisk:
    name = "memory"

    def __init__(self) -> None:
        self.kept = MemoryStore()

    @property
    def place(self) -> object:
        return self.kept

    def store(self) -> Store:
        return _View(self.kept)

    def freeze(self) -> None:
        return

    async def wipe(self) -> None:
        self.kept = MemoryStore()

    async def lose_tail(self, session_id: str, sequence: int) -> None:
        del self.kept._logs[session_id].events[sequence:]


class SQLiteDisk:
    """A folder. What a dead process leaves are its files as they are, so others go on with copies of them."""

    name = "sqlite"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._copies = 0
        self._place = folder / "0"
        self._place.mkdir()

    @property
    def place(self) -> object:
        return self.path

    @property
    def path(self) -> Path:
        return self._place / "log.db"

    def store(self) -> Store:
        return SQLiteStore(self.path)

    def freeze(self) -> None:
        dead, self._place = self._place, self._next()
        shutil.copytree(dead, self._place)

    async def wipe(self) -> None:
        self._place = self._next()
        self._place.mkdir()

    async def lose_tail(self, session_id: str, sequence: int) -> None:
        connection = apsw.Connection(str(self.path))
        number = connection.execute("SELECT number FROM sessions WHERE id = ?", (session_id,)).get
        connection.execute("DELETE FROM events WHERE key > ?", ((number << 32) + sequence,))
        connection.execute("UPDATE sessions SET sequence = ? WHERE number = ?", (sequence, number))
        connection.close()

    def _next(self) -> Path:
        self._copies += 1
        return self._folder / f"{self._copies}"


class PostgresDisk:
    """A schema. A dead process's connections are closed for it, as its system would."""

    name = "postgres"

    def __init__(self, url: str, schema: str) -> None:
        self.url = url
        self.schema = schema
        self.place: object = schema

    def store(self) -> Store:
        return PostgresStore(self.url, schema=self.schema, pool_size=2)

    def freeze(self) -> None:
        return

    async def wipe(self) -> None:
        connection = await asyncpg.connect(self.url)
        try:
            tables = await connection.fetch(
                "SELECT tablename FROM pg_tables WHERE schemaname = $1 AND tablename <> 'holdfast_migrations'",
                self.schema,
            )
            if tables:
                names = ", ".join(f"{self.schema}.{table}" for (table,) in tables)
                await connection.execute(f"TRUNCATE {names}")
        finally:
            await connection.close()

    async def lose_tail(self, session_id: str, sequence: int) -> None:
        mine = "(SELECT number FROM sessions WHERE id = $1)"
        await self.execute(
            f"DELETE FROM events WHERE session = {mine} AND sequence > $2", session_id, sequence
        )
        await self.execute("UPDATE sessions SET sequence = $2 WHERE id = $1", session_id, sequence)

    async def execute(self, statement: str, *arguments: object) -> None:
        connection = await asyncpg.connect(self.url, server_settings={"search_path": self.schema})
        try:
            await connection.execute(statement, *arguments)
        finally:
            await connection.close()
