"""What is particular to reading and keeping in SQLite."""

import os
import re
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import apsw
import pytest

from holdfast.errors import NotEncodable, StoreCorrupt
from holdfast.events import encode_event
from holdfast.stores import sqlite, sqlite_rows
from holdfast.stores.sqlite import SQLiteStore
from holdfast.testing.said import said


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SQLiteStore]:
    """An open store with five events."""
    store = SQLiteStore(tmp_path / "log.db")
    await store.open()
    await store.append("session_a", said("session_a", 1, *"abcde"), expected=0, epoch=1)
    yield store
    await store.close()


def damage(store: SQLiteStore, statement: str) -> None:
    connection = sqlite3.connect(store.path)
    with connection:
        assert connection.execute(statement).rowcount == 1
    connection.close()


async def test_a_missing_event_is_noticed(store: SQLiteStore) -> None:
    damage(store, "DELETE FROM events WHERE key & 0xff = 3")
    with pytest.raises(StoreCorrupt, match="events of session_a after 0 are missing"):
        await store.read("session_a")
    with pytest.raises(StoreCorrupt, match="after 2 are missing"):
        await store.read("session_a", after=2, limit=1)
    with pytest.raises(StoreCorrupt, match="after 2 are missing"):
        await store.read("session_a", after=3)
    assert len(await store.read("session_a", after=4)) == 1


@pytest.mark.parametrize(
    "body", ["'{}'", "''", "'{\"id\":'", "CAST(x'7b22ff' AS TEXT)", 'replace(body, \'"ts":"2\', \'"ts":"x\')']
)
async def test_an_event_that_cannot_be_read_is_noticed(body: str, store: SQLiteStore) -> None:
    damage(store, f"UPDATE events SET body = {body} WHERE key & 0xff = 3")
    with pytest.raises(StoreCorrupt, match="cannot be read"):
        await store.read("session_a")
    assert len(await store.read("session_a", limit=2)) == 2


async def test_a_blob_that_changed_is_noticed(store: SQLiteStore) -> None:
    digest = await store.put_blob(b"precious")
    damage(store, "UPDATE blobs SET data = CAST('previous' AS BLOB)")
    with pytest.raises(StoreCorrupt, match=digest):
        await store.get_blob(digest)


async def test_a_blob_that_changed_is_mended_when_it_is_kept_again(store: SQLiteStore) -> None:
    digest = await store.put_blob(b"precious")
    damage(store, "UPDATE blobs SET data = CAST('previous' AS BLOB)")
    assert await store.put_blob(b"precious") == digest
    assert await store.get_blob(digest) == b"precious"


async def test_a_blob_kept_again_is_not_written_again(store: SQLiteStore) -> None:
    await store.put_blob(b"precious")
    watching = sqlite3.connect(store.path)
    before = watching.execute("PRAGMA data_version").fetchone()
    await store.put_blob(b"precious")
    assert watching.execute("PRAGMA data_version").fetchone() == before
    watching.close()


async def test_a_page_that_changed_on_the_disk_is_noticed(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "log.db")
    await store.open()
    await store.append("session_a", said("session_a", 1, *["x" * 3_000] * 50), expected=0, epoch=1)
    await store.close()
    content = bytearray((tmp_path / "log.db").read_bytes())
    content[20_000:] = os.urandom(len(content) - 20_000)
    (tmp_path / "log.db").write_bytes(content)
    await store.open()
    with pytest.raises(StoreCorrupt):
        await store.read("session_a")
    await store.close()


async def test_a_value_larger_than_sqlite_takes_is_refused_first(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_rows, "LARGEST", 1_000)
    with pytest.raises(NotEncodable, match="1,001 bytes"):
        await store.put_blob(b"x" * 1_001)
    with pytest.raises(NotEncodable, match="split"):
        store.append("session_a", said("session_a", 6, "x" * 1_000), expected=5, epoch=1)
    assert len(await store.read("session_a")) == 5


async def test_the_log_can_be_read_with_any_sqlite_tool(store: SQLiteStore) -> None:
    connection = sqlite3.connect(store.path)
    query = "SELECT session_id, sequence, type, ts, json_extract(data, '$.message.content[0].text') FROM log"
    if connection.execute("SELECT sqlite_version() >= '3.38'").fetchone() == (0,):
        pytest.skip("this Python's SQLite does not know ->>")
    ts = "2026-02-28T23:59:59.999999Z"
    assert connection.execute(query).fetchall() == [
        ("session_a", n, "input.message", ts, text) for n, text in enumerate("abcde", 1)
    ]
    connection.close()


async def test_the_file_is_at_most_twice_its_content(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "log.db")
    await store.open()
    content = 0
    for n in range(0, 400, 2):
        for name in ("session_a", "session_b", "session_c"):
            events = said(name, n + 1, "What is the weather?", "It is sunny, with some wind. " * 20)
            content += sum(len(encode_event(event)) for event in events)
            await store.append(name, events, expected=n, epoch=1)
    await store.close()
    assert (tmp_path / "log.db").stat().st_size <= 2 * content


FEW = r"INDEX busy|letters USING COVERING INDEX addressed|\(subquery-\d\)"
"""Reading all of these costs nothing: sessions at work, letters that wait, and what another step found."""


async def test_the_file_passes_sqlites_own_check_and_every_query_uses_a_key(store: SQLiteStore) -> None:
    connection = apsw.Connection(store.path, flags=apsw.SQLITE_OPEN_READONLY)
    assert connection.pragma("integrity_check") == "ok"
    reads_all = {name for name in sqlite.SQL._fields if name.startswith("every_")} | {
        "heads",
        "early_snapshots",
        "roster",
    }
    for name, query in zip(sqlite.SQL._fields, sqlite.SQL, strict=True):
        arguments = [None] * len(set(re.findall(r"\?\d", query)))
        plan = [row[3] for row in connection.execute("EXPLAIN QUERY PLAN " + query, arguments)]
        scans = [step for step in plan if step.startswith("SCAN") and not re.search(FEW, step)]
        assert (name in reads_all) == bool(scans), (name, plan)
        assert (name in ("due", "renew", "owners")) == ("INDEX busy" in str(plan)), (name, plan)
        assert name in ("heads", "due", "owners") or "TEMP B-TREE" not in str(plan), (name, plan)
    connection.close()
