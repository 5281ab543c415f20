"""What becomes of appends when the way to the server, or the server, breaks."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from holdfast.errors import (
    OutcomeUnknown,
    SequenceConflict,
    StaleEpoch,
    StoreError,
    StoreFull,
    StoreLocked,
    StoreReadOnly,
)
from holdfast.stores.postgres import PostgresStore
from holdfast.testing.said import said
from holdfast.testing.store_contract import texts
from tests.stores.postgres.server import Server
from tests.stores.postgres.wire import wire_to


@pytest.fixture
async def admin(postgres_url: str, schema: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection of somebody else."""
    connection = await asyncpg.connect(postgres_url)
    yield connection
    await connection.close()


async def test_appends_of_many_sessions_share_commits(
    direct: PostgresStore, schema: str, admin: asyncpg.Connection
) -> None:
    names = [f"session_{n}" for n in range(200)]
    await asyncio.gather(
        *[direct.append(name, said(name, 1, "hello"), expected=0, epoch=1) for name in names]
    )
    commits = await admin.fetchval(f"SELECT count(DISTINCT xmin::text) FROM {schema}.events")
    assert commits <= 4


@pytest.mark.parametrize("lost", ["request", "answer"])
async def test_cp04_an_append_whose_commit_was_not_answered_happens_exactly_once(
    lost: str, postgres_url: str, schema: str, direct: PostgresStore
) -> None:
    async with wire_to(postgres_url) as (wire, url):
        store = PostgresStore(url, schema=schema)
        await store.open()
        await store.append("session_b", said("session_b", 1, "one"), expected=0, epoch=1)
        wire.lose_next(lost, b"Marker")  # type: ignore[arg-type]
        under_way = [
            store.append("session_a", said("session_a", 2, "Marker"), expected=1, epoch=1),
            store.append("session_a", said("session_a", 3, "three"), expected=2, epoch=1),
            store.append("session_b", said("session_b", 2, "two"), expected=1, epoch=1),
            store.append("session_b", said("session_b", 2, "late"), expected=1, epoch=1),
        ]
        *fine, late = await asyncio.gather(*under_way, return_exceptions=True)
        assert wire.cut.is_set()
        assert fine == [None, None, None]
        assert isinstance(late, SequenceConflict)
        await store.close()
    assert await texts(direct, "session_a") == ["one", "Marker", "three"]
    assert await texts(direct, "session_b") == ["one", "two"]


async def test_cp04_an_append_that_happened_is_not_refused_for_a_claim_after_it(
    postgres_url: str, schema: str, direct: PostgresStore
) -> None:
    async with wire_to(postgres_url) as (wire, url):
        store = PostgresStore(url, schema=schema)
        await store.open()
        await store.append("session_b", said("session_b", 1, "one"), expected=0, epoch=1)
        wire.lose_next("answer", b"Marker", refuses=True)
        append = store.append("session_a", said("session_a", 2, "Marker"), expected=1, epoch=1)
        await wire.cut.wait()
        epoch = await direct.claim("session_a")
        await direct.append("session_a", said("session_a", 3, "mine"), expected=2, epoch=epoch)
        wire.refuses = False
        await append
        with pytest.raises(StaleEpoch):
            await store.append("session_a", said("session_a", 4, "no"), expected=3, epoch=1)
        await store.close()
    assert await texts(direct, "session_a") == ["one", "Marker", "mine"]


@pytest.mark.parametrize("claimed", [False, True])
async def test_an_append_that_did_not_happen_is_refused_when_another_took_its_place(
    claimed: bool, postgres_url: str, schema: str, direct: PostgresStore
) -> None:
    async with wire_to(postgres_url) as (wire, url):
        store = PostgresStore(url, schema=schema)
        await store.open()
        await store.append("session_b", said("session_b", 1, "one"), expected=0, epoch=1)
        wire.lose_next("request", b"Marker", refuses=True)
        append = store.append("session_a", said("session_a", 2, "Marker"), expected=1, epoch=1)
        await wire.cut.wait()
        epoch = await direct.claim("session_a") if claimed else 1
        await direct.append("session_a", said("session_a", 2, "mine"), expected=1, epoch=epoch)
        wire.refuses = False
        with pytest.raises(StaleEpoch if claimed else SequenceConflict):
            await append
        await store.close()
    assert await texts(direct, "session_a") == ["one", "mine"]


