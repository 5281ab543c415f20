"""Drivers are tested on real connections, and no slow machine makes a server look silent."""

from typing import Any

import pytest

from tests.timing import UNHURRIED


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """asyncio, on a loop whose clock does not go on while the machine is busy with others."""
    return UNHURRIED
