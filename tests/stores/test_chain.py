"""The chain through a log: whatever was changed behind the store's back is noticed where it is read."""

import sqlite3
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path

import pytest

from holdfast.errors import SequenceConflict, StoreCorrupt
from holdfast.events import encode_event
from holdfast.stores.sqlite import SQLiteStore
from holdfast.testing.said import said
from tests.forged import rechain


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SQLiteStore]:
    """An open store with six events in `session_a`, in three appends, and two in `session_b`."""
    store = SQLiteStore(tmp_path / "log.db")
    await store.open()
    for expected in (0, 2, 4):
        events = said("session_a", expected + 1, f"{expected}", "x" * 300)
        await store.append("session_a", events, expected=expected, epoch=1)
    await store.append("session_b", said("session_b", 1, "0", "x" * 300), expected=0, epoch=1)
    yield store
    await store.close()


def change(store: SQLiteStore, statement: str) -> None:
    database = sqlite3.connect(store.path)
    with database:
        assert database.execute(statement).rowcount == 1
    database.close()


def event(number: int, name: str = "session_a") -> str:
    return f"key = (SELECT number << 32 | {number} FROM sessions WHERE id = '{name}')"


async def test_a_link_is_the_digest_of_the_link_before_and_the_bytes_that_are_kept(
    store: SQLiteStore,
) -> None:
    database = sqlite3.connect(store.path)
    kept = database.execute(
        "SELECT chain FROM log WHERE session_id = 'session_a' ORDER BY sequence"
    ).fetchall()
    database.close()
    before = sha256(b"session_a").digest()[:16]
    for written, (chain,) in zip(await store.read("session_a"), kept, strict=True):
        before = sha256(before + encode_event(written)).digest()[:16]
        assert chain == before.hex()


CHANGED = {
    "words": f"UPDATE events SET body = replace(body, 'xxx', 'yyy') WHERE {event(4)}",
    "how it is written": f"UPDATE events SET body = body || ' ' WHERE {event(4)}",
    "its link": f"UPDATE events SET chain = randomblob(16) WHERE {event(4)}",
    "its link, cut off": f"UPDATE events SET chain = substr(chain, 1, 15) WHERE {event(4)}",
    "no link": f"UPDATE events SET chain = x'' WHERE {event(4)}",
    "another event of its session": (
        f"UPDATE events SET body = replace(other.body, '\"sequence\":2', '\"sequence\":4') "
        f"FROM (SELECT body FROM events WHERE {event(2)}) AS other WHERE {event(4)}"
    ),
}


@pytest.mark.parametrize("case", CHANGED)
async def test_an_event_that_was_changed_is_refused_in_every_page_that_has_it(
    case: str, store: SQLiteStore
) -> None:
    change(store, CHANGED[case])
    for after, limit in ((0, 1_000), (0, 4), (1, 3), (3, 1), (3, 1_000)):
        with pytest.raises(StoreCorrupt, match=r"event 4 of session_a .* restore a backup"):
            await store.read("session_a", after=after, limit=limit)
    assert len(await store.read("session_a", limit=3)) == 3
    assert len(await store.read("session_a", after=5)) == 1
    assert len(await store.read("session_b")) == 2
    first, *_ = await store.check()
    assert (first.kind, first.where) == ("chain", "session_a:4")


async def test_an_event_with_its_link_does_not_fit_into_another_session(store: SQLiteStore) -> None:
    change(
        store,
        "UPDATE events SET body = other.body, chain = other.chain "
        f"FROM (SELECT body, chain FROM events WHERE {event(1)}) AS other WHERE {event(1, 'session_b')}",
    )
    with pytest.raises(StoreCorrupt, match="event 1 of session_b"):
        await store.read("session_b")


async def test_an_event_that_was_rewritten_with_its_link_is_noticed_at_the_next(store: SQLiteStore) -> None:
    database = sqlite3.connect(store.path)
    (before,) = database.execute(f"SELECT chain FROM events WHERE {event(3)}").fetchone()
    (body,) = database.execute(f"SELECT replace(body, 'xxx', 'yyy') FROM events WHERE {event(4)}").fetchone()
    forged = sha256(before + body.encode()).digest()[:16]
    with database:
        database.execute(f"UPDATE events SET body = ?, chain = ? WHERE {event(4)}", (body, forged))
    database.close()
    assert len(await store.read("session_a", limit=4)) == 4
    for after in (0, 3, 4):
        with pytest.raises(StoreCorrupt, match="event 5 of session_a"):
            await store.read("session_a", after=after)
    assert [(it.kind, it.where) for it in await store.check()] == [("chain", "session_a:5")]


async def test_who_rewrites_the_whole_chain_is_told_by_a_link_that_was_kept_elsewhere(
    store: SQLiteStore,
) -> None:
    def link() -> str:
        database = sqlite3.connect(store.path)
        (chain,) = database.execute(
            "SELECT chain FROM log WHERE session_id = 'session_a' AND sequence = 6"
        ).fetchone()
        database.close()
        return str(chain)

    kept = link()
    change(store, CHANGED["words"])
    rechain(store.path)
    assert len(await store.read("session_a")) == 6
    assert await store.check() == []
    assert link() != kept


async def test_nothing_is_appended_to_an_event_that_is_gone_and_others_are_served(store: SQLiteStore) -> None:
    change(store, f"DELETE FROM events WHERE {event(6)}")
    refused = store.append("session_a", said("session_a", 7, "no"), expected=6, epoch=1)
    other = store.append("session_b", said("session_b", 3, "yes"), expected=2, epoch=1)
    with pytest.raises(StoreCorrupt, match="event 6 of session_a is missing"):
        await refused
    await other
    with pytest.raises(SequenceConflict):
        await store.append("session_a", said("session_a", 6, "no"), expected=5, epoch=1)
    head = await store.head("session_a")
    assert head is not None
    assert head.sequence == 6
    assert len(await store.read("session_b")) == 3