@pytest.mark.parametrize("lost", ["request", "answer"])
async def test_when_the_server_stays_away_the_outcome_is_unknown_and_never_guessed(
    lost: str, postgres_url: str, schema: str, direct: PostgresStore
) -> None:
    async with wire_to(postgres_url) as (wire, url):
        store = PostgresStore(url, schema=schema, patience=0.4)
        await store.open()
        await store.append("session_b", said("session_b", 1, "one"), expected=0, epoch=1)
        wire.lose_next(lost, b"Marker", refuses=True)  # type: ignore[arg-type]
        append = store.append("session_a", said("session_a", 2, "Marker"), expected=1, epoch=1)
        await wire.cut.wait()
        later = store.append("session_b", said("session_b", 2, "two"), expected=1, epoch=1)
        with pytest.raises(OutcomeUnknown, match="session_a after 1"):
            await append
        with pytest.raises(StoreError, match="nothing was written") as never_sent:
            await later
        assert type(never_sent.value) is StoreError
        wire.refuses = False
        found = ["one", "Marker"] if lost == "answer" else ["one"]
        assert await texts(store, "session_a") == found
        await store.append("session_b", said("session_b", 2, "again"), expected=1, epoch=1)
        await store.close()
    assert await texts(direct, "session_b") == ["one", "again"]


async def test_a_connection_that_went_dead_in_silence_is_given_up_and_the_append_happens_once(
    postgres_url: str, schema: str, direct: PostgresStore
) -> None:
    async with wire_to(postgres_url) as (wire, url):
        store = PostgresStore(url, schema=schema, patience=2.0)
        await store.open()
        await store.append("session_b", said("session_b", 1, "one"), expected=0, epoch=1)
        wire.lose_next("silence", b"Marker")
        await store.append("session_a", said("session_a", 2, "Marker"), expected=1, epoch=1)
        assert wire.cut.is_set()
        await store.close()
    assert await texts(direct, "session_a") == ["one", "Marker"]


async def test_when_the_server_ends_its_connections_nobody_notices(
    direct: PostgresStore, schema: str, admin: asyncpg.Connection
) -> None:
    ours = f"FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND query LIKE '%{schema}%'"
    for n in range(1, 6):
        epoch = await direct.claim("session_a")
        assert await admin.fetchval(f"SELECT count(pg_terminate_backend(pid)) {ours}") >= 2
        await direct.append("session_a", said("session_a", n + 1, f"{n}"), expected=n, epoch=epoch)
        assert len(await direct.read("session_a")) == n + 1


async def test_what_fails_one_append_does_not_fail_the_others_in_its_commit(
    direct: PostgresStore, schema: str, admin: asyncpg.Connection
) -> None:
    await refuse_in(admin, schema, word="poison", state="53100")
    names = [f"session_{n}" for n in range(5)]
    await direct.append(
        "session_a", said("session_a", 2, "first, so that the next share"), expected=1, epoch=1
    )
    under_way = [
        direct.append(name, said(name, 1, "poison" if name == "session_3" else "fine"), expected=0, epoch=1)
        for name in names
    ]
    results = await asyncio.gather(*under_way, return_exceptions=True)
    assert [type(result) for result in results] == [type(None)] * 3 + [StoreFull, type(None)]
    assert "nothing of this write was kept" in str(results[3])
    assert await direct.head("session_3") is None
    await admin.execute(f"DROP TRIGGER refuse ON {schema}.events")
    await direct.append("session_3", said("session_3", 1, "now there is room"), expected=0, epoch=1)


async def test_a_session_that_somebody_locked_is_given_up_and_the_others_go_on(
    direct: PostgresStore, schema: str, admin: asyncpg.Connection
) -> None:
    await admin.execute(f"ALTER FUNCTION {schema}.append SET lock_timeout = '200ms'")
    transaction = admin.transaction()
    await transaction.start()
    await admin.execute(f"SELECT FROM {schema}.sessions WHERE id = 'session_a' FOR UPDATE")
    locked = direct.append("session_a", said("session_a", 2, "no"), expected=1, epoch=1)
    other = direct.append("session_b", said("session_b", 1, "hello"), expected=0, epoch=1)
    with pytest.raises(StoreLocked):
        await locked
    await other
    await transaction.rollback()
    await direct.append("session_a", said("session_a", 2, "two"), expected=1, epoch=1)
    assert await texts(direct, "session_a") == ["one", "two"]


