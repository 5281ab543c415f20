"""A SQLite store's file: how it is made, what is refused, who may see it."""

import asyncio
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from holdfast.errors import ForeignFile, StoreCorrupt, StoreError, StoreLocked, StoreReadOnly, StoreTooNew
from holdfast.stores import sqlite_file
from holdfast.stores.sqlite import SQLiteStore
from holdfast.stores.sqlite_file import APPLICATION_ID, migrations, queries
from holdfast.testing.letter_contract import letter
from holdfast.testing.said import said
from tests.stores.disk import Disk, Step

NOBODY = 65534


async def opened(path: Path, **options: object) -> SQLiteStore:
    store = SQLiteStore(path, **options)  # type: ignore[arg-type]
    await store.open()
    return store


async def made(path: Path) -> None:
    """A closed database with one event."""
    store = await opened(path)
    await store.append("session_a", said("session_a", 1, "one"), expected=0, epoch=1)
    await store.close()


async def refused(path: Path, kind: type[StoreError], words: str, **options: object) -> None:
    before = set(threading.enumerate())
    with pytest.raises(StoreError, match=words) as refusal:
        await opened(path, **options)
    assert refusal.type is kind
    assert str(path) in str(refusal.value)
    assert set(threading.enumerate()) == before


@pytest.fixture
def plain_user() -> Iterator[Path]:
    """A directory of an ordinary user, whom the test runs as; root is stopped by no permission."""
    if os.geteuid() != 0:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
        return
    folder = tempfile.mkdtemp()
    try:
        os.chown(folder, NOBODY, NOBODY)
        os.setegid(NOBODY)
        os.seteuid(NOBODY)
        yield Path(folder)
    finally:
        os.seteuid(0)
        os.setegid(0)
        shutil.rmtree(folder)


async def test_a_new_database_and_its_companions_are_for_their_owner_only(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        store = await opened(tmp_path / "log.db")
        await store.append("session_a", said("session_a", 1, "secret"), expected=0, epoch=1)
    finally:
        os.umask(mask)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"log.db": 0o600, "log.db-wal": 0o600, "log.db-shm": 0o600}
    await store.close()


async def test_an_empty_file_becomes_a_database_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    path.touch(0o644)
    await made(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_closing_leaves_one_file_with_everything_in_it(tmp_path: Path) -> None:
    await made(tmp_path / "log.db")
    assert [path.name for path in tmp_path.iterdir()] == ["log.db"]
    connection = sqlite3.connect(tmp_path / "log.db")
    assert connection.execute("SELECT session_id, sequence, type FROM log").fetchall() == [
        ("session_a", 1, "input.message")
    ]
    connection.close()


async def test_the_directory_is_synced_after_the_switch_to_wal_and_before_anybody_may_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch)
    store = await opened(tmp_path / "log.db", vfs=disk.name)
    disk.note(Step("ack", "open"))
    await store.close()
    made = disk.steps.index(Step("open", "log.db"))
    old_journal_gone = disk.steps.index(Step("delete", "log.db-journal"))
    wal = disk.steps.index(Step("open", "log.db-wal"))
    directory_synced = disk.steps.index(Step("sync", "."))
    ready = disk.steps.index(Step("ack", "open"))
    assert made < old_journal_gone < wal < directory_synced < ready
    assert disk.steps[directory_synced - 1] == Step("sync", "log.db-wal")


async def test_the_directory_is_synced_again_for_the_companions_of_an_old_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await made(tmp_path / "log.db")
    disk = Disk(monkeypatch)
    store = await opened(tmp_path / "log.db", vfs=disk.name)
    assert disk.steps.index(Step("open", "log.db-wal")) < disk.steps.index(Step("sync", "."))
    await store.close()


async def test_a_directory_that_cannot_be_synced_is_not_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fails)
    await refused(tmp_path / "log.db", StoreCorrupt, "the disk under .* failed")


async def test_what_is_not_our_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    foreign = sqlite3.connect(tmp_path / "foreign.db")
    foreign.execute("CREATE TABLE theirs (a)")
    foreign.close()
    (tmp_path / "text").write_text("hello")
    (tmp_path / "long").write_text("hello" * 5_000)
    (tmp_path / "header").write_bytes(b"SQLite format 3\x00")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for path in before:
        await refused(path, ForeignFile, "choose another path")
        await refused(path, ForeignFile, "choose another path", read_only=True)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


