"""The writing thread: shared commits, and what locks, full and failing disks, kills and forks come to."""

import asyncio
import os
import resource
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw
import pytest

from holdfast.errors import (
    HoldfastError,
    OutcomeUnknown,
    SequenceConflict,
    StaleEpoch,
    StoreClosed,
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreLocked,
)
from holdfast.stores import sqlite_writer
from holdfast.stores.sqlite import SQLiteStore
from holdfast.stores.sqlite_file import SQLiteFile
from holdfast.stores.sqlite_writer import SQLiteWriter
from holdfast.testing.said import said, said_in
from tests.stores.disk import Disk, Step

HOLDER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SQLiteStore]:
    """An open store with one event in `session_a`."""
    store = SQLiteStore(tmp_path / "log.db", busy_timeout=0.2)
    await store.open()
    await store.append("session_a", said("session_a", 1, "1"), expected=0, epoch=1)
    yield store
    await store.close()


async def words(store: SQLiteStore, session_id: str = "session_a") -> list[str]:
    return [said_in(event) for event in await store.read(session_id)]


async def fill(store: SQLiteStore, kind: type[HoldfastError], text: str = "x" * 10_000) -> int:
    """Append until that is refused for this reason; how many events the session has then."""
    head = await store.head("session_a")
    sequence = head.sequence if head else 0
    for last in range(sequence, 10_000):
        try:
            await store.append("session_a", said("session_a", last + 1, text), expected=last, epoch=1)
        except kind:
            return last
    raise AssertionError(f"10,000 appends, and never a {kind.__name__}")


async def test_sessions_share_commits(tmp_path: Path) -> None:
    commits: list[int] = []

    def count(connection: apsw.Connection) -> None:
        connection.set_commit_hook(lambda: bool(commits.append(1)))

    apsw.connection_hooks.append(count)
    try:
        store = SQLiteStore(tmp_path / "log.db")
        await store.open()
    finally:
        apsw.connection_hooks.remove(count)
    commits.clear()
    names = [f"session_{n}" for n in range(400)]
    await asyncio.gather(*[store.append(name, said(name, 1, "hello"), expected=0, epoch=1) for name in names])
    assert 1 <= len(commits) <= 10
    assert len(await store.sessions(limit=1_000)) == 400
    await store.close()


async def test_refused_appends_fail_alone_and_the_rest_of_their_commit_goes_through(
    store: SQLiteStore,
) -> None:
    outcomes = await asyncio.gather(
        store.append("session_a", said("session_a", 2, "2"), expected=1, epoch=1),
        store.append("session_a", said("session_a", 2, "no"), expected=1, epoch=1),
        store.append("session_a", said("session_a", 3, "no"), expected=2, epoch=7),
        store.append("session_b", said("session_b", 1, "1"), expected=0, epoch=1),
        store.append("session_a", said("session_a", 3, "3"), expected=2, epoch=1),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes] == [
        type(None),
        SequenceConflict,
        StaleEpoch,
        type(None),
        type(None),
    ]
    assert await words(store) == ["1", "2", "3"]
    assert await words(store, "session_b") == ["1"]


async def test_a_refused_append_leaves_no_trace_on_the_disk(store: SQLiteStore) -> None:
    files = [Path(store.path), Path(store.path + "-wal")]
    before = [path.read_bytes() for path in files]
    with pytest.raises(SequenceConflict):
        await store.append("session_a", said("session_a", 5, "no"), expected=4, epoch=1)
    with pytest.raises(SequenceConflict):
        await store.append("session_b", said("session_b", 5, "no"), expected=4, epoch=1)
    assert [path.read_bytes() for path in files] == before


