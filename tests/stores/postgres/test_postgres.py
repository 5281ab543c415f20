"""What is particular to reading and keeping in Postgres."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import pytest

from holdfast.errors import NotEncodable, SequenceConflict, StoreClosed, StoreCorrupt, UsageError
from holdfast.events import encode_event
from holdfast.store import Snapshot, Terms
from holdfast.stores import postgres_rows
from holdfast.stores.chain import beginning, links
from holdfast.stores.postgres import PostgresStore
from holdfast.stores.postgres_server import queries
from holdfast.testing.letter_contract import letter
from holdfast.testing.said import START, said


@pytest.fixture
async def store(postgres_url: str, schema: str) -> AsyncIterator[PostgresStore]:
    """An open store with five events."""
    store = PostgresStore(postgres_url, schema=schema)
    await store.open()
    await store.append("session_a", said("session_a", 1, *"abcde"), expected=0, epoch=1)
    yield store
    await store.close()


@pytest.fixture
async def admin(postgres_url: str, schema: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection of somebody else, who sees the store's schema first."""
    connection = await asyncpg.connect(postgres_url, server_settings={"search_path": schema})
    yield connection
    await connection.close()


async def test_a_missing_event_is_noticed(store: PostgresStore, admin: asyncpg.Connection) -> None:
    assert await admin.execute("DELETE FROM events WHERE sequence = 3") == "DELETE 1"
    with pytest.raises(StoreCorrupt, match="events of session_a after 0 are missing"):
        await store.read("session_a")
    with pytest.raises(StoreCorrupt, match="after 2 are missing"):
        await store.read("session_a", after=2, limit=1)
    with pytest.raises(StoreCorrupt, match="after 2 are missing"):
        await store.read("session_a", after=3)
    assert len(await store.read("session_a", after=4)) == 1


@pytest.mark.parametrize("body", [b"{}", b"", b'{"id":', b"\x7b\x22\xff"])
async def test_an_event_that_cannot_be_read_is_noticed(
    body: bytes, store: PostgresStore, admin: asyncpg.Connection
) -> None:
    await admin.execute("UPDATE events SET body = $1 WHERE sequence = 3", body)
    with pytest.raises(StoreCorrupt, match="cannot be read"):
        await store.read("session_a")
    assert len(await store.read("session_a", limit=2)) == 2


CHANGED = {
    "words": "UPDATE events SET body = overlay(body PLACING 'z' FROM position('\"c\"' IN body) + 1)",
    "its link": "UPDATE events SET chain = overlay(chain PLACING '\\x0000' FROM 1)",
    "the event before": "UPDATE events SET (chain, body) = (SELECT chain, body FROM events WHERE sequence = 2)",
}


@pytest.mark.parametrize("case", CHANGED)
async def test_an_event_that_was_changed_is_refused_in_every_page_that_has_it(
    case: str, store: PostgresStore, admin: asyncpg.Connection
) -> None:
    assert await admin.execute(f"{CHANGED[case]} WHERE sequence = 3") == "UPDATE 1"
    for after, limit in ((0, 1_000), (1, 2), (2, 1), (2, 1_000)):
        with pytest.raises(StoreCorrupt, match=r"event 3 of session_a .* restore a backup"):
            await store.read("session_a", after=after, limit=limit)
    assert len(await store.read("session_a", limit=2)) == 2
    assert len(await store.read("session_a", after=4)) == 1


async def test_links_are_those_that_a_file_would_have_however_appends_shared_a_commit(
    store: PostgresStore, admin: asyncpg.Connection
) -> None:
    odd = "s\\\x00\u2028👩"
    under_way = [
        store.append("session_b", said("session_b", 1, "one", "two"), expected=0, epoch=1),
        store.append("session_a", said("session_a", 6, "f"), expected=5, epoch=1),
        store.append("session_b", said("session_b", 5, "no"), expected=4, epoch=1),
        store.append("session_b", said("session_b", 3, "three"), expected=2, epoch=1),
        store.append(odd, said(odd, 1, "one"), expected=0, epoch=1),
        store.append("session_a", said("session_a", 7, "g", "h"), expected=6, epoch=1),
    ]
    results = await asyncio.gather(*under_way, return_exceptions=True)
    assert [type(it) for it in results if it is not None] == [SequenceConflict]
    for name, size in (("session_a", 8), ("session_b", 3), (odd, 1)):
        assert len(await store.read(name)) == size
    for name in ("session_a", "session_b"):
        rows = await admin.fetch("SELECT chain FROM log WHERE session_id = $1 ORDER BY sequence", name)
        bodies = [encode_event(it) for it in await store.read(name)]
        assert [row["chain"] for row in rows] == [it.hex() for it in links(beginning(name), bodies)]


