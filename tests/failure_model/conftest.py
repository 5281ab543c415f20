"""Every test of the failure model runs on each back end."""

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest

from holdfast.turn import retry
from tests.failure_model.disks import Disk, MemoryDisk, PostgresDisk, SQLiteDisk
from tests.failure_model.world import World


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def disk(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Disk]:
    """An empty one of each kind."""
    if request.param == "postgres":
        schema = f"test_{uuid4().hex}"
        postgres = PostgresDisk(request.getfixturevalue("postgres_url"), schema)
        yield postgres
        await postgres.execute(f"SET client_min_messages = error; DROP SCHEMA IF EXISTS {schema} CASCADE")
    else:
        yield MemoryDisk() if request.param == "memory" else SQLiteDisk(tmp_path)


@pytest.fixture
async def world(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """A world on it. A model that failed is asked again at once."""
    monkeypatch.setattr(retry, "FIRST_WAIT", 0.01)
    made = World(disk)
    yield made
    await made.end()
