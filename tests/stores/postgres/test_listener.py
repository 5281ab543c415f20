"""How somebody who waits hears that something was written."""

import asyncio
import time
from collections.abc import AsyncIterator

import asyncpg
import pytest

from holdfast.stores.postgres import PostgresStore
from holdfast.testing.said import said
from tests.stores.postgres.server import Server

LONG = 20.0


@pytest.fixture
async def pair(postgres_url: str, schema: str) -> AsyncIterator[tuple[PostgresStore, PostgresStore]]:
    """One that writes, and one that already listens."""
    stores = PostgresStore(postgres_url, schema=schema), PostgresStore(postgres_url, schema=schema)
    for store in stores:
        await store.open()
    await heard(stores[1], 0)
    yield stores
    for store in stores:
        await store.close()


async def is_woken(store: PostgresStore, seconds: float = LONG, since: int | None = None) -> bool:
    start = time.monotonic()
    await store.woken(seconds, since)
    return time.monotonic() - start < seconds / 2


async def heard(store: PostgresStore, since: int) -> int:
    """How much was heard, once that is more than this."""
    async with asyncio.timeout(60):
        while (now := await store.woken(LONG, since)) == since:
            pass
    return now


async def test_what_another_store_writes_wakes(pair: tuple[PostgresStore, PostgresStore]) -> None:
    writer, listener = pair
    for n in range(5):
        waiting = [asyncio.ensure_future(is_woken(listener)) for _ in range(3)]
        await asyncio.sleep(0.01)
        await writer.append("session_a", said("session_a", n + 1, "hello"), expected=n, epoch=1)
        assert await asyncio.gather(*waiting) == [True] * 3


async def test_what_the_store_itself_writes_wakes_it(pair: tuple[PostgresStore, PostgresStore]) -> None:
    _, listener = pair
    waiting = asyncio.ensure_future(is_woken(listener))
    await listener.append("session_a", said("session_a", 1, "hello"), expected=0, epoch=1)
    assert await waiting


async def test_what_was_written_while_nobody_waited_wakes_the_next_who_does(
    pair: tuple[PostgresStore, PostgresStore],
) -> None:
    writer, listener = pair
    seen = await listener.woken(0)
    await writer.append("session_a", said("session_a", 1, "hello"), expected=0, epoch=1)
    await asyncio.sleep(0.2)
    assert await is_woken(listener, since=seen)


async def test_when_nothing_is_written_waiting_ends_in_time(
    pair: tuple[PostgresStore, PostgresStore],
) -> None:
    assert not await is_woken(pair[1], 0.3)
    assert not await is_woken(pair[1], 0.0)


async def test_a_refused_append_wakes_nobody(pair: tuple[PostgresStore, PostgresStore]) -> None:
    writer, listener = pair
    refused = writer.append("session_a", said("session_a", 4, "no"), expected=3, epoch=1)
    await asyncio.gather(refused, return_exceptions=True)
    assert not await is_woken(listener, 0.3)


async def test_a_notification_says_only_which_session_stands_where(
    pair: tuple[PostgresStore, PostgresStore], postgres_url: str, schema: str
) -> None:
    connection = await asyncpg.connect(postgres_url)
    heard: list[str] = []
    await connection.add_listener(schema, lambda *said: heard.append(str(said[-1])))
    for name, words in (("session_a", "abc"), ("session_b", "d")):
        await pair[0].append(name, said(name, 1, *words), expected=0, epoch=1)
    await connection.execute("SELECT 1")
    await connection.remove_listener(schema, heard.append)
    await connection.close()
    assert heard == ["session_a:3", "session_b:1"]


async def test_cp68_a_lost_connection_is_made_again_and_whoever_waits_looks(
    pair: tuple[PostgresStore, PostgresStore], postgres_url: str, schema: str
) -> None:
    writer, listener = pair
    connection = await asyncpg.connect(postgres_url)
    end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query = $1"
    seen = await listener.woken(0)
    assert await connection.fetchval(end, f'LISTEN "{schema}"') == 1
    await connection.close()
    assert await is_woken(listener, since=seen)  # something may have been said meanwhile
    waiting = asyncio.ensure_future(is_woken(listener))
    await asyncio.sleep(0.05)
    await writer.append("session_a", said("session_a", 1, "hello"), expected=0, epoch=1)
    assert await waiting


async def test_listening_outlives_a_restart_of_the_server(own_server: Server) -> None:
    store = PostgresStore(own_server.url)
    await store.open()
    there = await heard(store, 0)
    own_server.kill()
    gone = await heard(store, there)
    start = time.monotonic()
    await store.woken(LONG, gone)
    assert time.monotonic() - start < LONG / 2  # nobody waits for long while nothing can be heard
    own_server.start()
    back = await heard(store, gone)
    await store.append("session_a", said("session_a", 1, "hello"), expected=0, epoch=1)
    assert await heard(store, back) > back
    await store.close()


async def test_closing_lets_those_go_who_wait(pair: tuple[PostgresStore, PostgresStore]) -> None:
    waiting = asyncio.ensure_future(is_woken(pair[1]))
    await asyncio.sleep(0.05)
    await pair[1].close()
    assert await waiting
