"""A power cut at any moment loses nothing that was acknowledged.

The disk remembers what the store wrote and synced; then the file is put together as it may be found after a cut at
many moments, with any part of what was not synced missing, and opened.
"""

import asyncio
import random
from pathlib import Path

import pytest

from holdfast.errors import StoreError
from holdfast.stores import sqlite_writer
from holdfast.stores.sqlite import SQLiteStore
from holdfast.testing.said import said, said_in
from tests.stores.disk import Disk, PowerCut, Step, put

SESSIONS = ("session_a", "session_b")
CUTS = 150


async def record(path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Step]:
    """What a disk saw of two sessions being written to at once, with checkpoints in between, and a reopening."""
    disk = Disk(monkeypatch)
    monkeypatch.setattr(sqlite_writer, "CHECKPOINT_PAGES", 20)

    async def write(store: SQLiteStore, session_id: str, first: int) -> None:
        for n in range(first, first + 40, 2):
            words = [f"{session_id} {n + 1} " + "x" * 2_000, f"{session_id} {n + 2}"]
            await store.append(session_id, said(session_id, n + 1, *words), expected=n, epoch=1)
            disk.note(Step("ack", session_id, n + 2))

    for first in (0, 40):
        store = SQLiteStore(path, vfs=disk.name)
        await store.open()
        await asyncio.gather(*[write(store, session_id, first) for session_id in SESSIONS])
        await store.close()
    return disk.steps


async def lost(steps: list[Step], cut: int, folder: Path, dice: random.Random) -> bool:
    """Whether anything acknowledged before the cut is missing or changed afterwards."""
    put(PowerCut(steps[:cut]).files(dice), folder)
    store = SQLiteStore(folder / "log.db")
    try:
        await store.open()
        for session_id in SESSIONS:
            acknowledged = max(
                (s.offset for s in steps[:cut] if s.what == "ack" and s.file == session_id), default=0
            )
            words = [said_in(event).partition(" x")[0] for event in await store.read(session_id)]
            if len(words) < acknowledged or words != [f"{session_id} {n + 1}" for n in range(len(words))]:
                return True
    except StoreError:
        return True
    finally:
        await store.close()
    return False


async def test_no_acknowledged_append_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = await record(tmp_path / "log.db", monkeypatch)
    assert sum(step == Step("sync", "log.db") for step in steps) > 3, "the run must include checkpoints"
    dice = random.Random(2026)
    for n in range(CUTS):
        cut = dice.randrange(len(steps) + 1)
        assert not await lost(steps, cut, tmp_path / f"cut {n}", dice), (
            f"cut {n}, after {cut} of {len(steps)} steps"
        )


async def test_this_would_notice_a_sync_that_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = await record(tmp_path / "log.db", monkeypatch)
    careless = [step for step in steps if step != Step("sync", "log.db-wal")]
    dice = random.Random(2026)
    cuts = [dice.randrange(len(careless) + 1) for _ in range(30)]
    losses = [await lost(careless, cut, tmp_path / f"cut {n}", dice) for n, cut in enumerate(cuts)]
    assert any(losses)
