"""What `SQLiteStore.check` finds wrong with a file."""

import os
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from holdfast.errors import StoreCorrupt
from holdfast.store import Snapshot, Terms
from holdfast.stores import sqlite_check
from holdfast.stores.sqlite import SQLiteStore
from holdfast.testing.letter_contract import letter
from holdfast.testing.said import START, said


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SQLiteStore]:
    """An open store with nine events in `session_a`, one in `session_b`, a letter, a blob, a snapshot and a lease."""
    store = SQLiteStore(tmp_path / "log.db")
    await store.open()
    await store.append("session_a", said("session_a", 1, *"abcdefghi"), expected=0, epoch=1)
    terms = Terms(owner="ann", hold=60, due=START)
    await store.append("session_b", said("session_b", 1, "one"), expected=0, epoch=1, terms=terms)
    await store.post("session_b", letter("session_b", "hello"))
    await store.put_blob(b"precious")
    await store.save_snapshot("session_a", Snapshot(sequence=9, version=1, body=b"folded"))
    yield store
    await store.close()


def damage(store: SQLiteStore, *statements: str) -> None:
    connection = sqlite3.connect(store.path)
    with connection:
        for statement in statements:
            assert connection.execute(statement).rowcount > 0
    connection.close()


async def found(store: SQLiteStore) -> list[tuple[str, str]]:
    return [(problem.kind, problem.where) for problem in await store.check()]


async def test_nothing_is_wrong_with_a_file_in_use_and_looking_changes_nothing(store: SQLiteStore) -> None:
    before = {
        path: path.read_bytes() for path in Path(store.path).parent.glob("log.db*") if "shm" not in path.name
    }
    assert await store.check() == []
    assert {path: path.read_bytes() for path in before} == before


EVENT_4 = "key = (SELECT number << 32 | 4 FROM sessions WHERE id = 'session_a')"
MOVE = (
    "UPDATE events SET key = (SELECT number << 32 | {} FROM sessions WHERE id = 'session_a') WHERE " + EVENT_4
)

DAMAGES = {
    "an event is gone": ("DELETE FROM events WHERE " + EVENT_4, "gap", "session_a:4"),
    "several are gone": ("DELETE FROM events WHERE key & 15 BETWEEN 4 AND 7", "gap", "session_a:4-7"),
    "the first are gone": (
        "DELETE FROM events WHERE key & 15 < 3 AND key >> 32 = 1",
        "gap",
        "session_a:1-2",
    ),
    "the last are gone": ("DELETE FROM events WHERE key & 15 > 7", "gap", "session_a:8-9"),
    "all are gone": ("DELETE FROM events WHERE key >> 32 = 2", "gap", "session_b:1"),
    "the row is behind": (
        "UPDATE sessions SET sequence = 5 WHERE id = 'session_b'",
        "gap",
        "session_b:2-5",
    ),
    "an event is half": (
        "UPDATE events SET body = substr(body, 1, 99) WHERE " + EVENT_4,
        "event",
        "session_a:4",
    ),
    "an event is empty": ("UPDATE events SET body = '' WHERE " + EVENT_4, "event", "session_a:4"),
    "an event is of another session": (
        "UPDATE events SET body = replace(body, 'session_a', 'session_b') WHERE " + EVENT_4,
        "event",
        "session_a:4",
    ),
    "a letter is half": ("UPDATE letters SET body = substr(body, 1, 99)", "letter", "session_b:letter 1"),
    "a letter is for another session": (
        "UPDATE letters SET body = replace(body, 'session_b', 'session_a')",
        "letter",
        "session_b:letter 1",
    ),
    "a letter has a place in the log": (
        "UPDATE letters SET body = replace(body, '\"sequence\":0', '\"sequence\":7')",
        "letter",
        "session_b:letter 1",
    ),
    "a letter is for nobody": ("UPDATE letters SET session = 77", "letter", "letter 1"),
    "a blob changed": ("UPDATE blobs SET data = CAST('previous' AS BLOB)", "blob", "sha256:"),
    "a lease is of another boot": (
        "UPDATE sessions SET held_boot = 'before' WHERE id = 'session_b'",
        "lease",
        "session_b",
    ),
    "a snapshot is ahead": ("UPDATE snapshots SET sequence = 10", "snapshot", "session_a"),
    "a snapshot is nobody's": ("UPDATE snapshots SET number = 77", "snapshot", "number 77"),
}