async def test_nothing_is_appended_to_an_event_that_is_gone_and_others_are_served(
    store: PostgresStore, admin: asyncpg.Connection
) -> None:
    await admin.execute("DELETE FROM events WHERE sequence = 5")
    refused = store.append("session_a", said("session_a", 6, "no"), expected=5, epoch=1)
    other = store.append("session_b", said("session_b", 1, "yes"), expected=0, epoch=1)
    with pytest.raises(StoreCorrupt, match="event 5 of session_a is missing"):
        await refused
    await other
    head = await store.head("session_a")
    assert head is not None
    assert head.sequence == 5


async def test_a_blob_that_changed_is_noticed(store: PostgresStore, admin: asyncpg.Connection) -> None:
    digest = await store.put_blob(b"precious")
    await admin.execute("UPDATE blobs SET data = 'previous'")
    with pytest.raises(StoreCorrupt, match=digest):
        await store.get_blob(digest)


async def test_a_blob_that_changed_is_mended_when_it_is_kept_again(
    store: PostgresStore, admin: asyncpg.Connection
) -> None:
    digest = await store.put_blob(b"precious")
    await admin.execute("UPDATE blobs SET data = 'previous'")
    assert await store.put_blob(b"precious") == digest
    assert await store.get_blob(digest) == b"precious"
    place = await admin.fetchrow("SELECT ctid, xmax::text FROM blobs")
    await store.put_blob(b"precious")
    assert await admin.fetchrow("SELECT ctid, xmax::text FROM blobs") == place, (
        "written or locked for nothing"
    )


async def test_every_write_waits_for_the_disk_whatever_the_server_was_told(
    store: PostgresStore, postgres_url: str, schema: str, admin: asyncpg.Connection
) -> None:
    await admin.execute("""
        CREATE TABLE commits (what text, synchronous text);
        CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
        DECLARE place text := format('%I.commits', TG_TABLE_SCHEMA);
        BEGIN
            EXECUTE 'INSERT INTO ' || place || ' VALUES ($1, $2)'
            USING TG_OP || ' ' || TG_TABLE_NAME, current_setting('synchronous_commit');
            RETURN NULL;
        END $$""")
    for table in ("sessions", "blobs", "snapshots", "letters"):
        await admin.execute(f"""
            CREATE CONSTRAINT TRIGGER noted AFTER INSERT OR UPDATE OR DELETE ON {table}
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION note()""")
    hasty = PostgresStore(f"{postgres_url}?synchronous_commit=off", schema=schema)
    await hasty.open()
    writes: list[Callable[[], Awaitable[object]]] = [
        lambda: hasty.claim("session_a", owner="ann", hold=60.0),
        lambda: hasty.renew("ann", 60.0),
        lambda: hasty.save_snapshot("session_a", Snapshot(sequence=1, version=1, body=b"")),
        lambda: hasty.save_snapshot("session_a", Snapshot(sequence=2, version=1, body=b"")),
        lambda: hasty.put_blob(b"precious"),
        lambda: hasty.post("session_a", letter("session_a", "hello")),
        lambda: hasty.discard("session_a", [1], epoch=2),
    ]
    for write in writes:
        await write()
    await admin.execute("UPDATE blobs SET data = 'previous'; TRUNCATE TABLE commits")
    for write in (writes[0], *writes[1:4], writes[4], writes[5]):
        await write()
    await hasty.put_blob(b"another")
    await hasty.discard("session_a", [2], epoch=3)
    await hasty.close()
    noted = {tuple(row) for row in await admin.fetch("SELECT what, synchronous FROM commits")}
    assert noted == {
        (what, "on")
        for what in (
            "UPDATE sessions",
            "UPDATE snapshots",
            "UPDATE blobs",
            "INSERT blobs",
            "INSERT letters",
            "DELETE letters",
        )
    }


