"""How a Postgres store finds its tables, and what it says when it does not."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from holdfast.errors import ForeignFile, HoldfastError, StoreError, StoreReadOnly, StoreTooNew, UsageError
from holdfast.registry import Registry
from holdfast.stores import postgres_server
from holdfast.stores.postgres import PostgresStore
from holdfast.stores.postgres_server import PostgresServer, in_schema, migrations
from holdfast.testing.letter_contract import letter
from holdfast.testing.said import said
from tests.stores.postgres.server import Server, free_port


@pytest.fixture
async def admin(postgres_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(postgres_url)
    yield connection
    await connection.close()


def at(url: str, *, user: str = "", database: str = "", port: int = 0, query: str = "") -> str:
    parts = urlsplit(url)
    who, where = parts.netloc.rpartition("@")[0], parts.netloc.rpartition("@")[2]
    where = f"{where.rpartition(':')[0]}:{port}" if port else where
    return urlunsplit(
        parts._replace(
            netloc=f"{user or who}@{where}", path=f"/{database}" if database else parts.path, query=query
        )
    )


async def opened(url: str, schema: str = "holdfast", *, patience: float = 30.0) -> None:
    store = PostgresStore(url, schema=schema, patience=patience)
    await store.open()
    await store.close()


async def test_processes_that_open_a_new_place_at_once_make_its_tables_once(
    postgres_url: str, schema: str, admin: asyncpg.Connection
) -> None:
    await asyncio.gather(*[opened(postgres_url, schema) for _ in range(8)])
    made = await admin.fetch(f"SELECT number FROM {schema}.holdfast_migrations")
    assert [row[0] for row in made] == list(range(1, len(migrations()) + 1))


async def test_a_schema_made_beforehand_is_used_if_it_is_empty(
    postgres_url: str, schema: str, admin: asyncpg.Connection
) -> None:
    await admin.execute(f"CREATE SCHEMA {schema}")
    await opened(postgres_url, schema)


async def test_a_schema_with_tables_of_another_program_is_left_alone(
    postgres_url: str, schema: str, admin: asyncpg.Connection
) -> None:
    await admin.execute(f"CREATE SCHEMA {schema}; CREATE TABLE {schema}.sessions (id int)")
    with pytest.raises(ForeignFile, match="choose another schema"):
        await opened(postgres_url, schema)
    assert (
        await admin.fetchval("SELECT count(*) FROM pg_class WHERE relnamespace = $1::regnamespace", schema)
        == 1
    )


async def test_tables_of_a_newer_holdfast_are_refused(
    postgres_url: str, schema: str, admin: asyncpg.Connection
) -> None:
    await opened(postgres_url, schema)
    await admin.execute(f"INSERT INTO {schema}.holdfast_migrations (number) VALUES (99)")
    with pytest.raises(StoreTooNew, match="tables 99, this one knows"):
        await opened(postgres_url, schema)


async def test_tables_of_an_older_holdfast_are_brought_up_to_date_and_keep_their_content(
    postgres_url: str, schema: str, admin: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = PostgresStore(postgres_url, schema=schema)
    await store.open()
    await store.append("session_a", said("session_a", 1, "one"), expected=0, epoch=1)
    await store.close()
    newer = (*migrations(), "ALTER TABLE holdfast.sessions ADD COLUMN color text; SELECT 1;")
    monkeypatch.setattr(postgres_server, "migrations", lambda: newer)
    await asyncio.gather(*[opened(postgres_url, schema) for _ in range(4)])
    assert await admin.fetchval(f"SELECT max(number) FROM {schema}.holdfast_migrations") == len(newer)
    await store.open()
    assert len(await store.read("session_a")) == 1
    await store.close()


async def test_tables_from_before_there_were_letters_are_brought_up_to_date_and_keep_their_content(
    postgres_url: str, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, now = PostgresStore(postgres_url, schema=schema), migrations()
    with monkeypatch.context() as before:
        before.setattr(postgres_server, "migrations", lambda: now[:1])
        await store.open()
        await store.append("session_a", said("session_a", 1, "one"), expected=0, epoch=1)
        with pytest.raises(StoreError):
            await store.post("session_a", letter("session_a", "too early"))
        await store.close()
    await store.open()
    assert len(await store.read("session_a")) == 1
    await store.post("session_a", letter("session_a", "hello"))
    assert len(await store.letters("session_a")) == 1
    await store.close()


async def test_a_migration_that_fails_changes_nothing(
    postgres_url: str, schema: str, admin: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = (*migrations(), "CREATE TABLE holdfast.new (x int); SELECT 1 / 0;")
    monkeypatch.setattr(postgres_server, "migrations", lambda: broken)
    with pytest.raises(StoreError, match="division by zero"):
        await opened(postgres_url, schema)
    assert await admin.fetchval("SELECT to_regnamespace($1)", schema) is None


async def test_a_server_that_takes_no_writes_is_good_for_reading(postgres_url: str, schema: str) -> None:
    store = PostgresStore(postgres_url, schema=schema)
    await store.open()
    await store.append("session_a", said("session_a", 1, "one"), expected=0, epoch=1)
    await store.close()
    standby = PostgresStore(at(postgres_url, query="default_transaction_read_only=on"), schema=schema)
    await standby.open()
    assert len(await standby.read("session_a")) == 1
    for refused in (
        standby.append("session_a", said("session_a", 2, "no"), expected=1, epoch=1),
        standby.claim("session_a"),
    ):
        with pytest.raises(StoreReadOnly, match="connect to the primary"):
            await refused
    await standby.close()
    with pytest.raises(StoreReadOnly):
        await opened(at(postgres_url, query="default_transaction_read_only=on"), schema + "_")


async def test_a_role_without_rights_is_told_so(
    postgres_url: str, schema: str, admin: asyncpg.Connection
) -> None:
    await opened(postgres_url, schema)
    role = schema + "_guest"
    await admin.execute(f"CREATE ROLE {role} LOGIN")
    try:
        with pytest.raises(StoreReadOnly, match="grant it"):
            await opened(at(postgres_url, user=f"{role}:s3cret"), schema)
        await admin.execute(
            f"GRANT USAGE ON SCHEMA {schema} TO {role}; GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role}"
        )
        guest = PostgresStore(at(postgres_url, user=f"{role}:s3cret"), schema=schema)
        await guest.open()
        assert await guest.sessions() == []
        with pytest.raises(StoreReadOnly, match="grant it"):
            await guest.append("session_a", said("session_a", 1, "no"), expected=0, epoch=1)
        await guest.close()
    finally:
        await admin.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


async def test_a_database_that_cannot_hold_every_text_is_refused(
    postgres_url: str, schema: str, admin: asyncpg.Connection
) -> None:
    await admin.execute(f"CREATE DATABASE {schema} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    try:
        with pytest.raises(StoreError, match="LATIN1"):
            await opened(at(postgres_url, database=schema))
    finally:
        await admin.execute(f"DROP DATABASE {schema} WITH (FORCE)")


@pytest.mark.parametrize(
    ("change", "kind", "text"),
    [
        ({"user": "stranger:s3cret"}, StoreError, "refused the log-in"),
        ({"database": "nowhere"}, StoreError, "does not exist; create it"),
        ({"port": free_port()}, StoreError, "cannot be reached"),
        ({"query": "sslmode=s3cret"}, UsageError, "not understood"),
        ({"user": "me:s3/cret"}, UsageError, "not understood"),
    ],
)
async def test_what_is_wrong_with_an_address_is_said_without_the_password(
    change: dict[str, str], kind: type[HoldfastError], text: str, postgres_url: str
) -> None:
    with pytest.raises(kind, match=text) as refused:
        await opened(at(postgres_url, **change), patience=2.0)  # type: ignore[arg-type]
    error: BaseException | None = refused.value
    while error is not None:
        assert "s3" not in str(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


async def test_a_server_that_restarts_is_waited_for(
    own_server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    own_server.kill()
    store = PostgresStore(own_server.url)
    opening = asyncio.ensure_future(store.open())
    await asyncio.sleep(0.3)
    assert not opening.done()
    await asyncio.to_thread(own_server.start)
    await opening
    await store.append("session_a", said("session_a", 1, "one"), expected=0, epoch=1)
    await store.close()
    (waiting,) = [it.getMessage() for it in caplog.records if "cannot be reached" in it.getMessage()]
    assert waiting.endswith("; waiting for up to 30 s")


async def test_a_server_that_stays_away_is_said_to_have_been_waited_for() -> None:
    store = PostgresStore(f"postgresql://me@127.0.0.1:{free_port()}/d", patience=0.3)
    with pytest.raises(StoreError, match=r"cannot be reached .*waited for, for 0\.3 s"):
        await store.open()


def test_the_registry_knows_a_postgres_store_by_its_url(tmp_path: Path) -> None:
    for url in ("postgres://me@h/d", "postgresql://me@h/d"):
        assert isinstance(Registry().store(url), PostgresStore)
    assert not isinstance(Registry().store(tmp_path / "postgres"), PostgresStore)


def test_only_the_name_of_the_schema_is_replaced() -> None:
    text = (
        "SELECT holdfast.x, 'holdfast', 'in holdfast', holdfast_y; -- the holdfast\nCREATE SCHEMA holdfast;"
    )
    assert in_schema(text, "mine") == (
        "SELECT \"mine\".x, 'mine', 'in holdfast', holdfast_y; -- the holdfast\nCREATE SCHEMA \"mine\";"
    )


async def test_whoever_gives_up_while_a_connection_is_made_leaves_no_failure_behind(
    postgres_url: str, schema: str, admin: asyncpg.Connection
) -> None:
    failures: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: failures.append(context))
    try:
        for steps in range(40):  # one of them is between the socket and the first word
            server = PostgresServer(postgres_url, schema, 10.0, behind_pooler=False)
            connecting = asyncio.create_task(server.connect())
            for _ in range(steps):
                await asyncio.sleep(0)
            connecting.cancel()
            with suppress(asyncio.CancelledError):
                (await connecting).terminate()
            await server.settle()
        await asyncio.sleep(0)
        gc.collect()
    finally:
        loop.set_exception_handler(before)
    assert failures == []


async def test_a_connection_that_came_too_late_is_closed(
    postgres_url: str, schema: str, admin: asyncpg.Connection
) -> None:
    mark = f"late_{schema}"
    server = PostgresServer(
        at(postgres_url, query=f"application_name={mark}"), schema, 10.0, behind_pooler=False
    )
    connecting = asyncio.create_task(server.connect())
    await asyncio.sleep(0)
    connecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await connecting
    await server.settle()
    async with asyncio.timeout(30):
        while await admin.fetchval("SELECT count(*) FROM pg_stat_activity WHERE application_name = $1", mark):
            await admin.fetch("SELECT pg_sleep(0.01)")