@pytest.mark.parametrize("case", DAMAGES)
async def test_what_is_wrong_is_found_and_nothing_else(case: str, store: SQLiteStore) -> None:
    statement, kind, where = DAMAGES[case]
    damage(store, statement)
    (problem,) = await store.check()
    assert problem.kind == kind
    assert problem.where.startswith(where)
    assert problem.message


async def test_events_beyond_the_end_and_events_of_nobody_are_found(store: SQLiteStore) -> None:
    damage(store, "UPDATE sessions SET sequence = 6 WHERE id = 'session_a'", "DELETE FROM snapshots")
    assert await found(store) == [("event", "session_a:9")]
    damage(store, "DELETE FROM sessions WHERE id = 'session_a'")
    assert await found(store) == [("event", "number 1")]


async def test_an_event_that_was_moved_leaves_a_gap_and_is_not_where_it_belongs(store: SQLiteStore) -> None:
    damage(store, MOVE.format(12))
    assert await found(store) == [
        ("gap", "session_a:4"),
        ("gap", "session_a:10-11"),
        ("event", "session_a:12"),
        ("event", "session_a:12"),
    ]


async def test_a_damaged_page_is_told_and_the_rest_is_still_looked_at(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "log.db")
    await store.open()
    await store.append("session_a", said("session_a", 1, *["x" * 3_000] * 50), expected=0, epoch=1)
    await store.put_blob(b"precious")
    damage(store, "UPDATE blobs SET data = CAST('previous' AS BLOB)")
    await store.close()
    connection = sqlite3.connect(store.path)
    (root,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'events'").fetchone()
    connection.close()
    content = bytearray(Path(store.path).read_bytes())
    content[(root - 1) * 4096 : root * 4096] = os.urandom(4096)
    Path(store.path).write_bytes(content)
    await store.open()
    kinds = [kind for kind, _ in await found(store)]
    assert kinds.count("damage") >= 2
    assert kinds[-1] == "blob"
    await store.close()


async def test_rows_that_hold_what_no_row_may_hold_are_told(store: SQLiteStore) -> None:
    """As after a damage that leaves the page readable."""
    for table, column in (("events", "body"), ("sessions", "sequence")):
        without_rules(
            store, table, f"UPDATE {table} SET {column} = NULL WHERE rowid = (SELECT max(rowid) FROM {table})"
        )
    problems = await store.check()
    assert [problem.where for problem in problems if problem.kind == "event"] == ["session_b:1"]
    messages = [problem.message for problem in problems if problem.kind == "damage"]
    assert any("NULL value in events.body" in message for message in messages)
    assert any("NULL value in sessions.sequence" in message for message in messages)
    assert any("reading ends here" in message for message in messages)
    with pytest.raises(StoreCorrupt):
        await store.read("session_b")


def without_rules(store: SQLiteStore, table: str, statement: str) -> None:
    """Carry this out though the table does not allow it."""
    connection = sqlite3.connect(store.path)
    (rules,) = connection.execute("SELECT sql FROM sqlite_schema WHERE name = ?", (table,)).fetchone()
    for sql, then in ((rules.replace("NOT NULL", "").replace("STRICT", ""), statement), (rules, "SELECT 1")):
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_schema SET sql = ? WHERE name = ?", (sql, table))
        connection.execute("PRAGMA writable_schema = RESET")
        connection.commit()
        connection.execute(then)
        connection.commit()
    connection.close()


async def test_a_file_with_very_many_problems_ends_in_a_list_that_can_be_read(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_check, "MOST", 5)
    damage(store, "UPDATE events SET body = ''")
    assert len(await store.check()) == 5


async def test_a_viewer_may_check_too(store: SQLiteStore) -> None:
    damage(store, "DELETE FROM events WHERE " + EVENT_4)
    viewer = SQLiteStore(store.path, read_only=True)
    await viewer.open()
    assert await found(viewer) == [("gap", "session_a:4")]
    await viewer.close()
