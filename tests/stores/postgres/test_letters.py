"""What is particular to letters in Postgres."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from holdfast.errors import StoreCorrupt
from holdfast.store import Terms
from holdfast.stores.postgres import PostgresStore
from holdfast.testing.letter_contract import left_in, letter, take_all
from holdfast.testing.said import START, said, texts
from tests.stores.postgres.server import Server
from tests.stores.postgres.wire import wire_to


@pytest.fixture
async def admin(postgres_url: str, schema: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection of somebody else, who sees the store's schema first."""
    connection = await asyncpg.connect(postgres_url, server_settings={"search_path": schema})
    yield connection
    await connection.close()


@pytest.mark.parametrize("lost", ["request", "answer"])
async def test_a_letter_whose_receipt_was_lost_is_there_exactly_once(
    lost: str, postgres_url: str, schema: str, direct: PostgresStore
) -> None:
    async with wire_to(postgres_url) as (wire, url):
        store = PostgresStore(url, schema=schema)
        await store.open()
        wire.lose_next(lost, b"Marker")  # type: ignore[arg-type]
        await store.post("session_a", letter("session_a", "Marker"))
        assert wire.cut.is_set()
        await store.close()
    assert await left_in(direct, "session_a") == ["Marker"]


async def test_a_letter_that_was_taken_before_its_receipt_came_is_not_left_again(
    postgres_url: str, schema: str, direct: PostgresStore
) -> None:
    async with wire_to(postgres_url) as (wire, url):
        store = PostgresStore(url, schema=schema)
        await store.open()
        wire.lose_next("answer", b"Marker", refuses=True)
        posting = asyncio.ensure_future(store.post("session_a", letter("session_a", "Marker")))
        await wire.cut.wait()
        assert await left_in(direct, "session_a") == ["Marker"]
        await take_all(direct, "session_a")
        wire.refuses = False
        await posting
        await store.close()
    assert await direct.letters("session_a") == []


@pytest.mark.parametrize("lost", ["request", "answer"])
async def test_an_append_whose_commit_was_not_answered_takes_its_letters(
    lost: str, postgres_url: str, schema: str, direct: PostgresStore
) -> None:
    for text in ("first", "second"):
        await direct.post("session_a", letter("session_a", text))
    (first, _) = await direct.letters("session_a")
    async with wire_to(postgres_url) as (wire, url):
        store = PostgresStore(url, schema=schema)
        await store.open()
        wire.lose_next(lost, b"Marker")  # type: ignore[arg-type]
        terms = Terms(taken=(first.number,))
        await store.append("session_a", said("session_a", 2, "Marker"), expected=1, epoch=1, terms=terms)
        assert wire.cut.is_set()
        await store.close()
    assert await texts(direct, "session_a") == ["one", "Marker"]
    assert await left_in(direct, "session_a") == ["second"]


async def test_a_letter_waits_for_no_append_under_way(
    direct: PostgresStore, admin: asyncpg.Connection
) -> None:
    async with admin.transaction():
        await admin.execute("UPDATE sessions SET sequence = sequence")
        async with asyncio.timeout(30):
            await direct.post("session_a", letter("session_a", "hello"))
            assert await left_in(direct, "session_a") == ["hello"]


async def test_nobody_claims_a_session_while_its_writer_discards_letters(
    direct: PostgresStore, admin: asyncpg.Connection
) -> None:
    await direct.post("session_a", letter("session_a", "hello"))
    (found,) = await direct.letters("session_a")
    async with admin.transaction():
        await admin.execute("UPDATE sessions SET epoch = 2")
        discarding = asyncio.ensure_future(direct.discard("session_a", [found.number], epoch=1))
        await asyncio.sleep(0.2)
        assert not discarding.done()
    with pytest.raises(Exception, match="epoch 1 of session_a is over"):
        await discarding
    assert await direct.letters("session_a") == [found]


async def test_what_is_remembered_of_letters_long_gone_is_forgotten(
    direct: PostgresStore, admin: asyncpg.Connection
) -> None:
    for n in range(15):
        await direct.post("session_a", letter("session_a", f"{n}"))
    assert await admin.fetchval("SELECT count(*) FROM received") == 15
    await admin.execute("UPDATE received SET received_at = received_at - interval '61 minutes'")
    for count in (6, 2, 3):
        await direct.post("session_a", letter("session_a", "later"))
        assert await admin.fetchval("SELECT count(*) FROM received") == count
    assert len(await direct.letters("session_a")) == 18


async def test_a_letter_survives_a_crash_of_a_server_that_was_told_not_to_wait_for_the_disk(
    own_server: Server,
) -> None:
    store = PostgresStore(own_server.url + "?synchronous_commit=off")
    await store.open()
    await store.append("session_a", said("session_a", 1, "one"), expected=0, epoch=1)
    for n in range(20):
        await store.post("session_a", letter("session_a", f"{n}"))
    own_server.kill()
    own_server.start()
    assert len(await store.letters("session_a")) == 20
    await store.close()


async def test_a_letter_that_cannot_be_read_is_noticed(
    direct: PostgresStore, admin: asyncpg.Connection
) -> None:
    await direct.post("session_a", letter("session_a", "hello"))
    await admin.execute("UPDATE letters SET body = substr(body, 1, 99)")
    with pytest.raises(StoreCorrupt, match="cannot be read"):
        await direct.letters("session_a")


async def test_looking_for_letters_reads_no_more_than_there_are(
    direct: PostgresStore, schema: str, admin: asyncpg.Connection
) -> None:
    await admin.execute(
        "INSERT INTO sessions (id, sequence, epoch, created_at, updated_at, owner) "
        "SELECT 'rests_' || n, 1, 1, 1, 1, '' FROM generate_series(1, 50000) AS n"
    )
    await admin.execute("ANALYZE sessions")
    await direct.post("session_a", letter("session_a", "hello"))
    counter = (
        "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relid = 'sessions'::regclass"
    )
    async with admin.transaction():
        await admin.fetch("SELECT FROM sessions WHERE sequence = 7")
        assert await admin.fetchval(counter) > 50_000
    for name, arguments in (("posted", ("ann",)), ("due", (0, 100))):
        async with admin.transaction():
            before = await admin.fetchval(counter)
            await admin.fetch(getattr(direct._sql, name), *arguments)
            assert await admin.fetchval(counter) - before < 50, name
    assert await direct.due(START) == ["session_a"]