async def test_another_process_that_keeps_the_file_locked_ends_in_an_error_and_nothing_is_lost(
    store: SQLiteStore,
) -> None:
    hold = [sys.executable, "-c", HOLDER, store.path]
    holder = subprocess.Popen(hold, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"locked\n"
    late = store.append("session_a", said("session_a", 2, "no"), expected=1, epoch=1)
    assert await words(store) == ["1"], "reading does not wait for the lock"
    assert not late.done()
    with pytest.raises(StoreLocked, match=r"another process kept .*log\.db locked for 0\.2 s"):
        await late
    with pytest.raises(StoreLocked):
        await store.claim("session_a")
    holder.communicate(b"")
    await store.append("session_a", said("session_a", 2, "2"), expected=1, epoch=1)
    assert await words(store) == ["1", "2"]


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """The kernel refuses to let any file of this process grow beyond this."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_when_the_file_may_not_grow_nothing_is_half_written_and_it_goes_on_later(
    store: SQLiteStore,
) -> None:
    with largest_file(300_000):
        kept = await fill(store, StoreFull)
        assert kept > 2
        assert len(await store.read("session_a")) == kept
        with pytest.raises(StoreFull, match="nothing of this write was kept; free space"):
            await store.put_blob(b"x" * 300_000)
    await store.append("session_a", said("session_a", kept + 1, "more"), expected=kept, epoch=1)
    assert (await words(store))[-1] == "more"


async def test_a_full_disk_loses_nothing_and_takes_writes_again_when_there_is_room(tmp_path: Path) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(tmp_path)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a small disk to fill")
    try:
        ballast = tmp_path / "ballast"
        ballast.write_bytes(b"x" * 200_000)
        store = SQLiteStore(tmp_path / "log.db")
        await store.open()
        kept = await fill(store, StoreFull)
        assert len(await store.read("session_a")) == kept > 2
        ballast.unlink()
        assert await fill(store, StoreFull) > kept
        await store.close()
        await store.open()
        head = await store.head("session_a")
        assert head is not None
        assert len(await store.read("session_a")) == head.sequence
        await store.close()
        (tmp_path / "ballast").write_bytes(b"x" * ((os.statvfs(tmp_path).f_bavail - 1) * 4096))
        with pytest.raises(StoreFull):
            await SQLiteStore(tmp_path / "new.db").open()
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


FAILURES = {
    "the sync of a commit": (Step("sync", "log.db-wal"), apsw.SQLITE_IOERR_FSYNC, OutcomeUnknown),
    "the write of a commit": (Step("write", "log.db-wal"), apsw.SQLITE_IOERR_WRITE, OutcomeUnknown),
}


@pytest.mark.parametrize("case", FAILURES)
async def test_after_the_disk_failed_no_write_is_acknowledged_until_the_store_is_opened_again(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at, code, kind = FAILURES[case]
    disk = Disk(monkeypatch)
    store = SQLiteStore(tmp_path / "log.db", vfs=disk.name)
    await store.open()
    await store.append("session_a", said("session_a", 1, "1"), expected=0, epoch=1)
    disk.fail = lambda step: code if (step.what, step.file) == (at.what, at.file) else 0
    under_way = [
        store.append("session_a", said("session_a", 2, "in doubt"), expected=1, epoch=1),
        store.append("session_b", said("session_b", 1, "in doubt"), expected=0, epoch=1),
    ]
    outcomes = await asyncio.gather(*under_way, return_exceptions=True)
    assert isinstance(outcomes[0], kind)
    assert isinstance(outcomes[1], kind | StoreCorrupt)
    disk.fail = lambda step: 0
    for _ in range(3):
        with pytest.raises(StoreCorrupt, match="close the store and open it again"):
            await store.append("session_a", said("session_a", 2, "no"), expected=1, epoch=1)
    assert (await words(store))[:1] == ["1"], "reads are still served"
    await store.close()
    await store.open()
    found = await words(store)
    assert found in (["1"], ["1", "in doubt"])
    following = said("session_a", len(found) + 1, "after")
    await store.append("session_a", following, expected=len(found), epoch=1)
    assert await words(store) == [*found, "after"]
    await store.close()


async def test_a_checkpoint_that_cannot_be_synced_stops_acknowledging_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch)
    monkeypatch.setattr(sqlite_writer, "CHECKPOINT_PAGES", 10)
    store = SQLiteStore(tmp_path / "log.db", vfs=disk.name)
    await store.open()
    disk.fail = lambda step: apsw.SQLITE_IOERR_FSYNC if step == Step("sync", "log.db") else 0
    kept = await fill(store, StoreCorrupt)
    disk.fail = lambda step: 0
    await store.close()
    await store.open()
    assert len(await store.read("session_a")) == kept
    await store.close()


def test_a_killed_process_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    acknowledged: dict[str, int] = {}
    program = Path(__file__).with_name("writing_process.py")
    for n in range(20):
        with subprocess.Popen([sys.executable, str(program), str(path)], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            told = [writer.stdout.readline() for _ in range(1 + 7 * n % 40)]
            os.kill(writer.pid, signal.SIGKILL)
            told += writer.stdout.readlines()
        assert writer.returncode == -signal.SIGKILL
        for session_id, sequence in (line.decode().split() for line in told if line.endswith(b"\n")):
            acknowledged[session_id] = int(sequence)
        asyncio.run(everything_is_there(path, acknowledged))
    assert max(acknowledged.values()) > 60


async def everything_is_there(path: Path, acknowledged: dict[str, int]) -> None:
    store = SQLiteStore(path)
    await store.open()
    for session_id, sequence in acknowledged.items():
        events = await store.read(session_id, limit=1_000_000)
        assert len(events) >= sequence
        assert len(events) % 3 == 0, "an append is there as a whole or not at all"
        assert [said_in(event) for event in events] == [f"{session_id} {n + 1}" for n in range(len(events))]
    await store.close()


async def test_closing_leaves_no_thread(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    store = SQLiteStore(tmp_path / "log.db")
    await store.open()
    assert len(set(threading.enumerate()) - before) == 2
    under_way = store.append("session_a", said("session_a", 1, "1"), expected=0, epoch=1)
    await store.close()
    assert under_way.done()
    assert set(threading.enumerate()) == before


async def test_a_blob_that_is_still_being_hashed_when_the_store_closes_is_refused(store: SQLiteStore) -> None:
    putting = asyncio.ensure_future(store.put_blob(b"x" * 5_000_000))
    await asyncio.sleep(0)
    await store.close()
    with pytest.raises(StoreClosed):
        await putting


async def test_a_cancelled_close_still_closes(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    store = SQLiteStore(tmp_path / "log.db")
    await store.open()
    under_way = [
        store.append("session_a", said("session_a", n + 1, "x"), expected=n, epoch=1) for n in range(20)
    ]
    closing = asyncio.ensure_future(store.close())
    await asyncio.sleep(0)
    closing.cancel()
    assert await asyncio.gather(*under_way) == [None] * 20
    for _ in range(3_000):
        if set(threading.enumerate()) == before:
            break
        await asyncio.sleep(0.01)
    assert set(threading.enumerate()) == before
    assert not Path(store.path + "-wal").exists()


async def test_a_cancelled_open_leaves_nothing_behind(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    store = SQLiteStore(tmp_path / "log.db")
    opening = asyncio.ensure_future(store.open())
    await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    with pytest.raises(StoreError, match="closed"):
        await store.head("session_a")
    await store.open()
    await store.append("session_a", said("session_a", 1, "1"), expected=0, epoch=1)
    await store.close()
    assert len(set(threading.enumerate()) - before) <= 1


async def test_a_fork_may_not_use_the_store_of_its_parent(store: SQLiteStore) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads: the misuse this is about
        child = os.fork()
    if child == 0:
        try:
            os._exit(0 if await forked(store) else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    await store.append("session_a", said("session_a", 2, "2"), expected=1, epoch=1)
    assert await words(store) == ["1", "2"]


async def forked(store: SQLiteStore) -> bool:
    """Whether every use is refused, in words that name the fork."""
    reasons = []
    try:
        store.append("session_a", said("session_a", 2, "no"), expected=1, epoch=1)
    except StoreClosed as error:
        reasons.append(str(error))
    for ask in (store.head("session_a"), store.claim("session_a"), store.put_blob(b"x"), store.woken(60)):
        try:
            await ask
        except StoreClosed as error:
            reasons.append(str(error))
    await store.close()
    return len(reasons) == 5 and all("fork" in reason for reason in reasons)


async def test_work_that_breaks_undoes_its_transaction_and_the_thread_goes_on(tmp_path: Path) -> None:
    file = SQLiteFile(tmp_path / "log.db", 1.0, None)
    writer = SQLiteWriter(file, file.open_for_writing(), asyncio.get_running_loop(), lambda: None)

    def breaks(cursor: apsw.Cursor) -> None:
        cursor.execute("INSERT INTO blobs VALUES ('half', x'00')")
        raise ZeroDivisionError

    with pytest.raises(StoreError, match="ZeroDivisionError"):
        await writer.submit(breaks)
    assert await writer.submit(lambda cursor: cursor.execute("SELECT count(*) FROM blobs").get) == 0
    writer.finish()


async def test_commits_do_not_make_the_wal_longer_before_there_is_a_checkpoint(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "log.db")
    await store.open()
    lengths = set()
    for n in range(20):
        await store.append("session_a", said("session_a", n + 1, "x" * 20_000), expected=n, epoch=1)
        lengths.add((tmp_path / "log.db-wal").stat().st_size)
    assert len(lengths) == 1
    assert lengths.pop() >= sqlite_writer.CHECKPOINT_PAGES * 4_096
    await store.close()
    assert [file.name for file in tmp_path.iterdir()] == ["log.db"], "closing leaves one file"
