"""What becomes of a tool's transaction when the way to the server breaks: both or neither, and nothing is guessed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from holdfast.errors import OutcomeUnknown, SequenceConflict, StaleEpoch, TransactionLost
from holdfast.stores.postgres import PostgresStore
from holdfast.stores.postgres_transaction import PostgresTransaction
from holdfast.testing.said import said
from holdfast.testing.store_contract import texts
from tests.bank import ServerBank, balances, open_accounts
from tests.stores.postgres.pooler import pooler_for
from tests.stores.postgres.wire import Wire, wire_to

TAKE = "UPDATE accounts SET cents = cents - ? WHERE name = ?"


@pytest.fixture
def bank(postgres_url: str, schema: str) -> ServerBank:
    return ServerBank(postgres_url, schema)


@asynccontextmanager
async def transaction_over_a_wire(
    bank: ServerBank, *, patience: float = 10.0
) -> AsyncIterator[tuple[Wire, PostgresStore, PostgresTransaction]]:
    """One that took 30 from Ana, on a store with one event in `session_a`, and that is sealed."""
    async with wire_to(bank.url) as (wire, url):
        store = PostgresStore(url, schema=bank.schema, patience=patience)
        await store.open()
        await open_accounts(bank)
        await store.append("session_a", said("session_a", 1, "one"), expected=0, epoch=1)
        transaction = store.transaction()
        await transaction.execute(bank.sql(TAKE), 30, "ana")
        yield wire, store, transaction
        await store.close()


async def log(bank: ServerBank) -> list[str]:
    """What stands in the session, as somebody else reads it."""
    await bank.store.open()
    found = await texts(bank.store, "session_a")
    await bank.store.close()
    return found


async def test_a_commit_whose_answer_was_lost_is_found_to_have_happened(bank: ServerBank) -> None:
    async with transaction_over_a_wire(bank) as (wire, store, transaction):
        assert await transaction.seal()
        wire.lose_next("answer", b"COMMIT")
        ended = transaction.append("session_a", said("session_a", 2, "two"), expected=1, epoch=1)
        later = store.append("session_a", said("session_a", 3, "three"), expected=2, epoch=1)
        await asyncio.gather(ended, later)
        assert wire.cut.is_set()
    assert await log(bank) == ["one", "two", "three"]
    assert await balances(bank) == {"ana": 70, "ben": 0}


async def test_a_commit_that_never_got_there_leaves_nothing(bank: ServerBank) -> None:
    async with transaction_over_a_wire(bank) as (wire, store, transaction):
        assert await transaction.seal()
        wire.lose_next("request", b"COMMIT")
        ended = transaction.append("session_a", said("session_a", 2, "two"), expected=1, epoch=1)
        later = store.append("session_a", said("session_a", 3, "three"), expected=2, epoch=1)
        with pytest.raises(TransactionLost):
            await ended
        with pytest.raises(SequenceConflict):
            await later
        assert wire.cut.is_set()
    assert await log(bank) == ["one"]
    assert await balances(bank) == {"ana": 100, "ben": 0}


@pytest.mark.parametrize("lost", ["request", "answer"])
async def test_when_the_server_stays_away_the_outcome_is_unknown(bank: ServerBank, lost: str) -> None:
    async with transaction_over_a_wire(bank, patience=1.0) as (wire, _, transaction):
        assert await transaction.seal()
        wire.lose_next(lost, b"COMMIT", refuses=True)  # type: ignore[arg-type]
        with pytest.raises(OutcomeUnknown):
            await transaction.append("session_a", said("session_a", 2, "two"), expected=1, epoch=1)
    happened = lost == "answer"
    assert await log(bank) == (["one", "two"] if happened else ["one"])
    assert await balances(bank) == {"ana": 70 if happened else 100, "ben": 0}


async def test_an_append_that_never_got_there_leaves_nothing(bank: ServerBank) -> None:
    async with transaction_over_a_wire(bank) as (wire, _, transaction):
        assert await transaction.seal()
        wire.lose_next("request", b"Marker")
        with pytest.raises(Exception, match="nothing was written"):
            await transaction.append("session_a", said("session_a", 2, "Marker"), expected=1, epoch=1)
    assert (await log(bank), await balances(bank)) == (["one"], {"ana": 100, "ben": 0})


async def test_a_connection_that_breaks_between_statements_is_told_to_the_tool(bank: ServerBank) -> None:
    async with transaction_over_a_wire(bank) as (wire, store, transaction):
        wire.lose_next("request", b"Marker")
        with pytest.raises(TransactionLost):
            await transaction.execute("SELECT 'Marker'")
        with pytest.raises(TransactionLost):
            await transaction.seal()
        await transaction.roll_back()
        again = store.transaction()
        await again.execute(bank.sql(TAKE), 1, "ana")
        assert await again.seal()
        await again.append("session_a", said("session_a", 2, "two"), expected=1, epoch=1)
    assert (await log(bank), await balances(bank)) == (["one", "two"], {"ana": 99, "ben": 0})


async def test_an_append_of_an_older_epoch_takes_what_was_done_with_it(bank: ServerBank) -> None:
    async with transaction_over_a_wire(bank) as (_, store, transaction):
        assert await transaction.seal()
        await store.claim("session_a")
        with pytest.raises(StaleEpoch):
            await transaction.append("session_a", said("session_a", 2, "two"), expected=1, epoch=1)
        await store.append("session_a", said("session_a", 2, "other"), expected=1, epoch=2)
    assert (await log(bank), await balances(bank)) == (["one", "other"], {"ana": 100, "ben": 0})


async def test_more_transactions_than_connections_wait_for_each_other(bank: ServerBank) -> None:
    store = PostgresStore(bank.url, schema=bank.schema, pool_size=1)
    await store.open()
    await open_accounts(bank)

    async def take(number: int) -> None:
        name = f"session_{number}"
        await store.append(name, said(name, 1, "one"), expected=0, epoch=1)
        transaction = store.transaction()
        await transaction.execute(bank.sql(TAKE), 1, "ana")
        await store.put_blob(b"x" * number)
        assert await transaction.seal()
        await transaction.append(name, said(name, 2, "two"), expected=1, epoch=1)

    async with asyncio.timeout(20):
        await asyncio.gather(*[take(number) for number in range(10)])
    assert await balances(bank) == {"ana": 90, "ben": 0}
    await store.close()


async def test_what_a_tool_sets_on_its_connection_is_not_there_for_the_next(bank: ServerBank) -> None:
    store = PostgresStore(bank.url, schema=bank.schema, pool_size=1)
    await store.open()
    await open_accounts(bank)
    await store.append("session_a", said("session_a", 1, "one"), expected=0, epoch=1)
    first = store.transaction()
    await first.execute("SET search_path = elsewhere")
    assert await first.seal()
    await first.append("session_a", said("session_a", 2, "two"), expected=1, epoch=1)
    second = store.transaction()
    assert await second.execute("SHOW search_path") != [("elsewhere",)]
    await second.roll_back()
    await store.close()


async def test_behind_a_pooler_a_transaction_stays_on_one_connection(bank: ServerBank) -> None:
    # Two transactions and the appends: with fewer server connections they could all wait for each other's.
    async with pooler_for(bank.url, servers=3) as (_, url):
        store = PostgresStore(url, schema=bank.schema, behind_pooler=True, pool_size=2)
        await store.open()
        await open_accounts(bank)

        async def take(number: int) -> None:
            name = f"session_{number}"
            await store.append(name, said(name, 1, "one"), expected=0, epoch=1)
            transaction = store.transaction()
            await transaction.execute(bank.sql(TAKE), 1, "ana")
            await transaction.execute(bank.sql(TAKE), -1, "ben")
            assert await transaction.seal()
            await transaction.append(name, said(name, 2, "two"), expected=1, epoch=1)

        await asyncio.gather(*[take(number) for number in range(5)])
        assert await balances(bank) == {"ana": 95, "ben": 5}
        await store.close()