async def test_a_value_larger_than_postgres_takes_is_refused_first(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_rows, "LARGEST", 1_000)
    with pytest.raises(NotEncodable, match="1,001 bytes"):
        await store.put_blob(b"x" * 1_001)
    with pytest.raises(NotEncodable, match="split"):
        store.append("session_a", said("session_a", 6, "x" * 1_000), expected=5, epoch=1)
    assert len(await store.read("session_a")) == 5


async def test_an_id_too_long_for_an_index_is_refused_first(store: PostgresStore) -> None:
    longest, too_long = "ü" * 1_000, "ü" * 1_001
    await store.append(longest, said(longest, 1, "hello"), expected=0, epoch=1)
    with pytest.raises(NotEncodable, match="1,001 characters"):
        store.append(too_long, said(too_long, 1, "hello"), expected=0, epoch=1)
    assert len(await store.read(longest)) == 1
    assert await store.head(too_long) is None


async def test_texts_that_look_escaped_stay_apart(store: PostgresStore) -> None:
    names = ["s\\0", "s\0", "s\\\\0", "s\\", "s\\\0", "s"]
    due = Terms(due=START, owner="me\0\\0", hold=0.0)
    for name in names:
        await store.append(name, said(name, 1, "hello"), expected=0, epoch=1, terms=due)
    assert sorted(head.session_id for head in await store.sessions()) == sorted([*names, "session_a"])
    assert sorted(await store.due(START)) == sorted(names)


async def test_the_log_can_be_read_with_any_postgres_tool(
    store: PostgresStore, admin: asyncpg.Connection
) -> None:
    rows = await admin.fetch(
        "SELECT session_id, sequence, type, ts, data #>> '{message,content,0,text}' FROM log ORDER BY sequence"
    )
    ts = "2026-02-28T23:59:59.999999Z"
    assert [tuple(row) for row in rows] == [
        ("session_a", n, "input.message", ts, text) for n, text in enumerate("abcde", 1)
    ]


async def test_what_is_kept_is_at_most_twice_its_content(
    store: PostgresStore, admin: asyncpg.Connection
) -> None:
    content = 0
    for n in range(0, 200, 2):
        for name in ("session_x", "session_y", "session_z"):
            events = said(name, n + 1, "What is the weather?", "It is sunny, with some wind. " * 20)
            content += sum(len(encode_event(event)) for event in events)
            store.append(name, events, expected=n, epoch=1)
    await store.read("session_z")
    await asyncio.gather(store.append("session_z", said("session_z", 201, "end"), expected=200, epoch=1))
    sizes = "SELECT pg_total_relation_size('events') + pg_total_relation_size('sessions')"
    assert await admin.fetchval(sizes) <= 2 * content


NO_QUERIES = (
    "append",
    "append_and_take",
    "append_and_enter",
    "enter",
    "standing",
    "alone",
    "found",
    "begin",
    "version",
    "migrated",
)


async def test_every_query_uses_a_key(store: PostgresStore, schema: str, admin: asyncpg.Connection) -> None:
    await admin.execute("SET enable_seqscan = off; SET plan_cache_mode = force_generic_plan")
    for name, query in queries(schema)._asdict().items():
        if name in NO_QUERIES:
            continue
        count = len(set(re.findall(r"\$\d", query)))
        arguments = f"({', '.join(['NULL'] * count)})" if count else ""
        await admin.execute(f"PREPARE {name}_query AS {query}")
        rows = await admin.fetch(f"EXPLAIN EXECUTE {name}_query {arguments}")
        plan = "\n".join(row[0] for row in rows)
        assert (name == "heads") == ("Seq Scan" in plan), (name, plan)


async def test_most_appends_touch_no_index_of_sessions(
    store: PostgresStore, schema: str, admin: asyncpg.Connection
) -> None:
    terms = Terms(owner="worker", hold=30.0, due=START)
    for n in range(5, 60):
        await store.append("session_a", said("session_a", n + 1, "x"), expected=n, epoch=1, terms=terms)
    await store.close()  # which makes the server count
    counters = "n_tup_upd AS every, n_tup_hot_upd AS cheap"
    for _ in range(100):
        updates = await admin.fetchrow(
            f"SELECT {counters} FROM pg_stat_user_tables WHERE relid = 'sessions'::regclass"
        )
        if updates["every"] >= 55:
            break
        await asyncio.sleep(0.05)
    assert updates["every"] == 55
    assert updates["cheap"] >= 53


