"""What the tests of the Postgres store share: a store, and a server that they may ill-treat."""

from collections.abc import AsyncIterator, Iterator

import pytest

from holdfast.stores.postgres import PostgresStore
from holdfast.testing.said import said
from tests.postgres import started
from tests.stores.postgres.server import Server


@pytest.fixture
def own_server() -> Iterator[Server]:
    """A server that the test may kill and start again. It keeps what it acknowledges."""
    server = started(fsync=True)
    yield server
    server.remove()


@pytest.fixture
async def direct(postgres_url: str, schema: str) -> AsyncIterator[PostgresStore]:
    """A store with one event in `session_a`, straight to the server."""
    store = PostgresStore(postgres_url, schema=schema)
    await store.open()
    await store.append("session_a", said("session_a", 1, "one"), expected=0, epoch=1)
    yield store
    await store.close()
