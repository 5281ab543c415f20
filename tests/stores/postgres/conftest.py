"""What the tests of the Postgres store share: a server that they may ill-treat."""

from collections.abc import Iterator

import pytest

from tests.postgres import started
from tests.stores.postgres.server import Server


@pytest.fixture
def own_server() -> Iterator[Server]:
    """A server that the test may kill and start again. It keeps what it acknowledges."""
    server = started(fsync=True)
    yield server
    server.remove()