async def test_a_transaction_that_the_server_undid_for_another_one_is_carried_out_again(
    direct: PostgresStore, schema: str, admin: asyncpg.Connection
) -> None:
    await refuse_in(admin, schema, word="unlucky", state="40P01", times=3)
    await direct.append("session_a", said("session_a", 2, "unlucky"), expected=1, epoch=1)
    assert await texts(direct, "session_a") == ["one", "unlucky"]


async def test_cp79_a_fail_over_that_lost_acknowledged_events_is_noticed(
    direct: PostgresStore, schema: str, admin: asyncpg.Connection
) -> None:
    await direct.append("session_a", said("session_a", 2, "two", "three"), expected=1, epoch=1)
    epoch = await direct.claim("session_a")
    await admin.execute(
        f"DELETE FROM {schema}.events WHERE sequence > 1; UPDATE {schema}.sessions SET sequence = 1"
    )
    with pytest.raises(SequenceConflict, match=r"ends at event 1, not 3, .* fail-over"):
        await direct.append("session_a", said("session_a", 4, "no"), expected=3, epoch=epoch)
    await admin.execute(f"UPDATE {schema}.sessions SET epoch = 1")
    with pytest.raises(StaleEpoch, match="never claimed"):
        await direct.append("session_a", said("session_a", 2, "no"), expected=1, epoch=epoch)
    assert await texts(direct, "session_a") == ["one"]


async def test_after_a_fail_over_new_connections_are_made_to_the_server_that_takes_writes(
    own_server: Server,
) -> None:
    store = PostgresStore(own_server.url)
    await store.open()
    await store.append("session_a", said("session_a", 1, "one"), expected=0, epoch=1)
    admin = await asyncpg.connect(own_server.url)
    await admin.execute("ALTER DATABASE postgres SET default_transaction_read_only = on")
    await store.close()
    await store.open()  # as if to the old primary
    append = store.append("session_a", said("session_a", 2, "two"), expected=1, epoch=1)
    results = await asyncio.gather(append, store.claim("session_a"), return_exceptions=True)
    assert [type(result) for result in results] == [StoreReadOnly] * 2
    await admin.execute("ALTER DATABASE postgres SET default_transaction_read_only = off")
    await admin.close()
    await store.append("session_a", said("session_a", 2, "two"), expected=1, epoch=1)
    assert await store.claim("session_a") == 2
    await store.close()


async def test_closing_while_the_server_is_away_answers_everybody(own_server: Server) -> None:
    store = PostgresStore(own_server.url, patience=0.5)
    await store.open()
    await store.append("session_a", said("session_a", 1, "one"), expected=0, epoch=1)
    own_server.kill()
    append = store.append("session_a", said("session_a", 2, "two"), expected=1, epoch=1)
    reading = asyncio.ensure_future(store.read("session_a"))
    await store.close()
    for answer in await asyncio.gather(append, reading, return_exceptions=True):
        assert isinstance(answer, StoreError)


async def test_what_was_acknowledged_survives_a_crash_of_a_server_that_was_told_not_to_wait_for_the_disk(
    own_server: Server,
) -> None:
    store = PostgresStore(own_server.url + "?synchronous_commit=off")
    await store.open()
    for n in range(20):
        await store.append("session_a", said("session_a", n + 1, f"{n}"), expected=n, epoch=1)
    own_server.kill()
    own_server.start()
    assert await texts(store, "session_a") == [f"{n}" for n in range(20)]
    await store.close()


async def refuse_in(
    admin: asyncpg.Connection, schema: str, *, word: str, state: str, times: int = 1_000
) -> None:
    """Make the server fail a number of times, with this code, on events with a word in them."""
    await admin.execute(f"""
        CREATE SEQUENCE {schema}.refusals;
        CREATE FUNCTION {schema}.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF convert_from(NEW.body, 'UTF8') LIKE '%{word}%' AND nextval('{schema}.refusals') <= {times} THEN
                RAISE EXCEPTION 'refused for a test' USING ERRCODE = '{state}';
            END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON {schema}.events FOR EACH ROW EXECUTE FUNCTION {schema}.refuse();
    """)
