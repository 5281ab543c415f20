"""Both stores keep the contract."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from holdfast.store import Store
from holdfast.stores.memory import MemoryStore
from holdfast.stores.sqlite import SQLiteStore
from holdfast.testing import StoreContract


class TestMemoryStore(StoreContract):
    @pytest.fixture(autouse=True)
    def place(self) -> None:
        self.kept = MemoryStore()

    @asynccontextmanager
    async def store(self) -> AsyncIterator[Store]:
        await self.kept.open()
        yield self.kept
        await self.kept.close()


class TestSQLiteStore(StoreContract):
    @pytest.fixture(autouse=True)
    def place(self, tmp_path: Path) -> None:
        self.path = tmp_path / "log.db"

    @asynccontextmanager
    async def store(self) -> AsyncIterator[Store]:
        store = SQLiteStore(self.path)
        await store.open()
        try:
            yield store
        finally:
            await store.close()
