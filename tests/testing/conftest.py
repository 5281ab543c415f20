"""What runs here runs in virtual time."""

from typing import Any

import pytest

from holdfast.testing import VirtualLoop


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """asyncio, on a loop whose clock jumps to the next timer."""
    return "asyncio", {"loop_factory": VirtualLoop}