async def test_what_is_not_a_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "pipe", tmp_path / "folder", Path("/dev/null")):
        await refused(path, ForeignFile, "not a regular file")


async def test_a_directory_that_does_not_exist_is_named(tmp_path: Path) -> None:
    await refused(tmp_path / "no" / "log.db", StoreError, "no does not exist; make the directory first")


async def test_a_database_from_the_future_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    await made(path)
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {len(migrations()) + 1}")
    connection.close()
    before = path.read_bytes()
    await refused(path, StoreTooNew, "upgrade holdfast")
    await refused(path, StoreTooNew, "upgrade holdfast", read_only=True)
    assert path.read_bytes() == before


async def test_a_damaged_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    await made(path)
    content = bytearray(path.read_bytes())
    content[100:4096] = os.urandom(3996)
    path.write_bytes(content)
    await refused(path, StoreCorrupt, "restore it from a backup")


async def test_a_file_we_may_not_write_can_only_be_looked_at(plain_user: Path) -> None:
    path = plain_user / "log.db"
    await made(path)
    path.chmod(0o400)
    await refused(path, StoreReadOnly, "read_only=True")
    await can_be_looked_at(path)


async def test_a_directory_we_may_not_write_can_only_be_looked_at(plain_user: Path) -> None:
    path = plain_user / "log.db"
    await made(path)
    plain_user.chmod(0o500)
    try:
        await refused(plain_user / "new.db", StoreReadOnly, "read_only=True")
        await refused(path, StoreReadOnly, "read_only=True")
        await can_be_looked_at(path)
    finally:
        plain_user.chmod(0o700)


async def test_a_file_we_may_not_read_is_refused(plain_user: Path) -> None:
    path = plain_user / "log.db"
    await made(path)
    path.chmod(0)
    await refused(path, StoreReadOnly, "make the file and its directory writable")
    await refused(path, StoreError, "cannot be read", read_only=True)


async def can_be_looked_at(path: Path) -> None:
    viewer = await opened(path, read_only=True)
    assert len(await viewer.read("session_a")) == 1
    with pytest.raises(StoreReadOnly, match="without read_only"):
        viewer.append("session_a", said("session_a", 2, "no"), expected=1, epoch=1)
    with pytest.raises(StoreReadOnly):
        await viewer.claim("session_a")
    with pytest.raises(StoreReadOnly):
        await viewer.put_blob(b"no")
    with pytest.raises(StoreReadOnly):
        await viewer.post("session_a", letter("session_a", "no"))
    with pytest.raises(StoreReadOnly):
        await viewer.discard("session_a", [1], epoch=1)
    assert await viewer.letters("session_a") == []
    await viewer.close()


async def test_a_viewer_sees_what_the_writer_adds(tmp_path: Path) -> None:
    store = await opened(tmp_path / "log.db")
    viewer = await opened(tmp_path / "log.db", read_only=True)
    assert await viewer.sessions() == []
    await store.append("session_a", said("session_a", 1, "one"), expected=0, epoch=1)
    assert await viewer.read("session_a") == await store.read("session_a")
    await store.close()
    assert len(await viewer.read("session_a")) == 1
    await viewer.close()


async def test_a_viewer_makes_no_database(tmp_path: Path) -> None:
    await refused(tmp_path / "log.db", StoreError, "there is no database", read_only=True)
    (tmp_path / "empty.db").touch()
    await refused(tmp_path / "empty.db", StoreReadOnly, "not up to date", read_only=True)
    assert [path.name for path in tmp_path.iterdir()] == ["empty.db"]
    assert (tmp_path / "empty.db").stat().st_size == 0


