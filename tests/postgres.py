"""A Postgres for tests anywhere: `TEST_POSTGRES_URL`, or one from a wheel; and for each test a schema of its own."""

import os
from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import pytest

from tests.stores.postgres.server import NoServer, Server


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """Of a server that is there while the tests run."""
    given = os.environ.get("TEST_POSTGRES_URL")
    if given:
        yield given
        return
    server = started(fsync=False)
    yield server.url
    server.remove()


@pytest.fixture
async def schema(postgres_url: str) -> AsyncIterator[str]:
    """The name of a schema that is not there; what the test makes of it is removed."""
    import asyncpg  # the extra `postgres`, which only these tests need

    name = f"test_{uuid4().hex}"
    yield name
    connection = await asyncpg.connect(postgres_url)
    await connection.execute(f"SET client_min_messages = error; DROP SCHEMA IF EXISTS {name} CASCADE")
    await connection.close()


def started(*, fsync: bool) -> Server:
    """A new server. Where there can be none the test is skipped with the reason; with `CI=true` it fails."""
    server = None
    try:
        server = Server(fsync=fsync)
        server.start()
    except NoServer as error:
        if server is not None:
            server.remove()
        reason = f"no Postgres: {error}; install it, or set TEST_POSTGRES_URL"
        if os.environ.get("CI") == "true":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    return server
