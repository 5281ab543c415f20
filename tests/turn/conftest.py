"""Turns are tested in virtual time: a retry after a minute takes none."""

from pathlib import Path
from typing import Any

import pytest

from holdfast import MemoryStore, SQLiteStore, Store
from holdfast.testing import VirtualLoop


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """asyncio, on a loop whose clock jumps to the next timer."""
    return "asyncio", {"loop_factory": VirtualLoop}


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """Each store that needs no server, with nothing in it."""
    return MemoryStore() if request.param == "memory" else SQLiteStore(tmp_path / "log.db")