async def test_opening_a_locked_database_ends_after_the_timeout(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    holder = apsw.Connection(str(path))
    holder.execute("BEGIN EXCLUSIVE")
    await refused(path, StoreLocked, r"locked for 0\.1 s", busy_timeout=0.1)
    holder.close(force=True)
    await made(path)


async def test_several_stores_may_create_and_use_one_file_at_once(tmp_path: Path) -> None:
    stores = await asyncio.gather(*[opened(tmp_path / "log.db") for _ in range(4)])

    async def write(store: SQLiteStore, name: str) -> None:
        for n in range(20):
            await store.append(name, said(name, n + 1, "hello"), expected=n, epoch=1)

    await asyncio.gather(*[write(store, f"session_{n}") for n, store in enumerate(stores)])
    for store in stores:
        assert sorted((head.session_id, head.sequence) for head in await store.sessions()) == [
            (f"session_{n}", 20) for n in range(4)
        ]
        await store.close()


def test_several_processes_may_create_one_file_at_once(tmp_path: Path) -> None:
    script = """
import asyncio, sys
from holdfast.stores import sqlite_file
from holdfast.stores.sqlite import SQLiteStore
asyncio.run(SQLiteStore(sys.argv[1]).open())
"""
    create = [sys.executable, "-c", script, str(tmp_path / "log.db")]
    started = [subprocess.Popen(create, stderr=subprocess.PIPE) for _ in range(4)]
    assert [process.communicate(timeout=60)[1].decode() for process in started] == [""] * 4


async def test_an_unsound_sqlite_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apsw, "sqlite_lib_version", lambda: "3.51.2")
    with pytest.raises(StoreError, match="install an apsw wheel"):
        await opened(tmp_path / "log.db")


async def test_a_place_without_wal_is_refused(tmp_path: Path) -> None:
    class NoSharedMemory(apsw.VFS):
        def __init__(self) -> None:
            super().__init__("no-shm", "unix-dotfile")  # as on a network file system

    vfs = NoSharedMemory()
    await refused(tmp_path / "log.db", StoreError, "keep it on a local disk", vfs="no-shm")
    vfs.unregister()


async def test_a_foreign_setting_cannot_make_commits_less_durable(tmp_path: Path) -> None:
    """`apsw.connection_hooks` run on every connection in the process, ours too."""
    found: list[apsw.Connection] = []

    def careless(connection: apsw.Connection) -> None:
        connection.pragma("synchronous", "off")
        found.append(connection)

    apsw.connection_hooks.append(careless)
    try:
        store = await opened(tmp_path / "log.db")
        writing = next(connection for connection in found if not connection.readonly("main"))
        assert writing.pragma("synchronous") == 2
        assert writing.pragma("journal_mode") == "wal"
        await store.close()
    finally:
        apsw.connection_hooks.remove(careless)


async def test_a_migration_that_is_cut_off_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log.db"
    await made(path)
    later = (*migrations(), "CREATE TABLE more (a); INSERT INTO nowhere VALUES (1);")
    monkeypatch.setattr("holdfast.stores.sqlite_file.migrations", lambda: later)
    await refused(path, StoreError, "no such table: nowhere")
    monkeypatch.setattr(
        "holdfast.stores.sqlite_file.migrations", lambda: (*migrations(), "CREATE TABLE more (a);")
    )
    await refused(path, StoreReadOnly, "not up to date", read_only=True)
    await made_again(path)
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA user_version").fetchone() == (len(migrations()) + 1,)
    assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    connection.execute("SELECT a FROM more")
    connection.close()


async def test_a_file_from_before_there_were_letters_is_brought_up_to_date_and_keeps_its_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, now = tmp_path / "log.db", migrations()
    with monkeypatch.context() as before:
        before.setattr("holdfast.stores.sqlite_file.migrations", lambda: now[:1])
        await made(path)
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT name FROM sqlite_schema WHERE name = 'letters'").fetchall() == []
    connection.close()
    await refused(path, StoreReadOnly, "not up to date", read_only=True)
    store = await opened(path)
    assert len(await store.read("session_a")) == 1
    await store.post("session_a", letter("session_a", "hello"))
    assert len(await store.letters("session_a")) == 1
    assert await store.check() == []
    await store.close()


async def made_again(path: Path) -> None:
    store = await opened(path)
    await store.append("session_a", said("session_a", 2, "two"), expected=1, epoch=1)
    assert len(await store.read("session_a")) == 2
    await store.close()


def test_migrations_are_numbered_without_gaps_and_no_query_is_empty() -> None:
    folder = Path(sqlite_file.__file__).parent / "schema" / "sqlite"
    numbers = [int(path.name.partition("_")[0]) for path in sorted(folder.iterdir())]
    assert numbers == list(range(1, len(migrations()) + 1))
    assert all(query.strip() for query in queries())
