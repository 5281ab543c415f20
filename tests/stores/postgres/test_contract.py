"""The Postgres store keeps the contract."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from holdfast.store import Store
from holdfast.stores.postgres import PostgresStore
from holdfast.testing import StoreContract


class TestPostgresStore(StoreContract):
    @pytest.fixture(autouse=True)
    def place(self, postgres_url: str, schema: str) -> None:
        self.url, self.schema = postgres_url, schema

    @asynccontextmanager
    async def store(self) -> AsyncIterator[Store]:
        store = PostgresStore(self.url, schema=self.schema)
        await store.open()
        try:
            yield store
        finally:
            await store.close()
