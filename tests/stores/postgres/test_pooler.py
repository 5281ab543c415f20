"""Behind a pooler that hands connections around between transactions."""

import asyncio
import time

import pytest

from holdfast.errors import StoreError
from holdfast.stores.postgres import PostgresStore
from holdfast.testing.said import said
from holdfast.testing.store_contract import texts
from tests.stores.postgres.pooler import pooler_for


async def test_nothing_counts_on_the_same_connection(postgres_url: str, schema: str) -> None:
    async with pooler_for(postgres_url, servers=3) as (pooler, url):
        store = PostgresStore(url, schema=schema, behind_pooler=True)
        await store.open()

        async def work(name: str) -> None:
            for n in range(10):
                await store.append(name, said(name, n + 1, f"{n}"), expected=n, epoch=1)
                assert len(await store.read(name)) == n + 1
            assert await store.claim(name) == 2
            await store.put_blob(name.encode())

        names = [f"session_{n}" for n in range(10)]
        await asyncio.gather(*[work(name) for name in names])
        for name in names:
            assert await texts(store, name) == [f"{n}" for n in range(10)]
        assert pooler.handed_out > 100
        await store.close()


async def test_a_store_that_was_not_told_is_told_there(postgres_url: str, schema: str) -> None:
    async with pooler_for(postgres_url, servers=3) as (_, url):
        store = PostgresStore(url, schema=schema, patience=10.0)
        with pytest.raises(StoreError, match="behind_pooler=True"):
            await store.open()


async def test_who_waits_there_looks_every_second(postgres_url: str, schema: str) -> None:
    async with pooler_for(postgres_url, servers=2) as (_, url):
        store = PostgresStore(url, schema=schema, behind_pooler=True)
        await store.open()
        start = time.monotonic()
        await store.woken(20.0)
        assert time.monotonic() - start < 10.0  # half of what it asked for
        await store.close()
