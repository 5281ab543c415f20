"""A copy of a SQLite store's file, made while it is in use."""

import asyncio
import resource
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from holdfast.errors import StoreClosed, StoreError, StoreFull, UsageError
from holdfast.store import Snapshot
from holdfast.stores import sqlite_file
from holdfast.stores.sqlite import SQLiteStore
from holdfast.testing.said import said, said_in, texts
from tests.stores.disk import Disk, Step

SESSIONS = ("session_a", "session_b", "session_c")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SQLiteStore]:
    """An open store with one event, one blob and one snapshot."""
    store = SQLiteStore(tmp_path / "log.db")
    await store.open()
    await store.append("session_x", said("session_x", 1, "one"), expected=0, epoch=1)
    await store.put_blob(b"x" * 3_000_000)
    await store.save_snapshot("session_x", Snapshot(sequence=1, version=1, body=b"folded"))
    yield store
    await store.close()


async def test_a_copy_made_while_others_write_has_all_that_was_acknowledged_and_nothing_half(
    store: SQLiteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_file, "COPIED_PAGES", 20)
    other = SQLiteStore(store.path)
    await other.open()
    acknowledged = dict.fromkeys(SESSIONS, 0)

    async def write(writer: SQLiteStore, session_id: str) -> None:
        while True:
            last = acknowledged[session_id]
            words = [f"{last + n} " + "x" * 500 for n in (1, 2, 3)]
            await writer.append(session_id, said(session_id, last + 1, *words), expected=last, epoch=1)
            acknowledged[session_id] += 3

    writers = (store, other, store)
    writing = [asyncio.ensure_future(write(*pair)) for pair in zip(writers, SESSIONS, strict=True)]
    copies = []
    for n in range(8):
        before = dict(acknowledged)
        await store.backup(tmp_path / f"copy {n}.db")
        copies.append((tmp_path / f"copy {n}.db", before, dict(acknowledged)))
    for task in writing:
        task.cancel()
    await asyncio.gather(*writing, return_exceptions=True)
    await other.close()
    assert sum(after[name] - before[name] for _, before, after in copies for name in SESSIONS) > 30
    for path, before, after in copies:
        await holds(path, before, after)


async def holds(path: Path, before: dict[str, int], after: dict[str, int]) -> None:
    """The copy is sound, and of one moment in between."""
    copy = SQLiteStore(path)
    await copy.open()
    assert await copy.check() == []
    for name in SESSIONS:
        events = await copy.read(name, limit=100_000)
        assert before[name] <= len(events) <= after[name] + 3
        assert len(events) % 3 == 0
        assert [said_in(event).split()[0] for event in events] == [f"{n + 1}" for n in range(len(events))]
    assert await texts(copy, "session_x") == ["one"]
    snapshot = await copy.load_snapshot("session_x")
    assert snapshot is not None
    assert snapshot.body == b"folded"
    await copy.append("session_x", said("session_x", 2, "two"), expected=1, epoch=1)
    await copy.close()


async def test_a_copy_and_its_name_are_synced_before_it_is_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch)
    store = SQLiteStore(tmp_path / "log.db", vfs=disk.name)
    await store.open()
    await store.append("session_x", said("session_x", 1, "one"), expected=0, epoch=1)
    disk.steps.clear()
    await store.backup(tmp_path / "copy.db")
    opened, *steps = [step for step in disk.steps if step.file == "." or step.file.startswith(".copy.db.")]
    assert opened == Step("open", opened.file)
    assert steps[-2:] == [Step("sync", opened.file), Step("sync", ".")]
    assert {step.what for step in steps[:-2]} == {"write"}
    await store.close()


async def test_a_copy_is_one_file_for_its_owner_only(store: SQLiteStore, tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()
    await store.backup(folder / "copy.db")
    assert [path.name for path in folder.iterdir()] == ["copy.db"]
    assert stat.S_IMODE((folder / "copy.db").stat().st_mode) == 0o600


async def test_a_viewer_may_copy_too(store: SQLiteStore, tmp_path: Path) -> None:
    viewer = SQLiteStore(store.path, read_only=True)
    await viewer.open()
    await viewer.backup(tmp_path / "copy.db")
    await viewer.close()
    copy = SQLiteStore(tmp_path / "copy.db", read_only=True)
    await copy.open()
    assert await texts(copy, "session_x") == ["one"]
    await copy.close()


async def test_a_copy_never_takes_the_place_of_anything(store: SQLiteStore, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "folder").mkdir()
    for place in (tmp_path / "precious", tmp_path / "folder", Path(store.path)):
        with pytest.raises(UsageError, match="choose another path for the copy"):
            await store.backup(place)
    assert (tmp_path / "precious").read_text() == "precious"
    assert await store.check() == []


async def test_a_copy_into_a_directory_that_does_not_exist_is_refused(
    store: SQLiteStore, tmp_path: Path
) -> None:
    with pytest.raises(StoreError, match="No such file or directory"):
        await store.backup(tmp_path / "no" / "copy.db")


async def test_a_copy_that_finds_no_room_leaves_nothing_and_the_store_goes_on(
    store: SQLiteStore, tmp_path: Path
) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        with pytest.raises(StoreFull, match=r"no room to write .*copy\.db"):
            await store.backup(folder / "copy.db")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(folder.iterdir()) == []
    await store.append("session_x", said("session_x", 2, "two"), expected=1, epoch=1)


async def test_a_copy_that_is_cancelled_leaves_nothing(
    store: SQLiteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_file, "COPIED_PAGES", 1)
    folder = tmp_path / "backups"
    folder.mkdir()
    copying = asyncio.ensure_future(store.backup(folder / "copy.db"))
    for _ in range(10_000):
        if list(folder.iterdir()):
            break
        await asyncio.sleep(0)
    copying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await copying
    for _ in range(1_000):
        if not list(folder.iterdir()):
            break
        await asyncio.sleep(0.01)
    assert list(folder.iterdir()) == []


async def test_a_closed_store_is_not_copied(store: SQLiteStore, tmp_path: Path) -> None:
    await store.close()
    with pytest.raises(StoreClosed):
        await store.backup(tmp_path / "copy.db")
    with pytest.raises(StoreClosed):
        await store.check()
