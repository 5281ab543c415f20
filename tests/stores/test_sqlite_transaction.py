"""A tool's transaction on a SQLite store: it has the writer to itself, and appends keep their order around it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import apsw
import pytest

from holdfast.errors import StaleEpoch, StoreCorrupt, StoreError, StoreLocked, TransactionLost, UsageError
from holdfast.stores import sqlite_transaction
from holdfast.stores.sqlite import SQLiteStore
from holdfast.testing.said import said
from holdfast.testing.store_contract import texts
from tests.bank import FileBank, balances, open_accounts
from tests.stores.disk import Disk, Step

TAKE = "UPDATE accounts SET cents = cents - ? WHERE name = ?"


@pytest.fixture
async def bank(tmp_path: Path) -> AsyncIterator[FileBank]:
    """Its store is open and has one event in `session_a`."""
    bank = FileBank(tmp_path / "bank.db")
    await bank.store.open()
    await open_accounts(bank)
    await bank.store.append("session_a", said("session_a", 1, "one"), expected=0, epoch=1)
    yield bank
    await bank.store.close()


async def test_appends_keep_their_order_before_and_after_the_one_that_ends_it(bank: FileBank) -> None:
    store, name = bank.store, "session_a"
    transaction = store.transaction()
    await transaction.execute(TAKE, 30, "ana")
    before = store.append(name, said(name, 2, "two"), expected=1, epoch=1)
    other = store.append("session_b", said("session_b", 1, "b"), expected=0, epoch=1)
    assert await transaction.seal()
    ended = transaction.append(name, said(name, 3, "three"), expected=2, epoch=1)
    after = store.append(name, said(name, 4, "four"), expected=3, epoch=1)
    await asyncio.gather(before, other, ended, after)
    assert await texts(store, name) == ["one", "two", "three", "four"]
    assert await balances(bank) == {"ana": 70, "ben": 0}


async def test_a_refused_append_undoes_it_and_what_others_submitted_meanwhile_stays(bank: FileBank) -> None:
    store, name = bank.store, "session_a"
    await store.claim(name)
    transaction = store.transaction()
    await transaction.execute(TAKE, 30, "ana")
    before = store.append(name, said(name, 2, "two"), expected=1, epoch=2)
    refused = store.append("session_b", said("session_b", 3, "b"), expected=2, epoch=1)
    assert await transaction.seal()
    ended = transaction.append(name, said(name, 3, "three"), expected=2, epoch=1)
    with pytest.raises(StaleEpoch):
        await ended
    await before
    assert isinstance((await asyncio.gather(refused, return_exceptions=True))[0], Exception)
    assert await texts(store, name) == ["one", "two"]
    assert await balances(bank) == {"ana": 100, "ben": 0}


async def test_transactions_take_turns(bank: FileBank) -> None:
    async def take(number: int) -> None:
        name = f"session_{number}"
        await bank.store.append(name, said(name, 1, "one"), expected=0, epoch=1)
        transaction = bank.store.transaction()
        await transaction.execute(TAKE, 1, "ana")
        await asyncio.sleep(0.01)
        assert await transaction.seal()
        await transaction.append(name, said(name, 2, "two"), expected=1, epoch=1)

    async with asyncio.timeout(60):
        await asyncio.gather(*[take(number) for number in range(20)])
    assert await balances(bank) == {"ana": 80, "ben": 0}


async def test_one_that_is_rolled_back_before_its_turn_never_begins(bank: FileBank) -> None:
    first, second = bank.store.transaction(), bank.store.transaction()
    await first.execute(TAKE, 1, "ana")
    waiting = asyncio.create_task(second.execute(TAKE, 2, "ana"))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    with pytest.raises(TransactionLost):
        await second.execute(TAKE, 2, "ana")
    assert await first.seal()
    await first.append("session_a", said("session_a", 2, "two"), expected=1, epoch=1)
    assert await balances(bank) == {"ana": 99, "ben": 0}


async def test_a_blob_that_was_put_meanwhile_is_kept_even_if_the_rest_is_undone(bank: FileBank) -> None:
    transaction = bank.store.transaction()
    await transaction.execute(TAKE, 1, "ana")
    digest = await bank.store.put_blob(b"precious")
    assert await bank.store.get_blob(digest) == b"precious"
    await transaction.roll_back()
    await bank.store.append("session_a", said("session_a", 2, "two"), expected=1, epoch=1)
    assert await bank.store.get_blob(digest) == b"precious"
    assert await balances(bank) == {"ana": 100, "ben": 0}


@pytest.mark.parametrize(
    "statement", ["COMMIT", "SELECT 1; COMMIT", "PRAGMA synchronous = OFF", "ATTACH ':memory:' AS x"]
)
async def test_what_would_end_it_or_weaken_the_file_is_refused(bank: FileBank, statement: str) -> None:
    transaction = bank.store.transaction()
    await transaction.execute(TAKE, 1, "ana")
    with pytest.raises(UsageError):
        await transaction.execute(statement)
    await transaction.roll_back()
    await bank.store.append("session_a", said("session_a", 2, "two"), expected=1, epoch=1)
    assert await balances(bank) == {"ana": 100, "ben": 0}


async def test_a_statement_that_fails_leaves_the_rest_alone(bank: FileBank) -> None:
    transaction = bank.store.transaction()
    with pytest.raises(apsw.SQLError):
        await transaction.execute("SELECT nothing FROM nowhere")
    with pytest.raises(apsw.ConstraintError):
        await transaction.execute(TAKE, 1_000, "ana")
    await transaction.execute(TAKE, 1, "ana")
    assert await transaction.seal()
    await transaction.append("session_a", said("session_a", 2, "two"), expected=1, epoch=1)
    assert await balances(bank) == {"ana": 99, "ben": 0}


async def test_a_statement_that_sqlite_undoes_everything_for_is_the_end_of_it(bank: FileBank) -> None:
    transaction = bank.store.transaction()
    await transaction.execute(TAKE, 1, "ana")
    with pytest.raises(apsw.ConstraintError):
        await transaction.execute("INSERT OR ROLLBACK INTO accounts VALUES ('ana', 1)")
    with pytest.raises(TransactionLost, match="SQLite rolled the transaction back"):
        await transaction.execute(TAKE, 1, "ana")
    await bank.store.append("session_a", said("session_a", 2, "two"), expected=1, epoch=1)
    assert await balances(bank) == {"ana": 100, "ben": 0}


async def test_another_process_that_keeps_the_file_locked_is_told_to_the_tool(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "log.db", busy_timeout=0.1)
    await store.open()
    other = apsw.Connection(str(tmp_path / "log.db"))
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreLocked):
        await store.transaction().execute("SELECT 1")
    other.execute("ROLLBACK")
    other.close()
    await store.append("session_a", said("session_a", 1, "one"), expected=0, epoch=1)
    await store.close()


async def test_closing_undoes_one_that_is_open(
    tmp_path: Path, bank: FileBank, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_transaction, "IDLE", 0.2)
    transaction = bank.store.transaction()
    await transaction.execute(TAKE, 1, "ana")
    await bank.store.close()
    with pytest.raises(TransactionLost):
        await transaction.seal()
    assert await balances(bank) == {"ana": 100, "ben": 0}


async def test_after_the_disk_failed_under_a_statement_no_write_is_taken_until_the_store_is_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch)
    store = SQLiteStore(tmp_path / "log.db", vfs=disk.name)
    await store.open()
    await store.append("session_a", said("session_a", 1, "one"), expected=0, epoch=1)
    transaction = store.transaction()
    await transaction.execute("CREATE TABLE much (body)")
    disk.fail = lambda step: apsw.SQLITE_IOERR_WRITE if step.what == "write" else 0
    with pytest.raises(apsw.IOError):
        await transaction.execute("INSERT INTO much VALUES (randomblob(3000000))")
    disk.fail = lambda step: 0
    with pytest.raises(StoreCorrupt, match="takes no more writes"):
        await store.append("session_a", said("session_a", 2, "two"), expected=1, epoch=1)
    await store.close()
    await store.open()
    await store.append("session_a", said("session_a", 2, "two"), expected=1, epoch=1)
    assert await texts(store, "session_a") == ["one", "two"]
    await store.close()


@pytest.mark.parametrize("what", ["write", "sync"])
async def test_a_disk_that_fails_anywhere_leaves_both_or_neither(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number, fired = 0, True
    while fired:
        number += 1 + number // 4  # a transaction has hundreds of writes
        bank = FileBank(tmp_path / f"{number}.db")
        disk = Disk(monkeypatch)
        bank.store = SQLiteStore(bank.path, vfs=disk.name)
        await bank.store.open()
        await open_accounts(bank)
        await bank.store.append("session_a", said("session_a", 1, "one"), expected=0, epoch=1)
        seen: list[Step] = []

        def fails(step: Step, seen: list[Step] = seen, number: int = number) -> int:
            if step.what == what:
                seen.append(step)
            code = apsw.SQLITE_IOERR_FSYNC if what == "sync" else apsw.SQLITE_IOERR_WRITE
            return code if step.what == what and len(seen) >= number else 0

        disk.fail = fails
        outcome = (await asyncio.gather(one_transaction(bank), return_exceptions=True))[0]
        assert outcome is None or isinstance(outcome, StoreError | apsw.Error)
        fired = len(seen) >= number
        assert (outcome is None) is not fired
        disk.fail = lambda step: 0
        await bank.store.close()
        again = bank.another()
        await again.open()
        found = await texts(again, "session_a")
        await again.close()
        assert (found, (await balances(bank))["ana"]) in ((["one"], 100), (["one", "two"], 99))
        assert outcome is not None or found == ["one", "two"]
    assert number > 1, "nothing failed"


async def one_transaction(bank: FileBank) -> None:
    """Take one cent from Ana, and write a blob that does not fit into the cache of pages."""
    transaction = bank.store.transaction()
    await transaction.execute(TAKE, 1, "ana")
    await bank.store.put_blob(b"x" * 3_000_000)
    assert await transaction.seal()
    await transaction.append("session_a", said("session_a", 2, "two"), expected=1, epoch=1)