async def test_a_snapshot_does_not_go_back(store: PostgresStore) -> None:
    new = Snapshot(sequence=4, version=2, body=b"\x00new")
    await store.save_snapshot("session_a", new)
    await store.save_snapshot("session_a", Snapshot(sequence=3, version=9, body=b"old"))
    assert await store.load_snapshot("session_a") == new


async def test_two_stores_may_share_a_database(
    postgres_url: str, schema: str, store: PostgresStore, admin: asyncpg.Connection
) -> None:
    other = PostgresStore(postgres_url, schema=schema[:-1] + "_")
    try:
        await other.open()
        assert await other.sessions() == []
        await other.append("session_a", said("session_a", 1, "other"), expected=0, epoch=1)
        assert len(await store.read("session_a")) == 5
        assert len(await other.read("session_a")) == 1
    finally:
        await other.close()
        await admin.execute(f"SET client_min_messages = error; DROP SCHEMA {schema[:-1]}_ CASCADE")


def test_a_store_needs_a_pool_and_patience_and_a_plain_schema() -> None:
    with pytest.raises(UsageError, match="pool of 1"):
        PostgresStore("postgres://h/d", pool_size=0)
    for patience in (0.0, -1.0, float("nan")):
        with pytest.raises(UsageError, match="patience above 0"):
            PostgresStore("postgres://h/d", patience=patience)
    for schema in ("", "Mine", "a-b", 'x"; DROP TABLE y', "pg_mine", "1a", "a" * 64, "a.b", "a\n"):
        with pytest.raises(UsageError, match="schema"):
            PostgresStore("postgres://h/d", schema=schema)


@pytest.mark.parametrize(
    ("dsn", "shown"),
    [
        ("postgresql://me:s3cret@db.example:5432/agents", "postgresql://me@db.example:5432/agents"),
        ("postgres://me@[::1]:1,b:2/agents", "postgres://me@[::1]:1,b:2/agents"),
        ("postgres:///agents?host=/run&user=me&password=s3cret", "postgres:///agents"),
        ("postgres://me:s3cret%40@h/agents", "postgres://me@h/agents"),
        ("postgres://me:s3cr@et@h/agents", "postgres://me@h/agents"),
        ("postgres://me:s3/cret@h/agents", "Postgres"),
        ("postgres://me:3?cret@h/agents", "Postgres"),
        ("postgres://me:3#cret@h/agents", "Postgres"),
        ("postgres://me:s3cret", "Postgres"),
        ("postgres://[me:s3cret@h", "Postgres"),
    ],
)
def test_the_password_is_not_shown(dsn: str, shown: str) -> None:
    assert repr(PostgresStore(dsn)) == f"PostgresStore({shown!r}, schema='holdfast')"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
async def test_cp84_a_store_does_not_survive_a_fork(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: process + 1)
    with pytest.raises(StoreClosed, match="does not survive fork"):
        store.append("session_a", said("session_a", 6, "no"), expected=5, epoch=1)
    with pytest.raises(StoreClosed, match="does not survive fork"):
        await store.read("session_a")
    monkeypatch.undo()
    assert len(await store.read("session_a")) == 5


def test_without_asyncpg_holdfast_says_what_is_missing() -> None:
    script = """
        import sys
        sys.modules["asyncpg"] = None
        from holdfast.registry import Registry
        try:
            Registry().store("postgresql://me:s3cret@h/d")
        except Exception as error:
            print(type(error).__name__, error)
    """
    lines = "\n".join(re.sub(r"^ {8}", "", line) for line in script.splitlines())
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("ConfigError")
    assert "asyncpg" in done.stdout
    assert "s3cret" not in done.stdout


async def test_opened_twice_at_once_and_closed_it_leaves_no_connection(
    postgres_url: str, schema: str, admin: asyncpg.Connection
) -> None:
    store = PostgresStore(postgres_url, schema=schema)
    await asyncio.gather(store.open(), store.open())
    await store.append("session_a", said("session_a", 1, "one"), expected=0, epoch=1)
    await store.woken(1.0)
    await asyncio.gather(*[store.read("session_a") for _ in range(8)])
    ours = f"SELECT count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND query LIKE '%{schema}%'"
    assert 3 <= await admin.fetchval(ours) <= 6
    await store.close()
    for _ in range(100):
        if await admin.fetchval(ours) == 0:
            break
        await asyncio.sleep(0.05)
    assert await admin.fetchval(ours) == 0
