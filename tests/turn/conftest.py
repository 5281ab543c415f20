"""Turns are tested in virtual time: a retry after a minute takes none."""

from typing import Any

import pytest

from holdfast.testing import VirtualLoop


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """asyncio, on a loop whose clock jumps to the next timer."""
    return "asyncio", {"loop_factory": VirtualLoop}
